// The smallest cluster that an experiment can be tested on: one frame is sent and delivered per millisecond.

import { END_OF_TIME, type Instant, inMs, START } from '../../../engine/time.ts';
import type { FrameTotals } from '../../../models/packet/frame-store.ts';
import type { ExperimentCluster } from '../experiment.ts';

export class TickingCluster implements ExperimentCluster {
  readonly seed: string;
  readonly sim = { now: START, executedEvents: 0, fingerprint: '' };
  readonly frames: { totals(): FrameTotals; drops(): ReadonlyMap<string, number> };
  /** What happened, with the time in milliseconds. */
  readonly log: string[] = [];
  lost = 0;
  #measuredFrom: Instant = END_OF_TIME;

  constructor({ seed }: { seed: string }) {
    this.seed = seed;
    this.frames = {
      totals: () => ({ sent: this.#ticks, delivered: this.#ticks - this.lost, dropped: this.lost, inFlight: 0 }),
      drops: () => new Map(this.lost > 0 ? [['WIRE_LOSS', this.lost]] : []),
    };
  }

  get #ticks(): number {
    return Math.floor(inMs(this.sim.now));
  }

  get measuredMs(): number {
    return inMs(this.sim.now) - inMs(this.#measuredFrom);
  }

  run(until: Instant): void {
    this.sim.executedEvents += Math.floor(inMs(until)) - this.#ticks;
    this.sim.now = until;
    this.sim.fingerprint = `${this.seed}@${until}`;
    this.note('ran');
  }

  startMeasuring(): void {
    this.#measuredFrom = this.sim.now;
    this.note('measuring');
  }

  assertConserved(): void {
    this.note('conserved');
  }

  note(what: string): void {
    this.log.push(`${inMs(this.sim.now)} ${what}`);
  }
}
