// The fast future event list: a hierarchical timing wheel whose ticks are single nanoseconds and whose levels together
// cover all of time, so that it needs neither a sorted "near" part nor an overflow list.
//
// Write a time as six digits, of 7, 8, 8, 8, 8 and 14 bits, 53 in all. The *cursor* is a time that no pending
// event precedes. An event hangs in the bucket (level, digit): the level is the highest position in which its time differs
// from the cursor, the digit is the one that its time has there. Three facts follow.
//
// 1. An event of a lower level precedes every event of a higher one, and within a level digits rise with time. With
//    buckets numbered in this order the earliest is the lowest bit that is set: three bit scans, no comparison of times.
// 2. When the cursor enters a bucket, its events agree with the cursor in one more digit, so they move down a level; at
//    most five times in their life, seldom more than once for the delays of a network, most of which the lowest level
//    holds (16 us). An event alone in the earliest bucket is the earliest event and leaves from where it is.
// 3. A bucket of level 0 is one nanosecond. Only there must keys decide, and only if it holds more than one event.

import { type EventOrigin, type FutureEventList, SLOT_LIMIT } from './future-event-list.ts';
import { UNBOXED } from './number-table.ts';
import { type Duration, END_OF_TIME, type Instant } from './time.ts';

/** Nanoseconds are integers beyond 2^31, bit operations are not: the cursor is a block of 2^30 ns and a tick in it. */
const BLOCK_NS = 2 ** 30;
/** Of a tick and of a block. In a table, or V8 would take products for small integers, and compile all anew when one is not. */
const UNIT_NS = Float64Array.of(1, BLOCK_NS);

/** Buckets of one nanosecond each, which come first. */
const FINEST_BUCKETS = 2 ** 14;

/** The digits of a tick from the lowest, then those of a block, with the number of each one's first bucket. */
const LEVELS = [14, 8, 8, 8, 8, 7].map((bits, i, all) => {
  const shift = all.slice(i < 3 ? 0 : 3, i).reduce((sum, below) => sum + below, 0);
  return { bits, shift, first: all.slice(0, i).reduce((sum, below) => sum + 2 ** below, 0) };
});
const BLOCK_LEVELS = LEVELS.slice(3);
const FIRST_BLOCK_BUCKET = BLOCK_LEVELS[0]!.first;
const BUCKETS = LEVELS.reduce((sum, { bits }) => sum + 2 ** bits, 0);

// By the leading zeros of an exclusive or, whose highest bit says which digit is the highest that differs: for ticks, then
// for blocks. Tables have no branch to mispredict, and the compiler knows those of a module.
const BLOCK_ZEROS = 33;
const LEVEL_BY_ZEROS = [LEVELS.slice(0, 3), BLOCK_LEVELS].flatMap((levels) =>
  Array.from({ length: BLOCK_ZEROS }, (_, zeros) => levels.findLast(({ shift }) => shift <= 31 - zeros) ?? levels[0]!),
);
const FIRSTS = Int32Array.from(LEVEL_BY_ZEROS, ({ first }) => first);
const SHIFTS = Int32Array.from(LEVEL_BY_ZEROS, ({ shift }) => shift);
const MASKS = Int32Array.from(LEVEL_BY_ZEROS, ({ bits }) => 2 ** bits - 1);

/** Events that were cancelled, beyond as many as live ones: a sweep looks at each bucket, and has to be worth it. */
const MOST_GARBAGE = 6_144;

const NONE = -1;

// All that is whole numbers stands in one array, because each further one costs as many instructions to reach as what is
// done there: of each bucket the first slot, then a bit for each that is not empty, a bit for each word of bits that is not
// zero, and the same once more, in one word; then of each slot the next one in its bucket.
const OCCUPIED = BUCKETS;
const SUMMARIES = OCCUPIED + BUCKETS / 32;
const SUMMARY = SUMMARIES + Math.ceil(BUCKETS / 32 ** 2);
const NEXT = SUMMARY + 1;
const FIRST_CAPACITY = 1_024;

/** Events of one nanosecond among which the one with the lowest key is looked for anew each time. More are put in order. */
const MOST_SCANNED = 16;

/** What {@link TimingWheel.earliest} found, in which bucket behind which first event, and where the cursor was. */
const NOTHING_SEEN = { first: NONE, bucket: NONE, tick: 0, block: 0, time: 0 };

export class TimingWheel implements FutureEventList {
  #words = new Int32Array(NEXT + FIRST_CAPACITY).fill(NONE, 0, OCCUPIED);
  // Times and keys stand apart from the links, because following these through 4 bytes per event lets the processor fetch
  // the times of a long bucket ahead (1.5 times as fast with a million events).
  #timesAndKeys = new Float64Array(2 * FIRST_CAPACITY);
  #cancelled = new Uint8Array(FIRST_CAPACITY);
  #usedSlots = 0;
  #freeSlot = NONE;

  // The cursor is at `#block * BLOCK_NS + #tick`.
  #block = 0;
  #blockStart = UNBOXED;
  #tick = 0;
  /** Events of the cursor's own nanosecond, when there were many. */
  readonly #ties = new TieHeap();

  #size = 0;
  #garbage = 0;
  #seen = NOTHING_SEEN;

  constructor() {
    this.#blockStart = 0;
  }

  get size(): number {
    return this.#size;
  }

  timeOf(slot: number): Instant {
    return this.#timesAndKeys[slot << 1]! as Instant;
  }

  keyOf(slot: number): number {
    return this.#timesAndKeys[(slot << 1) | 1]!;
  }

  push(time: Instant, key: number): number {
    const slot = this.#takeSlot();
    this.#timesAndKeys[slot << 1] = time;
    this.#timesAndKeys[(slot << 1) | 1] = key;
    this.#place(slot, time);
    return slot;
  }

  pushFrom(origin: EventOrigin, delay: Duration): number {
    const slot = this.#takeSlot();
    const time = origin.now + delay;
    this.#timesAndKeys[slot << 1] = time;
    this.#timesAndKeys[(slot << 1) | 1] = origin.takeKey();
    this.#place(slot, time);
    return slot;
  }

  #takeSlot(): number {
    let slot = this.#freeSlot;
    if (slot === NONE) slot = this.#newSlot();
    else this.#freeSlot = this.#words[NEXT + slot]!;
    this.#size++;
    return slot;
  }

  popUntil(limit: Instant): number | undefined {
    if (this.#size === 0) return this.#startOver();
    for (;;) {
      if (this.#ties.size > 0) {
        const tie = this.#takeTie(limit);
        if (tie === NONE) return undefined;
        if (this.#release(tie)) return tie;
        continue;
      }
      const bucket = this.#earliestBucket();
      const slot = this.#words[bucket]!;
      const isAlone = this.#words[NEXT + slot] === NONE;
      let taken = slot;
      if (bucket < FINEST_BUCKETS) {
        // The bucket tells the time: the processor need not wait for the event's own to look for the next bucket.
        const tick = (this.#tick & -FINEST_BUCKETS) | bucket;
        if (this.#blockStart + tick > limit) return undefined;
        this.#tick = tick;
        if (isAlone) this.#empty(bucket);
        else taken = this.#takeLeast(bucket, slot);
      } else if (isAlone) {
        const time = this.#timesAndKeys[slot << 1]!;
        if (time > limit) return undefined;
        this.#empty(bucket);
        const tick = time - this.#blockStart;
        if (tick < BLOCK_NS) this.#tick = tick | 0;
        else this.#moveCursor(time); // seldom: the call boxes the time
      } else {
        if (!this.#enter(bucket, limit)) return undefined;
        continue;
      }
      if (taken !== NONE && this.#release(taken)) return taken;
    }
  }

  /** Looks at all events of the earliest bucket, once for as long as nothing is popped and it is the same bucket. */
  earliest(): Instant {
    if (this.#size === 0) return END_OF_TIME;
    if (this.#ties.size > 0) return (this.#blockStart + this.#tick) as Instant;
    const bucket = this.#earliestBucket();
    const first = this.#words[bucket]!;
    if (bucket < FINEST_BUCKETS) return this.#timesAndKeys[first << 1]! as Instant;
    const seen = this.#seen;
    // An event is pushed in front of the others of its bucket, and they leave when the cursor moves there.
    const isSeen = seen.first === first && seen.bucket === bucket;
    if (isSeen && seen.tick === this.#tick && seen.block === this.#block) return seen.time as Instant;
    let time = this.#timesAndKeys[first << 1]!;
    for (let slot = this.#words[NEXT + first]!; slot !== NONE; slot = this.#words[NEXT + slot]!)
      if (this.#timesAndKeys[slot << 1]! < time) time = this.#timesAndKeys[slot << 1]!;
    this.#seen = { first, bucket, tick: this.#tick, block: this.#block, time };
    return time as Instant;
  }

  /** Marks the event; it leaves when its time comes, or with others when they outnumber the living. */
  cancel(slot: number): void {
    this.#cancelled[slot] = 1;
    this.#size--;
    this.#garbage++;
    if (this.#garbage > this.#size + MOST_GARBAGE) this.#sweep();
  }

  #earliestBucket(): number {
    const words = this.#words;
    // Where many events are pending the next one is often in the cursor's own word, and nothing precedes the cursor.
    const near = (this.#tick & (FINEST_BUCKETS - 1)) >>> 5;
    const nearBits = words[OCCUPIED + near]!;
    if (nearBits !== 0) return (near << 5) | lowestBit(nearBits);
    const summary = lowestBit(words[SUMMARY]!);
    const word = (summary << 5) | lowestBit(words[SUMMARIES + summary]!);
    return (word << 5) | lowestBit(words[OCCUPIED + word]!);
  }

  #place(slot: number, time: number): void {
    const words = this.#words;
    const tick = time - this.#blockStart;
    const bucket =
      tick < BLOCK_NS
        ? bucketOf(tick | 0, this.#tick, 0)
        : bucketOf(Math.floor(time / BLOCK_NS), this.#block, BLOCK_ZEROS);
    words[NEXT + slot] = words[bucket]!;
    words[bucket] = slot;
    const word = bucket >>> 5;
    words[OCCUPIED + word]! |= 1 << (bucket & 31);
    words[SUMMARIES + (word >>> 5)]! |= 1 << (word & 31);
    words[SUMMARY]! |= 1 << (word >>> 5);
  }

  #empty(bucket: number): void {
    const words = this.#words;
    words[bucket] = NONE;
    const word = bucket >>> 5;
    const rest = words[OCCUPIED + word]! & ~(1 << (bucket & 31));
    words[OCCUPIED + word] = rest;
    if (rest !== 0) return;
    const summary = words[SUMMARIES + (word >>> 5)]! & ~(1 << (word & 31));
    words[SUMMARIES + (word >>> 5)] = summary;
    if (summary === 0) words[SUMMARY]! &= ~(1 << (word >>> 5));
  }

  /** Moves the cursor into the earliest bucket and its events down a level, unless it starts later than `limit`. */
  #enter(bucket: number, limit: Instant): boolean {
    const start = this.#startOf(bucket);
    if (start > limit) return false;
    let slot = this.#words[bucket]!;
    this.#empty(bucket);
    this.#moveCursor(start);
    while (slot !== NONE) {
      const next = this.#words[NEXT + slot]!;
      this.#place(slot, this.#timesAndKeys[slot << 1]!);
      slot = next;
    }
    return true;
  }

  /** All is read before it is known what is needed: code that is reached late has V8 compile anew what is around it. */
  #startOf(bucket: number): number {
    const tick = this.#tick;
    const block = this.#block;
    const blockStart = this.#blockStart;
    const isTick = bucket < FIRST_BLOCK_BUCKET;
    const first = startOf(bucket, isTick ? tick : block) * UNIT_NS[isTick ? 0 : 1]!;
    return isTick ? blockStart + first : first;
  }

  /** Takes the event with the lowest key out of a bucket of level 0; NONE: there are many, which are now ties. */
  #takeLeast(bucket: number, first: number): number {
    const words = this.#words;
    const keys = this.#timesAndKeys;
    let least = first;
    let before = NONE;
    let lowest = keys[(first << 1) | 1]!;
    let scanned = 0;
    for (let last = first, slot = words[NEXT + first]!; slot !== NONE; last = slot, slot = words[NEXT + slot]!) {
      if (++scanned === MOST_SCANNED) {
        this.#empty(bucket);
        this.#addTies(first);
        return NONE;
      }
      const key = keys[(slot << 1) | 1]!;
      if (key < lowest) {
        lowest = key;
        least = slot;
        before = last;
      }
    }
    if (before === NONE) words[bucket] = words[NEXT + first]!;
    else words[NEXT + before] = words[NEXT + least]!;
    return least;
  }

  #moveCursor(time: number): void {
    this.#block = Math.floor(time / BLOCK_NS);
    this.#blockStart = this.#block * UNIT_NS[1]!;
    this.#tick = (time - this.#blockStart) | 0;
  }

  #addTies(first: number): void {
    for (let slot = first; slot !== NONE; slot = this.#words[NEXT + slot]!)
      this.#ties.push(this.#timesAndKeys[(slot << 1) | 1]!, slot);
  }

  #takeTie(limit: Instant): number {
    if (this.#blockStart + this.#tick > limit) return NONE;
    const bucket = this.#tick & (FINEST_BUCKETS - 1);
    const pushedSince = this.#words[bucket]!; // at the very nanosecond that is running
    if (pushedSince !== NONE) {
      this.#empty(bucket);
      this.#addTies(pushedSince);
    }
    return this.#ties.pop();
  }

  /** Frees a slot that has left the buckets. False if its event had been cancelled. */
  #release(slot: number): boolean {
    this.#words[NEXT + slot] = this.#freeSlot;
    this.#freeSlot = slot;
    if (this.#garbage === 0 || this.#cancelled[slot] === 0) {
      this.#size--;
      return true;
    }
    this.#cancelled[slot] = 0;
    this.#garbage--;
    return false;
  }

  /** Frees every cancelled event. Looks at every event and bucket, which as many cancels have earned. */
  #sweep(): void {
    this.#seen = NOTHING_SEEN;
    while (this.#ties.size > 0) this.#keep(this.#ties.pop());
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      let slot = this.#words[bucket]!;
      if (slot !== NONE) this.#empty(bucket);
      while (slot !== NONE) {
        const next = this.#words[NEXT + slot]!;
        this.#keep(slot);
        slot = next;
      }
    }
  }

  /** An empty wheel may have any cursor. Cancelled events could have drawn it beyond what may still be pushed. */
  #startOver(): undefined {
    if (this.#garbage > 0) this.#sweep();
    this.#seen = NOTHING_SEEN;
    this.#block = 0;
    this.#blockStart = 0;
    this.#tick = 0;
  }

  /** Puts an event back where it was, unless it has been cancelled. */
  #keep(slot: number): void {
    if (this.#cancelled[slot] === 0) this.#place(slot, this.#timesAndKeys[slot << 1]!);
    else this.#release(slot);
  }

  #newSlot(): number {
    if (this.#usedSlots === SLOT_LIMIT) throw new RangeError(`more than ${SLOT_LIMIT} pending events`);
    if (this.#usedSlots === this.#cancelled.length) this.#grow();
    return this.#usedSlots++;
  }

  #grow(): void {
    const capacity = this.#cancelled.length * 2;
    const words = new Int32Array(NEXT + capacity);
    const timesAndKeys = new Float64Array(2 * capacity);
    const cancelled = new Uint8Array(capacity);
    words.set(this.#words);
    timesAndKeys.set(this.#timesAndKeys);
    cancelled.set(this.#cancelled);
    this.#words = words;
    this.#timesAndKeys = timesAndKeys;
    this.#cancelled = cancelled;
  }
}

/** Bucket of a tick or a block (`zerosFrom`: whose tables), seen from a cursor that it does not precede. */
function bucketOf(number: number, cursor: number, zerosFrom: number): number {
  const zeros = zerosFrom + Math.clz32(number ^ cursor);
  return FIRSTS[zeros]! + ((number >>> SHIFTS[zeros]!) & MASKS[zeros]!);
}

/** The first tick or block of a bucket, seen from the cursor: higher digits are the cursor's, lower ones zero. */
function startOf(bucket: number, cursor: number): number {
  let level = LEVELS.length - 1;
  while (bucket < LEVELS[level]!.first) level--;
  const { bits, shift, first } = LEVELS[level]!;
  const above = shift + bits;
  return ((cursor >>> above) << above) | ((bucket - first) << shift);
}

const lowestBit = (word: number): number => 31 - Math.clz32(word & -word);

/** A heap of (key, slot) with four children per node, in one array so that siblings share a cache line. */
class TieHeap {
  size = 0;
  #entries = new Float64Array(64);

  push(key: number, slot: number): void {
    if (2 * this.size === this.#entries.length) this.#grow();
    const entries = this.#entries;
    let i = this.size++;
    while (i > 0) {
      const parent = (i - 1) >> 2;
      const parentKey = entries[2 * parent]!;
      if (parentKey < key) break;
      entries[2 * i] = parentKey;
      entries[2 * i + 1] = entries[2 * parent + 1]!;
      i = parent;
    }
    entries[2 * i] = key;
    entries[2 * i + 1] = slot;
  }

  /** The slot of the lowest key; the heap must not be empty. */
  pop(): number {
    const entries = this.#entries;
    const lowest = entries[1]! | 0; // a small integer again
    const size = --this.size;
    const key = entries[2 * size]!;
    let i = 0;
    for (;;) {
      const first = 4 * i + 1;
      if (first >= size) break;
      let child = first;
      for (let c = first + 1; c < first + 4 && c < size; c++) if (entries[2 * c]! < entries[2 * child]!) child = c;
      if (entries[2 * child]! > key) break;
      entries[2 * i] = entries[2 * child]!;
      entries[2 * i + 1] = entries[2 * child + 1]!;
      i = child;
    }
    entries[2 * i] = key;
    entries[2 * i + 1] = entries[2 * size + 1]!;
    return lowest;
  }

  #grow(): void {
    const entries = new Float64Array(this.#entries.length * 2);
    entries.set(this.#entries);
    this.#entries = entries;
  }
}
