// How fast the machine is just now, by a piece of work that is none of Podwire's and stays as it is. Reports of two days, or
// of a free and a busy hour, are compared by what a row took in units of it.

import { delaysOf, HOLDS_PER_CALL, heapHolder, pendingOf } from './event-list.bench.ts';

/** Fits a second-level cache, as most of what is measured does. */
const PENDING = 10_000;
const SAMPLES = 101;

/** Nanoseconds of one hold in heap-js' heap; a function, because filling the heap takes longer than measuring. */
export function makeYardstick(): () => number {
  const hold = heapHolder(pendingOf('network', PENDING), delaysOf('network'));
  return () => {
    const samples = Array.from({ length: SAMPLES }, () => {
      const before = performance.now();
      hold();
      return performance.now() - before;
    });
    return (samples.sort((a, b) => a - b)[SAMPLES >> 1]! * 1e6) / HOLDS_PER_CALL;
  };
}
