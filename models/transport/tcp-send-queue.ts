// What an application has written and the peer has not yet acknowledged: a stream that remembers where each message ends.
//
// Inside, positions count from the start of the stream and never wrap, so that an application may write more than the
// 2 GiB in which sequence numbers can be compared.

import type { Message, MessageEnd } from '../packet/frame.ts';

export class TcpSendQueue {
  /** Bytes written so far: the position after the last one. */
  #written = 0;
  /** The highest acknowledgment, as sequence number and as position. */
  #acknowledged: number;
  #acknowledgedPosition = 0;
  // A ring, so that neither a long queue nor a short one allocates or moves entries: entry i is at (#head + i) & mask.
  #messages: (Message | undefined)[] = new Array(INITIAL_ENTRIES).fill(undefined);
  /** Position after the last byte of the message. */
  #ends: number[] = new Array(INITIAL_ENTRIES).fill(0);
  #head = 0;
  #count = 0;

  constructor(firstSequence: number) {
    this.#acknowledged = firstSequence;
  }

  write(message: Message): void {
    if (this.#count === this.#ends.length) this.#grow();
    this.#written += message.sizeBytes;
    const tail = (this.#head + this.#count++) & (this.#ends.length - 1);
    this.#messages[tail] = message;
    this.#ends[tail] = this.#written;
  }

  /** Bytes written from this sequence number on; -1 for the one after a FIN. */
  bytesFrom(sequence: number): number {
    return this.#written - this.#positionOf(sequence);
  }

  /** Lets go of what ends at or before `acknowledgment`. */
  acknowledge(acknowledgment: number): void {
    const position = this.#positionOf(acknowledgment);
    this.#acknowledged = acknowledgment;
    this.#acknowledgedPosition = position;
    const ends = this.#ends;
    while (this.#count > 0 && ends[this.#head]! <= position) {
      this.#messages[this.#head] = undefined;
      this.#head = (this.#head + 1) & (ends.length - 1);
      this.#count--;
    }
  }

  /** Messages whose last byte a segment of these bytes carries. */
  endsWithin({ sequence, payloadBytes }: { sequence: number; payloadBytes: number }): MessageEnd[] | undefined {
    const first = this.#positionOf(sequence);
    let found: MessageEnd[] | undefined;
    for (let i = this.#firstEndAfter(first); i < this.#count; i++) {
      const slot = (this.#head + i) & (this.#ends.length - 1);
      const offset = this.#ends[slot]! - first;
      if (offset > payloadBytes) break;
      found ??= [];
      found.push({ offset, message: this.#messages[slot]! });
    }
    return found;
  }

  #positionOf(sequence: number): number {
    return this.#acknowledgedPosition + ((sequence - this.#acknowledged) | 0);
  }

  #firstEndAfter(position: number): number {
    const ends = this.#ends;
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (ends[(this.#head + middle) & (ends.length - 1)]! > position) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #grow(): void {
    const inOrder = <T>(ring: T[]): T[] => [...ring.slice(this.#head), ...ring.slice(0, this.#head)];
    this.#messages = [...inOrder(this.#messages), ...new Array(this.#count).fill(undefined)];
    this.#ends = [...inOrder(this.#ends), ...new Array(this.#count).fill(0)];
    this.#head = 0;
  }
}

const INITIAL_ENTRIES = 4;
