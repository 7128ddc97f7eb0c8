// What a benchmark hands over: rows of numbers. Who prints or writes them is bench/main.ts.

export interface BenchReport {
  add(row: BenchRow): void;
}

export interface BenchRow {
  /** What is measured: `event list`. */
  readonly bench: string;
  /** Under which conditions: `10,000 pending, network delays`. */
  readonly case: string;
  /** Which of the things that are compared. */
  readonly variant: string;
  readonly unit: string;
  readonly value: number;
  readonly samples?: number;
  /** Relative standard deviation between rounds, as a fraction. */
  readonly rsd?: number;
}

/** With how fast the machine was at that time (yardstick.ts). */
export interface MeasuredRow extends BenchRow {
  readonly yardstickNs: number;
}
