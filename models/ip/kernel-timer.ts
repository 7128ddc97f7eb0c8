// When the kernel's coarse timers fire (kernel/time/timer.c): never early, and the later the coarser. The time between two
// questions for a neighbor is one second and up to 32 ms; five seconds become up to 5.256.

import type { Duration, Instant } from '../../engine/time.ts';
import { JIFFY } from '../cpu/jiffy.ts';

/** Timers of a level of the wheel expire in steps of 8^level jiffies; a level has 64 of them. */
const STEPS_PER_LEVEL = 63;

/** From now until a timer fires that was set to fire after `delay`. */
export function timerDelay(now: Instant, delay: Duration): Duration {
  const clock = Math.floor(now / JIFFY);
  const delta = Math.ceil(delay / JIFFY);
  let step = 1;
  while (delta >= STEPS_PER_LEVEL * step) step *= 8;
  const firesAt = (Math.floor((clock + delta) / step) + 1) * step;
  return (firesAt * JIFFY - now) as Duration;
}
