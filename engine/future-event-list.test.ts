// Both lists against the obvious one, an array that is sorted for every pop.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { FutureEventList } from './future-event-list.ts';
import { HeapEventList } from './heap-event-list.ts';
import { END_OF_TIME, type Instant, minutes, ms, ns } from './time.ts';
import { TimingWheel } from './timing-wheel.ts';

const at = (time: number) => time as Instant;

describe.each([
  ['timing wheel', () => new TimingWheel()],
  ['heap', () => new HeapEventList()],
])('%s', (_, createList: () => FutureEventList) => {
  test('any course of pushes, pops and cancels equals that of a sorted array', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const list = createList();
        const sorted = new SortedArray();
        let isExact = true; // nothing has been cancelled
        for (const [i, { act, delay, place }] of steps.entries()) {
          const time = at(Math.min(sorted.floor + delay, Number.MAX_SAFE_INTEGER));
          const key = place * 2 ** 37 + i;
          if (act === 'push') sorted.push(time, key, list.push(time, key));
          else if (act === 'cancel')
            sorted.cancelOne(delay, (slot) => {
              list.cancel(slot);
              isExact = false;
            });
          else {
            const limit = act === 'pop' ? END_OF_TIME : time;
            const earliest = popped(list, limit);
            expect(earliest).toEqual(sorted.popUntil(limit));
            if (earliest === undefined && act !== 'pop') expect(list.earliest()).toBeGreaterThan(limit);
          }
          expect(list.size).toBe(sorted.events.length);
          const first = Math.min(...sorted.events.map(({ time }) => time)); // infinite without any
          if (isExact) expect(list.earliest()).toBe(first);
          else expect(list.earliest()).toBeLessThanOrEqual(first);
        }
        while (sorted.events.length > 0) expect(popped(list, END_OF_TIME)).toEqual(sorted.popUntil(END_OF_TIME));
        expect(list.popUntil(END_OF_TIME)).toBeUndefined();
      }),
      { numRuns: 300 },
    );
  });

  test('keys decide among events of the same nanosecond, also when they are pushed in its midst', () => {
    const list = createList();
    for (const key of [5, 1, 9, 3]) list.push(at(1_000), key);
    expect(popped(list, END_OF_TIME)).toEqual([1_000, 1]);
    list.push(at(1_000), 4);
    list.push(at(1_000), 2); // below keys that wait, above the one that has run
    expect(drain(list)).toEqual([2, 3, 4, 5, 9].map((key) => [1_000, key]));
  });

  test('a burst of 20,000 events of one instant leaves in the order of their keys', () => {
    const list = createList();
    const count = 20_000;
    for (let i = 0; i < count; i++) list.push(at(ms(3)), (i * 7_919) % count); // 7,919 is prime: every key once
    expect(drain(list)).toEqual(Array.from({ length: count }, (_, key) => [ms(3), key]));
  });

  test('a burst of which all but the last is cancelled passes', () => {
    const list = createList();
    const burst = Array.from({ length: 50_000 }, (_, key) => list.push(at(ms(3)), key));
    for (let key = 50_000; key < 100_000; key++) list.push(at(ms(4)), key);
    for (const slot of burst.slice(0, -1)) list.cancel(slot);
    expect(popped(list, END_OF_TIME)).toEqual([ms(3), 49_999]);
    expect(popped(list, END_OF_TIME)).toEqual([ms(4), 50_000]);
  });

  test('an event that is later than the limit stays, and earlier ones may still be pushed', () => {
    const list = createList();
    list.push(at(minutes(10)), 1);
    expect(list.popUntil(at(ms(5)))).toBeUndefined();
    list.push(at(ms(5)), 2);
    list.push(at(ms(7)), 3);
    expect(popped(list, at(ms(5)))).toEqual([ms(5), 2]);
    expect(drain(list)).toEqual([
      [ms(7), 3],
      [minutes(10), 1],
    ]);
  });

  test('the list reaches to the last exact nanosecond, 104 days', () => {
    const list = createList();
    for (const time of [Number.MAX_SAFE_INTEGER, 2 ** 50, 2 ** 30, 2 ** 30 - 1, 2 ** 50 - 1, 0])
      list.push(at(time), time);
    const times = [0, 2 ** 30 - 1, 2 ** 30, 2 ** 50 - 1, 2 ** 50, Number.MAX_SAFE_INTEGER];
    expect(drain(list)).toEqual(times.map((time) => [time, time]));
  });

  test('slots count up from 0, and free ones are used again first', () => {
    const list = createList();
    expect([1, 2, 3].map((key) => list.push(at(key), key))).toEqual([0, 1, 2]);
    expect(list.popUntil(END_OF_TIME)).toBe(0);
    expect(list.push(at(4), 4)).toBe(0);
    expect(list.push(at(5), 5)).toBe(3);
  });

  test('an empty list looks no further than the last event, whatever was cancelled after it', () => {
    const list = createList();
    list.push(at(ms(1)), 1);
    for (const key of [2, 3, 4]) list.cancel(list.push(at(minutes(key)), key));
    for (const key of [5, 6]) list.cancel(list.push(at(minutes(7)), key));
    expect(drain(list)).toEqual([[ms(1), 1]]);
    for (const time of [ms(9), ms(2), ms(400), minutes(2)]) list.push(at(time), time);
    expect(drain(list).map(([time]) => time)).toEqual([ms(2), ms(9), ms(400), minutes(2)]);
  });

  test('everything may be cancelled', () => {
    const list = createList();
    const slots = Array.from({ length: 1_000 }, (_, key) => list.push(at(key % 10), key));
    for (const slot of slots) list.cancel(slot);
    expect(list.size).toBe(0);
    expect(list.popUntil(END_OF_TIME)).toBeUndefined();
    list.push(at(10), 1_000);
    expect(drain(list)).toEqual([[10, 1_000]]);
  });
});

test('in the timing wheel, cancelled events do not pile up until their time comes', () => {
  const list = new TimingWheel();
  for (const [i, time] of [ms(1), ms(1), minutes(2)].entries()) list.push(at(time), 2 * i);
  let highestSlot = 0;
  for (let i = 0; i < 100_000; i++) {
    const slot = list.push(at(minutes(1) + i), 10 + i);
    highestSlot = Math.max(highestSlot, slot);
    list.cancel(slot);
  }
  expect(highestSlot).toBeLessThan(10_000);
  expect(drain(list)).toEqual([
    [ms(1), 0],
    [ms(1), 2],
    [minutes(2), 4],
  ]);
});

test('in the timing wheel, cancelled events of the running nanosecond do not pile up either', () => {
  const list = new TimingWheel();
  list.push(at(ns(7)), 0);
  const burst = Array.from({ length: 20_000 }, (_, i) => list.push(at(ns(7)), 1 + i));
  expect(popped(list, END_OF_TIME)).toEqual([7, 0]);
  for (const slot of burst.slice(0, -2)) list.cancel(slot);
  expect(drain(list)).toEqual([
    [7, 19_999],
    [7, 20_000],
  ]);
});

type Step = { act: 'push' | 'pop' | 'popUntil' | 'cancel'; delay: number; place: number };

/** Delays of every magnitude, ties, and times just beside the borders of the wheel's digits. */
const delay = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(0, 1, 500, 1_024, 10_410, 1_000_000) },
  { weight: 3, arbitrary: fc.nat(3_000) },
  {
    weight: 2,
    arbitrary: fc
      .integer({ min: 0, max: 52 })
      .chain((bits) => fc.integer({ min: 2 ** bits - 2, max: 2 ** bits + 2 }))
      .map(Math.abs),
  },
  { weight: 1, arbitrary: fc.maxSafeNat() },
);

const step: fc.Arbitrary<Step> = fc.record({
  act: fc.oneof(
    { weight: 4, arbitrary: fc.constant('push' as const) },
    { weight: 3, arbitrary: fc.constant('pop' as const) },
    { weight: 2, arbitrary: fc.constantFrom('popUntil' as const, 'cancel' as const) },
  ),
  delay,
  place: fc.nat(65_535),
});

class SortedArray {
  readonly events: { time: Instant; key: number; slot: number }[] = [];
  /** Before this nothing is pushed. */
  floor = 0;

  push(time: Instant, key: number, slot: number): void {
    this.events.push({ time, key, slot });
  }

  popUntil(limit: Instant): [number, number] | undefined {
    this.events.sort((a, b) => a.time - b.time || a.key - b.key);
    const first = this.events[0];
    if (first === undefined) return undefined;
    if (first.time > limit) {
      this.floor = Math.max(this.floor, limit);
      return undefined;
    }
    this.events.shift();
    this.floor = first.time;
    return [first.time, first.key];
  }

  cancelOne(choice: number, cancel: (slot: number) => void): void {
    if (this.events.length === 0) return;
    const [event] = this.events.splice(choice % this.events.length, 1);
    cancel(event!.slot);
  }
}

function popped(list: FutureEventList, limit: Instant): [number, number] | undefined {
  const slot = list.popUntil(limit);
  return slot === undefined ? undefined : [list.timeOf(slot), list.keyOf(slot)];
}

function drain(list: FutureEventList): [number, number][] {
  const events: [number, number][] = [];
  for (let event = popped(list, END_OF_TIME); event !== undefined; event = popped(list, END_OF_TIME))
    events.push(event);
  return events;
}
