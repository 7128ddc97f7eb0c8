// Where rules toss coins, the kernel's outcome is one of many, and the simulator agrees if it can toss them so that the same
// comes out. This looks for such tosses: a packet's frames show how its coins fell, so coins are tossed step by step, each
// step's until it shows what the kernel's did. Coins that only counters and connections tell of are tossed at the end.

import { type RandomStream, RandomStreams } from '../../engine/random.ts';
import type { Outcome, ParityCase } from './case.ts';
import type { Difference } from './compare.ts';
import { runInSimulator, type SimulatedRunOptions } from './simulator/runner.ts';

/** Of one step: a packet and its answer meet a few coins, with a handful of sides. */
const TOSSES_OF_A_STEP = 48;
/**
 * Of each step again, for what is seen at the end only: so many that leave what steps show, among at most so many. Few are
 * often enough, as few steps meet such a coin: more are tossed where those do not add up.
 */
const TOSSES_AT_THE_END = [2, 6, 20];
const MOST_TOSSES_AT_THE_END = 100;
/** Of tosses of all steps, where no sum is right. */
const COMBINATIONS = 100;
/** Sums that lead nowhere, after which a way that adds up is not looked for any longer. */
const SUMS = 100_000;
/** Runs in all before a difference is taken for one; they are most of what telling one costs. */
const RUNS = 2_000;

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
    const closest = this.differences({ seed, stepSeeds });
    if (stepSeeds.length < this.#case.packets.length) return closest;
    return closest.length === 0 ? closest : this.#settle(seed, stepSeeds, closest);
  }

  /**
   * The steps show what the kernel's do, but counters and connections do not yet. What one step adds to them may depend
   * on others or not. If it does not, other tosses are tried for each step by itself, and those are combined that add up.
   * If it does, as with `numgen inc` behind a coin, any are combined, and what comes closest is where to go on from.
   */
  #settle(seed: string, stepSeeds: readonly string[], differences: Difference[]): Difference[] {
    const random = new RandomStreams(seed).stream('tosses');
    let from: Attempt = { stepSeeds, differences };
    let closest = from;
    for (let round = 0; this.goesOn && closest.differences.length > 0; round++) {
      from = this.#settleFrom(from, { seed, round, random });
      closest = closer(closest, from);
    }
    return closest.differences;
  }

  #settleFrom(
    from: Attempt,
    { seed, round, random }: { readonly seed: string; readonly round: number; readonly random: RandomStream },
  ): Attempt {
    const missing = gapOf(from.differences);
    const found = from.stepSeeds.map((own): Choice[] => [{ stepSeed: own, adds: new Map() }]);
    const tosses = from.stepSeeds.map(() => 0);
    const tossUntil = (step: number, count: number): void => {
      while (found[step]!.length <= count && tosses[step]! < MOST_TOSSES_AT_THE_END) {
        const stepSeed = `${seed}, ${step}, ${round} ${tosses[step]!++}`;
        const { differences } = this.#attempt(seed, from.stepSeeds.with(step, stepSeed));
        const adds = minus(missing, gapOf(differences));
        if (![...adds.keys()].some(isOfStep)) found[step]!.push({ stepSeed, adds });
      }
    };
    let choices: Choice[][] = [];
    let next: Attempt | undefined;
    for (const count of TOSSES_AT_THE_END) {
      for (const step of found.keys()) tossUntil(step, count);
      choices = found.map(distinct);
      const sum = addUp(choices, missing);
      next = sum === undefined ? undefined : this.#attempt(seed, sum);
      if (next?.differences.length === 0) return next;
    }
    for (let i = 0; i < COMBINATIONS && next?.differences.length !== 0; i++)
      next = closer(
        next,
        this.#attempt(
          seed,
          choices.map((ofStep) => random.pick(ofStep).stepSeed),
        ),
      );
    return next!;
  }

  #attempt(seed: string, stepSeeds: readonly string[]): Attempt {
    return { stepSeeds, differences: this.differences({ seed, stepSeeds }) };
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
      const options = { seed, stepSeeds: [...before, stepSeed], timesOf: kernel, stepsOnly: true };
      const simulator = this.#run({ ...this.#case, packets }, options);
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

/** How far a simulated outcome is from the kernel's, by place: what counters lack, and 1 for whatever else differs. */
type Gap = ReadonlyMap<string, number>;

interface Attempt {
  readonly stepSeeds: readonly string[];
  readonly differences: Difference[];
}

/** The first one of equals. */
const closer = (a: Attempt | undefined, b: Attempt): Attempt =>
  a !== undefined && a.differences.length <= b.differences.length ? a : b;

interface Choice {
  readonly stepSeed: string;
  readonly adds: Gap;
}

/** Seen while steps are taken (observations.ts). */
const isOfStep = (place: string): boolean => place.startsWith('step ');

function gapOf(differences: readonly Difference[]): Gap {
  const gap = new Map<string, number>();
  for (const { place, kernel, simulator } of differences) {
    const [here, there] = [countsOf(kernel), countsOf(simulator)];
    if (here === undefined || there === undefined) gap.set(place, 1);
    else for (const [name, count] of here) gap.set(`${place}${name}`, count - (there.get(name) ?? 0));
  }
  return gap;
}

/** `12`, `12 packets, 966 bytes`, `nothing` */
function countsOf(text: string): ReadonlyMap<string, number> | undefined {
  if (/^\d+$/.test(text)) return new Map([['', Number(text)]]);
  const [, packets, bytes] = /^(\d+) packets, (\d+) bytes$/.exec(text) ?? (text === 'nothing' ? ['', '0', '0'] : []);
  if (packets === undefined) return undefined;
  return new Map([
    [': packets', Number(packets)],
    [': bytes', Number(bytes)],
  ]);
}

function minus(a: Gap, b: Gap): Gap {
  const result = new Map<string, number>();
  for (const key of new Set([...a.keys(), ...b.keys()])) {
    const value = (a.get(key) ?? 0) - (b.get(key) ?? 0);
    if (value !== 0) result.set(key, value);
  }
  return result;
}

const textOf = (gap: Gap): string => JSON.stringify([...gap].sort(([a], [b]) => (a < b ? -1 : 1)));

const distinct = (choices: readonly Choice[]): Choice[] => [
  ...new Map(choices.toReversed().map((choice) => [textOf(choice.adds), choice])).values(),
];

/** One choice per step whose sum is what is missing; the first that is found, or undefined. */
function addUp(choices: readonly (readonly Choice[])[], missing: Gap): string[] | undefined {
  const hopeless = new Set<string>();
  const search = (step: number, left: Gap): string[] | undefined => {
    if (step === choices.length) return left.size === 0 ? [] : undefined;
    const place = `${step} ${textOf(left)}`;
    if (hopeless.has(place) || hopeless.size >= SUMS) return undefined;
    for (const { stepSeed, adds } of choices[step]!) {
      const rest = search(step + 1, minus(left, adds));
      if (rest !== undefined) return [stepSeed, ...rest];
    }
    hopeless.add(place);
    return undefined;
  };
  return search(0, missing);
}
