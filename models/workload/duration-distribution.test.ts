import { expect, test } from 'vitest';
import { RandomStreams } from '../../engine/random.ts';
import { type Duration, us } from '../../engine/time.ts';
import {
  asDistribution,
  type DurationDistribution,
  exponential,
  fixed,
  logNormal,
  uniform,
} from './duration-distribution.ts';

const COUNT = 20_000;

/** In ascending order. */
function drawn(distribution: DurationDistribution): Duration[] {
  const random = new RandomStreams('durations').stream('test');
  return Array.from({ length: COUNT }, () => distribution(random)).sort((a, b) => a - b);
}

const quantile = (values: readonly Duration[], q: number): number => values[Math.floor(q * COUNT)]!;
const mean = (values: readonly Duration[]): number => values.reduce((sum, value) => sum + value, 0) / COUNT;

test('fixed durations, and plain ones, are always the same', () => {
  expect(new Set(drawn(fixed(us(7))))).toEqual(new Set([us(7)]));
  expect(new Set(drawn(asDistribution(us(7))))).toEqual(new Set([us(7)]));
});

test('uniform durations fill their range evenly', () => {
  const values = drawn(uniform({ from: us(10), to: us(30) }));
  expect(values[0]).toBeGreaterThanOrEqual(us(10));
  expect(values.at(-1)).toBeLessThanOrEqual(us(30));
  for (const q of [0.25, 0.5, 0.75]) expect(quantile(values, q) / us(1)).toBeCloseTo(10 + 20 * q, 0);
  expect(() => uniform({ from: us(2), to: us(1) })).toThrow('uniform from 2000 to 1000 ns; expected from <= to');
});

test('exponential durations have their mean, and a median of ln 2 of it', () => {
  const values = drawn(exponential(us(100)));
  expect(mean(values) / us(100)).toBeCloseTo(1, 1);
  expect(quantile(values, 0.5) / us(100)).toBeCloseTo(Math.LN2, 1);
});

test('log-normal durations have their median; a sigma of 1 puts the 99th percentile at ten times that', () => {
  const values = drawn(logNormal({ median: us(50), sigma: 1 }));
  expect(quantile(values, 0.5) / us(50)).toBeCloseTo(1, 1);
  expect(quantile(values, 0.99) / us(50)).toBeGreaterThan(9); // e^2.326 = 10.2
  expect(quantile(values, 0.99) / us(50)).toBeLessThan(11.5);
});
