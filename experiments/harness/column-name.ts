// What the name of a column says: its unit (the suffix), how to print it, and which direction is better.
// `latencyP99Us` is "latency P99" in microseconds, lower is better.

export type Direction = 'lower' | 'higher';

export interface Unit {
  readonly suffix: string;
  readonly symbol: string;
  /** Decimals in a CSV: enough for one nanosecond of simulated time, or one frame in a million. */
  readonly decimals: number;
  readonly better?: Direction;
}

const UNITS: readonly Unit[] = [
  { suffix: 'Ns', symbol: 'ns', decimals: 0, better: 'lower' },
  { suffix: 'Us', symbol: 'µs', decimals: 3, better: 'lower' },
  { suffix: 'Ms', symbol: 'ms', decimals: 6, better: 'lower' },
  { suffix: 'PerSecond', symbol: '1/s', decimals: 3, better: 'higher' },
  { suffix: 'Seconds', symbol: 's', decimals: 9, better: 'lower' },
  { suffix: 'Gbps', symbol: 'Gbit/s', decimals: 6, better: 'higher' },
  { suffix: 'Mbps', symbol: 'Mbit/s', decimals: 6, better: 'higher' },
  { suffix: 'Bps', symbol: 'bit/s', decimals: 0, better: 'higher' },
  { suffix: 'Bytes', symbol: 'bytes', decimals: 0 },
  { suffix: 'Fraction', symbol: 'fraction', decimals: 6 },
  { suffix: 'Percent', symbol: '%', decimals: 3 },
];

/** Words that say more than the unit: `droppedPerSecond` should fall. */
const LOWER_IS_BETTER = /latency|failed|failure|unanswered|error|dropped|drops|lost|loss|retransmi|timeout/i;
const HIGHER_IS_BETTER = /throughput|goodput|completed|delivered/i;

export function unitOf(column: string): Unit | undefined {
  return UNITS.find(({ suffix }) => column.length > suffix.length && column.endsWith(suffix));
}

/** The words of the name, without the unit: `rulesPerRequest` is "rules per request". */
export function labelOf(column: string): string {
  const unit = unitOf(column);
  const words = unit === undefined ? column : column.slice(0, -unit.suffix.length);
  return words
    .replace(/([a-z0-9])([A-Z])/g, '$1 $2')
    .replace(/([A-Z])([A-Z][a-z])/g, '$1 $2')
    .split(' ')
    .map((word) => (/^P\d/.test(word) || /^[A-Z]{2}/.test(word) ? word : word.toLowerCase()))
    .join(' ');
}

/** Label and unit: `latency P99 (µs)`. */
export function titleOf(column: string): string {
  const unit = unitOf(column);
  return unit === undefined ? labelOf(column) : `${labelOf(column)} (${unit.symbol})`;
}

/** Undefined: a change is neither good nor bad. */
export function betterDirection(column: string): Direction | undefined {
  if (LOWER_IS_BETTER.test(column)) return 'lower';
  if (HIGHER_IS_BETTER.test(column)) return 'higher';
  return unitOf(column)?.better;
}

/** A measure as it stands in a CSV; empty when it is not finite, which is what a mean over nothing is. */
export function formatMeasure(column: string, value: number): string {
  if (!Number.isFinite(value)) return '';
  const unit = unitOf(column);
  if (unit !== undefined) return value.toFixed(unit.decimals);
  return Number.isInteger(value) ? String(value) : value.toFixed(6);
}
