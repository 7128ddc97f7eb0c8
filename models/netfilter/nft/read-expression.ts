// Reads expressions of rules: what is asked of a packet (`ip daddr . meta l4proto . th dport`), what it is compared with
// (`10.0.0.0/8`, `{ 80, 443 }`, `@services`), and elements of sets and maps.

import { type Ip, maskOf } from '../../packet/ip-address.ts';
import { internIpv6, ipv6Word, maskIpv6 } from '../../packet/ipv6-address.ts';
import {
  CT_STATUS,
  compareValues,
  type Datatype,
  FIB_ADDRTYPE,
  IFACE_INDEX,
  IFNAME,
  INTEGER,
  IPV6_ADDR,
  MARK,
  readDuration,
  type Value,
} from './datatype.ts';
import { SELECTORS, type Selector } from './selectors.ts';
import { anonymousSet } from './set.ts';
import type {
  CounterStatement,
  ElementData,
  Expression,
  FibInput,
  FibResult,
  KeyPart,
  MapData,
  NftFamily,
  NftVerdict,
  Operand,
  SetElement,
  SetReference,
} from './syntax.ts';
import type { TokenReader } from './tokens.ts';

// ── the left side ────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * `meta mark & 0xff`, `ip daddr . tcp dport`, `ip saddr map @backends`. A map written out gives values of `dataTypes`, or
 * of the first of them only.
 */
export function readExpression(
  reader: TokenReader,
  family: NftFamily,
  dataTypes: readonly Datatype[] = [],
): Expression {
  const key = readConcat(reader, family);
  return reader.takeIf('map') ? { kind: 'map', key, map: readMapReference(reader, key, dataTypes) } : key;
}

function readConcat(reader: TokenReader, family: NftFamily): Expression {
  const parts = [readBitwise(reader, family)];
  while (reader.takeIf('.')) parts.push(readBitwise(reader, family));
  return parts.length === 1 ? parts[0]! : { kind: 'concat', parts };
}

const BITWISE: ReadonlyMap<string, '&' | '|' | '^'> = new Map([
  ['&', '&'],
  ['and', '&'],
  ['|', '|'],
  ['or', '|'],
  ['^', '^'],
  ['xor', '^'],
]);

function readBitwise(reader: TokenReader, family: NftFamily): Expression {
  let left = readPrimary(reader, family);
  for (;;) {
    const { kind, text } = reader.peek;
    const operator = kind === 'string' ? undefined : BITWISE.get(text);
    if (operator === undefined) return left;
    const type = typeOf(left);
    if (type === undefined) throw reader.failure('bits of a concatenation; expected them of one value');
    reader.take();
    left = { kind: 'bitwise', operator, left, right: readBits(reader, type) };
  }
}

/** A number, or flags: `(fin | syn)`, `fin,syn`. */
function readBits(reader: TokenReader, type: Datatype): number {
  const isNested = reader.takeIf('(');
  let bits = readNumeric(reader, type);
  const separator = isNested || !type.isBitmask ? '|' : ',';
  while ((isNested || type.isBitmask) && reader.takeIf(separator)) bits |= readNumeric(reader, type);
  if (isNested) reader.expect(')');
  return bits;
}

function readNumeric(reader: TokenReader, type: Datatype): number {
  const value = readValue(reader, type);
  if (typeof value === 'string') throw reader.failure(`bits of ${type.name}; expected a type that has any`);
  return value;
}

function readPrimary(reader: TokenReader, family: NftFamily): Expression {
  if (reader.takeIf('(')) {
    const inner = readBitwise(reader, family);
    reader.expect(')');
    return inner;
  }
  switch (reader.peek.text) {
    case 'fib':
      return readFib(reader);
    case 'numgen': {
      reader.take();
      const mode = reader.takeOneOf(['random', 'inc'] as const);
      return { kind: 'numgen', mode, ...readBuckets(reader) };
    }
    case 'jhash': {
      reader.take();
      const input = readConcat(reader, family);
      reader.expect('mod');
      const modulus = reader.takeNumber({ first: 1, last: 0xffff_ffff });
      const seed = reader.takeIf('seed') ? { seed: reader.takeNumber({ last: 0xffff_ffff }) } : {};
      return { kind: 'jhash', input, modulus, ...seed, offset: readOffset(reader) };
    }
    case 'symhash':
      reader.take();
      return { kind: 'symhash', ...readBuckets(reader) };
    default:
      return { kind: 'selector', selector: readSelector(reader, family) };
  }
}

function readBuckets(reader: TokenReader): { modulus: number; offset: number } {
  reader.expect('mod');
  return { modulus: reader.takeNumber({ first: 1, last: 0xffff_ffff }), offset: readOffset(reader) };
}

const readOffset = (reader: TokenReader): number =>
  reader.takeIf('offset') ? reader.takeNumber({ last: 0xffff_ffff }) : 0;

const FIB_INPUTS: readonly FibInput[] = ['saddr', 'daddr', 'mark', 'iif', 'oif'];
const FIB_RESULTS: readonly FibResult[] = ['type', 'oif', 'oifname'];

function readFib(reader: TokenReader): Expression {
  reader.expect('fib');
  const inputs = [reader.takeOneOf(FIB_INPUTS)];
  while (reader.takeIf('.')) inputs.push(reader.takeOneOf(FIB_INPUTS));
  if (inputs.includes('saddr') === inputs.includes('daddr')) {
    throw reader.failure('fib looks up one address; expected either saddr or daddr');
  }
  if (inputs.includes('iif') && inputs.includes('oif')) {
    throw reader.failure('fib looks at one device; expected either iif or oif');
  }
  return { kind: 'fib', inputs, result: reader.takeOneOf(FIB_RESULTS) };
}

const META_SHORT: ReadonlySet<string> = new Set(['iif', 'oif', 'iifname', 'oifname']);

export function readSelector(reader: TokenReader, family: NftFamily): Selector {
  const { kind, text: first } = reader.peek;
  if (reader.at('@')) throw reader.unmodelled('a raw payload expression');
  if (kind !== 'name') throw reader.error('an expression');
  if (META_SHORT.has(first)) {
    reader.take();
    return found(reader, first);
  }
  if (first === 'mark') {
    reader.take();
    return found(reader, 'meta mark');
  }
  if (first === 'meta') {
    reader.take();
    const key = reader.takeName('a key of meta');
    return found(reader, META_SHORT.has(key) ? key : `meta ${key}`);
  }
  if (first === 'ct') return readCtSelector(reader, family);
  if (first === 'exthdr') {
    reader.take();
    return found(reader, `exthdr ${reader.takeName('an extension header')}`);
  }
  if (UNMODELLED.has(first)) throw reader.unmodelled(`"${first}"`);
  if (!HEADERS.has(first)) throw reader.error('an expression or a statement');
  reader.take();
  return checkedFamily(reader, found(reader, `${first} ${reader.takeName(`a field of ${first}`)}`), family);
}

const HEADERS: ReadonlySet<string> = new Set(['ip', 'ip6', 'th', 'tcp', 'udp', 'sctp', 'icmp', 'icmpv6']);

/** Known to nft, and refused by name. */
const UNMODELLED: ReadonlySet<string> = new Set(
  `ether vlan arp dccp udplite ah esp comp igmp rt frag dst mh hbh srh socket osf ipsec vxlan geneve gre gretap
   iifgroup oifgroup iiftype oiftype iifkind oifkind skgid nftrace rtclassid ibrname obrname`.split(/\s+/),
);

function readCtSelector(reader: TokenReader, family: NftFamily): Selector {
  reader.expect('ct');
  const direction = ['original', 'reply'].find((word) => reader.takeIf(word));
  if (direction === undefined) return found(reader, `ct ${reader.takeName('a key of ct')}`);
  let key = reader.takeName('a key of ct');
  if (key === 'ip' || key === 'ip6') key += ` ${reader.takeName('saddr or daddr')}`;
  else if (key === 'saddr' || key === 'daddr') {
    if (family === 'inet') throw reader.failure(`ct ${direction} ${key} in a table of family inet; expected ip or ip6`);
    key = `${family} ${key}`;
  }
  if (key === 'protocol') return found(reader, 'ct protocol');
  if (key === 'zone') throw reader.unmodelled(`ct ${direction} zone`);
  return checkedFamily(reader, found(reader, `ct ${direction} ${key}`), family);
}

function found(reader: TokenReader, name: string): Selector {
  const selector = SELECTORS.get(name);
  if (selector === undefined) throw reader.unmodelled(name);
  return selector;
}

function checkedFamily(reader: TokenReader, selector: Selector, family: NftFamily): Selector {
  const isForeign = (family === 'ip' && selector.family === 6) || (family === 'ip6' && selector.family === 4);
  if (isForeign) throw reader.failure(`${selector.name} in a table of family ${family}`);
  return selector;
}

// ── types ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Undefined for a concatenation, and for a map, whose type is that of its data. */
export function typeOf(expression: Expression): Datatype | undefined {
  switch (expression.kind) {
    case 'selector':
      return expression.selector.type;
    case 'fib':
      return expression.result === 'type' ? FIB_ADDRTYPE : expression.result === 'oif' ? IFACE_INDEX : IFNAME;
    case 'numgen':
    case 'jhash':
    case 'symhash':
      return INTEGER;
    case 'bitwise':
      return typeOf(expression.left);
    case 'value':
      return expression.type;
    case 'concat':
    case 'map':
      return undefined;
  }
}

export const partsOf = (expression: Expression): readonly Expression[] =>
  expression.kind === 'concat' ? expression.parts : [expression];

export function keyTypesOf(reader: TokenReader, expression: Expression): Datatype[] {
  return partsOf(expression).map((part) => {
    const type = typeOf(part);
    if (type === undefined) throw reader.failure('a map inside a key; expected values of packets');
    return type;
  });
}

// ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────

export function readValue(reader: TokenReader, type: Datatype): Value {
  const { kind, text } = reader.peek;
  if (kind === 'symbol' && text === '*' && type === IFNAME) throw reader.error('the name of a device');
  const value = kind === 'symbol' || kind === 'end' ? undefined : type.read(text);
  if (value === undefined) throw reader.error(expectedOf(type));
  reader.take();
  return value;
}

function expectedOf(type: Datatype): string {
  const names = type.symbols === undefined ? '' : `: ${[...type.symbols.keys()].slice(0, 12).join(', ')}`;
  return `a value of type ${type.name}${names}`;
}

/** What a comparison has on its right side. */
export function readOperand(reader: TokenReader, left: Expression): Operand {
  if (reader.at('@') || reader.at('{')) return { kind: 'set', set: readSetReference(reader, left) };
  const type = typeOf(left);
  if (type === undefined) throw reader.error('a set: { ... } or @NAME');
  const wildcard = readWildcard(reader, type);
  if (wildcard !== undefined) return { kind: 'wildcard', beginning: wildcard };
  const first = readFlagsOrValue(reader, type);
  if (reader.takeIf('-')) return { kind: 'range', ...checkedRange(reader, type, first, readValue(reader, type)) };
  if (reader.at('/') && type.hasPrefixes) {
    reader.take();
    return { kind: 'prefix', ...readPrefix(reader, type, first) };
  }
  if (type.isBitmask && reader.at(',')) {
    let bits = Number(first);
    while (reader.takeIf(',')) bits |= readNumeric(reader, type);
    return { kind: 'flags', bits };
  }
  return { kind: 'value', value: first };
}

function readFlagsOrValue(reader: TokenReader, type: Datatype): Value {
  if (!type.isBitmask) return readValue(reader, type);
  const isNested = reader.takeIf('(');
  let value = readNumeric(reader, type);
  while (reader.takeIf('|')) value |= readNumeric(reader, type);
  if (isNested) reader.expect(')');
  return value;
}

/** `eth*`. */
function readWildcard(reader: TokenReader, type: Datatype): string | undefined {
  const { kind, text } = reader.peek;
  if (type !== IFNAME || (kind !== 'name' && kind !== 'string') || !text.endsWith('*') || text === '*')
    return undefined;
  if (text.length > 16) throw reader.failure(`device name "${text}"; expected at most 15 characters`);
  reader.take();
  return text.slice(0, -1);
}

function checkedRange(reader: TokenReader, type: Datatype, first: Value, last: Value): KeyPart {
  if (compareValues(type, first, last) > 0) {
    throw reader.failure(`range ${type.print(first)}-${type.print(last)} ends before it begins`);
  }
  return { first, last };
}

function readPrefix(reader: TokenReader, type: Datatype, address: Value): KeyPart & { readonly length: number } {
  const length = reader.takeNumber({ last: 8 * type.bytes });
  if (type === IPV6_ADDR) {
    const first = maskIpv6(address as Ip, length);
    return { first, last: lastIpv6(first, length), length };
  }
  const first = Number(address) & maskOf(length);
  const last = first | ~maskOf(length);
  return type === MARK ? { first: first >>> 0, last: last >>> 0, length } : { first, last, length };
}

function lastIpv6(first: Ip, length: number): Ip {
  const word = (at: 0 | 1 | 2 | 3): number =>
    ipv6Word(first, at) | ~maskOf(Math.min(32, Math.max(0, length - 32 * at)));
  return internIpv6(word(0), word(1), word(2), word(3));
}

/** A device name's beginning as the range of all names that have it. */
const lastName = (beginning: string): string => `${beginning}${'\uffff'.repeat(16 - beginning.length)}`;

// ── sets ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** After the left side of a comparison. */
function readSetReference(reader: TokenReader, left: Expression): SetReference {
  if (reader.takeIf('@')) return { kind: 'named', name: reader.takeName('the name of a set') };
  const keyTypes = keyTypesOf(reader, left);
  const elements = readElements(reader, keyTypes, undefined);
  const set = anonymousSet(keyTypes, undefined, elements);
  return { kind: 'anonymous', set, ...(set.elements.length < elements.length && { isMerged: true }) };
}

export function readVerdictMap(reader: TokenReader, key: Expression): SetReference {
  if (reader.takeIf('@')) return { kind: 'named', name: reader.takeName('the name of a verdict map') };
  const keyTypes = keyTypesOf(reader, key);
  const data: MapData = { kind: 'verdict' };
  return { kind: 'anonymous', set: anonymousSet(keyTypes, data, readElements(reader, keyTypes, data)) };
}

function readMapReference(reader: TokenReader, key: Expression, types: readonly Datatype[]): SetReference {
  if (reader.takeIf('@')) return { kind: 'named', name: reader.takeName('the name of a map') };
  const keyTypes = keyTypesOf(reader, key);
  if (types.length === 0) throw reader.unmodelled('a map in this place');
  const elements = readElements(reader, keyTypes, { kind: 'value', types });
  const first = elements[0]?.data;
  const count = first?.kind === 'value' ? first.parts.length : 1;
  const isInterval = elements.some(({ data }) => data?.kind === 'value' && data.parts.some(isRange));
  const data: MapData = { kind: 'value', types: types.slice(0, count), ...(isInterval && { isInterval }) };
  return { kind: 'anonymous', set: anonymousSet(keyTypes, data, elements) };
}

export const isRange = ({ first, last }: KeyPart): boolean => first !== last;

/** `{ KEY [comment "..."] [: DATA], ... }`; line ends may stand anywhere in it. */
export function readElements(
  reader: TokenReader,
  keyTypes: readonly Datatype[],
  data: MapData | undefined,
  { isDataOptional = false }: { readonly isDataOptional?: boolean } = {},
): readonly SetElement[] {
  reader.expect('{');
  const elements: SetElement[] = [];
  skipLines(reader);
  while (!reader.at('}')) {
    elements.push(readElement(reader, keyTypes, data, isDataOptional));
    skipLines(reader);
    if (!reader.takeIf(',')) break;
    skipLines(reader);
  }
  reader.expect('}');
  return elements;
}

export function skipLines(reader: TokenReader): void {
  while (reader.takeIf('\n'));
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

function readElement(
  reader: TokenReader,
  keyTypes: readonly Datatype[],
  data: MapData | undefined,
  isDataOptional: boolean,
): SetElement {
  const element: Mutable<SetElement> = { key: reader.takeIf('*') ? [] : readKey(reader, keyTypes) };
  for (;;) {
    if (reader.takeIf('timeout')) element.timeoutMs = takeDuration(reader);
    else if (reader.takeIf('expires')) element.expiresMs = takeDuration(reader);
    else if (reader.takeIf('comment')) element.comment = takeComment(reader);
    else if (reader.at('counter')) element.counter = readCounter(reader);
    else break;
  }
  skipLines(reader);
  if (data === undefined || (isDataOptional && !reader.at(':'))) return element;
  reader.expect(':');
  skipLines(reader);
  element.data = readData(reader, data);
  return element;
}

function readKey(reader: TokenReader, types: readonly Datatype[]): KeyPart[] {
  return types.map((type, i) => {
    if (i > 0) {
      skipLines(reader);
      reader.expect('.');
      skipLines(reader);
    }
    return readPart(reader, type);
  });
}

function readPart(reader: TokenReader, type: Datatype): KeyPart {
  const wildcard = readWildcard(reader, type);
  if (wildcard !== undefined) return { first: wildcard, last: lastName(wildcard) };
  const first = readFlagsOrValue(reader, type);
  if (reader.takeIf('-')) return checkedRange(reader, type, first, readValue(reader, type));
  if (reader.at('/') && type.hasPrefixes) {
    reader.take();
    const { first: low, last } = readPrefix(reader, type, first);
    return { first: low, last };
  }
  return { first, last: first };
}

function readData(reader: TokenReader, data: MapData): ElementData {
  switch (data.kind) {
    case 'verdict':
      return { kind: 'verdict', verdict: readVerdict(reader) };
    case 'object':
      return { kind: 'object', name: reader.takeName(`the name of a ${data.object}`) };
    case 'value': {
      const parts = [readPart(reader, data.types[0]!)];
      for (const type of data.types.slice(1)) {
        if (!reader.takeIf('.')) break;
        parts.push(readPart(reader, type));
      }
      return { kind: 'value', parts };
    }
  }
}

const VERDICTS = ['accept', 'drop', 'continue', 'return', 'jump', 'goto'] as const;

export function readVerdict(reader: TokenReader): NftVerdict {
  const code = reader.takeOneOf(VERDICTS);
  return code === 'jump' || code === 'goto' ? { code, chain: reader.takeName('a chain') } : { code };
}

export function readCounter(reader: TokenReader): CounterStatement {
  reader.expect('counter');
  if (!reader.takeIf('packets')) return { kind: 'counter', packets: 0, bytes: 0 };
  const packets = reader.takeNumber();
  reader.expect('bytes');
  return { kind: 'counter', packets, bytes: reader.takeNumber() };
}

export function takeDuration(reader: TokenReader): number {
  const { kind, text } = reader.peek;
  const duration = kind === 'number' ? readDuration(text) : undefined;
  if (duration === undefined) throw reader.error('a time such as 3h or 1m30s');
  reader.take();
  return duration;
}

/** NFT_USERDATA_COMMENT_MAX_LEN */
const LONGEST_COMMENT = 128;

export function takeComment(reader: TokenReader): string {
  const comment = reader.takeString('a comment in quotes');
  if (comment.length > LONGEST_COMMENT) {
    throw reader.failure(`a comment of ${comment.length} characters; expected at most ${LONGEST_COMMENT}`);
  }
  return comment;
}

/** `ct status dnat` asks for a bit, `ct mark 1` for a value. */
export const matchesAnyBit = (type: Datatype): boolean => type.isBitmask || type === CT_STATUS;
