// Statistics of observations: count, mean, variance, extremes. Not kept: the observations; for quantiles see Histogram.
// Confidence intervals are the harness' business, because observations within one run are not independent.

export class Tally {
  #count = 0;
  #mean = 0;
  #squares = 0;
  #min = Number.POSITIVE_INFINITY;
  #max = Number.NEGATIVE_INFINITY;

  /** Welford's update: no catastrophic cancellation, whatever the mean. */
  record(observation: number): void {
    if (Number.isNaN(observation)) throw new RangeError('a tally of NaN');
    this.#count++;
    const deviation = observation - this.#mean;
    this.#mean += deviation / this.#count;
    this.#squares += deviation * (observation - this.#mean);
    if (observation < this.#min) this.#min = observation;
    if (observation > this.#max) this.#max = observation;
  }

  get count(): number {
    return this.#count;
  }

  /** NaN without observations, as are min and max. */
  get mean(): number {
    return this.#count > 0 ? this.#mean : Number.NaN;
  }

  /** Of the sample (n - 1 in the denominator); NaN below two observations. */
  get variance(): number {
    return this.#count > 1 ? this.#squares / (this.#count - 1) : Number.NaN;
  }

  get standardDeviation(): number {
    return Math.sqrt(this.variance);
  }

  get min(): number {
    return this.#count > 0 ? this.#min : Number.NaN;
  }

  get max(): number {
    return this.#count > 0 ? this.#max : Number.NaN;
  }
}
