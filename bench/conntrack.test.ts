import { expect, test } from 'vitest';
import { run } from './conntrack.bench.ts';
import type { BenchRow } from './report.ts';

test('the conntrack bench runs, and finds every connection in both tables', async () => {
  const rows: BenchRow[] = [];
  await run({ add: (row) => rows.push(row) }, { sizes: [100], rounds: 1, msPerRound: 2 });
  expect(rows.map((row) => `${row.case}: ${row.variant}`)).toEqual([
    'lookup, 100 connections: conntrack table',
    'lookup, 100 connections: Map with text keys',
    'remove and insert, 100 connections: conntrack table',
    'remove and insert, 100 connections: Map with text keys',
  ]);
  expect(rows.every((row) => row.value > 0 && row.samples! > 0)).toBe(true);
});
