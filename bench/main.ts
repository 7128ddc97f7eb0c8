// npm run bench: every measurement of Podwire itself, as a table and as CSV with the machine it was made on.
//
//   npm run bench -- --only conntrack --out results/bench/mine.csv

import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, release, type } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { csvLine } from '../experiments/harness/csv.ts';
import { renderTable } from '../experiments/harness/report.ts';
import type { BenchReport, BenchRow } from './report.ts';

/** One module per subject; each exports `run`. */
const SUBJECTS = ['end-to-end', 'parallel', 'event-list', 'chain-walk', 'conntrack'] as const;

const COLUMNS = ['bench', 'case', 'variant', 'unit', 'value', 'samples', 'rsd'] as const;

const { values: options } = parseArgs({
  options: { only: { type: 'string' }, out: { type: 'string', default: join('results', 'out', 'bench.csv') } },
});

class Report implements BenchReport {
  readonly rows: BenchRow[] = [];

  add(row: BenchRow): void {
    this.rows.push(row);
  }

  toTable(): string {
    const rows = this.rows.map(({ bench, case: name, variant, value, unit, rsd }) => [
      bench,
      name,
      variant,
      formatValue(value),
      unit,
      formatRsd(rsd),
    ]);
    return renderTable({ columns: ['bench', 'case', 'variant', 'value', 'unit', 'spread'], rows });
  }

  toCsv(): string {
    const machine = [process.versions.node, cpus()[0]?.model ?? '', String(cpus().length), `${type()} ${release()}`];
    const header = csvLine([...COLUMNS, 'node', 'cpu', 'cores', 'os']);
    const lines = this.rows.map((row) => csvLine([...COLUMNS.map((column) => cellOf(row[column])), ...machine]));
    return [header, ...lines].join('');
  }
}

const cellOf = (value: string | number | undefined): string =>
  value === undefined ? '' : typeof value === 'number' ? String(Number(value.toPrecision(6))) : value;

const formatValue = (value: number): string =>
  value >= 1_000 ? Math.round(value).toLocaleString('en-US') : value.toPrecision(3);
const formatRsd = (rsd: number | undefined): string => (rsd === undefined ? '-' : `± ${(rsd * 100).toFixed(1)} %`);

const report = new Report();
const chosen = SUBJECTS.filter((subject) => options.only === undefined || subject === options.only);
if (chosen.length === 0) {
  process.stderr.write(`error: --only ${options.only}: no such bench; there are ${SUBJECTS.join(', ')}\n`);
  process.exit(2);
}
mkdirSync(dirname(options.out), { recursive: true });
for (const subject of chosen) {
  process.stderr.write(`${subject} ...\n`);
  const { run } = (await import(`./${subject}.bench.js`)) as { run(report: BenchReport): Promise<void> };
  await run(report);
  writeFileSync(options.out, report.toCsv()); // rewritten after each subject: a bench that is stopped keeps what it has
}
process.stdout.write(`${report.toTable()}\n${options.out}\n`);
