// Rounds over sites: all paths are built first, then every round visits every path in turn, so that what else the machine
// does meets all of them alike.

import type { Lab } from './lab.ts';
import { isInstalled } from './machine-commands.ts';
import type { Probe } from './probe.ts';
import type { MeasuredPath, Site } from './sites.ts';

/** What of several rounds counts: the least disturbed, or the middle one. */
export type Statistic = 'best' | 'median';

/** Something else uses the CPU so much that figures would mean nothing. */
export class NoisyMachine extends Error {
  override readonly name = 'NoisyMachine';
}

/** A path that is missing, and why. */
export class NotMeasured extends Error {
  override readonly name = 'NotMeasured';
}

export interface MeasurementOptions {
  readonly probe: Probe;
  readonly sites: readonly Site[];
  readonly rounds: number;
  /** Steps are sites and rounds. */
  onProgress?(done: number, total: number): void;
}

export class Measurement {
  readonly #options: MeasurementOptions;
  readonly #paths: MeasuredPath[] = [];
  /** One figure per round, under the path's name and what {@link FIGURES} adds to it. */
  readonly #times = new Map<string, number[]>();
  /** By site: why it was not built. */
  readonly #missing = new Map<string, string>();
  readonly #senderTimes: number[][] = [];

  constructor(options: MeasurementOptions) {
    this.#options = options;
  }

  get rounds(): number {
    return this.#options.rounds;
  }

  get language(): Probe['language'] {
    return this.#options.probe.language;
  }

  /** Why a site was not built. */
  missing(site: string): string | undefined {
    return this.#missing.get(site);
  }

  /** A site that cannot be built is left out, and remembered. */
  async build(lab: Lab, signal?: AbortSignal): Promise<void> {
    const { sites, probe } = this.#options;
    for (const [i, site] of sites.entries()) {
      this.#progress(i);
      try {
        const lacking = site.needs.filter((command) => !isInstalled(command));
        if (lacking.length > 0) throw new Error(`${lacking.join(', ')} not installed`);
        const paths = await site.build(lab);
        for (const path of paths) await probe.open(path);
        this.#paths.push(...paths);
      } catch (error) {
        signal?.throwIfAborted();
        this.#missing.set(site.name, error instanceof Error ? error.message : String(error));
      }
    }
  }

  /** Throws a NoisyMachine. The first round warms up: neighbors are resolved, connections tracked, caches filled. */
  async run(signal?: AbortSignal): Promise<void> {
    const { sites, probe, rounds } = this.#options;
    for (let round = 0; round <= rounds; round++) {
      this.#progress(sites.length + round);
      for (const path of this.#paths) {
        signal?.throwIfAborted();
        if (path.count === 0) continue;
        const times = await probe.run(path.name, path.count);
        if (round > 0) this.#record(path, times);
      }
      if (round > 0) await this.#watchSender();
    }
    this.#progress(sites.length + rounds + 1);
    this.#assertQuiet();
  }

  /** Throws a NotMeasured. */
  time(path: string, statistic: Statistic): number {
    const times = this.#timesOf(path);
    return statistic === 'best' ? Math.min(...times) : quantile(times, 0.5);
  }

  timeInRound(path: string, round: number): number {
    return this.#timesOf(path)[round] ?? Number.NaN;
  }

  /** How far rounds differ: the distance of a path's quartiles, as a fraction of its median. */
  noiseFraction(path: string): number {
    const times = this.#timesOf(path);
    return (quantile(times, 0.75) - quantile(times, 0.25)) / quantile(times, 0.5);
  }

  #timesOf(path: string): readonly number[] {
    const times = this.#times.get(path);
    if (times !== undefined) return times;
    const missing = [...this.#missing].find(([site]) => path === site || path.startsWith(`${site}.`));
    throw new NotMeasured(missing === undefined ? `${path} was not measured` : missing[1]);
  }

  #record(path: MeasuredPath, times: readonly number[]): void {
    for (const [i, figure] of FIGURES[path.kind].entries()) {
      const name = `${path.name}${figure}`;
      const known = this.#times.get(name) ?? [];
      known.push(times[i] ?? Number.NaN);
      this.#times.set(name, known);
    }
  }

  /** The same short work five times: whether something else takes the CPU away meanwhile. */
  async #watchSender(): Promise<void> {
    const times: number[] = [];
    for (let i = 0; i < 5; i++) times.push(...(await this.#options.probe.run('sender', 400)));
    this.#senderTimes.push(times);
  }

  #assertQuiet(): void {
    const noisy = this.#senderTimes.filter((times) => Math.max(...times) > NOISY_RATIO * Math.min(...times));
    if (noisy.length < this.#senderTimes.length / 4) return;
    throw new NoisyMachine(
      `noisy machine: in ${noisy.length} of ${this.#senderTimes.length} rounds the same work took more than ${NOISY_RATIO} times as long as shortly before or after; try again when nothing else runs`,
    );
  }

  #progress(done: number): void {
    const { sites, rounds, onProgress } = this.#options;
    onProgress?.(done, sites.length + rounds + 1);
  }
}

/** What a run of the probe answers with. */
const FIGURES: Readonly<Record<MeasuredPath['kind'], readonly string[]>> = {
  frames: [''],
  datagrams: ['.send', '.receive'],
  roundtrips: ['', '.median'],
  requests: ['', '.median'],
  connects: ['', '.median'],
  exchanges: ['', '.median'],
  idle: [],
};
const NOISY_RATIO = 3;

/** Linear between the two nearest values. */
export function quantile(values: readonly number[], fraction: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * fraction;
  const [low, high] = [sorted[Math.floor(at)] ?? Number.NaN, sorted[Math.ceil(at)] ?? Number.NaN];
  return low + (high - low) * (at - Math.floor(at));
}
