// A bridge's forwarding database: MAC to port, with ageing. Open addressing over typed arrays, because every bridged
// frame asks it twice (learn the source, look the destination up); its slow twin, a Map, stands in the test.

import { after, type Duration, type Instant, s } from '../../engine/time.ts';
import { type Mac, ZERO_MAC } from '../packet/mac.ts';

/** Default ageing time of a Linux bridge. */
export const FDB_AGEING: Duration = s(300);

export class Fdb {
  readonly #ageing: Duration;
  #macs = new Float64Array(16); // ZERO_MAC: free
  #seenAt = new Float64Array(16);
  #ports = new Int32Array(16);
  #count = 0;

  constructor(ageing: Duration = FDB_AGEING) {
    this.#ageing = ageing;
  }

  /**
   * A frame with this source address came in by this port: a station that moves is followed at once. True: lookups may
   * find something else than before.
   */
  learn(mac: Mac, port: number, now: Instant): boolean {
    let slot = this.#find(mac);
    const isNews = this.#macs[slot] === ZERO_MAC || this.#ports[slot] !== port || this.#isAged(slot, now);
    if (this.#macs[slot] === ZERO_MAC) {
      if (this.#count * 2 >= this.#macs.length) {
        this.#grow(now);
        slot = this.#find(mac);
      }
      this.#macs[slot] = mac;
      this.#count++;
    }
    this.#ports[slot] = port;
    this.#seenAt[slot] = now;
    return isNews;
  }

  /** For a flow cache: where `mac` stands for {@link refresh}, until {@link learn} has news. */
  slotOf(mac: Mac): number {
    return this.#find(mac);
  }

  /** {@link learn} without news. */
  refresh(slot: number, now: Instant): void {
    this.#seenAt[slot] = now;
  }

  /** The port behind which `mac` was last seen, unless that was longer ago than the ageing time. */
  lookup(mac: Mac, now: Instant): number | undefined {
    const slot = this.#find(mac);
    if (this.#macs[slot] === ZERO_MAC || this.#isAged(slot, now)) return undefined;
    return this.#ports[slot];
  }

  /** Until when {@link lookup} finds `mac`, which is known, if nobody hears of it again. */
  knownUntil(mac: Mac): Instant {
    return after(this.#seenAt[this.#find(mac)]! as Instant, this.#ageing);
  }

  /** Entries as `bridge fdb` lists them, aged ones left out. */
  *entries(now: Instant): Generator<{ mac: Mac; port: number }> {
    for (let slot = 0; slot < this.#macs.length; slot++) {
      const mac = this.#macs[slot] as Mac;
      if (mac !== ZERO_MAC && now - this.#seenAt[slot]! <= this.#ageing) yield { mac, port: this.#ports[slot]! };
    }
  }

  #isAged(slot: number, now: Instant): boolean {
    return now - this.#seenAt[slot]! > this.#ageing;
  }

  /** The slot of `mac`, or the free slot where it belongs. */
  #find(mac: Mac): number {
    const mask = this.#macs.length - 1;
    // `| 0` keeps the low 32 bits, where MACs differ; the upper bits of a product depend on all of them, the lower ones not.
    let slot = Math.imul(mac | 0, 0x9e3779b1) >>> Math.clz32(mask);
    while (this.#macs[slot] !== mac && this.#macs[slot] !== ZERO_MAC) slot = (slot + 1) & mask;
    return slot;
  }

  /** Doubles the table and leaves aged entries behind. */
  #grow(now: Instant): void {
    const [macs, seenAt, ports] = [this.#macs, this.#seenAt, this.#ports];
    this.#macs = new Float64Array(macs.length * 2);
    this.#seenAt = new Float64Array(macs.length * 2);
    this.#ports = new Int32Array(macs.length * 2);
    this.#count = 0;
    for (let i = 0; i < macs.length; i++) {
      if (macs[i] === ZERO_MAC || now - seenAt[i]! > this.#ageing) continue;
      const slot = this.#find(macs[i] as Mac);
      this.#macs[slot] = macs[i]!;
      this.#seenAt[slot] = seenAt[i]!;
      this.#ports[slot] = ports[i]!;
      this.#count++;
    }
  }
}
