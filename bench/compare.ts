// npm run bench -- --compare BASELINE: which rows got slower than in an earlier report, beyond what both of them vary.

import { type CsvRow, numberIn, readCsv } from '../experiments/harness/csv.ts';
import { UserError } from '../experiments/harness/user-error.ts';
import type { MeasuredRow } from './report.ts';

export interface Change {
  readonly row: MeasuredRow;
  /** Of the machine's speed when the baseline was made, so many times as fast as then; undefined: the baseline has no such row. */
  readonly ratio: number | undefined;
  /** What the ratio may be off by chance, as a fraction: two standard errors. */
  readonly noise: number;
  readonly verdict: 'faster' | 'slower' | 'same' | 'new';
}

/** Each row is measured at least so often, and its spread is that between those times. */
const ROUNDS = 5;
/** Less is no change, however still the machine was. */
const LEAST_CHANGE = 0.05;

/** Throws a UserError for a report that does not say how fast its machine was. */
export function changesSince(baseline: string, rows: readonly MeasuredRow[]): Change[] {
  const before = new Map(readBaseline(baseline).map((row) => [keyOf(row), row]));
  return rows.map((row): Change => {
    const then = before.get(keyOf(row));
    if (then === undefined) return { row, ratio: undefined, noise: 0, verdict: 'new' };
    const ratio = speedOf(row) / speedOf(then);
    const noise = (2 * Math.hypot(row.rsd ?? 0, then.rsd ?? 0)) / Math.sqrt(ROUNDS);
    const least = Math.max(LEAST_CHANGE, noise);
    const verdict = ratio < 1 - least ? 'slower' : ratio > 1 / (1 - Math.min(least, 0.9)) ? 'faster' : 'same';
    return { row, ratio, noise, verdict };
  });
}

type Comparable = Pick<MeasuredRow, 'bench' | 'case' | 'variant' | 'unit' | 'value' | 'rsd' | 'yardstickNs'>;

const keyOf = ({ bench, case: name, variant, unit }: Comparable): string => [bench, name, variant, unit].join(' | ');

/** In operations per operation of the yardstick; of counts and ratios, which no machine changes, something that should grow. */
function speedOf({ unit, value, yardstickNs }: Comparable): number {
  if (unit === 'times') return value;
  if (/^(bytes|collections)\//.test(unit)) return 1 / (1 + value); // none is best, and a fraction of one is no change
  return unit.startsWith('ns/') ? yardstickNs / value : value * yardstickNs;
}

function readBaseline(file: string): Comparable[] {
  const { rows, columns } = readCsv(file);
  if (!columns.includes('yardstickNs'))
    throw new UserError(`${file}: no column yardstickNs; expected a report of npm run bench -- --out FILE`);
  return rows.map((row) => {
    const rsd = numberIn(row, 'rsd');
    return {
      ...textsOf(row),
      value: valueIn(row, { column: 'value', file }),
      yardstickNs: valueIn(row, { column: 'yardstickNs', file }),
      ...(rsd !== undefined && { rsd }),
    };
  });
}

const textsOf = ({ bench = '', case: name = '', variant = '', unit = '' }: CsvRow) => ({
  bench,
  case: name,
  variant,
  unit,
});

function valueIn(row: CsvRow, { column, file }: { readonly column: string; readonly file: string }): number {
  const value = numberIn(row, column);
  if (value === undefined || !(value >= 0))
    throw new UserError(
      `${file}: ${column} of ${row.bench}, ${row.case} is "${row[column]}"; expected a number from 0`,
    );
  return value;
}
