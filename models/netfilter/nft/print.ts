// Rulesets as text: what `nft list ruleset` (1.0.6) prints.

import {
  type Datatype,
  ICMP_CODE,
  ICMPV6_CODE,
  ICMPX_CODE,
  INTEGER,
  IPV6_ADDR,
  prefixLengthOf,
  printDuration,
  type Value,
} from './datatype.ts';
import { printPriority } from './priority.ts';
import { typeOf } from './read-expression.ts';
import { DEFAULT_BURST } from './read-rule.ts';
import {
  type ElementData,
  type Expression,
  type KeyPart,
  type LimitStatement,
  type MapData,
  type MatchStatement,
  type NatOperand,
  type NatStatement,
  type NftChain,
  type NftFamily,
  type NftObject,
  type NftRule,
  type NftRuleset,
  type NftSet,
  type NftTable,
  type NftVerdict,
  type Operand,
  type QuotaStatement,
  type RejectStatement,
  SET_FLAGS,
  type SetElement,
  type SetReference,
  type Statement,
} from './syntax.ts';

/** `nft -s list ruleset`: without what packets have counted. */
export interface PrintOptions {
  readonly stateless?: boolean;
}

export const printRuleset = ({ tables }: NftRuleset, options: PrintOptions = {}): string =>
  [...tables.values()].map((table) => printTable(table, options)).join('');

export function printTable(table: NftTable, options: PrintOptions = {}): string {
  const { family, name, comment, dormant, objects, sets, chains } = table;
  const head = [
    ...(comment === undefined ? [] : [`\tcomment "${comment}"\n`]),
    ...(dormant ? ['\tflags dormant\n'] : []),
  ];
  // nft prints all counters before all quotas before all limits.
  const byKind = (['counter', 'quota', 'limit'] as const).flatMap((kind) =>
    [...objects.values()].filter((object) => object.kind === kind),
  );
  const blocks = [
    ...byKind.map((object) => printObject(object, options)),
    ...[...sets.values()].map((set) => printSet(set, options)),
    ...[...chains.values()].map((chain) => printChain(chain, family, options)),
  ];
  return `table ${family} ${name} {\n${head.join('')}${blocks.join('\n')}}\n`;
}

// ── objects and sets ─────────────────────────────────────────────────────────────────────────────────────────────────

function printObject(object: NftObject, options: PrintOptions): string {
  const lines = object.comment === undefined ? [] : [`comment "${object.comment}"`];
  switch (object.kind) {
    case 'counter':
      if (!options.stateless) lines.push(`packets ${object.packets} bytes ${object.bytes}`);
      break;
    case 'limit':
      lines.push(printLimitBody(object));
      break;
    case 'quota':
      lines.push(printQuotaBody(object, options));
      break;
  }
  return `\t${object.kind} ${object.name} {\n${lines.map((line) => `\t\t${line}\n`).join('')}\t}\n`;
}

function printSet(set: NftSet, options: PrintOptions): string {
  const { data, size, timeoutMs, gcIntervalMs } = set;
  const flags = SET_FLAGS.filter((flag) => set.flags.includes(flag));
  const lines = [printSetType(set)];
  if (set.policy === 'memory') lines.push('policy memory');
  if (size !== undefined) lines.push(`size ${size}`);
  if (flags.length > 0) lines.push(`flags ${flags.join(',')}`);
  if (timeoutMs !== undefined) lines.push(`timeout ${printDuration(timeoutMs)}`);
  if (gcIntervalMs !== undefined) lines.push(`gc-interval ${printDuration(gcIntervalMs)}`);
  if (set.autoMerge) lines.push('auto-merge');
  if (set.hasCounters) lines.push('counter');
  if (set.comment !== undefined) lines.push(`comment "${set.comment}"`);
  if (set.elements.length > 0) lines.push(`elements = ${printElements(set, options, true)}`);
  const word = data === undefined ? 'set' : 'map';
  return `\t${word} ${set.name} {\n${lines.map((line) => `\t\t${line}\n`).join('')}\t}\n`;
}

function printSetType({ keyTypes, keyExpressions, data }: NftSet): string {
  const key = keyExpressions?.map(printExpression) ?? keyTypes.map(({ name }) => name);
  const word = keyExpressions === undefined ? 'type' : 'typeof';
  return `${word} ${key.join(' . ')}${data === undefined ? '' : ` : ${printDataType(data)}`}`;
}

function printDataType(data: MapData): string {
  if (data.kind === 'verdict') return 'verdict';
  if (data.kind === 'object') return data.object;
  const names = data.expressions?.map(printExpression) ?? data.types.map(({ name }) => name);
  return `${data.isInterval ? 'interval ' : ''}${names.join(' . ')}`;
}

/** Listed sets break their lines; how soon depends on the type. */
function printElements(set: NftSet, options: PrintOptions, isListed: boolean): string {
  const perLine = set.keyTypes.length > 1 ? 1 : set.keyTypes[0]!.perLine;
  const elements = set.elements.map((element) => printElement(set, element, options));
  const text = elements.map((element, i) => {
    if (i === 0) return element;
    return isListed && i % perLine === 0 ? `,\n\t\t\t     ${element}` : `, ${element}`;
  });
  return `{ ${text.join('')} }`;
}

function printElement(set: NftSet, element: SetElement, options: PrintOptions): string {
  const { key, timeoutMs, expiresMs, counter, comment, data } = element;
  let text = key.length === 0 ? '*' : printParts(set.keyTypes, key);
  if (counter !== undefined) text += ` ${printCounter(counter, options)}`;
  if (timeoutMs !== undefined) text += ` timeout ${printDuration(timeoutMs)}`;
  if (expiresMs !== undefined && !options.stateless) text += ` expires ${printDuration(expiresMs)}`;
  if (comment !== undefined) text += ` comment "${comment}"`;
  return data === undefined ? text : `${text} : ${printData(set.data, data)}`;
}

function printData(map: MapData | undefined, data: ElementData): string {
  switch (data.kind) {
    case 'verdict':
      return printVerdict(data.verdict);
    case 'object':
      return `"${data.name}"`;
    case 'value':
      return printParts(map?.kind === 'value' ? map.types : [], data.parts);
  }
}

const printParts = (types: readonly Datatype[], parts: readonly KeyPart[]): string =>
  parts.map((part, i) => printPart(types[i]!, part)).join(' . ');

function printPart(type: Datatype, { first, last }: KeyPart): string {
  if (first === last) return printFlags(type, first, ' | ');
  if (typeof first === 'string') return `"${first}*"`;
  const length = prefixLengthOf(type, first, last);
  return length === undefined ? `${type.print(first)}-${type.print(last)}` : `${type.print(first)}/${length}`;
}

export const printVerdict = (verdict: NftVerdict): string =>
  'chain' in verdict ? `${verdict.code} ${verdict.chain}` : verdict.code;

// ── chains and rules ─────────────────────────────────────────────────────────────────────────────────────────────────

function printChain({ name, base, comment, rules }: NftChain, family: NftFamily, options: PrintOptions): string {
  const lines = comment === undefined ? [] : [`comment "${comment}"`];
  if (base !== undefined) {
    const { type, hook, priority, policy } = base;
    lines.push(`type ${type} hook ${hook} priority ${printPriority(priority, hook)}; policy ${policy};`);
  }
  for (const rule of rules) lines.push(printRule(rule, family, options));
  return `\tchain ${name} {\n${lines.map((line) => `\t\t${line}\n`).join('')}\t}\n`;
}

export function printRule(
  rule: Pick<NftRule, 'statements' | 'comment'>,
  family: NftFamily,
  options: PrintOptions = {},
): string {
  const text = rule.statements.map((statement) => printStatement(statement, family, options)).join(' ');
  return rule.comment === undefined ? text : `${text} comment "${rule.comment}"`;
}

export function printStatement(statement: Statement, family: NftFamily, options: PrintOptions): string {
  switch (statement.kind) {
    case 'match':
      return printMatch(statement);
    case 'vmap':
      return `${printExpression(statement.key)} vmap ${printSetReference(statement.map, options)}`;
    case 'verdict':
      return printVerdict(statement.verdict);
    case 'counter':
      return printCounter(statement, options);
    case 'limit':
      return `limit ${printLimitBody(statement)}`;
    case 'quota':
      return `quota ${printQuotaBody(statement, options)}`;
    case 'object':
      return `${statement.object} name "${statement.name}"`;
    case 'objectMap':
      return `${statement.object} name ${printExpression(statement.map)}`;
    case 'set':
      return `${statement.selector.name} set ${printExpression(statement.value)}`;
    case 'update': {
      const timeout = statement.timeoutMs === undefined ? '' : ` timeout ${printDuration(statement.timeoutMs)}`;
      // What new elements start with: no numbers.
      const own = statement.statements.map((each) => ` ${printStatement(each, family, { stateless: true })}`).join('');
      return `${statement.operation} @${statement.set} { ${printExpression(statement.key)}${timeout}${own} }`;
    }
    case 'nat':
      return printNat(statement);
    case 'reject':
      return printReject(statement, family);
    case 'notrack':
      return 'notrack';
    case 'log':
      return ['log', ...statement.options].join(' ');
    case 'mss':
      return `tcp option maxseg size set ${statement.bytes}`;
    case 'unmodelled':
      return statement.text;
  }
}

function printMatch({ left, comparison, right, isExplicit }: MatchStatement): string {
  const type = typeOf(left);
  // `tcp flags & (fin | syn) == syn` is printed `tcp flags syn / fin,syn`.
  if (left.kind === 'bitwise' && left.operator === '&' && type?.name === 'tcp_flag' && right.kind === 'value') {
    const operator = comparison === '==' ? '' : `${comparison} `;
    if (right.value === 0 && comparison === '==')
      return `${printExpression(left.left)} ! ${printFlags(type, left.right)}`;
    return `${printExpression(left.left)} ${operator}${printFlags(type, right.value)} / ${printFlags(type, left.right)}`;
  }
  const isImplicit = comparison === '==' && !isExplicit && left.kind !== 'bitwise';
  return `${printExpression(left)} ${isImplicit ? '' : `${comparison} `}${printOperand(type, right)}`;
}

function printOperand(type: Datatype | undefined, operand: Operand): string {
  switch (operand.kind) {
    case 'value':
      return printFlags(type!, operand.value);
    case 'flags':
      return printFlags(type!, operand.bits);
    case 'prefix':
      return `${type!.print(operand.first)}/${operand.length}`;
    case 'range':
      return `${type!.print(operand.first)}-${type!.print(operand.last)}`;
    case 'exists':
      return operand.exists ? 'exists' : 'missing';
    case 'wildcard':
      return `"${operand.beginning}*"`;
    case 'set':
      return printSetReference(operand.set, {});
  }
}

/** A value, or the names of the bits that it has. */
function printFlags(type: Datatype, value: Value, separator = ','): string {
  if (!type.isBitmask || typeof value === 'string' || value === 0) return type.print(value);
  const names: string[] = [];
  let rest = value;
  for (const [name, bit] of type.symbols ?? []) {
    if ((rest & bit) === 0) continue;
    names.push(name);
    rest &= ~bit;
  }
  return rest === 0 ? names.join(separator) : type.print(value);
}

function printSetReference(reference: SetReference, options: PrintOptions): string {
  return reference.kind === 'named' ? `@${reference.name}` : printElements(reference.set, options, false);
}

export function printExpression(expression: Expression): string {
  switch (expression.kind) {
    case 'selector':
      return expression.selector.name;
    case 'fib':
      return `fib ${expression.inputs.join(' . ')} ${expression.result}`;
    case 'numgen':
      return `numgen ${expression.mode} mod ${expression.modulus}${printOffset(expression.offset)}`;
    case 'jhash': {
      const seed = expression.seed === undefined ? '' : ` seed 0x${expression.seed.toString(16)}`;
      const input = expression.input === undefined ? '' : printExpression(expression.input);
      return `jhash ${input} mod ${expression.modulus}${seed}${printOffset(expression.offset)}`;
    }
    case 'symhash':
      return `symhash mod ${expression.modulus}${printOffset(expression.offset)}`;
    case 'concat':
      return expression.parts.map(printExpression).join(' . ');
    case 'bitwise': {
      const type = typeOf(expression) ?? INTEGER;
      return `${printExpression(expression.left)} ${expression.operator} ${printFlags(type, expression.right)}`;
    }
    case 'value':
      return expression.type.print(expression.value);
    case 'map':
      return `${printExpression(expression.key)} map ${printSetReference(expression.map, {})}`;
  }
}

const printOffset = (offset: number): string => (offset === 0 ? '' : ` offset ${offset}`);

// ── statements ───────────────────────────────────────────────────────────────────────────────────────────────────────

const printCounter = ({ packets, bytes }: { packets: number; bytes: number }, { stateless }: PrintOptions): string =>
  stateless ? 'counter' : `counter packets ${packets} bytes ${bytes}`;

const PERIODS: Readonly<Record<number, string>> = {
  1: 'second',
  60: 'minute',
  3600: 'hour',
  86400: 'day',
  604800: 'week',
};

function printLimitBody({ over, rate, unit, perSeconds, burst }: LimitStatement): string {
  const period = PERIODS[perSeconds];
  const begin = `rate ${over ? 'over ' : ''}`;
  if (unit === 'bytes') {
    const [amount, scale] = scaled(rate);
    return `${begin}${amount} ${scale}/${period}${burst === 0 ? '' : ` burst ${scaled(burst).join(' ')}`}`;
  }
  return `${begin}${rate}/${period}${burst === DEFAULT_BURST ? '' : ` burst ${burst} packets`}`;
}

function printQuotaBody({ over, bytes, used }: QuotaStatement, { stateless }: PrintOptions): string {
  const spent = used === 0 || stateless ? '' : ` used ${scaled(used).join(' ')}`;
  return `${over ? 'over ' : ''}${scaled(bytes).join(' ')}${spent}`;
}

/** In the largest unit in which the number is whole. */
function scaled(bytes: number): [number, string] {
  if (bytes >= 1_048_576 && bytes % 1_048_576 === 0) return [bytes / 1_048_576, 'mbytes'];
  return bytes >= 1_024 && bytes % 1_024 === 0 ? [bytes / 1_024, 'kbytes'] : [bytes, 'bytes'];
}

function printReject({ with: answer }: RejectStatement, family: NftFamily): string {
  if (answer === undefined) return 'reject';
  if (answer.kind === 'tcp reset') return 'reject with tcp reset';
  const { kind, code } = answer;
  const isDefault =
    (family === 'ip' && kind === 'icmp' && code === 3) ||
    (family === 'ip6' && kind === 'icmpv6' && code === 4) ||
    (family === 'inet' && kind === 'icmpx' && code === 1);
  if (isDefault) return 'reject';
  const type = kind === 'icmp' ? ICMP_CODE : kind === 'icmpv6' ? ICMPV6_CODE : ICMPX_CODE;
  return `reject with ${kind} ${type.print(code)}`;
}

function printNat(nat: NatStatement): string {
  const { type, family, address, port } = nat;
  let text: string = type;
  if (family !== undefined) text += family === 4 ? ' ip' : ' ip6';
  if (address !== undefined || port !== undefined) text += ' to ';
  if (address !== undefined) text += printNatOperand(address, port !== undefined);
  if (port !== undefined) text += `:${printNatOperand(port)}`;
  const flags = [
    ...(nat.random ? ['random'] : []),
    ...(nat.fullyRandom ? ['fully-random'] : []),
    ...(nat.persistent ? ['persistent'] : []),
  ];
  return flags.length === 0 ? text : `${text} ${flags.join(',')}`;
}

/** An IPv6 address stands in brackets where a port follows. */
function printNatOperand(operand: NatOperand, isFollowed = false): string {
  if (operand.kind === 'expression') return printExpression(operand.expression);
  const { type, first, last } = operand;
  const printed = [first, ...(last === first ? [] : [last])].map((value) => type.print(value));
  return printed.map((text) => (isFollowed && type === IPV6_ADDR ? `[${text}]` : text)).join('-');
}
