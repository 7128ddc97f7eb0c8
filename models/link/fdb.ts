// A bridge's forwarding database: MAC to port, with ageing. Open addressing over a typed table, because every bridged
// frame asks it twice (learn the source, look the destination up); its slow twin, a Map, stands in the test.

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
  readonly #ageing: Duration;
  #capacity = FIRST_CAPACITY;
  #numbers = new Float64Array(FIRST_CAPACITY * NUMBERS_PER_RECORD);
  #count = 0;

  constructor(clock: { readonly instant: Instant }, ageing: Duration = FDB_AGEING) {
    this.#clock = clock;
    this.#ageing = ageing;
  }

  /**
   * A frame with this source address came in by this port: a station that moves is followed at once. True: lookups may
   * find something else than before.
   */
  learn(high: number, low: number, port: number): boolean {
    let slot = this.#find(high, low);
    const isNew = this.#isFree(slot);
    const now = this.#clock.instant;
    const isNews =
      isNew ||
      this.#numbers[slot * NUMBERS_PER_RECORD + PORT] !== port ||
      now - this.#numbers[slot * NUMBERS_PER_RECORD + SEEN_AT]! > this.#ageing;
    if (isNew) {
      if (this.#count * 2 >= this.#capacity) {
        this.#grow();
        slot = this.#find(high, low);
      }
      this.#numbers[slot * NUMBERS_PER_RECORD + MAC] = macOf(high, low);
      this.#count++;
    }
    this.#numbers[slot * NUMBERS_PER_RECORD + PORT] = port;
    this.#numbers[slot * NUMBERS_PER_RECORD + SEEN_AT] = now;
    return isNews;
  }

  /** For a flow cache: where a MAC stands for {@link refresh}, until {@link learn} has news. */
  slotOf(high: number, low: number): number {
    return this.#find(high, low);
  }

  /** {@link learn} without news, `agoNs` before now. */
  refresh(slot: number, agoNs: number): void {
    this.#numbers[slot * NUMBERS_PER_RECORD + SEEN_AT] = this.#clock.instant - agoNs;
  }

  /** The port behind which a MAC was last seen, unless that was longer ago than the ageing time. */
  lookup(high: number, low: number): number | undefined {
    const slot = this.#find(high, low);
    if (this.#isFree(slot) || this.#isAged(slot)) return undefined;
    return this.#numbers[slot * NUMBERS_PER_RECORD + PORT];
  }

  /** Until when {@link lookup} finds a MAC, which is known, if nobody hears of it again. */
  knownUntil(high: number, low: number): Instant {
    return after(this.#numbers[this.#find(high, low) * NUMBERS_PER_RECORD + SEEN_AT]! as Instant, this.#ageing);
  }

  /** Entries as `bridge fdb` lists them, aged ones left out. */
  *entries(): Generator<{ mac: Mac; port: number }> {
    for (let slot = 0; slot < this.#capacity; slot++) {
      if (this.#isFree(slot) || this.#isAged(slot)) continue;
      const at = slot * NUMBERS_PER_RECORD;
      yield { mac: this.#numbers[at + MAC]! as Mac, port: this.#numbers[at + PORT]! };
    }
  }

  #isFree(slot: number): boolean {
    return this.#numbers[slot * NUMBERS_PER_RECORD + MAC] === ZERO_MAC;
  }

  #isAged(slot: number): boolean {
    return this.#clock.instant - this.#numbers[slot * NUMBERS_PER_RECORD + SEEN_AT]! > this.#ageing;
  }

  /** The slot of a MAC, or the free slot where it belongs. */
  #find(high: number, low: number): number {
    const numbers = this.#numbers;
    const mac = macOf(high, low);
    const mask = this.#capacity - 1;
    // The upper bits of a product depend on all of the lower 32 bits, where MACs differ; the lower ones not.
    let slot = Math.imul(low, 0x9e3779b1) >>> Math.clz32(mask);
    for (;;) {
      const found = numbers[slot * NUMBERS_PER_RECORD + MAC];
      if (found === mac || found === ZERO_MAC) return slot;
      slot = (slot + 1) & mask;
    }
  }

  /** Doubles the table and leaves aged entries behind. */
  #grow(): void {
    const old = this.#numbers;
    const kept = Array.from({ length: this.#capacity }, (_, slot) => slot).filter(
      (slot) => !this.#isFree(slot) && !this.#isAged(slot),
    );
    this.#capacity *= 2;
    this.#numbers = new Float64Array(this.#capacity * NUMBERS_PER_RECORD);
    this.#count = kept.length;
    for (const slot of kept) {
      const record = old.subarray(slot * NUMBERS_PER_RECORD, (slot + 1) * NUMBERS_PER_RECORD);
      const mac = record[MAC]! as Mac;
      this.#numbers.set(record, this.#find(macHigh(mac), macLow(mac)) * NUMBERS_PER_RECORD);
    }
  }
}
