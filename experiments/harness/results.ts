// The CSV of a sweep: one row per run, with its levels, replication, seed and measures. Rows are written as they come, so
// that a killed run keeps them; the same plan gives the same bytes, whatever the number of workers.

import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { formatMeasure } from './column-name.ts';
import { type CsvTable, csvLine, numberIn } from './csv.ts';
import type { Factors, Measures, TableRow, Tables } from './experiment.ts';
import { makeDirectory } from './output-path.ts';
import { type PlannedRun, RUN_COLUMNS } from './plan.ts';
import { cannot, UserError } from './user-error.ts';

export class ResultFile {
  readonly path: string;
  readonly #fd: number;
  readonly #factors: readonly string[];
  #measures: readonly string[] | undefined;

  /** Makes the directory and empties the file. Throws a UserError if it cannot be written. */
  constructor(options: { directory: string; name: string; factors: Factors }) {
    this.path = join(options.directory, `${options.name}.csv`);
    this.#factors = Object.keys(options.factors);
    try {
      makeDirectory(options.directory);
      this.#fd = openSync(this.path, 'w');
    } catch (error) {
      throw cannot('write', this.path, error);
    }
  }

  /** Call in plan order. The first row brings the header. */
  write(run: PlannedRun, measures: Measures): void {
    const columns = (this.#measures ??= this.#writeHeader(Object.keys(measures)));
    if (!sameNames(columns, Object.keys(measures))) {
      throw new UserError(`measure gives ${Object.keys(measures).join(', ')} after ${columns.join(', ')}`);
    }
    const levels = this.#factors.map((factor) => String(run.levels[factor]));
    const values = columns.map((column) => formatMeasure(column, measures[column]!));
    writeSync(this.#fd, csvLine([...levels, String(run.replication), run.seed, ...values]));
  }

  close(): void {
    closeSync(this.#fd);
  }

  #writeHeader(measures: string[]): readonly string[] {
    const taken = measures.find((measure) => RUN_COLUMNS.includes(measure) || this.#factors.includes(measure));
    if (taken !== undefined) throw new UserError(`measure "${taken}" has the name of another column`);
    writeSync(this.#fd, csvLine([...this.#factors, ...RUN_COLUMNS, ...measures]));
    return measures;
  }
}

/** The further tables of a sweep, `<experiment>-<table>.csv` each: rows as they come, with the columns of their run. */
export class TableFiles {
  readonly #directory: string;
  readonly #name: string;
  readonly #files = new Map<string, { readonly fd: number; readonly columns: readonly string[] }>();

  constructor(options: { directory: string; name: string }) {
    this.#directory = options.directory;
    this.#name = options.name;
  }

  /**
   * Call in plan order. The first row of a table brings its header; later rows have the same columns. A table without
   * rows has no file, not even one of an earlier sweep.
   */
  write(run: PlannedRun, tables: Tables): void {
    for (const [name, rows] of Object.entries(tables)) {
      if (run.index === 0) rmSync(this.#pathOf(name), { force: true });
      for (const row of rows) this.#writeRow(run, name, row);
    }
  }

  close(): void {
    for (const { fd } of this.#files.values()) closeSync(fd);
  }

  #writeRow(run: PlannedRun, name: string, row: TableRow): void {
    let file = this.#files.get(name);
    if (file === undefined) this.#files.set(name, (file = this.#open(name, run, Object.keys(row))));
    const { fd, columns } = file;
    if (!sameNames(columns, Object.keys(row))) {
      throw new UserError(`table ${name} has the columns ${Object.keys(row).join(', ')} after ${columns.join(', ')}`);
    }
    const levels = Object.values(run.levels).map(String);
    writeSync(
      fd,
      csvLine([...levels, String(run.replication), run.seed, ...columns.map((column) => cellOf(column, row))]),
    );
  }

  #open(name: string, { levels }: PlannedRun, columns: readonly string[]) {
    const fd = openSync(this.#pathOf(name), 'w');
    writeSync(fd, csvLine([...Object.keys(levels), ...RUN_COLUMNS, ...columns]));
    return { fd, columns };
  }

  #pathOf(table: string): string {
    return join(this.#directory, `${this.#name}-${table}.csv`);
  }
}

function cellOf(column: string, row: TableRow): string {
  const value = row[column];
  if (value === undefined) return '';
  return typeof value === 'number' ? formatMeasure(column, value) : value;
}

/**
 * Which columns of a table are factors and which are measures. In a result, factors stand before the columns of the run
 * and measures behind them, beside the texts that tell the rows of one run apart; in any other table, numbers are
 * measures.
 */
export function resultColumns(table: CsvTable): { factors: readonly string[]; measures: readonly string[] } {
  const { columns, rows } = table;
  const first = columns.findIndex((column) => RUN_COLUMNS.includes(column));
  const isMeasure = (column: string, position: number) =>
    first >= 0
      ? position > first && !rows.some((row) => row[column] !== '' && numberIn(row, column) === undefined)
      : rows.some((row) => numberIn(row, column) !== undefined);
  const others = columns.filter((column) => !RUN_COLUMNS.includes(column));
  const measures = others.filter((column) => isMeasure(column, columns.indexOf(column)));
  return { factors: others.filter((column) => !measures.includes(column)), measures };
}

function sameNames(some: readonly string[], others: readonly string[]): boolean {
  return some.length === others.length && some.every((name) => others.includes(name));
}
