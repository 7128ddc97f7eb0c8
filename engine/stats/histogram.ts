// A histogram of durations with a bounded relative error, in the manner of HDR histograms: 128 buckets of equal width
// for every power of two, so that a quantile of nanoseconds and one of minutes are both within 1/256 of the truth.
// Count, mean, min and max are exact. Memory follows the largest value, to at most 6,016 buckets.

import { type Duration, inUs } from '../time.ts';

const BUCKETS_PER_OCTAVE = 128;
const OCTAVE_BITS = 7;

/** All that a histogram knows, as plain data. */
export interface HistogramSnapshot {
  readonly counts: Float64Array;
  readonly count: number;
  readonly sum: number;
  readonly min: number;
  readonly max: number;
}

export class Histogram {
  #counts: Float64Array = new Float64Array(4 * BUCKETS_PER_OCTAVE);
  #count = 0;
  #sum = 0;
  #min = Number.POSITIVE_INFINITY;
  #max = Number.NEGATIVE_INFINITY;

  record(value: Duration): void {
    if (!(Number.isSafeInteger(value) && value >= 0)) throw new RangeError(`a histogram of ${value} ns`);
    const bucket = bucketOf(value);
    if (bucket >= this.#counts.length) this.#grow(bucket + 1);
    this.#counts[bucket]!++;
    this.#count++;
    this.#sum += value;
    if (value < this.#min) this.#min = value;
    if (value > this.#max) this.#max = value;
  }

  /** Adds everything that another histogram has recorded. */
  merge(other: Histogram): void {
    if (other.#counts.length > this.#counts.length) this.#grow(other.#counts.length);
    for (let bucket = 0; bucket < other.#counts.length; bucket++) this.#counts[bucket]! += other.#counts[bucket]!;
    this.#count += other.#count;
    this.#sum += other.#sum;
    this.#min = Math.min(this.#min, other.#min);
    this.#max = Math.max(this.#max, other.#max);
  }

  snapshot(): HistogramSnapshot {
    return { counts: this.#counts, count: this.#count, sum: this.#sum, min: this.#min, max: this.#max };
  }

  static of({ counts, count, sum, min, max }: HistogramSnapshot): Histogram {
    const histogram = new Histogram();
    histogram.#counts = counts;
    histogram.#count = count;
    histogram.#sum = sum;
    histogram.#min = min;
    histogram.#max = max;
    return histogram;
  }

  /**
   * The smallest recorded value that at least the fraction `q` of all values does not exceed, within 1/256 of it. NaN
   * without values, as are mean, min and max.
   */
  quantile(q: number): Duration {
    if (!(q >= 0 && q <= 1)) throw new RangeError(`quantile ${q}; expected 0 to 1`);
    if (this.#count === 0) return Number.NaN as Duration;
    // A decimal fraction times a count may come out a hair above the integer that is meant (0.07 x 100).
    let below = Math.max(1, Math.ceil(q * this.#count - 1e-6));
    let bucket = -1;
    while (below > 0) below -= this.#counts[++bucket]!;
    return Math.min(this.#max, Math.max(this.#min, middleOf(bucket))) as Duration;
  }

  quantileUs(q: number): number {
    return inUs(this.quantile(q));
  }

  get count(): number {
    return this.#count;
  }

  /** Rounded to whole nanoseconds. */
  get mean(): Duration {
    return Math.round(this.#sum / this.#count) as Duration;
  }

  get min(): Duration {
    return (this.#count > 0 ? this.#min : Number.NaN) as Duration;
  }

  get max(): Duration {
    return (this.#count > 0 ? this.#max : Number.NaN) as Duration;
  }

  #grow(buckets: number): void {
    const counts = new Float64Array(Math.ceil(buckets / BUCKETS_PER_OCTAVE) * BUCKETS_PER_OCTAVE);
    counts.set(this.#counts);
    this.#counts = counts;
  }
}

/** 1, 1/2, 1/4, …: exact, and faster than a power per value. */
const OCTAVE_SCALES = Float64Array.from({ length: 54 }, (_, octave) => 2 ** -octave);

/** Values below 256 have a bucket each; above, a bucket is 1/128 of its octave. */
function bucketOf(value: number): number {
  const octave = Math.max(0, exponentOf(value) - OCTAVE_BITS);
  return octave * BUCKETS_PER_OCTAVE + Math.floor(value * OCTAVE_SCALES[octave]!);
}

function middleOf(bucket: number): number {
  const octave = Math.max(0, Math.floor(bucket / BUCKETS_PER_OCTAVE) - 1);
  const width = 2 ** octave;
  return (bucket - octave * BUCKETS_PER_OCTAVE) * width + Math.floor(width / 2);
}

/** floor(log2(value)), exactly; 0 for 0. */
function exponentOf(value: number): number {
  return value < 2 ** 31 ? 31 - Math.clz32(value | 1) : 53 - Math.clz32(value / 2 ** 22);
}
