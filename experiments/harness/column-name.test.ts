import { expect, test } from 'vitest';
import { betterDirection, formatMeasure, labelOf, titleOf } from './column-name.ts';

test.each([
  ['latencyP99Us', 'latency P99 (µs)'],
  ['p50Us', 'p50 (µs)'],
  ['rulesPerRequest', 'rules per request'],
  ['requestsPerSecond', 'requests (1/s)'],
  ['lossFraction', 'loss (fraction)'],
  ['rateBps', 'rate (bit/s)'],
  ['failed', 'failed'],
  ['DNSQueries', 'DNS queries'],
  ['service port', 'service port'],
])('%s reads "%s"', (column, title) => {
  expect(titleOf(column)).toBe(title);
});

test('a name that is only a suffix has no unit', () => {
  expect(titleOf('Us')).toBe('us');
  expect(labelOf('Bytes')).toBe('bytes');
});

test.each([
  ['latencyP50Us', 'lower'],
  ['convergenceMs', 'lower'],
  ['failed', 'lower'],
  ['droppedPerSecond', 'lower'],
  ['retransmissions', 'lower'],
  ['requestsPerSecond', 'higher'],
  ['throughputGbps', 'higher'],
  ['completed', 'higher'],
  ['rulesPerRequest', undefined],
  ['connections', undefined],
])('of %s, %s is better', (column, direction) => {
  expect(betterDirection(column)).toBe(direction);
});

test('the decimals of a measure follow from its unit', () => {
  expect(formatMeasure('latencyUs', 12)).toBe('12.000');
  expect(formatMeasure('latencyUs', 1e-9)).toBe('0.000');
  expect(formatMeasure('waitNs', 12.4)).toBe('12');
  expect(formatMeasure('lossFraction', 1 / 3)).toBe('0.333333');
  expect(formatMeasure('failed', 12)).toBe('12');
  expect(formatMeasure('rulesPerRequest', 2 / 3)).toBe('0.666667');
  expect(formatMeasure('latencyUs', Number.NaN)).toBe('');
});
