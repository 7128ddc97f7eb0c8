// Finds the element of a set that has a key: single values and concatenations of them by hash, intervals by binary
// search, concatenations with intervals one by one. Made once per set, however many namespaces share it; a set that is
// another one with some changes has an index of the changes alone.

import type { Ip } from '../../packet/ip-address.ts';
import { compareIpv6 } from '../../packet/ipv6-address.ts';
import { type Datatype, IFNAME, IPV4_ADDR, IPV6_ADDR, type Value } from './datatype.ts';
import { LayeredMap } from './layered-map.ts';
import { isRange } from './read-expression.ts';
import { inOrder } from './set.ts';
import type { NftSet, SetElement } from './syntax.ts';

/** What a rule asks of a set. */
export interface ElementLookup {
  readonly size: number;
  /** The element with this key, one value per part. */
  find(key: readonly Value[]): SetElement | undefined;
}

/** Of the set. */
export function elementLookup(set: NftSet): ElementLookup {
  let lookup = knownLookups.get(set);
  if (lookup === undefined) knownLookups.set(set, (lookup = new ElementIndex(set)));
  return lookup;
}

const knownLookups = new WeakMap<NftSet, ElementLookup>();

/** The key under which {@link setOfElements} wants an element. */
export const keyTextOf = ({ key }: SetElement): string => key.map(({ first }) => first).join(' ');

/** A set of single values and concatenations of them, whose elements are listed only when someone asks for them. */
export function setOfElements(spec: Omit<NftSet, 'elements'>, elements: ReadonlyMap<string, SetElement>): NftSet {
  const set: NftSet = {
    ...spec,
    get elements() {
      return inOrder(set, [...elements.values()]);
    },
  };
  knownLookups.set(set, lookupIn(spec.keyTypes, elements));
  return set;
}

function lookupIn(keyTypes: readonly Datatype[], elements: ReadonlyMap<string, SetElement>): ElementLookup {
  let lookup = knownMaps.get(elements);
  if (lookup === undefined) {
    lookup =
      elements instanceof LayeredMap
        ? new LayeredLookup(keyTypes, elements)
        : new ElementIndex({ keyTypes, elements: [...elements.values()] });
    knownMaps.set(elements, lookup);
  }
  return lookup;
}

const knownMaps = new WeakMap<ReadonlyMap<string, SetElement>, ElementLookup>();

class LayeredLookup implements ElementLookup {
  readonly size: number;
  readonly #base: ElementLookup;
  readonly #changes: ElementIndex;
  readonly #hidden: ReadonlySet<SetElement>;

  constructor(keyTypes: readonly Datatype[], { size, base, changes }: LayeredMap<SetElement>) {
    const hidden = [...changes].flatMap(([key, element]) => (element === undefined ? (base.get(key) ?? []) : []));
    const present = [...changes.values()].filter((element) => element !== undefined);
    this.size = size;
    this.#base = lookupIn(keyTypes, base);
    this.#changes = new ElementIndex({ keyTypes, elements: [...present, ...hidden] });
    this.#hidden = new Set(hidden);
  }

  find(key: readonly Value[]): SetElement | undefined {
    const changed = this.#changes.find(key);
    if (changed === undefined) return this.#base.find(key);
    return this.#hidden.has(changed) ? undefined : changed;
  }
}

class ElementIndex implements ElementLookup {
  readonly size: number;
  readonly #byValue = new Map<Value, SetElement>();
  readonly #byKey: KeyTable | undefined;
  /** Intervals of one part, in rising order. */
  readonly #intervals: readonly SetElement[];
  readonly #compare: (a: Value, b: Value) => number;
  /** Concatenations with intervals, in their order. */
  readonly #ranges: readonly SetElement[];
  readonly #compares: readonly ((a: Value, b: Value) => number)[];
  readonly #catchAll: SetElement | undefined;

  constructor({ keyTypes, elements }: Pick<NftSet, 'keyTypes' | 'elements'>) {
    this.size = elements.length;
    const keyed = elements.filter(({ key }) => key.length > 0);
    const ranged = keyed.filter(({ key }) => key.some(isRange));
    const exact = keyed.filter(({ key }) => !key.some(isRange));
    this.#catchAll = elements.find(({ key }) => key.length === 0);
    this.#compares = keyTypes.map(orderOf);
    this.#compare = this.#compares[0]!;
    if (keyTypes.length === 1) {
      for (const element of exact) this.#byValue.set(element.key[0]!.first, element);
      this.#intervals = [...ranged].sort((a, b) => this.#compare(a.key[0]!.first, b.key[0]!.first));
      this.#ranges = [];
    } else {
      this.#byKey = new KeyTable(keyTypes.length, exact);
      this.#intervals = [];
      this.#ranges = ranged;
    }
  }

  find(key: readonly Value[]): SetElement | undefined {
    const found = this.#byKey === undefined ? this.#findValue(key[0]!) : this.#findKey(this.#byKey, key);
    return found ?? this.#catchAll;
  }

  #findValue(value: Value): SetElement | undefined {
    const exact = this.#byValue.get(value);
    if (exact !== undefined) return exact;
    // The last interval that does not begin above the value.
    let low = 0;
    let high = this.#intervals.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#compare(this.#intervals[middle]!.key[0]!.first, value) <= 0) low = middle + 1;
      else high = middle;
    }
    const candidate = this.#intervals[low - 1];
    return candidate !== undefined && this.#compare(value, candidate.key[0]!.last) <= 0 ? candidate : undefined;
  }

  #findKey(table: KeyTable, key: readonly Value[]): SetElement | undefined {
    const exact = table.find(key);
    if (exact !== undefined || this.#ranges.length === 0) return exact;
    return this.#ranges.find((element) =>
      element.key.every(({ first, last }, i) => {
        const compare = this.#compares[i]!;
        return compare(first, key[i]!) <= 0 && compare(key[i]!, last) <= 0;
      }),
    );
  }
}

/** Rising, as the kernel orders keys of this type. */
export function orderOf(type: Datatype): (a: Value, b: Value) => number {
  if (type === IPV6_ADDR) return (a, b) => compareIpv6(a as Ip, b as Ip);
  if (type === IFNAME) return (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  if (type === IPV4_ADDR) return (a, b) => (Number(a) >>> 0) - (Number(b) >>> 0);
  return (a, b) => Number(a) - Number(b);
}

/** Open addressing over the keys' parts as integers: a lookup reads one place, whatever the number of elements. */
class KeyTable {
  readonly #parts: number;
  readonly #mask: number;
  readonly #words: Int32Array;
  readonly #elements: (SetElement | undefined)[];
  readonly #scratch: Int32Array;

  constructor(parts: number, elements: readonly SetElement[]) {
    this.#parts = parts;
    let size = 8;
    while (size < 2 * elements.length) size *= 2;
    this.#mask = size - 1;
    this.#words = new Int32Array(size * parts);
    this.#elements = new Array<SetElement | undefined>(size).fill(undefined);
    this.#scratch = new Int32Array(parts);
    for (const element of elements) {
      this.#load(element.key.map(({ first }) => first));
      const slot = this.#slot();
      this.#words.set(this.#scratch, slot * parts);
      this.#elements[slot] = element;
    }
  }

  find(key: readonly Value[]): SetElement | undefined {
    this.#load(key);
    return this.#elements[this.#slot()];
  }

  #load(key: readonly Value[]): void {
    for (let i = 0; i < this.#parts; i++) {
      const value = key[i]!;
      this.#scratch[i] = typeof value === 'string' ? numberOfName(value) : value;
    }
  }

  /** Of the key in the scratch: where it is, or where it would be. */
  #slot(): number {
    const parts = this.#parts;
    const scratch = this.#scratch;
    let hash = 0;
    for (let i = 0; i < parts; i++) hash = Math.imul(hash ^ scratch[i]! ^ (scratch[i]! >>> 15), 0x85eb_ca6b);
    for (let slot = (hash ^ (hash >>> 13)) & this.#mask; ; slot = (slot + 1) & this.#mask) {
      if (this.#elements[slot] === undefined) return slot;
      let i = 0;
      while (i < parts && this.#words[slot * parts + i] === scratch[i]) i++;
      if (i === parts) return slot;
    }
  }
}

/** Names of devices as numbers; which number is of no consequence. */
const names = new Map<string, number>();

function numberOfName(name: string): number {
  let number = names.get(name);
  if (number === undefined) names.set(name, (number = names.size));
  return number;
}
