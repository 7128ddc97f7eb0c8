import { stripVTControlCharacters } from 'node:util';
import { expect, test } from 'vitest';
import { planRuns } from './plan.ts';
import { formatNumbers, renderTable } from './report.ts';
import { Summary } from './summary.ts';

const rows = [
  ['iptables', '80', 10, { mean: 12.3456, halfWidth: 0.0512 }, 0],
  ['nftables', '8080', 10_000, { mean: 1_212.3456, halfWidth: 10 }, undefined],
];
const columns = ['proxy', 'port', 'services', 'latencyP99Us', 'failed'];

test('a table has units in its titles, and numbers to the right with equal decimals', () => {
  expect(`\n${renderTable({ columns, rows })}`).toBe(`
proxy     port  services  latency P99 (µs)  failed
──────────────────────────────────────────────────
iptables    80        10      12.35 ± 0.05       0
nftables  8080    10,000  1,212.35 ± 10.00       -
`);
});

test('only a terminal gets bold titles', () => {
  const bold = renderTable({ columns, rows, isTerminal: true });
  expect(bold).toContain('\u001b[1mproxy');
  expect(stripVTControlCharacters(bold).replaceAll(/ +\n/g, '\n')).toBe(renderTable({ columns, rows }));
});

test('decimals show four digits of the smallest number', () => {
  expect(formatNumbers([1, 20, 300])).toEqual(['1', '20', '300']);
  expect(formatNumbers([0.01234, 5])).toEqual(['0.01234', '5.00000']);
  expect(formatNumbers([12_345.678, 2_000.5])).toEqual(['12,346', '2,001']);
  expect(formatNumbers([0, 1.5, Number.NaN])).toEqual(['0.000', '1.500', '-']);
});

test('the summary of a sweep has a row per variant', () => {
  const summary = new Summary();
  for (const run of planRuns({ factors: { proxy: ['iptables', 'nftables'] }, replications: 2, seed: '1' })) {
    summary.add(run, { latencyUs: 10 + run.index, waitUs: Number.NaN });
  }
  // Two values one apart: t(1) = 12.706, standard deviation 0.7071, so 12.706 x 0.7071 / sqrt(2) = 6.353.
  expect(`\n${summary.render({ isTerminal: false })}`).toBe(`
proxy     latency (µs)  wait (µs)
─────────────────────────────────
iptables  10.50 ± 6.35          -
nftables  12.50 ± 6.35          -
`);
});

test('no runs, no summary', () => {
  expect(new Summary().render({ isTerminal: false })).toBe('');
});
