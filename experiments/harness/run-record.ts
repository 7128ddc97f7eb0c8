// What a CSV does not say about the sweep that made it: versions, seed, time, work done, and where frames ended.
// Stands beside the CSV as `<name>.run.json`. Its wall times differ from run to run; all else does not.

import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import type { FrameTotals } from '../../models/packet/frame-store.ts';
import { describeFinding, type Finding } from './expectation.ts';
import type { Experiment, Factors, RunResult } from './experiment.ts';
import { costsFingerprint, type GivenCosts } from './given-costs.ts';
import { packageCommit, packageVersion } from './package.ts';

export class RunRecord {
  readonly #about: {
    experiment: Experiment;
    factors: Factors;
    replications: number;
    seed: string;
    plannedRuns: number;
    costs: GivenCosts;
  };
  readonly #fingerprint = createHash('sha256');
  readonly #drops = new Map<string, number>();
  #frames: FrameTotals = { sent: 0, delivered: 0, dropped: 0, inFlight: 0 };
  #finishedRuns = 0;
  #events = 0;

  constructor(about: {
    experiment: Experiment;
    factors: Factors;
    replications: number;
    seed: string;
    plannedRuns: number;
    costs: GivenCosts;
  }) {
    this.#about = about;
  }

  get finishedRuns(): number {
    return this.#finishedRuns;
  }

  get events(): number {
    return this.#events;
  }

  get frames(): FrameTotals {
    return this.#frames;
  }

  /** Frames dropped by reason, over all runs. */
  get drops(): ReadonlyMap<string, number> {
    return this.#drops;
  }

  /** Call in plan order: the fingerprint of the sweep hashes those of its runs in that order. */
  add(result: RunResult): void {
    const { sent, delivered, dropped, inFlight } = result.frames;
    this.#finishedRuns++;
    this.#events += result.events;
    this.#fingerprint.update(result.fingerprint);
    this.#frames = {
      sent: this.#frames.sent + sent,
      delivered: this.#frames.delivered + delivered,
      dropped: this.#frames.dropped + dropped,
      inFlight: this.#frames.inFlight + inFlight,
    };
    for (const [reason, count] of result.drops) this.#drops.set(reason, (this.#drops.get(reason) ?? 0) + count);
  }

  write(path: string, options: { wallSeconds: number; workers: number; findings?: readonly Finding[] }): void {
    writeFileSync(path, `${JSON.stringify(this.#toJson(options), undefined, 2)}\n`);
  }

  #toJson({ wallSeconds, workers, findings = [] }: Parameters<RunRecord['write']>[1]) {
    const { experiment, factors, replications, seed, plannedRuns, costs } = this.#about;
    return {
      experiment: experiment.name,
      question: experiment.question,
      factors,
      replications,
      seed,
      warmUpNs: experiment.warmUp,
      durationNs: experiment.duration,
      costs: { file: costs.file, fingerprint: costsFingerprint(costs) },
      runs: { planned: plannedRuns, finished: this.#finishedRuns },
      podwire: packageVersion(),
      commit: packageCommit(),
      node: process.versions.node,
      workers,
      wallSeconds: Number(wallSeconds.toFixed(3)),
      events: this.#events,
      fingerprint: this.#fingerprint.copy().digest('hex').slice(0, 16),
      packetsPerWallSecond: Math.round(this.#frames.sent / wallSeconds),
      frames: this.#frames,
      dropsByReason: Object.fromEntries(this.#drops),
      findings: findings.map(describeFinding),
    };
  }
}
