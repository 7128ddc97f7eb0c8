// A short proof that two runs took the same course: 64 bits over the (time, key) of every executed event.
//
// Contributions are summed, so the order in which workers execute independent events does not matter, while a missing,
// additional or moved event does. Not cryptographic.

import type { EventTimes } from './future-event-list.ts';

export class Fingerprint {
  #low = 0;
  #high = 0;

  /** The event in a slot of the list. */
  add(events: EventTimes, slot: number): void {
    const time = events.timeOf(slot);
    const key = events.keyOf(slot);
    // `| 0` takes a number modulo 2^32, also beyond 2^31; the odd factors spread small numbers over all bits.
    const timeHigh = (time / 2 ** 32) | 0;
    const keyHigh = (key / 2 ** 32) | 0;
    const high = Math.imul(timeHigh, 0x9e3779b1) ^ Math.imul(keyHigh, 0x85ebca77);
    this.#low = (this.#low + mix(high ^ time ^ Math.imul(key | 0, 0xc2b2ae3d))) | 0;
    this.#high = (this.#high + mix(high ^ key ^ Math.imul(time | 0, 0x27d4eb2f))) | 0;
  }

  /** Adds the events of another fingerprint, given as text. */
  merge(other: string): void {
    this.#high = (this.#high + Number.parseInt(other.slice(0, 8), 16)) | 0;
    this.#low = (this.#low + Number.parseInt(other.slice(8), 16)) | 0;
  }

  /** 16 hexadecimal digits. */
  toString(): string {
    return hex(this.#high) + hex(this.#low);
  }
}

/** The 32-bit finalizer of MurmurHash3 (public domain): every input bit changes every output bit half of the time. */
function mix(h: number): number {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

const hex = (lane: number): string => (lane >>> 0).toString(16).padStart(8, '0');
