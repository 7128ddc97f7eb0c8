// The average over time of something that has a value at every instant: a queue's length, the number of busy CPUs.

import { between, type Duration, type Instant } from '../time.ts';

/** A place, or the simulator. */
export interface Clock {
  readonly now: Instant;
}

export class TimeAverage {
  readonly #clock: Clock;
  #value: number;
  #max: number;
  #start: Instant;
  #changedAt: Instant;
  /** Value times nanoseconds, up to the last change. */
  #area = 0;

  constructor(clock: Clock, value = 0) {
    this.#clock = clock;
    this.#value = value;
    this.#max = value;
    this.#start = clock.now;
    this.#changedAt = clock.now;
  }

  get value(): number {
    return this.#value;
  }

  /** From now on. */
  set(value: number): void {
    const now = this.#clock.now;
    this.#area += this.#value * between(this.#changedAt, now);
    this.#changedAt = now;
    this.#value = value;
    if (value > this.#max) this.#max = value;
  }

  add(amount: number): void {
    this.set(this.#value + amount);
  }

  get elapsed(): Duration {
    return between(this.#start, this.#clock.now);
  }

  /** From the start until now; the present value if no time has passed. */
  get mean(): number {
    if (this.elapsed === 0) return this.#value;
    return (this.#area + this.#value * between(this.#changedAt, this.#clock.now)) / this.elapsed;
  }

  get max(): number {
    return this.#max;
  }

  /** Forgets the past and keeps the present value: the end of a warm-up. */
  restart(): void {
    this.#start = this.#clock.now;
    this.#changedAt = this.#start;
    this.#area = 0;
    this.#max = this.#value;
  }
}
