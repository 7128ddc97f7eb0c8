// What an experiment expects of its results, and whether it came out that way. The verdict follows from two ranges: the
// expected one, and the 95 % confidence interval of what was found.

import { type Estimate, meanEstimate, proportionEstimate } from './confidence.ts';
import type { Factors, Levels, Measures } from './experiment.ts';

export interface Range {
  readonly from: number;
  readonly to: number;
}

export interface Finding {
  /** What was looked at: `throughput lost by short connections at 10,000 Services (%)`. */
  readonly claim: string;
  readonly expected: Range;
  readonly found: Estimate;
}

/**
 * As expected: the whole interval lies within what was expected. Differs: nothing of it does. Unclear: some of it, or
 * there is no interval because one value cannot have one; more replications would tell.
 */
export type Verdict = 'as expected' | 'differs' | 'unclear';

export function verdictOf({ expected, found }: Finding): Verdict {
  const { interval } = found;
  if (interval === undefined) return 'unclear';
  if (interval.from >= expected.from && interval.to <= expected.to) return 'as expected';
  return interval.to < expected.from || interval.from > expected.to ? 'differs' : 'unclear';
}

/** Runs at one level of each factor, with what they measured. */
export interface MeasuredRun<F extends Factors = Factors, M extends Measures = Measures> {
  readonly levels: Levels<F>;
  readonly measures: M;
}

/** The runs of a sweep, as an experiment looks at them to compare them with what it expected. */
export class MeasuredRuns<F extends Factors, M extends Measures> {
  readonly #runs: readonly MeasuredRun<F, M>[];

  constructor(runs: readonly MeasuredRun<F, M>[]) {
    this.#runs = runs;
  }

  /** At these levels, in the order of replications; none if the sweep was told to leave those levels out. */
  at(levels: Partial<Levels<F>>): readonly M[] {
    const wanted = Object.entries(levels);
    return this.#runs
      .filter((run) => wanted.every(([factor, level]) => run.levels[factor] === level))
      .map(({ measures }) => measures);
  }

  /** A value per replication, from what two variants measured with the same seed. */
  pairs(first: Partial<Levels<F>>, second: Partial<Levels<F>>, measureOf: (first: M, second: M) => number): number[] {
    const [some, others] = [this.at(first), this.at(second)];
    return some.length === others.length ? some.map((measures, index) => measureOf(measures, others[index]!)) : [];
  }
}

/** A finding about the mean over replications; none without values. */
export function meanFinding(claim: string, values: readonly number[], expected: Range): Finding[] {
  return values.length === 0 ? [] : [{ claim, expected, found: meanEstimate(values) }];
}

/** A finding about a share of independent trials, each a success or not; none without trials. */
export function shareFinding(
  claim: string,
  { successes, trials }: { readonly successes: number; readonly trials: number },
  expected: Range,
): Finding[] {
  return trials === 0 ? [] : [{ claim, expected, found: proportionEstimate({ successes, trials }) }];
}

export const sumOf = <T>(items: readonly T[], measureOf: (item: T) => number): number =>
  items.reduce((sum, item) => sum + measureOf(item), 0);

export const exactly = (value: number): Range => ({ from: value, to: value });

export const near = (value: number, { within }: { readonly within: number }): Range => ({
  from: value - within,
  to: value + within,
});

export const atMost = (to: number): Range => ({ from: Number.NEGATIVE_INFINITY, to });

export const atLeast = (from: number): Range => ({ from, to: Number.POSITIVE_INFINITY });

/** One line. */
export function describeFinding(finding: Finding): string {
  const { claim, expected, found } = finding;
  const verdict = verdictOf(finding);
  const { from, to } = found.interval ?? exactly(found.value);
  const off = found.value < expected.from ? expected.from - found.value : found.value - expected.to;
  const interval =
    found.interval === undefined ? 'one value, no interval' : `95 % interval ${digits(from)} to ${digits(to)}`;
  const difference = off > 0 ? `; too ${found.value < expected.from ? 'low' : 'high'} by ${digits(off)}` : '';
  return `${verdict}: ${claim}: ${digits(found.value)} (${interval}), expected ${describeRange(expected)}${difference}`;
}

function describeRange({ from, to }: Range): string {
  if (from === to) return digits(from);
  if (from === Number.NEGATIVE_INFINITY) return `at most ${digits(to)}`;
  return to === Number.POSITIVE_INFINITY ? `at least ${digits(from)}` : `${digits(from)} to ${digits(to)}`;
}

const digits = (value: number): string => value.toLocaleString('en-US', { maximumSignificantDigits: 4 });
