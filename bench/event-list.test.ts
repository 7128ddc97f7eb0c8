import { expect, test } from 'vitest';
import { run } from './event-list.bench.ts';
import type { BenchRow } from './report.ts';

test('the event list bench runs and reports both lists for each mix of delays', async () => {
  const rows: BenchRow[] = [];
  await run({ add: (row) => rows.push(row) }, { sizes: [100], rounds: 1, msPerRound: 2 });
  expect(rows.map((row) => `${row.case}: ${row.variant}`)).toEqual([
    '100 pending, network delays: timing wheel',
    '100 pending, network delays: heap-js',
    '100 pending, exponential delays: timing wheel',
    '100 pending, exponential delays: heap-js',
    '100 pending, bimodal delays: timing wheel',
    '100 pending, bimodal delays: heap-js',
  ]);
  expect(rows.every((row) => row.value > 0 && row.samples! > 0)).toBe(true);
});
