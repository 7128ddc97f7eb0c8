// The means of a sweep over its replications, with 95 % confidence intervals: one row per variant.

import { meanInterval } from './confidence.ts';
import type { Measures, TableRow, Tables } from './experiment.ts';
import { describeLevels, type PlannedRun } from './plan.ts';
import { type Cell, renderTable } from './report.ts';

export class Summary {
  readonly #variants = new Map<string, { levels: PlannedRun['levels']; measured: Measures[] }>();

  add({ levels }: PlannedRun, measures: Measures): void {
    const name = describeLevels(levels);
    const variant = this.#variants.get(name);
    if (variant === undefined) this.#variants.set(name, { levels, measured: [measures] });
    else variant.measured.push(measures);
  }

  render(options: { isTerminal: boolean }): string {
    const [first] = this.#variants.values();
    if (first === undefined) return '';
    const factors = Object.keys(first.levels);
    const measures = Object.keys(first.measured[0]!);
    const rows = [...this.#variants.values()].map(({ levels, measured }): Cell[] => [
      ...factors.map((factor) => levelCell(levels[factor]!)),
      ...measures.map((measure) => meanOf(measured.map((measures) => measures[measure]!))),
    ]);
    return renderTable({ columns: [...factors, ...measures], rows, ...options });
  }
}

/** Further tables over the replications: rows of a variant with the same texts become one, whose numbers are means. */
export class TableSummary {
  readonly #tables = new Map<string, Map<string, TableRow[]>>();

  add({ levels }: Pick<PlannedRun, 'levels'>, tables: Tables): void {
    const variant = Object.fromEntries(Object.entries(levels).map(([factor, level]) => [factor, String(level)]));
    for (const [name, rows] of Object.entries(tables)) {
      const groups = this.#tables.get(name) ?? new Map<string, TableRow[]>();
      this.#tables.set(name, groups);
      for (const measured of rows) {
        const row = { ...variant, ...measured };
        const key = JSON.stringify(Object.values(row).filter((value) => typeof value === 'string'));
        groups.set(key, [...(groups.get(key) ?? []), row]);
      }
    }
  }

  /** The rows of one table: levels of factors first, texts as they are, and the mean of each number. Empty if there is no such table. */
  rows(name: string): TableRow[] {
    return [...(this.#tables.get(name)?.values() ?? [])].map((group) => {
      const columns = Object.keys(group[0]!);
      return Object.fromEntries(columns.map((column) => [column, meanValue(group.map((row) => row[column]))]));
    });
  }
}

function meanValue(values: readonly TableRow[string][]): TableRow[string] {
  const [first] = values;
  if (typeof first === 'string') return first;
  const numbers = values.filter((value) => typeof value === 'number');
  return numbers.length === 0 ? undefined : numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
}

function levelCell(level: string | number | boolean): Cell {
  return typeof level === 'number' ? level : String(level);
}

function meanOf(values: readonly number[]): Cell {
  const finite = values.filter(Number.isFinite);
  return finite.length === 0 ? undefined : meanInterval(finite);
}
