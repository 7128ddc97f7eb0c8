// Sets and maps: the order of their elements, and which intervals they may have.
//
// The kernel lists elements of hash tables in an arbitrary order and nft sorts them; intervals come in rising order, and
// concatenations of intervals as they were added.

import type { Ip } from '../../packet/ip-address.ts';
import { addToIpv6 } from '../../packet/ipv6-address.ts';
import { bytesOf, compareValues, type Datatype, IFACE_INDEX, IPV6_ADDR } from './datatype.ts';
import type { KeyPart, MapData, NftSet, SetElement } from './syntax.ts';

/** `{ ... }` in a rule. */
export function anonymousSet(
  keyTypes: readonly Datatype[],
  data: MapData | undefined,
  elements: readonly SetElement[],
): NftSet {
  const isInterval = elements.some(({ key }) => key.length === 0 || key.some(({ first, last }) => first !== last));
  const set: NftSet = {
    name: '',
    keyTypes,
    ...(data !== undefined && { data }),
    flags: isInterval ? ['constant', 'interval'] : ['constant'],
    autoMerge: true,
    elements,
    handle: 0,
  };
  return { ...set, elements: inOrder(set, data === undefined ? merged(set, withoutRepeats(elements)) : elements) };
}

function withoutRepeats(elements: readonly SetElement[]): readonly SetElement[] {
  const byKey = new Map(elements.map((element) => [JSON.stringify(element.key), element]));
  return byKey.size === elements.length ? elements : [...byKey.values()];
}

/** One interval for those that overlap, or lie next to each other (set_automerge in nft). */
export function merged(set: NftSet, elements: readonly SetElement[]): readonly SetElement[] {
  if (!set.flags.includes('interval') || set.keyTypes.length !== 1) return elements;
  const type = set.keyTypes[0]!;
  const result: SetElement[] = [];
  for (const element of inOrder(set, elements)) {
    const before = result.at(-1)?.key[0];
    const own = element.key[0];
    if (before === undefined || own === undefined || !(overlap(type, before, own) || follows(type, before, own))) {
      result.push(element);
      continue;
    }
    const last = compareValues(type, before.last, own.last) < 0 ? own.last : before.last;
    result[result.length - 1] = { ...result.at(-1)!, key: [{ first: before.first, last }] };
  }
  return result;
}

/** Of two intervals of which the second does not begin before the first. */
export const overlap = (type: Datatype, before: KeyPart, own: KeyPart): boolean =>
  compareValues(type, before.last, own.first) >= 0;

function follows(type: Datatype, { last }: KeyPart, { first }: KeyPart): boolean {
  if (typeof last === 'string' || typeof first === 'string') return false;
  return type === IPV6_ADDR ? addToIpv6(last as Ip, 1) === first : (last + 1) >>> 0 === first >>> 0;
}

/** In the order in which nft lists them. */
export function inOrder(set: NftSet, elements: readonly SetElement[]): readonly SetElement[] {
  const isInterval = set.flags.includes('interval');
  if (isInterval && set.keyTypes.length > 1) return elements;
  if (elements.length < 2 || set.keyTypes[0] === IFACE_INDEX) return elements; // by numbers that names do not tell
  const sorted = [...elements];
  const type = set.keyTypes[0]!;
  if (set.keyTypes.length === 1) {
    return sorted.sort((a, b) => last(a, b) || compareSingle(type, isInterval, a.key[0]!, b.key[0]!));
  }
  const keys = new Map(sorted.map((element) => [element, bytesOfKey(set.keyTypes, element.key)]));
  return sorted.sort((a, b) => last(a, b) || compareFromEnd(keys.get(a) ?? [], keys.get(b) ?? []));
}

/** `*` stands last. */
const last = (a: SetElement, b: SetElement): number => Number(a.key.length === 0) - Number(b.key.length === 0);

/** Values of hash tables are compared as numbers of this machine: of texts, the last letter counts most. */
function compareSingle(type: Datatype, isInterval: boolean, a: KeyPart, b: KeyPart): number {
  if (typeof a.first === 'string' && !isInterval) return compareFromEnd(bytesOf(type, a.first), bytesOf(type, b.first));
  return compareValues(type, a.first, b.first);
}

const bytesOfKey = (types: readonly Datatype[], key: readonly KeyPart[]): number[] =>
  key.flatMap(({ first }, i) => bytesOf(types[i]!, first));

/** concat_expr_msort_value: the bytes of all parts are one little-endian number. */
function compareFromEnd(a: readonly number[], b: readonly number[]): number {
  for (let i = a.length - 1; i >= 0; i--) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return 0;
}
