// How sure a mean is: Student's t intervals of means and of differences, exact intervals of proportions, and the
// chi-square test of shares. Replications are independent and their means close to normal, which is what these assume. The one door to jstat.

import jStat from 'jstat';

/** What is known of a set of values. */
export interface Sample {
  readonly mean: number;
  /** Unbiased; 0 for a single value. */
  readonly variance: number;
  readonly count: number;
}

export interface Interval {
  readonly mean: number;
  /** Half the width of the 95 % confidence interval; undefined when one value, or none, cannot tell. */
  readonly halfWidth: number | undefined;
}

const CONFIDENCE = 0.95;

export function sampleOf(values: readonly number[]): Sample {
  const count = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / count;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, variance: count > 1 ? squares / (count - 1) : 0, count };
}

export function meanInterval(values: readonly number[]): Interval {
  const { mean, variance, count } = sampleOf(values);
  return { mean, halfWidth: count > 1 ? studentT(count - 1) * Math.sqrt(variance / count) : undefined };
}

/** Mean of after - before over pairs: what two variants share (their seed) cancels out. */
export function pairedDifference(pairs: readonly { before: number; after: number }[]): Interval {
  return meanInterval(pairs.map(({ before, after }) => after - before));
}

/** Mean of after - mean of before for independent samples, which may differ in variance (Welch's t interval). */
export function unpairedDifference(before: Sample, after: Sample): Interval {
  const mean = after.mean - before.mean;
  if (before.count < 2 || after.count < 2) return { mean, halfWidth: undefined };
  const a = before.variance / before.count;
  const b = after.variance / after.count;
  if (a + b === 0) return { mean, halfWidth: 0 };
  const degreesOfFreedom = (a + b) ** 2 / (a ** 2 / (before.count - 1) + b ** 2 / (after.count - 1));
  return { mean, halfWidth: studentT(degreesOfFreedom) * Math.sqrt(a + b) };
}

/** What was found, and the 95 % confidence interval of what it is an estimate of; undefined if one value cannot tell. */
export interface Estimate {
  readonly value: number;
  readonly interval: { readonly from: number; readonly to: number } | undefined;
}

export function meanEstimate(values: readonly number[]): Estimate {
  const { mean, halfWidth } = meanInterval(values);
  const interval = halfWidth === undefined ? undefined : { from: mean - halfWidth, to: mean + halfWidth };
  return { value: mean, interval };
}

/** Of independent trials: the exact interval of Clopper and Pearson. */
export function proportionEstimate({ successes, trials }: { successes: number; trials: number }): Estimate {
  const tail = (1 - CONFIDENCE) / 2;
  const failures = trials - successes;
  const from = successes === 0 ? 0 : jStat.beta.inv(tail, successes, failures + 1);
  const to = failures === 0 ? 1 : jStat.beta.inv(1 - tail, successes + 1, failures);
  return { value: successes / trials, interval: { from, to } };
}

/**
 * Chi-square goodness of fit: the probability of counts at least this far from the expected ones if the expectation is
 * right. Expected counts should be 5 or more each.
 */
export function chiSquarePValue(counts: readonly { observed: number; expected: number }[]): number {
  if (counts.length < 2) throw new RangeError(`${counts.length} classes; expected at least 2`);
  const statistic = counts.reduce((sum, { observed, expected }) => sum + (observed - expected) ** 2 / expected, 0);
  return 1 - jStat.chisquare.cdf(statistic, counts.length - 1);
}

/** The t that half of what lies outside the confidence interval exceeds. */
function studentT(degreesOfFreedom: number): number {
  return jStat.studentt.inv((1 + CONFIDENCE) / 2, degreesOfFreedom);
}
