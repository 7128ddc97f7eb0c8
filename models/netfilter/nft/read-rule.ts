// Reads the statements of a rule.
//
// What nft knows and this reader does not is refused by name, or in lenient mode kept as a rule that matches nothing.

import {
  BOOLEAN,
  ICMP_CODE,
  ICMPV6_CODE,
  ICMPX_CODE,
  INET_PROTO,
  INET_SERVICE,
  INTEGER,
  IPV4_ADDR,
  IPV6_ADDR,
  prefixLengthOf,
  TCP_FLAG,
} from './datatype.ts';
import {
  matchesAnyBit,
  readCounter,
  readExpression,
  readOperand,
  readVerdict,
  readVerdictMap,
  takeComment,
  takeDuration,
  typeOf,
} from './read-expression.ts';
import { SELECTORS } from './selectors.ts';
import type {
  Comparison,
  CounterStatement,
  Expression,
  LimitStatement,
  LogStatement,
  NatOperand,
  NatStatement,
  NftFamily,
  NftRule,
  Operand,
  QuotaStatement,
  RejectStatement,
  SetUpdateStatement,
  Statement,
} from './syntax.ts';
import { type TokenReader, UnmodelledError } from './tokens.ts';

export interface RuleReading {
  readonly family: NftFamily;
  /** Told of what is not modelled; without it that is an error. */
  readonly report?: ((problem: string) => void) | undefined;
}

/** Reads to the end of the line. */
export function readRule(reader: TokenReader, reading: RuleReading): Omit<NftRule, 'handle'> {
  const start = reader.position;
  try {
    return readStatements(reader, reading.family);
  } catch (error) {
    if (!(error instanceof UnmodelledError) || reading.report === undefined) throw error;
    reading.report(`${error.message}; the rule matches nothing`);
    skipRule(reader);
    return { statements: [{ kind: 'unmodelled', text: reader.textFrom(start) }] };
  }
}

export const atRuleEnd = (reader: TokenReader): boolean =>
  reader.at('\n') || reader.at(';') || reader.at('}') || reader.atEnd;

function skipRule(reader: TokenReader): void {
  let depth = 0;
  while (!reader.atEnd && (depth > 0 || !atRuleEnd(reader))) {
    if (reader.at('{')) depth++;
    if (reader.at('}')) depth--;
    reader.take();
  }
}

function readStatements(reader: TokenReader, family: NftFamily): Omit<NftRule, 'handle'> {
  const statements: Statement[] = [];
  let comment: string | undefined;
  let transport: string | undefined;
  while (!atRuleEnd(reader)) {
    if (reader.takeIf('comment')) {
      comment = takeComment(reader);
      break;
    }
    const statement = readStatement(reader, family);
    const header = transportOf(statement);
    if (header !== undefined && transport !== undefined && header !== transport) {
      throw reader.failure(`conflicting protocols specified: ${transport} vs. ${header}`);
    }
    transport ??= header;
    if (impliesThe(statement, statements.at(-1), family)) statements.pop();
    statements.push(statement);
  }
  if (!atRuleEnd(reader)) throw reader.error('the end of the rule');
  if (statements.length === 0) throw reader.error('a statement');
  checkPorts(reader, statements);
  return { statements, ...(comment !== undefined && { comment }) };
}

function readStatement(reader: TokenReader, family: NftFamily): Statement {
  const { kind, text } = reader.peek;
  if (kind !== 'name' && kind !== 'symbol') throw reader.error('a statement');
  switch (text) {
    case 'accept':
    case 'drop':
    case 'continue':
    case 'return':
    case 'jump':
    case 'goto':
      return { kind: 'verdict', verdict: readVerdict(reader) };
    case 'counter':
      return reader.ahead(1).text === 'name' ? readObject(reader, family, 'counter') : readCounter(reader);
    case 'limit':
      return reader.ahead(1).text === 'name' ? readObject(reader, family, 'limit') : readLimit(reader);
    case 'quota':
      return reader.ahead(1).text === 'name' ? readObject(reader, family, 'quota') : readQuota(reader);
    case 'reject':
      return readReject(reader);
    case 'log':
      return readLog(reader);
    case 'dnat':
    case 'snat':
    case 'masquerade':
    case 'redirect':
      return readNat(reader, family);
    case 'add':
    case 'update':
    case 'delete':
      return readSetUpdate(reader, family);
    case 'set':
      throw reader.unmodelled('the old form of set updates; expected add @SET { ... }, which');
    case 'notrack':
      reader.take();
      return { kind: 'notrack' };
    case 'queue':
    case 'tproxy':
    case 'synproxy':
    case 'dup':
    case 'fwd':
    case 'flow':
    case 'xt':
      throw reader.unmodelled(text);
    default:
      if (text === 'tcp' && reader.ahead(1).text === 'option') return readMss(reader);
      return readSelection(reader, family);
  }
}

// ── matches and assignments ──────────────────────────────────────────────────────────────────────────────────────────

const COMPARISONS: ReadonlyMap<string, Comparison> = new Map([
  ['==', '=='],
  ['eq', '=='],
  ['!=', '!='],
  ['ne', '!='],
  ['<', '<'],
  ['lt', '<'],
  ['>', '>'],
  ['gt', '>'],
  ['<=', '<='],
  ['le', '<='],
  ['>=', '>='],
  ['ge', '>='],
]);

function readSelection(reader: TokenReader, family: NftFamily): Statement {
  const left = readExpression(reader, family, [INTEGER]);
  if (reader.takeIf('vmap')) return { kind: 'vmap', key: left, map: readVerdictMap(reader, left) };
  if (left.kind === 'selector' && reader.takeIf('set')) return readAssignment(reader, family, left);
  if (left.kind === 'map') throw reader.unmodelled('a match of what a map gives');
  if (asksForExistence(left) && (reader.at('exists') || reader.at('missing'))) {
    const exists = reader.take().text === 'exists';
    return { kind: 'match', left, comparison: '==', right: { kind: 'exists', exists } };
  }
  if (reader.takeIf('!')) {
    const right = readOperand(reader, left);
    return {
      kind: 'match',
      left: masked(left, bitsOf(reader, right)),
      comparison: '==',
      right: { kind: 'value', value: 0 },
    };
  }
  const { kind, text } = reader.peek;
  const comparison = kind === 'string' ? undefined : COMPARISONS.get(text);
  if (comparison !== undefined) reader.take();
  const right = readOperand(reader, left);
  const type = typeOf(left);
  if (reader.at('/') && type?.isBitmask) {
    reader.take();
    const mask = readOperand(reader, left);
    return {
      kind: 'match',
      left: masked(left, bitsOf(reader, mask)),
      comparison: comparison ?? '==',
      right: { kind: 'value', value: bitsOf(reader, right) },
    };
  }
  checkOrder(reader, comparison, right);
  return canonicalMatch(left, comparison, right);
}

/** Of a route its device, of an extension header itself. */
const asksForExistence = (left: Expression): boolean =>
  left.kind === 'fib' || (left.kind === 'selector' && left.selector.type === BOOLEAN);

const masked = (left: Expression, right: number): Expression => ({ kind: 'bitwise', operator: '&', left, right });

function bitsOf(reader: TokenReader, operand: Operand): number {
  if (operand.kind === 'flags') return operand.bits;
  if (operand.kind === 'value' && typeof operand.value === 'number') return operand.value;
  throw reader.failure('flags expected');
}

function checkOrder(reader: TokenReader, comparison: Comparison | undefined, right: Operand): void {
  const isOrdering = comparison !== undefined && comparison !== '==' && comparison !== '!=';
  if (isOrdering && right.kind !== 'value')
    throw reader.failure(`${comparison} with a ${right.kind}; expected a value`);
}

/** One form for what means the same: as nft prints it. */
function canonicalMatch(left: Expression, comparison: Comparison | undefined, right: Operand): Statement {
  const explicit = comparison === '==' && right.kind === 'value';
  const sole = soleElement(left, right);
  if (sole !== undefined)
    return { kind: 'match', left, comparison: comparison ?? '==', right: sole, isExplicit: false };
  // `tcp flags & (syn | ack) != 0` is `tcp flags syn,ack`.
  if (
    left.kind === 'bitwise' &&
    left.operator === '&' &&
    typeOf(left) === TCP_FLAG &&
    comparison === '!=' &&
    right.kind === 'value' &&
    right.value === 0
  ) {
    return { kind: 'match', left: left.left, comparison: '==', right: { kind: 'flags', bits: left.right } };
  }
  const type = typeOf(left);
  const isFlagTest = comparison === undefined && left.kind !== 'bitwise' && type !== undefined && matchesAnyBit(type);
  if (isFlagTest && right.kind === 'value' && typeof right.value === 'number') {
    return { kind: 'match', left, comparison: '==', right: { kind: 'flags', bits: right.value } };
  }
  return {
    kind: 'match',
    left,
    comparison: comparison ?? '==',
    right,
    ...(explicit && left.kind !== 'bitwise' && type !== undefined && matchesAnyBit(type) && { isExplicit: true }),
  };
}

/** A set of one plain element in a rule is that element. */
function soleElement(left: Expression, right: Operand): Operand | undefined {
  if (right.kind !== 'set' || right.set.kind === 'named' || left.kind === 'concat') return undefined;
  if (right.set.isMerged) return undefined;
  const { elements } = right.set.set;
  const element = elements[0];
  const part = element?.key[0];
  if (elements.length !== 1 || part === undefined || element?.comment !== undefined || element?.counter !== undefined) {
    return undefined;
  }
  const type = typeOf(left)!;
  if (part.first === part.last) return { kind: 'value', value: part.first };
  if (typeof part.first === 'string') return { kind: 'wildcard', beginning: part.first };
  const length = prefixLengthOf(type, part.first, part.last);
  return length === undefined ? { kind: 'range', ...part } : { kind: 'prefix', ...part, length };
}

function readAssignment(reader: TokenReader, family: NftFamily, left: Expression & { kind: 'selector' }): Statement {
  const { selector } = left;
  if (!selector.isSettable) throw reader.unmodelled(`setting ${selector.name}`);
  const { kind, text } = reader.peek;
  const literal = kind === 'number' ? selector.type.read(text) : undefined;
  if (literal !== undefined) {
    reader.take();
    return { kind: 'set', selector, value: { kind: 'value', type: selector.type, value: literal } };
  }
  return { kind: 'set', selector, value: readExpression(reader, family, [selector.type]) };
}

/**
 * nft does not print a match that the next one implies: `meta l4proto tcp` before a field of TCP, `meta nfproto ipv4`
 * before a field of IPv4.
 */
function impliesThe(statement: Statement, before: Statement | undefined, family: NftFamily): boolean {
  if (before?.kind !== 'match' || before.comparison !== '==' || before.right.kind !== 'value') return false;
  if (before.left.kind !== 'selector') return false;
  const { value } = before.right;
  const { name } = before.left.selector;
  const own = selectorOf(statement);
  if (statement.kind === 'reject' && statement.with?.kind === 'tcp reset')
    return name === 'meta l4proto' && value === 6;
  if (own === undefined) return false;
  if (name === 'meta l4proto' || (name === 'ip protocol' && family === 'ip')) return own.protocol === value;
  if (name === 'meta nfproto') return own.protocol === undefined && own.family === (value === 2 ? 4 : 6);
  return false;
}

/** The protocol whose header the statement looks into. */
function transportOf(statement: Statement): string | undefined {
  const protocol = selectorOf(statement)?.protocol;
  return protocol === undefined ? undefined : INET_PROTO.print(protocol);
}

function selectorOf(statement: Statement): { readonly protocol?: number; readonly family?: 4 | 6 } | undefined {
  if (statement.kind !== 'match' && statement.kind !== 'vmap') return undefined;
  const expression = statement.kind === 'match' ? statement.left : statement.key;
  const inner = expression.kind === 'bitwise' ? expression.left : expression;
  return inner.kind === 'selector' && !inner.selector.needsConntrack ? inner.selector : undefined;
}

// ── statements ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** `counter name "hits"`, `counter name tcp dport map @counters`. */
function readObject(reader: TokenReader, family: NftFamily, object: 'counter' | 'limit' | 'quota'): Statement {
  reader.expect(object);
  reader.expect('name');
  const { kind, text } = reader.peek;
  const isName = kind === 'string' || (kind === 'name' && !isSelectorWord(text)) || reader.ahead(1).kind === 'symbol';
  if (isName) return { kind: 'object', object, name: reader.takeName(`the name of a ${object}`) };
  return { kind: 'objectMap', object, map: readExpression(reader, family) };
}

const SELECTOR_BEGINNINGS = new Set([...SELECTORS.keys()].map((name) => name.split(' ')[0]!));
const isSelectorWord = (text: string): boolean => text === 'meta' || SELECTOR_BEGINNINGS.has(text);

const SECONDS: Readonly<Record<string, number>> = { second: 1, minute: 60, hour: 3_600, day: 86_400, week: 604_800 };
const UNITS = ['bytes', 'kbytes', 'mbytes'] as const;
/** NFT_LIMIT_PKT_BURST_DEFAULT */
export const DEFAULT_BURST = 5;

export function readLimit(reader: TokenReader): LimitStatement {
  reader.takeIf('limit');
  reader.expect('rate');
  const over = reader.takeIf('over');
  if (!over) reader.takeIf('until');
  const amount = reader.takeNumber({ first: 1, last: 2 ** 40 });
  // A name may have slashes in it: `kbytes/second` is one word.
  const [scaleName, periodName] = reader.peek.kind === 'name' ? reader.take().text.split('/') : [undefined, undefined];
  const scale = (UNITS as readonly (string | undefined)[]).indexOf(scaleName);
  if (scaleName === undefined) reader.expect('/');
  const perSeconds = SECONDS[periodName ?? reader.takeOneOf(Object.keys(SECONDS))];
  if (perSeconds === undefined || (scaleName !== undefined && scale === -1)) {
    throw reader.failure('no rate of packets or bytes; expected 10/second or 10 kbytes/minute');
  }
  const unit = scale === -1 ? 'packets' : 'bytes';
  let burst = unit === 'packets' ? DEFAULT_BURST : 0;
  if (reader.takeIf('burst')) {
    burst = reader.takeNumber({ last: 0xffff_ffff });
    burst *= unit === 'packets' ? packetUnit(reader) : 1_024 ** UNITS.indexOf(reader.takeOneOf(UNITS));
  }
  return { kind: 'limit', over, rate: amount * 1_024 ** Math.max(0, scale), unit, perSeconds, burst };
}

function packetUnit(reader: TokenReader): 1 {
  reader.expect('packets');
  return 1;
}

export function readQuota(reader: TokenReader): QuotaStatement {
  reader.takeIf('quota');
  const over = reader.takeIf('over');
  if (!over) reader.takeIf('until');
  const bytes = takeBytes(reader);
  return { kind: 'quota', over, bytes, used: reader.takeIf('used') ? takeBytes(reader) : 0 };
}

const takeBytes = (reader: TokenReader): number =>
  reader.takeNumber({ last: 2 ** 40 }) * 1_024 ** UNITS.indexOf(reader.takeOneOf(UNITS));

function readReject(reader: TokenReader): RejectStatement {
  reader.expect('reject');
  if (!reader.takeIf('with')) return { kind: 'reject' };
  if (reader.takeIf('tcp')) {
    reader.expect('reset');
    return { kind: 'reject', with: { kind: 'tcp reset' } };
  }
  const kind = reader.takeOneOf(['icmp', 'icmpv6', 'icmpx'] as const);
  reader.takeIf('type');
  const type = kind === 'icmp' ? ICMP_CODE : kind === 'icmpv6' ? ICMPV6_CODE : ICMPX_CODE;
  const code = type.read(reader.peek.text);
  if (typeof code !== 'number') throw reader.error(`one of ${[...(type.symbols?.keys() ?? [])].join(', ')}`);
  reader.take();
  return { kind: 'reject', with: { kind, code } };
}

const LOG_FLAGS = ['all', 'tcp', 'ip', 'skuid', 'ether'] as const;

function readLog(reader: TokenReader): LogStatement {
  reader.expect('log');
  const found = new Map<string, string>();
  for (;;) {
    if (reader.takeIf('prefix')) found.set('prefix', `prefix "${reader.takeString('a prefix in quotes')}"`);
    else if (reader.takeIf('level')) {
      const level = reader.takeName('a level');
      if (level !== 'warn') found.set('level', `level ${level}`);
    } else if (reader.takeIf('flags')) found.set('flags', `flags ${readLogFlags(reader)}`);
    else {
      const option = ['group', 'snaplen', 'queue-threshold'].find((name) => reader.takeIf(name));
      if (option === undefined) break;
      found.set(option, `${option} ${reader.takeNumber({ last: 0xffff_ffff })}`);
    }
  }
  const options = ['prefix', 'group', 'snaplen', 'queue-threshold', 'level', 'flags'].map((name) => found.get(name));
  return { kind: 'log', options: options.filter((option) => option !== undefined) };
}

function readLogFlags(reader: TokenReader): string {
  const flag = reader.takeOneOf(LOG_FLAGS);
  if (flag === 'tcp') {
    const parts = [reader.takeOneOf(['sequence', 'options'] as const)];
    while (reader.takeIf(',')) parts.push(reader.takeOneOf(['sequence', 'options'] as const));
    return `tcp ${parts.join(',')}`;
  }
  return flag === 'ip' ? `ip ${reader.takeOneOf(['options'] as const)}` : flag;
}

function readSetUpdate(reader: TokenReader, family: NftFamily): SetUpdateStatement {
  const operation = reader.takeOneOf(['add', 'update', 'delete'] as const);
  reader.expect('@');
  const set = reader.takeName('the name of a set');
  reader.expect('{');
  const key = readExpression(reader, family);
  let timeout = {};
  const statements: (CounterStatement | LimitStatement)[] = [];
  for (;;) {
    if (reader.takeIf('timeout')) timeout = { timeoutMs: takeDuration(reader) };
    else if (reader.at('limit')) statements.push(readLimit(reader));
    else if (reader.at('counter')) statements.push(readCounter(reader));
    else break;
  }
  if (reader.at(':')) throw reader.unmodelled('adding to a map');
  reader.expect('}');
  return { kind: 'update', operation, set, key, ...timeout, statements };
}

function readMss(reader: TokenReader): Statement {
  reader.expect('tcp');
  reader.expect('option');
  const option = reader.takeName('a TCP option');
  if (option !== 'maxseg') throw reader.unmodelled(`tcp option ${option}`);
  reader.expect('size');
  if (!reader.takeIf('set')) throw reader.unmodelled('a match of tcp option maxseg');
  if (reader.at('rt')) throw reader.unmodelled('tcp option maxseg size set rt mtu');
  return { kind: 'mss', bytes: reader.takeNumber({ last: 65_535 }) };
}

// ── address translation ──────────────────────────────────────────────────────────────────────────────────────────────

function readNat(reader: TokenReader, family: NftFamily): NatStatement {
  const type = reader.takeOneOf(['dnat', 'snat', 'masquerade', 'redirect'] as const);
  const said = reader.takeIf('ip') ? 4 : reader.takeIf('ip6') ? 6 : undefined;
  if (reader.takeIf('addr')) {
    reader.expect('.');
    reader.expect('port');
  }
  if (reader.at('prefix')) throw reader.unmodelled(`${type} prefix`);
  const own = family === 'ip' ? 4 : family === 'ip6' ? 6 : said;
  const movesAddress = type === 'dnat' || type === 'snat';
  let operands: Pick<NatStatement, 'address' | 'port'> = {};
  if (movesAddress) {
    reader.takeIf('to'); // nft also knows the form without it
    operands = readNatTarget(reader, family, own);
    if (operands.address !== undefined && own === undefined) {
      throw reader.failure(`${type} in a table of family inet; expected ${type} ip to or ${type} ip6 to`);
    }
  } else if (reader.takeIf('to')) {
    reader.takeIf(':');
    operands = { port: readNatPort(reader, family) };
  }
  return {
    kind: 'nat',
    type,
    ...(family === 'inet' && said !== undefined && { family: said }),
    ...operands,
    ...readNatFlags(reader),
  };
}

function readNatTarget(
  reader: TokenReader,
  family: NftFamily,
  addressFamily: 4 | 6 | undefined,
): Pick<NatStatement, 'address' | 'port'> {
  if (reader.takeIf(':')) return { port: readNatPort(reader, family) };
  const type = addressFamily === 6 ? IPV6_ADDR : IPV4_ADDR;
  const isBracketed = reader.takeIf('[');
  const { kind, text } = reader.peek;
  const literal = kind === 'number' || kind === 'address6' ? type.read(text) : undefined;
  let address: NatOperand;
  if (typeof literal === 'number') {
    reader.take();
    if (isBracketed) reader.expect(']');
    let last = literal;
    if (reader.takeIf('-')) {
      const wasBracketed = reader.takeIf('[');
      last = Number(readValueOf(reader, type));
      if (wasBracketed) reader.expect(']');
    }
    address = { kind: 'range', type, first: literal, last };
  } else {
    if (kind === 'number' || kind === 'address6') throw reader.error(`an address of type ${type.name}`);
    const expression = readExpression(reader, family, [type, INET_SERVICE]);
    address = { kind: 'expression', expression };
  }
  return reader.takeIf(':') ? { address, port: readNatPort(reader, family) } : { address };
}

function readValueOf(reader: TokenReader, type: typeof IPV4_ADDR): number | string {
  const value = type.read(reader.peek.text);
  if (value === undefined) throw reader.error(`an address of type ${type.name}`);
  reader.take();
  return value;
}

function readNatPort(reader: TokenReader, family: NftFamily): NatOperand {
  if (reader.peek.kind === 'number') {
    const first = reader.takeNumber({ first: 1, last: 65_535 });
    return {
      kind: 'range',
      type: INET_SERVICE,
      first,
      last: reader.takeIf('-') ? reader.takeNumber({ first, last: 65_535 }) : first,
    };
  }
  const expression = readExpression(reader, family, [INET_SERVICE]);
  return { kind: 'expression', expression };
}

function readNatFlags(reader: TokenReader): Pick<NatStatement, 'random' | 'fullyRandom' | 'persistent'> {
  const flags = new Set<string>();
  const names = ['random', 'fully-random', 'persistent'] as const;
  if (names.some((name) => reader.at(name))) {
    do flags.add(reader.takeOneOf(names));
    while (reader.takeIf(','));
  }
  return { random: flags.has('random'), fullyRandom: flags.has('fully-random'), persistent: flags.has('persistent') };
}

/** nft insists on the protocol before it moves a port. */
function checkPorts(reader: TokenReader, statements: readonly Statement[]): void {
  const at = statements.findIndex((statement) => statement.kind === 'nat' && statement.port !== undefined);
  if (at !== -1 && !statements.slice(0, at).some(namesTransport)) {
    throw reader.failure(
      'transport protocol mapping is only valid after a transport protocol match; expected meta l4proto',
    );
  }
}

function namesTransport(statement: Statement): boolean {
  const expression =
    statement.kind === 'match' ? statement.left : statement.kind === 'vmap' ? statement.key : undefined;
  if (expression === undefined) return false;
  const parts = expression.kind === 'concat' ? expression.parts : [expression];
  return parts.some(
    (part) =>
      part.kind === 'selector' &&
      (part.selector.protocol !== undefined ||
        ['meta l4proto', 'ip protocol', 'ip6 nexthdr'].includes(part.selector.name)),
  );
}
