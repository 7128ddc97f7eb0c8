// How long something takes: service times and think times.

import type { RandomStream } from '../../engine/random.ts';
import { type Duration, ns } from '../../engine/time.ts';

export type DurationDistribution = (random: RandomStream) => Duration;

export const fixed =
  (duration: Duration): DurationDistribution =>
  () =>
    duration;

export const exponential =
  (mean: Duration): DurationDistribution =>
  (random) =>
    random.exponential(mean);

export function uniform({ from, to }: { from: Duration; to: Duration }): DurationDistribution {
  if (to < from) throw new RangeError(`uniform from ${from} to ${to} ns; expected from <= to`);
  return (random) => ns(from + random.uniform() * (to - from));
}

/** Log-normal with this median; a sigma of 1 makes the 99th percentile ten times the median. */
export const logNormal =
  ({ median, sigma }: { median: Duration; sigma: number }): DurationDistribution =>
  (random) =>
    ns(median * Math.exp(random.normal(0, sigma)));

/** A plain duration means a fixed one. */
export const asDistribution = (value: Duration | DurationDistribution): DurationDistribution =>
  typeof value === 'function' ? value : fixed(value);
