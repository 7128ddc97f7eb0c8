// How a measure grows with a factor: the exponent of the power law that fits best (least squares of the logarithms). 1 is
// in proportion, 2 is the square. A curve that begins with a constant part is flatter there, so the exponent of its last
// step is told as well.

import { type CsvRow, type CsvTable, numberIn } from './csv.ts';

export interface GrowthCurve {
  readonly measure: string;
  readonly growsWith: string;
  /** The level of the other factor: `services=100`. */
  readonly at: string;
  readonly exponent: number;
  /** Between the two largest levels. */
  readonly lastExponent: number;
}

/** One curve per measure, factor and level of the other factor; those of a single level are none. */
export function growthCurves(
  { rows }: CsvTable,
  { factors, measures }: { readonly factors: readonly [string, string]; readonly measures: readonly string[] },
): GrowthCurve[] {
  const [first, second] = factors;
  return measures.flatMap((measure) =>
    [
      [first, second],
      [second, first],
    ].flatMap(([growsWith, other]) =>
      [...new Set(rows.map((row) => row[other!]!))].flatMap((level) => {
        const points = meansOf(
          rows.filter((row) => row[other!] === level),
          growsWith!,
          measure,
        );
        if (points.length < 2) return [];
        const at = `${other}=${level}`;
        const exponent = slopeOf(points);
        return [{ measure, growsWith: growsWith!, at, exponent, lastExponent: slopeOf(points.slice(-2)) }];
      }),
    ),
  );
}

/** Logarithms of the levels, and of the means of the measure there, in the order of levels. */
function meansOf(rows: readonly CsvRow[], factor: string, measure: string): [x: number, y: number][] {
  const byLevel = new Map<number, number[]>();
  for (const row of rows) {
    const level = numberIn(row, factor);
    const value = numberIn(row, measure);
    if (level === undefined || value === undefined) continue;
    byLevel.set(level, [...(byLevel.get(level) ?? []), value]);
  }
  return [...byLevel].sort(([a], [b]) => a - b).map(([level, values]) => [Math.log(level), Math.log(mean(values))]);
}

function slopeOf(points: readonly (readonly [x: number, y: number])[]): number {
  const meanX = mean(points.map(([x]) => x));
  const meanY = mean(points.map(([, y]) => y));
  const covariance = mean(points.map(([x, y]) => (x - meanX) * (y - meanY)));
  return covariance / mean(points.map(([x]) => (x - meanX) ** 2));
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
