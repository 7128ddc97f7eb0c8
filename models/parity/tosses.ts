// Where rules toss coins, the kernel's outcome is one of many, and the simulator agrees if it can toss them so that the same
// comes out. This looks for such tosses: a packet's frames show how its coins fell, so coins are tossed step by step, each
// step's until it shows what the kernel's did. Coins that only counters and connections tell of are tossed at the end.

import type { Outcome, ParityCase } from './case.ts';
import type { Difference } from './compare.ts';
import { runInSimulator, type SimulatedRunOptions } from './simulator/runner.ts';

/** Of one step: a packet and its answer meet a few coins, with a handful of sides. */
const TOSSES_OF_A_STEP = 48;
/** Runs in all before a difference is taken for one; they are most of what telling one costs. */
const RUNS = 600;

type Compare = (simulator: Outcome, kernel: Outcome) => Difference[];

/** The differences that no tosses were found to avoid; empty if there are some that avoid all. */
export function tossUntilEqual(parityCase: ParityCase, kernel: Outcome, compare: Compare): Difference[] {
  const search = new TossSearch(parityCase, kernel, compare);
  let closest = search.differences({});
  // Anew where a step cannot agree: coins are tossed when rules are loaded, too, and some show in later steps only.
  for (let beginning = 0; closest.length > 0 && search.goesOn; beginning++) {
    const found = search.from(`toss ${beginning}`);
    if (found.length < closest.length) closest = found;
  }
  return closest;
}

class TossSearch {
  readonly #case: ParityCase;
  readonly #kernel: Outcome;
  readonly #compare: Compare;
  #runs = 0;

  constructor(parityCase: ParityCase, kernel: Outcome, compare: Compare) {
    this.#case = parityCase;
    this.#kernel = kernel;
    this.#compare = compare;
  }

  get goesOn(): boolean {
    return this.#runs < RUNS;
  }

  from(seed: string): Difference[] {
    const stepSeeds: string[] = [];
    for (const [step] of this.#case.packets.entries()) {
      const found = this.#tossStep(seed, stepSeeds, step);
      if (found === undefined) break;
      stepSeeds.push(found);
    }
    let closest = this.differences({ seed, stepSeeds });
    if (stepSeeds.length < this.#case.packets.length) return closest;
    // Step by step again, in turns: what one step adds to a counter is independent of the others.
    for (let toss = 0; closest.length > 0 && this.goesOn; toss++) {
      const step = toss % stepSeeds.length;
      const other = stepSeeds.with(step, `${seed}, ${step} again ${toss}`);
      const differences = this.differences({ seed, stepSeeds: other });
      if (distance(differences) > distance(closest)) continue;
      stepSeeds[step] = other[step]!;
      closest = differences;
    }
    return closest;
  }

  differences(options: SimulatedRunOptions): Difference[] {
    return this.#compare(this.#run(this.#case, { ...options, timesOf: this.#kernel }), this.#kernel);
  }

  /** A seed with which the steps up to this one show what the kernel's show. */
  #tossStep(seed: string, before: readonly string[], step: number): string | undefined {
    const packets = this.#case.packets.slice(0, step + 1);
    const kernel = upTo(step, this.#kernel);
    for (let toss = 0; toss < TOSSES_OF_A_STEP; toss++) {
      const stepSeed = `${seed}, ${step}, ${toss}`;
      const options = { seed, stepSeeds: [...before, stepSeed], timesOf: kernel };
      const simulator = upTo(step, this.#run({ ...this.#case, packets }, options));
      if (this.#compare(simulator, kernel).length === 0) return stepSeed;
    }
    return undefined;
  }

  #run(parityCase: ParityCase, options: SimulatedRunOptions): Outcome {
    this.#runs++;
    return runInSimulator(parityCase, options);
  }
}

/** What is seen while the steps are taken; what is left at the end depends on all of them. */
const upTo = (step: number, { steps }: Outcome): Outcome => ({
  steps: steps.slice(0, step + 1),
  conntrack: {},
  counters: {},
});

/** Counters that are off by two are farther away than those that are off by one. */
function distance(differences: readonly Difference[]): number {
  let sum = 0;
  for (const { kernel, simulator } of differences) {
    const apart = Math.abs(Number(kernel) - Number(simulator));
    sum += Number.isNaN(apart) ? 10 : 1 + Math.min(apart, 9) / 10;
  }
  return sum;
}
