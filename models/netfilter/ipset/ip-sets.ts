// The sets of one network namespace, by name.

import { IpSet } from './ip-set.ts';
import type { SetOptions, SetType } from './set-type.ts';

/** IPSET_MAXNAMELEN without its terminating zero. */
export const LONGEST_SET_NAME = 31;

export class IpSets {
  readonly #sets = new Map<string, IpSet>();

  /** In the order in which they were made. */
  [Symbol.iterator](): IterableIterator<IpSet> {
    return this.#sets.values();
  }

  get size(): number {
    return this.#sets.size;
  }

  find(name: string): IpSet | undefined {
    return this.#sets.get(name);
  }

  /** For rules, which the kernel would not have loaded without their sets. Throws a RangeError for an unknown name. */
  named(name: string): IpSet {
    const set = this.#sets.get(name);
    if (set === undefined) {
      throw new RangeError(
        `no set ${name}, which a rule names; there are: ${[...this.#sets.keys()].join(', ') || 'none'}`,
      );
    }
    return set;
  }

  create(name: string, type: SetType, options: SetOptions = {}): IpSet {
    if (this.#sets.has(name)) throw new RangeError(`set ${name} exists; expected a new name`);
    const set = new IpSet(this, name, type, options);
    this.#sets.set(name, set);
    return set;
  }

  /** Throws a RangeError if a list of sets has it. */
  destroy(name: string): void {
    this.named(name);
    for (const { type, name: list, elements } of this.#lists())
      if (elements.includes(name)) throw new RangeError(`set ${name} is in ${type} ${list}; cannot destroy it`);
    this.#sets.delete(name);
  }

  rename(from: string, to: string): void {
    const set = this.named(from);
    if (this.#sets.has(to)) throw new RangeError(`set ${to} exists; expected a new name`);
    this.#sets.delete(from);
    set.name = to;
    this.#sets.set(to, set);
  }

  /** Rules and lists that name one of the two mean the other from now on. */
  swap(one: string, other: string): void {
    const first = this.named(one);
    const second = this.named(other);
    if (first.type !== second.type || first.options.family !== second.options.family)
      throw new RangeError(`sets ${one} and ${other} are of different types; cannot swap them`);
    first.name = other;
    second.name = one;
    this.#sets.set(one, second);
    this.#sets.set(other, first);
  }

  /** Takes over the sets of another namespace, as they are now. */
  share(others: IpSets): void {
    for (const set of others) this.#sets.set(set.name, set.sharedWith(this));
  }

  *#lists(): IterableIterator<{ type: SetType; name: string; elements: string[] }> {
    for (const set of this) {
      if (set.type === 'list:set') yield { type: set.type, name: set.name, elements: set.members() };
    }
  }
}
