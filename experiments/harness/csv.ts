// Tables as CSV (RFC 4180): a header of column names, then rows. The one door to csv-stringify and csv-parse.

import { readFileSync } from 'node:fs';
import { parse } from 'csv-parse/sync';
import { stringify } from 'csv-stringify/sync';
import { cannot, messageOf, UserError } from './user-error.ts';

/** Cells by column name, as they stand in the file. */
export type CsvRow = Readonly<Record<string, string>>;

export interface CsvTable {
  readonly file: string;
  readonly columns: readonly string[];
  readonly rows: readonly CsvRow[];
}

/** One line, with its line feed. */
export function csvLine(cells: readonly string[]): string {
  return stringify([cells]);
}

export function readCsv(file: string): CsvTable {
  const [columns, ...lines] = parseLines(file, readText(file));
  if (columns === undefined) throw new UserError(`${file}: empty; expected a CSV with a header`);
  const rows = lines.map((cells) => Object.fromEntries(columns.map((column, i) => [column, cells[i]!])));
  return { file, columns, rows };
}

/** Throws a UserError that lists the columns there are. */
export function requireColumns(table: CsvTable, columns: readonly string[]): void {
  for (const column of columns) {
    if (!table.columns.includes(column)) {
      throw new UserError(`${table.file}: no column "${column}"; it has ${table.columns.join(', ')}`);
    }
  }
}

/** A cell as a number; undefined for an empty cell or a text. */
export function numberIn(row: CsvRow, column: string): number | undefined {
  const text = row[column];
  if (text === undefined || text === '') return undefined;
  const value = Number(text);
  return Number.isFinite(value) ? value : undefined;
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw cannot('read', file, error);
  }
}

function parseLines(file: string, text: string): string[][] {
  try {
    return parse(text, { bom: true });
  } catch (error) {
    throw new UserError(`${file}: not a CSV: ${messageOf(error)}`);
  }
}
