// Two results, before and after: what changed, by how much, and whether that is more than chance.
//
// Reads two kinds of CSV: results of a sweep (matched on their factor columns; runs with the same seed are compared pair
// by pair) and bench reports (`bench,case,variant,unit,value,samples,rsd`, with rsd the standard deviation as a fraction
// of the value). Intervals are 95 % each and not corrected for how many of them one reads.

import { betterDirection, type Direction } from './column-name.ts';
import { type Interval, pairedDifference, type Sample, sampleOf, unpairedDifference } from './confidence.ts';
import { type CsvRow, type CsvTable, numberIn, readCsv } from './csv.ts';
import { RUN_COLUMNS } from './plan.ts';
import { resultColumns } from './results.ts';
import { UserError } from './user-error.ts';

/**
 * better, worse: the interval of the difference excludes zero. same: it includes zero and stays within the threshold.
 * changed: like better or worse for a measure without a good direction. unclear: more replications would tell.
 */
export type Verdict = 'better' | 'worse' | 'changed' | 'same' | 'unclear';

export interface ComparedMeasure {
  /** Levels of the variant, or bench, case and variant. */
  readonly variant: readonly string[];
  readonly measure: string;
  readonly before: number;
  readonly after: number;
  /** after - before. */
  readonly difference: Interval;
  /** Difference as a fraction of before; infinite if before is zero and after is not. */
  readonly relative: number;
  readonly verdict: Verdict;
  /** Worse by more than the threshold. */
  readonly isRegression: boolean;
}

export interface Comparison {
  /** Names of what `variant` holds. */
  readonly variantColumns: readonly string[];
  readonly measures: readonly ComparedMeasure[];
  /** What only one file has: `services=10 latencyP99Us`. */
  readonly onlyBefore: readonly string[];
  readonly onlyAfter: readonly string[];
}

/** `threshold` is a fraction: 0.05 for 5 %. */
export function compareFiles(before: string, after: string, { threshold }: { threshold: number }): Comparison {
  const [first, second] = [readSeries(readCsv(before)), readSeries(readCsv(after))];
  if (first.variantColumns.join() !== second.variantColumns.join()) {
    const [these, those] = [first, second].map(({ variantColumns }) => variantColumns.join(', ') || 'none');
    throw new UserError(`${before} has the factors ${these}, but ${after} has ${those}`);
  }
  const measures = [...first.series].flatMap(([key, series]) => {
    const counterpart = second.series.get(key);
    return counterpart === undefined ? [] : [compareSeries(series, counterpart, threshold)];
  });
  if (measures.length === 0) throw new UserError(`${before} and ${after} have no variant and measure in common`);
  return {
    variantColumns: first.variantColumns,
    measures,
    onlyBefore: [...first.series.keys()].filter((key) => !second.series.has(key)),
    onlyAfter: [...second.series.keys()].filter((key) => !first.series.has(key)),
  };
}

/** One measure of one variant in one file. */
interface Series {
  readonly variant: readonly string[];
  readonly measure: string;
  readonly direction: Direction | undefined;
  readonly sample: Sample;
  /** Value by replication and seed; undefined where runs are not known one by one. */
  readonly runs: ReadonlyMap<string, number> | undefined;
}

interface FileSeries {
  readonly variantColumns: readonly string[];
  readonly series: ReadonlyMap<string, Series>;
}

function compareSeries(before: Series, after: Series, threshold: number): ComparedMeasure {
  const pairs = pairRuns(before.runs, after.runs);
  const difference = pairs ? pairedDifference(pairs) : unpairedDifference(before.sample, after.sample);
  const base = Math.abs(before.sample.mean);
  const relative = difference.mean === 0 ? 0 : difference.mean / base;
  const verdict = judge(difference, before.direction, threshold * base);
  return {
    variant: before.variant,
    measure: before.measure,
    before: before.sample.mean,
    after: after.sample.mean,
    ...{ difference, relative, verdict },
    isRegression: verdict === 'worse' && Math.abs(relative) > threshold,
  };
}

function judge({ mean, halfWidth }: Interval, direction: Direction | undefined, tolerance: number): Verdict {
  if (mean === 0 && (halfWidth === undefined || halfWidth === 0)) return 'same';
  if (halfWidth === undefined) return 'unclear';
  if (Math.abs(mean) <= halfWidth) return Math.abs(mean) + halfWidth <= tolerance ? 'same' : 'unclear';
  if (direction === undefined) return 'changed';
  return mean < 0 === (direction === 'lower') ? 'better' : 'worse';
}

/** Undefined unless both have the same runs: other seeds are other random numbers. */
function pairRuns(before: Series['runs'], after: Series['runs']): { before: number; after: number }[] | undefined {
  if (before === undefined || after === undefined || before.size !== after.size) return undefined;
  const pairs: { before: number; after: number }[] = [];
  for (const [run, value] of before) {
    const counterpart = after.get(run);
    if (counterpart === undefined) return undefined;
    pairs.push({ before: value, after: counterpart });
  }
  return pairs;
}

function readSeries(table: CsvTable): FileSeries {
  const isBench = ['bench', 'case', 'variant', 'unit', 'value'].every((column) => table.columns.includes(column));
  return isBench ? benchSeries(table) : resultSeries(table);
}

function resultSeries(table: CsvTable): FileSeries {
  const { factors, measures } = resultColumns(table);
  const runs = new Map<string, { variant: string[]; measure: string; values: Map<string, number> }>();
  for (const [position, row] of table.rows.entries()) {
    const variant = factors.map((factor) => row[factor]!);
    for (const measure of measures) {
      const value = numberIn(row, measure);
      if (value === undefined) continue;
      const key = seriesKey(factors, variant, measure);
      if (!runs.has(key)) runs.set(key, { variant, measure, values: new Map() });
      runs.get(key)!.values.set(runKey(row, position), value);
    }
  }
  const series = [...runs].map(([key, { variant, measure, values }]): [string, Series] => [
    key,
    { variant, measure, direction: betterDirection(measure), sample: sampleOf([...values.values()]), runs: values },
  ]);
  return { variantColumns: factors, series: new Map(series) };
}

/** Rows without a run's columns are told apart by their position, and so are never mistaken for one run. */
function runKey(row: CsvRow, position: number): string {
  const run = RUN_COLUMNS.map((column) => row[column] ?? '').join(' ');
  return run.trim() === '' ? `row ${position}` : run;
}

function benchSeries(table: CsvTable): FileSeries {
  const variantColumns = ['bench', 'case', 'variant'];
  const series = new Map<string, Series>();
  for (const row of table.rows) {
    const variant = variantColumns.map((column) => row[column]!);
    const unit = row.unit!;
    const mean = numberIn(row, 'value');
    if (mean === undefined) continue;
    const variance = ((numberIn(row, 'rsd') ?? 0) * mean) ** 2;
    const sample: Sample = { mean, variance, count: numberIn(row, 'samples') ?? 1 };
    const direction = directionOfUnit(unit);
    series.set(seriesKey(variantColumns, variant, unit), {
      variant,
      measure: unit,
      direction,
      sample,
      runs: undefined,
    });
  }
  return { variantColumns, series };
}

/** Times and sizes should fall, rates should rise. */
function directionOfUnit(unit: string): Direction | undefined {
  if (/\/ ?s$|per second|^[kM]?(pps|Hz)$/i.test(unit)) return 'higher';
  return /^(ns|us|µs|ms|s|[kMG]i?B|bytes)(\b|$)/.test(unit) ? 'lower' : undefined;
}

function seriesKey(columns: readonly string[], variant: readonly string[], measure: string): string {
  return [...columns.map((column, i) => `${column}=${variant[i]}`), measure].join(' ');
}
