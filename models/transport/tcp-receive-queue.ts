// What has arrived and the application has not yet read: puts segments in order, and finds the messages in them.
//
// Data is counted, not kept. Out of order data is a sorted list of islands between the gaps.

import type { Message, MessageEnd } from '../packet/frame.ts';
import { isAfter, isBefore } from './sequence.ts';

/** What a segment brought: the next expected bytes, bytes after a gap, or nothing new. */
export type Arrival = 'in order' | 'out of order' | 'nothing new';

export class TcpReceiveQueue {
  /** RCV.NXT: everything before has arrived. */
  next: number;
  /** Bytes in order that the application has not read. */
  unreadBytes = 0;
  readonly #islands: Island[] = [];
  /** Ends of the messages that end in islands, rising, each once. */
  readonly #pendingEnds: PendingEnd[] = [];
  readonly #complete: Message[] = [];
  /** Sequence number of the peer's FIN. */
  #fin: number | undefined;
  #finished = false;

  constructor(firstSequence: number) {
    this.next = firstSequence;
  }

  /** Takes the payload of a segment that starts at `sequence`, inside the window or before it. */
  receive(sequence: number, payloadBytes: number, ends: readonly MessageEnd[] | undefined): Arrival {
    const end = (sequence + payloadBytes) | 0;
    if (!isAfter(end, this.next)) return 'nothing new';
    if (isAfter(sequence, this.next)) {
      this.#addIsland(sequence, end);
      if (ends !== undefined) this.#addPendingEnds(sequence, ends);
      return 'out of order';
    }
    if (this.#islands.length === 0) {
      if (ends !== undefined) this.#takeEnds(sequence, ends);
      this.#advance(end);
    } else {
      if (ends !== undefined) this.#addPendingEnds(sequence, ends);
      this.#advance(end);
      this.#joinIslands();
    }
    return 'in order';
  }

  /** The peer's FIN stands at `sequence`. True if nothing is missing before it; it is then counted as received. */
  receiveFin(sequence: number): boolean {
    this.#fin = sequence;
    return this.takeFin();
  }

  /** True once, when everything before a FIN that has come early is there. */
  takeFin(): boolean {
    if (this.#finished || this.#fin !== this.next) return false;
    this.next = (this.next + 1) | 0;
    this.#finished = true;
    return true;
  }

  /** The peer has said that it sends no more, and all it sent is here. */
  get finished(): boolean {
    return this.#finished;
  }

  /** Bytes wait behind a gap. */
  get hasGap(): boolean {
    return this.#islands.length > 0;
  }

  /** The application reads the next complete message. Call until undefined: that also takes what came of the next one. */
  read(): Message | undefined {
    const message = this.#complete.shift();
    if (message === undefined) this.unreadBytes = 0;
    return message;
  }

  #advance(end: number): void {
    this.unreadBytes += (end - this.next) | 0;
    this.next = end;
  }

  /** Nothing waits out of order: messages that end in this segment are complete, unless they were before. */
  #takeEnds(sequence: number, ends: readonly MessageEnd[]): void {
    for (const { offset, message } of ends) {
      if (isAfter((sequence + offset) | 0, this.next)) this.#complete.push(message);
    }
  }

  #addPendingEnds(sequence: number, ends: readonly MessageEnd[]): void {
    const pending = this.#pendingEnds;
    for (const { offset, message } of ends) {
      const end = (sequence + offset) | 0;
      if (!isAfter(end, this.next)) continue;
      let index = pending.length;
      while (index > 0 && isAfter(pending[index - 1]!.end, end)) index--;
      if (index > 0 && pending[index - 1]!.end === end) continue; // a retransmission
      pending.splice(index, 0, { end, message });
    }
  }

  #addIsland(first: number, end: number): void {
    const islands = this.#islands;
    let from = 0;
    while (from < islands.length && isBefore(islands[from]!.end, first)) from++;
    let to = from;
    for (; to < islands.length && !isAfter(islands[to]!.first, end); to++) {
      if (isBefore(islands[to]!.first, first)) first = islands[to]!.first;
      if (isAfter(islands[to]!.end, end)) end = islands[to]!.end;
    }
    islands.splice(from, to - from, { first, end });
  }

  #joinIslands(): void {
    const islands = this.#islands;
    while (islands.length > 0 && !isAfter(islands[0]!.first, this.next)) {
      const { end } = islands.shift()!;
      if (isAfter(end, this.next)) this.#advance(end);
    }
    const pending = this.#pendingEnds;
    while (pending.length > 0 && !isAfter(pending[0]!.end, this.next)) this.#complete.push(pending.shift()!.message);
  }
}

interface Island {
  readonly first: number;
  /** Sequence number after the last byte. */
  readonly end: number;
}

interface PendingEnd {
  readonly end: number;
  readonly message: Message;
}
