// Tables for people: on a terminal or in a pipe, numbers to the right with equal decimals, units in the header. The one
// door to cli-table3.

import Table from 'cli-table3';
import { titleOf } from './column-name.ts';
import type { Interval } from './confidence.ts';

/** A number is printed with the decimals of its column, an interval as `mean ± half width`, undefined as a dash. */
export type Cell = string | number | Interval | undefined;

export interface TableOptions {
  /** Names of columns, which become titles: `latencyP99Us` reads `latency P99 (µs)`. */
  readonly columns: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
  /** Bold titles. */
  readonly isTerminal?: boolean;
}

/** Ends with a line feed. */
export function renderTable({ columns, rows, isTerminal = false }: TableOptions): string {
  const cells = columns.map((_, column) => formatCells(rows.map((row) => row[column])));
  const isNumeric = (column: number) => rows.length > 0 && rows.every((row) => isNumber(row[column]));
  const table = new Table({
    head: columns.map((column) => (isTerminal ? bold(titleOf(column)) : titleOf(column))),
    colAligns: columns.map((_, column) => (isNumeric(column) ? 'right' : 'left')),
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0, compact: true },
    chars: ONE_LINE_UNDER_THE_TITLES,
  });
  table.push(...rows.map((_, row) => cells.map((column) => column[row]!)));
  return table
    .toString()
    .split('\n')
    .map((line) => `${line.trimEnd()}\n`)
    .join('');
}

/** By hand: what a library does depends on its guess about the terminal, and the caller knows. */
const bold = (text: string): string => `\u001b[1m${text}\u001b[22m`;

/** Numbers of one column with the same decimals: as many as show its smallest value with four digits. */
export function formatNumbers(values: readonly number[]): string[] {
  const decimals = decimalsFor(values);
  return values.map((value) => formatNumber(value, decimals));
}

const ONE_LINE_UNDER_THE_TITLES = {
  ...{ top: '', 'top-mid': '', 'top-left': '', 'top-right': '' },
  ...{ bottom: '', 'bottom-mid': '', 'bottom-left': '', 'bottom-right': '' },
  ...{ left: '', 'left-mid': '', right: '', 'right-mid': '', mid: '─', 'mid-mid': '──', middle: '  ' },
};

function formatCells(cells: readonly Cell[]): string[] {
  const decimals = decimalsFor(cells.flatMap(leadingNumber));
  return cells.map((cell) => {
    if (cell === undefined) return '-';
    if (typeof cell === 'string') return cell;
    if (typeof cell === 'number') return formatNumber(cell, decimals);
    const mean = formatNumber(cell.mean, decimals);
    return cell.halfWidth === undefined ? mean : `${mean} ± ${formatNumber(cell.halfWidth, decimals)}`;
  });
}

function leadingNumber(cell: Cell): number[] {
  if (cell === undefined || typeof cell === 'string') return [];
  return [typeof cell === 'number' ? cell : cell.mean];
}

function isNumber(cell: Cell): boolean {
  return typeof cell === 'string' ? /^[+-]?[\d.,]+( ± [\d.,]+)?( %)?$|^-$/.test(cell) : true;
}

function decimalsFor(values: readonly number[]): number {
  const shown = values.filter((value) => Number.isFinite(value) && value !== 0);
  if (shown.every(Number.isInteger)) return 0;
  const smallest = Math.min(...shown.map(Math.abs));
  return Math.min(6, Math.max(0, 3 - Math.floor(Math.log10(smallest))));
}

function formatNumber(value: number, decimals: number): string {
  if (!Number.isFinite(value)) return '-';
  return value.toLocaleString('en-US', { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}
