// When requests are made: the gaps of an open-loop client.

import type { RandomStream } from '../../engine/random.ts';
import { type Duration, ns, s } from '../../engine/time.ts';

/** The time to the next arrival; called once per arrival, in order. */
export type Arrivals = (random: RandomStream) => Duration;

/** Independent arrivals: exponential gaps. */
export function poisson({ perSecond }: { perSecond: number }): Arrivals {
  const mean = gapOf(perSecond);
  return (random) => random.exponential(mean);
}

/** One arrival every 1/perSecond. */
export function constantRate({ perSecond }: { perSecond: number }): Arrivals {
  const gap = gapOf(perSecond);
  return () => gap;
}

/** `size` requests at once, `every` so often; the first burst after one period. */
export function bursts({ size, every }: { size: number; every: Duration }): Arrivals {
  if (!(Number.isInteger(size) && size >= 1)) throw new RangeError(`bursts of ${size} requests; expected at least 1`);
  let sinceBurst = size; // a whole burst is over, so the next arrival waits
  return () => {
    if (sinceBurst < size) {
      sinceBurst++;
      return ns(0);
    }
    sinceBurst = 1;
    return every;
  };
}

function gapOf(perSecond: number): Duration {
  if (!(perSecond > 0)) throw new RangeError(`${perSecond} requests per second; expected more than 0`);
  return ns(s(1) / perSecond);
}
