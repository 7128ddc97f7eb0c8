// What controllers know of time, and how they wait.

import type { Instant } from '../../engine/time.ts';

export interface ControllerClock {
  readonly now: () => Instant;
  readonly at: (instant: Instant, action: () => void) => void;
}
