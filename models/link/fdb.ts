// A bridge's forwarding database: MAC to port, with ageing. Open addressing over numbers, because every bridged frame asks it
// twice (learn the source, look the destination up); its slow twin, a Map, stands in the test.

import type { NumberTable } from '../../engine/number-table.ts';
import { after, type Duration, type Instant, s } from '../../engine/time.ts';
import { type Mac, macHigh, macLow, macOf, ZERO_MAC } from '../packet/mac.ts';

/** Default ageing time of a Linux bridge. */
export const FDB_AGEING: Duration = s(300);

// A record: a MAC (0: free), a port, and when the MAC was seen there.
const MAC = 0;
const PORT = 1;
const SEEN_AT = 2;
const NUMBERS_PER_RECORD = 3;
const FIRST_CAPACITY = 16;

/** MACs come in two parts, the upper 16 bits and the lower 32, and the time from a clock: as numbers they would be boxed. */
export class Fdb {
  readonly #clock: { readonly instant: Instant };
  readonly #numbers: NumberTable;
  readonly #ageing: Duration;
  #capacity = FIRST_CAPACITY;
  /** Where the records begin, among the run's numbers. */
  #first: number;
  #count = 0;

  constructor({
    clock,
    numbers,
    ageing = FDB_AGEING,
  }: {
    readonly clock: { readonly instant: Instant };
    readonly numbers: NumberTable;
    readonly ageing?: Duration;
  }) {
    this.#clock = clock;
    this.#numbers = numbers;
    this.#ageing = ageing;
    this.#first = numbers.add(FIRST_CAPACITY * NUMBERS_PER_RECORD);
  }

  /**
   * A frame with this source address came in by this port: a station that moves is followed at once. True: lookups may
   * find something else than before.
   */
  learn(high: number, low: number, port: number): boolean {
    let at = this.#find(high, low);
    const isNew = this.#numbers.values[at + MAC] === ZERO_MAC;
    const isNews = isNew || this.#numbers.values[at + PORT] !== port || this.#isAged(at);
    if (isNew) {
      if (this.#count * 2 >= this.#capacity) {
        this.#grow();
        at = this.#find(high, low);
      }
      this.#numbers.values[at + MAC] = macOf(high, low);
      this.#count++;
    }
    const { values } = this.#numbers;
    values[at + PORT] = port;
    values[at + SEEN_AT] = this.#clock.instant;
    return isNews;
  }

  /** Which number of the run says when a known MAC was seen last: whoever sets it {@link learn}s without news. */
  seenAt(high: number, low: number): number {
    return this.#find(high, low) + SEEN_AT;
  }

  /** The port behind which a MAC was last seen, unless that was longer ago than the ageing time. */
  lookup(high: number, low: number): number | undefined {
    const at = this.#find(high, low);
    const { values } = this.#numbers;
    return values[at + MAC] === ZERO_MAC || this.#isAged(at) ? undefined : values[at + PORT];
  }

  /** Until when {@link lookup} finds a MAC, which is known, if nobody hears of it again. */
  knownUntil(high: number, low: number): Instant {
    return after(this.#numbers.values[this.seenAt(high, low)]! as Instant, this.#ageing);
  }

  /** Entries as `bridge fdb` lists them, aged ones left out. */
  *entries(): Generator<{ mac: Mac; port: number }> {
    for (const at of this.#live()) {
      const { values } = this.#numbers;
      yield { mac: values[at + MAC]! as Mac, port: values[at + PORT]! };
    }
  }

  /** Where entries are that have not aged. */
  #live(): number[] {
    return Array.from({ length: this.#capacity }, (_, i) => this.#first + i * NUMBERS_PER_RECORD).filter(
      (at) => this.#numbers.values[at + MAC] !== ZERO_MAC && !this.#isAged(at),
    );
  }

  #isAged(at: number): boolean {
    return this.#clock.instant - this.#numbers.values[at + SEEN_AT]! > this.#ageing;
  }

  /** Where a MAC's record is, or the free one where it belongs. */
  #find(high: number, low: number): number {
    const { values } = this.#numbers;
    const mac = macOf(high, low);
    const mask = this.#capacity - 1;
    // The upper bits of a product depend on all of the lower 32 bits, where MACs differ; the lower ones not.
    let slot = Math.imul(low, 0x9e3779b1) >>> Math.clz32(mask);
    for (;;) {
      const at = this.#first + slot * NUMBERS_PER_RECORD;
      const found = values[at + MAC];
      if (found === mac || found === ZERO_MAC) return at;
      slot = (slot + 1) & mask;
    }
  }

  /** Doubles the table and leaves aged entries behind. */
  #grow(): void {
    const kept = this.#live();
    this.#capacity *= 2;
    this.#first = this.#numbers.add(this.#capacity * NUMBERS_PER_RECORD);
    this.#count = kept.length;
    const { values } = this.#numbers;
    for (const from of kept) {
      const mac = values[from + MAC]! as Mac;
      values.copyWithin(this.#find(macHigh(mac), macLow(mac)), from, from + NUMBERS_PER_RECORD);
    }
  }
}
