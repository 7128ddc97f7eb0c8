// The reference future event list: a binary heap of objects. Slow and obvious; the timing wheel is tested against it and
// measured beside it (bench/event-list.bench.ts).

import { Heap } from 'heap-js';
import { type EventOrigin, type FutureEventList, SLOT_LIMIT } from './future-event-list.ts';
import { after, type Duration, END_OF_TIME, type Instant, START } from './time.ts';

export class HeapEventList implements FutureEventList {
  size = 0;
  readonly #heap = new Heap<Entry>((a, b) => a.time - b.time || a.key - b.key);
  readonly #entries: Entry[] = [];
  readonly #free: Entry[] = [];

  timeOf(slot: number): Instant {
    return this.#entries[slot]!.time;
  }

  keyOf(slot: number): number {
    return this.#entries[slot]!.key;
  }

  push(time: Instant, key: number): number {
    const entry = this.#free.pop() ?? this.#newEntry();
    entry.time = time;
    entry.key = key;
    this.#heap.push(entry);
    this.size++;
    return entry.slot;
  }

  pushFrom(origin: EventOrigin, delay: Duration): number {
    return this.push(after(origin.now, delay), origin.takeKey());
  }

  popUntil(limit: Instant): number | undefined {
    for (let first = this.#heap.peek(); first !== undefined && first.time <= limit; first = this.#heap.peek()) {
      this.#heap.pop();
      this.#free.push(first);
      if (!first.cancelled) {
        this.size--;
        return first.slot;
      }
      first.cancelled = false;
    }
    return undefined;
  }

  earliest(): Instant {
    return this.#heap.peek()?.time ?? END_OF_TIME;
  }

  /** Lazy: the entry stays in the heap until its time comes. */
  cancel(slot: number): void {
    this.#entries[slot]!.cancelled = true;
    this.size--;
  }

  #newEntry(): Entry {
    if (this.#entries.length === SLOT_LIMIT) throw new RangeError(`more than ${SLOT_LIMIT} pending events`);
    const entry = new Entry(this.#entries.length);
    this.#entries.push(entry);
    return entry;
  }
}

class Entry {
  time: Instant = START;
  key = 0;
  cancelled = false;
  readonly slot: number;

  constructor(slot: number) {
    this.slot = slot;
  }
}
