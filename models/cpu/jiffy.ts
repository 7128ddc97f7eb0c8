// The kernel's coarse clock: what it dates by jiffies is as old as the last tick.

import { type Duration, type Instant, ms } from '../../engine/time.ts';

/** CONFIG_HZ=250, as on the kernel that was observed. */
export const JIFFY: Duration = ms(4);

/** When the clock of jiffies last went on. */
export const startOfJiffy = (now: Instant): Instant => (Math.floor(now / JIFFY) * JIFFY) as Instant;
