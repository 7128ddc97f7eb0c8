// A timer that its owner starts, restarts and stops. TCP restarts its retransmission timer for every acknowledgement, so
// moving the deadline later must cost next to nothing: the pending event stays where it is, and arms itself again for
// the rest of the time when it fires early.

import type { EventHandle, Place } from './simulator.ts';
import { after, type Duration, type Instant, START } from './time.ts';

export class Timer {
  readonly #place: Place;
  readonly #action: () => void;
  #deadline: Instant | undefined;
  #event: EventHandle | undefined;
  #eventAt = START;

  constructor(place: Place, action: () => void) {
    this.#place = place;
    this.#action = action;
  }

  /** Fires once, `delay` from now; forgets an earlier deadline. */
  start(delay: Duration): void {
    this.startAt(after(this.#place.now, delay));
  }

  startAt(at: Instant): void {
    if (!(at >= this.#place.now))
      throw new RangeError(`timer at ${at} ns; expected not before now, ${this.#place.now} ns`);
    this.#deadline = at;
    if (this.#event !== undefined && this.#eventAt > at) this.#cancelEvent();
    if (this.#event === undefined) this.#scheduleEvent(at);
  }

  stop(): void {
    this.#deadline = undefined;
    this.#cancelEvent();
  }

  get armed(): boolean {
    return this.#deadline !== undefined;
  }

  get deadline(): Instant | undefined {
    return this.#deadline;
  }

  readonly #fire = (): void => {
    this.#event = undefined;
    const deadline = this.#deadline!; // stop() cancels the event, so a fired timer is armed
    if (deadline > this.#place.now) {
      this.#scheduleEvent(deadline);
    } else {
      this.#deadline = undefined; // first, because the action may start the timer again
      this.#action();
    }
  };

  #scheduleEvent(at: Instant): void {
    this.#eventAt = at;
    this.#event = this.#place.scheduleCancellable((at - this.#place.now) as Duration, this.#fire, undefined);
  }

  #cancelEvent(): void {
    if (this.#event === undefined) return;
    this.#place.cancel(this.#event);
    this.#event = undefined;
  }
}
