// When kube-proxy syncs (BoundedFrequencyRunner of k8s.io/kubernetes/pkg/util/async): soon after it is asked to, but on
// average at most once per minimum interval, with a burst of two; and again when the maximum interval is over.
//
// Requests made while a run goes on become one, which is looked at when the run has ended. From 1.34 on kube-proxy has a
// simpler runner without bursts, which is not modelled. Before the first run the phase of the maximum interval is unknown:
// that timer starts when a run ends.

import type { Place } from '../../../engine/simulator.ts';
import { after, type Duration, type Instant } from '../../../engine/time.ts';
import { Timer } from '../../../engine/timer.ts';

export interface RunIntervals {
  /** On average; 0 is no limit. */
  readonly min: Duration;
  readonly max: Duration;
}

export class BoundedFrequencyRunner {
  readonly #place: Place;
  readonly #intervals: RunIntervals;
  readonly #run: (ended: () => void) => void;
  readonly #timer: Timer;
  /** The token bucket, in time: a run takes a minimum interval of it. */
  #credit: number;
  #creditAt: Instant;
  #lastRunEnded: Instant | undefined;
  #isRunning = false;
  #isRequested = false;
  #retryAt: Instant | undefined;

  /** `run` calls `ended` when it has ended, at once or later. */
  constructor(place: Place, { run, ...intervals }: RunIntervals & { readonly run: (ended: () => void) => void }) {
    if (!(intervals.max >= intervals.min))
      throw new RangeError(`a maximum interval of ${intervals.max} ns; expected not less than ${intervals.min} ns`);
    this.#place = place;
    this.#intervals = intervals;
    this.#run = run;
    this.#timer = new Timer(place, () => this.request());
    this.#credit = BURST * intervals.min;
    this.#creditAt = place.now;
  }

  /** Soon, and once however often it is asked (Run). */
  request(): void {
    if (this.#isRunning) this.#isRequested = true;
    else this.#tryRun();
  }

  /** A run not later than `delay` from now, unless the minimum interval forbids it. */
  retryAfter(delay: Duration): void {
    const at = after(this.#place.now, delay);
    if (this.#retryAt === undefined || at < this.#retryAt) this.#retryAt = at;
    if (!this.#isRunning) this.#scheduleRetry();
  }

  /** For good; a run that goes on may end. */
  stop(): void {
    this.#timer.stop();
  }

  #tryRun(): void {
    if (!this.#takeToken()) {
      // There is no token only if there was a run.
      return this.#runNotLaterThan(after(this.#lastRunEnded!, this.#intervals.min));
    }
    this.#isRunning = true;
    this.#run(() => this.#ended());
  }

  #ended(): void {
    this.#isRunning = false;
    this.#lastRunEnded = this.#place.now;
    this.#timer.start(this.#intervals.max);
    this.#scheduleRetry();
    if (!this.#isRequested) return;
    this.#isRequested = false;
    this.#tryRun();
  }

  #scheduleRetry(): void {
    if (this.#retryAt !== undefined) this.#runNotLaterThan(this.#retryAt);
    this.#retryAt = undefined;
  }

  #runNotLaterThan(at: Instant): void {
    const { now } = this.#place;
    if (this.#timer.deadline === undefined || at < this.#timer.deadline) this.#timer.startAt(at > now ? at : now);
  }

  /** Whole nanoseconds of credit, so that a token is there exactly one interval after the last. */
  #takeToken(): boolean {
    const { min } = this.#intervals;
    const { now } = this.#place;
    this.#credit = Math.min(BURST * min, this.#credit + (now - this.#creditAt));
    this.#creditAt = now;
    if (this.#credit < min) return false;
    this.#credit -= min;
    return true;
  }
}

/** What both modes give to NewBoundedFrequencyRunner. */
const BURST = 2;
