// A Map that is another one with some changes: what thousands of namespaces have in common is kept once, and a new version
// of a large table costs what changed. Immutable, as is all that it is made of.

export class LayeredMap<V> implements ReadonlyMap<string, V> {
  readonly base: ReadonlyMap<string, V>;
  /** What stands before the base; `undefined` hides an entry. */
  readonly changes: ReadonlyMap<string, V | undefined>;
  readonly size: number;

  constructor(base: ReadonlyMap<string, V>, changes: ReadonlyMap<string, V | undefined>) {
    this.base = base;
    this.changes = changes;
    let size = base.size;
    for (const [key, value] of changes) size += Number(value !== undefined) - Number(base.has(key));
    this.size = size;
  }

  get(key: string): V | undefined {
    const own = this.changes.get(key);
    return own !== undefined || this.changes.has(key) ? own : this.base.get(key);
  }

  has(key: string): boolean {
    return this.get(key) !== undefined;
  }

  /** Entries of the base stand where they did, new ones after them. */
  *entries(): MapIterator<[string, V]> {
    for (const [key, value] of this.base) {
      const current = this.changes.has(key) ? this.changes.get(key) : value;
      if (current !== undefined) yield [key, current];
    }
    for (const [key, value] of this.changes) if (value !== undefined && !this.base.has(key)) yield [key, value];
  }

  [Symbol.iterator](): MapIterator<[string, V]> {
    return this.entries();
  }

  *keys(): MapIterator<string> {
    for (const [key] of this.entries()) yield key;
  }

  *values(): MapIterator<V> {
    for (const [, value] of this.entries()) yield value;
  }

  forEach(action: (value: V, key: string, map: ReadonlyMap<string, V>) => void): void {
    for (const [key, value] of this.entries()) action(value, key, this);
  }
}

/**
 * The Map with some entries set or, where `undefined`, taken away. Changes pile up on one base until there are about as
 * many as the root of its size: of n entries, one change then costs about √n, whether it is copied on or is merged in.
 */
export function withChanges<V>(
  map: ReadonlyMap<string, V>,
  changes: ReadonlyMap<string, V | undefined>,
): ReadonlyMap<string, V> {
  if (changes.size === 0) return map;
  const { base, changes: earlier } = map instanceof LayeredMap ? (map as LayeredMap<V>) : { base: map, changes: NONE };
  const all = new Map<string, V | undefined>([...(earlier as ReadonlyMap<string, V | undefined>), ...changes]);
  const layered = new LayeredMap(base, all);
  return all.size > MOST_CHANGES_PER_ROOT * Math.sqrt(base.size) ? new Map(layered) : layered;
}

const NONE: ReadonlyMap<string, undefined> = new Map();
const MOST_CHANGES_PER_ROOT = 2;
