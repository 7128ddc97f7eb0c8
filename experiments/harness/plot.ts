// A chart of one column of a CSV against another. What is drawn follows from the columns: a factor with numeric levels
// gives lines, one with names gives bars (points where a logarithmic axis has no zero to stand on), a measure against a
// measure gives a dot per row. Means over replications carry their 95 % confidence intervals. Factors that are neither
// on an axis nor told apart by colour get a panel per level, so that nothing is averaged away unseen.

import { type Chart, INK, type Layer, PALETTE, writeChart } from './chart.ts';
import { labelOf, titleOf } from './column-name.ts';
import { meanInterval } from './confidence.ts';
import { type CsvRow, type CsvTable, numberIn, readCsv, requireColumns } from './csv.ts';
import { resultColumns } from './results.ts';
import { UserError } from './user-error.ts';

export interface PlotColumns {
  readonly x: string;
  readonly y: string;
  /** A factor to tell apart by colour. */
  readonly by?: string | undefined;
}

/** `out` is an .svg or .png; without extension both. Returns the paths written. */
export function plotCsv({ file, out, ...columns }: PlotColumns & { file: string; out: string }): Promise<string[]> {
  return writeChart(csvChart(readCsv(file), columns), out);
}

export function csvChart(table: CsvTable, columns: PlotColumns): Chart {
  const { x, y, by } = columns;
  requireColumns(table, by === undefined ? [x, y] : [x, y, by]);
  if (!table.rows.some((row) => numberIn(row, y) !== undefined)) {
    throw new UserError(`${table.file}: column "${y}" holds no numbers`);
  }
  const { factors, measures } = resultColumns(table);
  const isNumeric = table.rows.every((row) => numberIn(row, x) !== undefined);
  if (isNumeric && measures.includes(x) && factors.length > 0) return scatterChart(table, columns);
  const points = meanPoints(table, columns, panelFactors(table, columns, factors));
  return isNumeric ? lineChart(table, columns, points) : barChart(table, columns, points);
}

/** What one mark shows: the mean of the runs that share an x, a colour and a panel, or one row. */
interface Point {
  readonly x: string;
  readonly y: number;
  readonly low: number;
  readonly high: number;
  readonly by: string;
  readonly panel: string;
}

/** Levels whose largest is more than two decades above the smallest need a logarithmic axis to be seen. */
const LINEAR_DECADES = 100;
const MOST_PANELS = 12;
const PANEL_COLUMNS = 2;
const MOST_TICKS = 10;
/** More do not fit side by side below the bars. */
const MOST_LETTERS = 45;

/** Thousands separators, no trailing zeros. */
const NUMBERS = ',~r';

function lineChart(table: CsvTable, columns: PlotColumns, points: readonly Point[]): Chart {
  const ticks = [...new Set(points.map(({ x }) => Number(x)))].sort((a, b) => a - b);
  const x = quantityOnX(columns.x, ticks, ticks.length <= MOST_TICKS ? ticks : undefined);
  const encoding = { x, ...yAndColor(table, columns, points) };
  const layer: Layer[] = [
    { mark: { type: 'rule', strokeWidth: 1.5, opacity: 0.6 }, encoding: { ...encoding, ...interval(encoding.y) } },
    { mark: { type: 'line', strokeWidth: 2 }, encoding },
    { mark: { type: 'point', filled: true, size: 55, opacity: 1 }, encoding },
  ];
  return inPanels(table, columns, points, layer);
}

function barChart(table: CsvTable, columns: PlotColumns, points: readonly Point[]): Chart {
  const { x, by } = columns;
  const names = levelsOf(table, x);
  const labelAngle = names.join('').length > MOST_LETTERS ? -30 : 0;
  const encoding = {
    x: {
      field: 'x',
      type: 'nominal',
      sort: names,
      scale: { paddingInner: 0.4, paddingOuter: 0.25 },
      axis: { title: titleOf(x), labelAngle, ticks: false },
    },
    ...(by !== undefined && { xOffset: { field: 'by', sort: levelsOf(table, by) } }),
    ...yAndColor(table, columns, points),
  } as const;
  const range = { ...encoding, ...interval(encoding.y) };
  const layer: Layer[] = isWide(points.map(({ y }) => y))
    ? [
        { mark: { type: 'rule', strokeWidth: 1.5 }, encoding: range },
        { mark: { type: 'point', filled: true, size: 80, opacity: 1 }, encoding },
      ]
    : [
        { mark: { type: 'bar', cornerRadiusEnd: 2 }, encoding },
        { mark: { type: 'rule', strokeWidth: 1.5 }, encoding: { ...range, color: { value: INK } } },
      ];
  return inPanels(table, columns, points, layer);
}

function scatterChart(table: CsvTable, columns: PlotColumns): Chart {
  const { x, y, by } = columns;
  const points = table.rows.flatMap((row): Point[] => {
    const value = numberIn(row, y);
    if (value === undefined) return [];
    return [{ x: row[x]!, y: value, low: value, high: value, by: by === undefined ? '' : row[by]!, panel: '' }];
  });
  const values = points.map((point) => Number(point.x));
  const encoding = { x: quantityOnX(x, values), ...yAndColor(table, columns, points) };
  return inPanels(table, columns, points, [
    { mark: { type: 'point', filled: true, size: 45, opacity: 0.75 }, encoding },
  ]);
}

function meanPoints(table: CsvTable, { x, y, by }: PlotColumns, others: readonly string[]): Point[] {
  const groups = new Map<string, { row: CsvRow; values: number[] }>();
  for (const row of table.rows) {
    const value = numberIn(row, y);
    if (value === undefined) continue;
    const key = JSON.stringify([x, by ?? x, ...others].map((column) => row[column]));
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { row, values: [value] });
    else group.values.push(value);
  }
  return [...groups.values()].map(({ row, values }) => {
    const { mean, halfWidth = 0 } = meanInterval(values);
    const panel = others.map((factor) => `${labelOf(factor)}: ${row[factor]}`).join(', ');
    return { x: row[x]!, y: mean, low: mean - halfWidth, high: mean + halfWidth, by: row[by ?? x]!, panel };
  });
}

function quantityOnX(x: string, values: readonly number[], levels?: readonly number[]) {
  const isLogarithmic = isWide(values);
  const scale = { ...(isLogarithmic ? { type: 'log' as const } : { zero: false }), nice: false, padding: 18 };
  const ticks = levels ?? (isLogarithmic ? powersOfTen(values) : undefined);
  const axis = { title: titleOf(x), format: NUMBERS, labelOverlap: true, ...(ticks && { values: [...ticks] }) };
  return { field: 'x', type: 'quantitative', scale, axis } as const;
}

function yAndColor(table: CsvTable, { y, by }: PlotColumns, points: readonly Point[]) {
  const values = points.map((point) => point.y);
  const powers = isWide(values) ? powersOfTen(values) : undefined;
  const scale = powers ? { type: 'log' as const, domain: [powers[0]!, powers.at(-1)!], padding: 6 } : { zero: true };
  const axis = { title: titleOf(y), format: NUMBERS, ...(powers ? { values: powers } : { tickCount: 6 }) };
  const color =
    by === undefined
      ? { value: PALETTE[0]! }
      : ({ field: 'by', type: 'nominal', sort: levelsOf(table, by), legend: { title: labelOf(by) } } as const);
  return { y: { field: 'y', type: 'quantitative', scale, axis }, color } as const;
}

function interval<Y extends object>(y: Y) {
  return { y: { ...y, field: 'low' }, y2: { field: 'high' } };
}

function inPanels(table: CsvTable, { x, y }: PlotColumns, points: readonly Point[], layer: Layer[]): Chart {
  const panels = [...new Set(points.map(({ panel }) => panel))];
  if (panels.length > MOST_PANELS) {
    throw new UserError(
      `${table.file}: the other factors would need ${panels.length} panels; at most ${MOST_PANELS} fit`,
    );
  }
  const hasIntervals = points.some(({ low, high }) => low < high);
  const title = {
    text: `${capitalized(labelOf(y))} by ${labelOf(x)}`,
    ...(hasIntervals && { subtitle: 'Mean over replications; vertical lines span its 95 % confidence interval' }),
  };
  const data = { values: drawable(points) };
  if (panels.length <= 1) return { title, data, width: 600, height: 340, layer };
  const facet = { field: 'panel', type: 'nominal', sort: panels, title: null } as const;
  const spec = { width: 360, height: 220, layer };
  return { title, data, facet, columns: PANEL_COLUMNS, bounds: 'flush', spacing: { row: 60, column: 32 }, spec };
}

/** On a logarithmic axis, which has no place for zero, intervals end where the axis does. */
function drawable(points: readonly Point[]): Point[] {
  const means = points.map(({ y }) => y);
  if (!isWide(means)) return [...points];
  const [floor, ceiling] = [powersOfTen(means)[0]!, powersOfTen(means).at(-1)!];
  return points.map((point) => ({ ...point, low: Math.max(point.low, floor), high: Math.min(point.high, ceiling) }));
}

/** From the one below the smallest value to the one above the largest. */
function powersOfTen(values: readonly number[]): number[] {
  const first = Math.floor(Math.log10(Math.min(...values)));
  const last = Math.ceil(Math.log10(Math.max(...values)));
  return Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
}

function isWide(values: readonly number[]): boolean {
  return Math.min(...values) > 0 && Math.max(...values) > LINEAR_DECADES * Math.min(...values);
}

/** In order of appearance, which is the order of the experiment. */
function levelsOf(table: CsvTable, column: string): string[] {
  return [...new Set(table.rows.map((row) => row[column]!))];
}

/** Factors that still tell rows apart which agree in what is on the x axis, in the colour, and in the factors before. */
function panelFactors(table: CsvTable, { x, y, by }: PlotColumns, factors: readonly string[]): string[] {
  const shown = by === undefined ? [x] : [x, by];
  const others: string[] = [];
  for (const factor of factors) {
    if ([...shown, y].includes(factor)) continue;
    const keyOf = (row: CsvRow): string => JSON.stringify([...shown, ...others].map((column) => row[column]));
    const levels = new Map<string, string>();
    for (const row of table.rows) if (!levels.has(keyOf(row))) levels.set(keyOf(row), row[factor]!);
    if (table.rows.some((row) => levels.get(keyOf(row)) !== row[factor])) others.push(factor);
  }
  return others;
}

function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
