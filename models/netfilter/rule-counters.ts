// Packets and bytes per rule of one chain in one namespace, as `iptables-save -c` shows them.
//
// A node uses few of the ten thousand rules of KUBE-SERVICES, and there are five thousand nodes: long chains keep only
// the counters of rules that have matched.

import type { PacketCounters, UnsettledCounts } from '../packet/flow-recorder.ts';

/** Up to here one flat array is smaller than a Map. */
const FLAT_RULES = 64;

export class RuleCounters implements PacketCounters {
  /** Packets and bytes by turns. */
  #counts: Float64Array;
  /** Long chains: rule index to place in `#counts`. */
  readonly #slots: Map<number, number> | undefined;
  #expected: Set<UnsettledCounts> | undefined;

  /** The policy counts as one more rule, at index `ruleCount`. */
  constructor(ruleCount: number) {
    const flat = ruleCount <= FLAT_RULES;
    this.#slots = flat ? undefined : new Map();
    this.#counts = new Float64Array(flat ? 2 * (ruleCount + 1) : 16);
  }

  count(ruleIndex: number, sizeBytes: number): void {
    const slot = this.#slots === undefined ? ruleIndex : this.#slotFor(this.#slots, ruleIndex);
    this.#counts[2 * slot]!++;
    this.#counts[2 * slot + 1]! += sizeBytes;
  }

  packets(ruleIndex: number): number {
    this.#settle();
    const slot = this.#slots === undefined ? ruleIndex : this.#slots.get(ruleIndex);
    return slot === undefined ? 0 : this.#counts[2 * slot]!;
  }

  bytes(ruleIndex: number): number {
    this.#settle();
    const slot = this.#slots === undefined ? ruleIndex : this.#slots.get(ruleIndex);
    return slot === undefined ? 0 : this.#counts[2 * slot + 1]!;
  }

  /** For a changed chain of `ruleCount` rules: what rule `i` has counted is now rule `placeOf(i)`'s, or nobody's. */
  moved({
    from,
    to,
    placeOf,
  }: {
    from: number;
    to: number;
    placeOf: (ruleIndex: number) => number | undefined;
  }): RuleCounters {
    const moved = new RuleCounters(to);
    for (let i = 0; i <= from; i++) {
      const place = this.packets(i) > 0 ? placeOf(i) : undefined;
      if (place !== undefined) moved.add(place, this.packets(i), this.bytes(i));
    }
    return moved;
  }

  add(ruleIndex: number, packets: number, sizeBytes: number): void {
    const slot = this.#slots === undefined ? ruleIndex : this.#slotFor(this.#slots, ruleIndex);
    this.#counts[2 * slot]! += packets;
    this.#counts[2 * slot + 1]! += sizeBytes;
  }

  expect(counts: UnsettledCounts): void {
    this.#expected ??= new Set();
    this.#expected.add(counts);
  }

  #settle(): void {
    const expected = this.#expected;
    this.#expected = undefined;
    if (expected !== undefined) for (const counts of expected) counts.settle();
  }

  #slotFor(slots: Map<number, number>, ruleIndex: number): number {
    let slot = slots.get(ruleIndex);
    if (slot === undefined) {
      slot = slots.size;
      slots.set(ruleIndex, slot);
      if (2 * slots.size > this.#counts.length) {
        const grown = new Float64Array(2 * this.#counts.length);
        grown.set(this.#counts);
        this.#counts = grown;
      }
    }
    return slot;
  }
}
