// The future event list in the hold model: with N events pending, take the earliest and add another, over and over.
// Compared: the timing wheel that runs everything, and the heap of heap-js that it is tested against.

import { HeapEventList } from '../engine/heap-event-list.ts';
import { type RandomStream, RandomStreams } from '../engine/random.ts';
import { type Duration, END_OF_TIME, type Instant, ms, ns, us } from '../engine/time.ts';
import { TimingWheel } from '../engine/timing-wheel.ts';
import { measure } from './measure.ts';
import type { BenchReport } from './report.ts';

const SIZES = [100, 1_000, 10_000, 100_000, 1_000_000] as const;

/** How far ahead an event is scheduled. */
const MIXES = {
  /** Half CPU visits, two fifths wires, one tenth timers. */
  network: (random) => {
    const kind = random.uniform();
    if (kind < 0.5) return ns(500 + 400 * random.int(4));
    return kind < 0.9 ? ns(10_410) : ms(1);
  },
  exponential: (random) => random.exponential(ms(1)),
  bimodal: (random) => (random.uniform() < 0.9 ? ns(1 + random.int(2_000)) : us(1_000 + random.int(20))),
} satisfies Record<string, (random: RandomStream) => Duration>;

export type DelayMix = keyof typeof MIXES;
export const DELAY_MIXES = Object.keys(MIXES) as readonly DelayMix[];

export const HOLDS_PER_CALL = 2_000;
const WARM_UP = 200_000;

export async function run(
  report: BenchReport,
  {
    sizes = SIZES,
    rounds = 7,
    msPerRound = 60,
  }: { sizes?: readonly number[]; rounds?: number; msPerRound?: number } = {},
): Promise<void> {
  for (const mix of DELAY_MIXES) {
    const delays = delaysOf(mix);
    for (const size of sizes) {
      const pending = pendingOf(mix, size);
      const variants = { 'timing wheel': wheelHolder(pending, delays), 'heap-js': heapHolder(pending, delays) };
      const measured = await measure(variants, { operationsPerCall: HOLDS_PER_CALL, rounds, msPerRound });
      for (const [variant, { nsPerOperation, samples, rsd }] of Object.entries(measured)) {
        report.add({
          bench: 'event list',
          case: `${size.toLocaleString('en')} pending, ${mix} delays`,
          variant,
          unit: 'ns/hold',
          value: nsPerOperation,
          samples,
          rsd,
        });
      }
    }
  }
}

/** A power of two. */
const DELAY_COUNT = 16_384;

/** Nanoseconds, drawn beforehand: random numbers are not what is measured. */
export function delaysOf(mix: DelayMix): Float64Array {
  const random = new RandomStreams('event list').stream(mix);
  return Float64Array.from({ length: DELAY_COUNT }, () => MIXES[mix](random));
}

/**
 * When the events of the steady state are due, seen from any instant: the longer a delay, the likelier is an event of it
 * among those that wait, and any part of it may have passed. From a start where all are to come within their first delays it
 * would take 20 holds of each to get there.
 */
export function pendingOf(mix: DelayMix, count: number): Instant[] {
  const random = new RandomStreams('event list').stream(`${mix}, pending`);
  const delays = delaysOf(mix);
  let total = 0;
  const sums = Float64Array.from(delays, (delay) => (total += delay));
  return Array.from({ length: count }, () => {
    const delay = delays[firstAbove(sums, random.uniform() * total)]!;
    return Math.ceil(random.uniform() * delay) as Instant;
  });
}

/** Index of the first of rising numbers that is above `value`. */
function firstAbove(sums: Float64Array, value: number): number {
  let [from, to] = [0, sums.length - 1];
  while (from < to) {
    const middle = (from + to) >> 1;
    if (sums[middle]! > value) to = middle;
    else from = middle + 1;
  }
  return from;
}

// Each returns a function that does HOLDS_PER_CALL holds. The two loops are the same on purpose: a loop that has met both lists runs slower with either, because the compiler
// can no longer put the list's code into it.

export function wheelHolder(pending: readonly Instant[], delays: Float64Array): () => void {
  const list = new TimingWheel();
  let key = 0;
  for (const time of pending) list.push(time, key++);
  const hold = (count: number) => {
    for (let i = 0; i < count; i++) {
      const slot = list.popUntil(END_OF_TIME)!;
      list.push((list.timeOf(slot) + delays[key & (DELAY_COUNT - 1)]!) as Instant, key++);
    }
  };
  hold(WARM_UP);
  return () => hold(HOLDS_PER_CALL);
}

export function heapHolder(pending: readonly Instant[], delays: Float64Array): () => void {
  const list = new HeapEventList();
  let key = 0;
  for (const time of pending) list.push(time, key++);
  const hold = (count: number) => {
    for (let i = 0; i < count; i++) {
      const slot = list.popUntil(END_OF_TIME)!;
      list.push((list.timeOf(slot) + delays[key & (DELAY_COUNT - 1)]!) as Instant, key++);
    }
  };
  hold(WARM_UP);
  return () => hold(HOLDS_PER_CALL);
}
