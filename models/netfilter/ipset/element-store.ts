// The elements of one set, found by their parts: exact parts lead through nested maps of integers, and a network is then
// looked for from the longest length to the shortest, as the kernel's hash types do.

import type { Instant } from '../../../engine/time.ts';

/** An address, a protocol with a port (`protocol << 16 | port`), or a device's name. */
export type Part = number | string;

/** One element; all fields present. */
export interface Element {
  /** Without the network. */
  readonly parts: readonly Part[];
  readonly net: number;
  /** Bits of the network; -1 without a network. */
  readonly length: number;
  readonly nomatch: boolean;
  readonly comment: string | undefined;
  /** END_OF_TIME: never. */
  expiresAt: Instant;
  packets: number;
  bytes: number;
}

export const NO_NETWORK = -1;

type Level = Map<Part, Level | Element>;

export class ElementStore {
  readonly #elements = new Set<Element>();
  readonly #root: Level = new Map();
  /** How many elements have each length. */
  readonly #lengthCounts = new Map<number, number>();
  /** Lengths in use, the longest first. */
  #lengths: readonly number[] = [];

  get size(): number {
    return this.#elements.size;
  }

  /** In the order in which they were added. */
  [Symbol.iterator](): IterableIterator<Element> {
    return this.#elements[Symbol.iterator]();
  }

  get lengths(): readonly number[] {
    return this.#lengths;
  }

  /** The element with exactly these parts and this network. */
  find(parts: readonly Part[], length: number, net: number): Element | undefined {
    let level: Level | Element | undefined = this.#root;
    for (const part of parts) level = (level as Level | undefined)?.get(part);
    if (length !== NO_NETWORK) level = (level as Level | undefined)?.get(length);
    return (level as Level | undefined)?.get(net) as Element | undefined;
  }

  add(element: Element): void {
    let level = this.#root;
    const { parts, length, net } = element;
    for (const part of parts) level = below(level, part);
    if (length !== NO_NETWORK) level = below(level, length);
    level.set(net, element);
    this.#elements.add(element);
    this.#count(length, 1);
  }

  delete(element: Element): void {
    const { parts, length, net } = element;
    let level: Level | undefined = this.#root;
    for (const part of parts) level = level?.get(part) as Level | undefined;
    if (length !== NO_NETWORK) level = level?.get(length) as Level | undefined;
    level?.delete(net);
    this.#elements.delete(element);
    this.#count(length, -1);
  }

  /** Elements of its own, to be changed apart from this store's. */
  clone(): ElementStore {
    const copy = new ElementStore();
    for (const element of this.#elements) copy.add({ ...element });
    return copy;
  }

  #count(length: number, change: number): void {
    const count = (this.#lengthCounts.get(length) ?? 0) + change;
    if (count === 0) this.#lengthCounts.delete(length);
    else this.#lengthCounts.set(length, count);
    if (count === 0 || count === change) this.#lengths = [...this.#lengthCounts.keys()].sort((a, b) => b - a);
  }
}

function below(level: Level, part: Part): Level {
  let next = level.get(part) as Level | undefined;
  if (next === undefined) level.set(part, (next = new Map()));
  return next;
}
