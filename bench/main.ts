// npm run bench: every measurement of Podwire itself, as a table and as CSV with the machine it was made on.
//
//   npm run bench -- --only conntrack --out results/bench/mine.csv
//   npm run bench -- --compare results/bench/baseline.csv       exit code 1 if a row got slower

import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, release, type } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { csvLine } from '../experiments/harness/csv.ts';
import { renderTable } from '../experiments/harness/report.ts';
import { UserError } from '../experiments/harness/user-error.ts';
import { type Change, changesSince } from './compare.ts';
import type { BenchReport, BenchRow, MeasuredRow } from './report.ts';
import { makeYardstick } from './yardstick.ts';

/** One module per subject; each exports `run`. */
const SUBJECTS = ['end-to-end', 'soak', 'allocation', 'parallel', 'event-list', 'chain-walk', 'conntrack'] as const;

const COLUMNS = ['bench', 'case', 'variant', 'unit', 'value', 'samples', 'rsd', 'yardstickNs'] as const;

const { values: options } = parseArgs({
  options: {
    only: { type: 'string' },
    out: { type: 'string', default: join('results', 'out', 'bench.csv') },
    compare: { type: 'string' },
  },
});

class Report implements BenchReport {
  readonly rows: MeasuredRow[] = [];
  readonly #yardstick = makeYardstick();
  #latest = this.#yardstick();

  /** The machine's speed is that of before and after the row was measured. */
  add(row: BenchRow): void {
    const before = this.#latest;
    this.#latest = this.#yardstick();
    this.rows.push({ ...row, yardstickNs: (before + this.#latest) / 2 });
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
if (options.compare !== undefined) changesOf(options.compare, []); // what is wrong with it is said before hours of measuring
mkdirSync(dirname(options.out), { recursive: true });
for (const subject of chosen) {
  process.stderr.write(`${subject} ...\n`);
  const { run } = (await import(`./${subject}.bench.js`)) as { run(report: BenchReport): Promise<void> };
  await run(report);
  writeFileSync(options.out, report.toCsv()); // rewritten after each subject: a bench that is stopped keeps what it has
}
process.stdout.write(`${report.toTable()}\n${options.out}\n`);
if (options.compare !== undefined) {
  const changes = changesOf(options.compare, report.rows);
  process.stdout.write(`\n${changeTable(changes)}`);
  if (changes.some(({ verdict }) => verdict === 'slower')) process.exitCode = 1;
}

function changesOf(baseline: string, rows: readonly MeasuredRow[]): Change[] {
  try {
    return changesSince(baseline, rows);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    process.stderr.write(`error: ${error.message}\n`);
    process.exit(2);
  }
}

function changeTable(changes: readonly Change[]): string {
  const rows = changes.map(({ row, ratio, noise, verdict }) => [
    ...[row.bench, row.case, row.variant],
    ratio === undefined ? '-' : `${ratio.toFixed(2)}x`,
    `± ${(noise * 100).toFixed(0)} %`,
    verdict,
  ]);
  return renderTable({ columns: ['bench', 'case', 'variant', 'speed', 'noise', 'verdict'], rows });
}
