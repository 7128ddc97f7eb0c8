// A timer that is stopped as often as it is started. Every request starts the retransmission timer and every answer
// stops it, long before it fires; so stopping leaves the event where it is, and the next start moves it.

import type { Place } from '../../engine/simulator.ts';
import type { Instant } from '../../engine/time.ts';
import { Timer } from '../../engine/timer.ts';

export class TcpTimer {
  readonly #timer: Timer;
  #armed = false;

  constructor(place: Place, action: () => void) {
    this.#timer = new Timer(place, () => {
      if (!this.#armed) return;
      this.#armed = false;
      action();
    });
  }

  get armed(): boolean {
    return this.#armed;
  }

  startAt(at: Instant): void {
    this.#armed = true;
    this.#timer.startAt(at);
  }

  stop(): void {
    this.#armed = false;
  }

  /** Stops for good: leaves no event behind. */
  cancel(): void {
    this.#armed = false;
    this.#timer.stop();
  }
}
