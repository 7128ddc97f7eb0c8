import { expect, test } from 'vitest';
import { RandomStreams } from '../../engine/random.ts';
import { type Duration, ms, us } from '../../engine/time.ts';
import { type Arrivals, bursts, constantRate, poisson } from './arrivals.ts';

function gapsOf(arrivals: Arrivals, count: number): Duration[] {
  const random = new RandomStreams('arrivals').stream('test');
  return Array.from({ length: count }, () => arrivals(random));
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

function variance(values: readonly number[]): number {
  const middle = mean(values);
  return mean(values.map((value) => (value - middle) ** 2));
}

test('the gaps of Poisson arrivals have the mean of the rate, and its square as variance', () => {
  const count = 200_000;
  const gaps = gapsOf(poisson({ perSecond: 10_000 }), count);
  // 100 us each; the error of the mean is 1/sqrt(n), that of the variance sqrt(8/n): four of them on either side.
  expect(Math.abs(mean(gaps) / us(100) - 1)).toBeLessThan(4 / Math.sqrt(count));
  expect(Math.abs(variance(gaps) / us(100) ** 2 - 1)).toBeLessThan(4 * Math.sqrt(8 / count));
});

test('Poisson arrivals per interval have a variance equal to their mean', () => {
  const perInterval = new Map<number, number>();
  let now = 0;
  for (const gap of gapsOf(poisson({ perSecond: 10_000 }), 200_000)) {
    now += gap;
    const interval = Math.floor(now / ms(1)); // 10 arrivals each
    perInterval.set(interval, (perInterval.get(interval) ?? 0) + 1);
  }
  const intervals = Math.floor(now / ms(1)); // the last one is cut off
  const counts = Array.from({ length: intervals }, (_, interval) => perInterval.get(interval) ?? 0);
  expect(Math.abs(variance(counts) / mean(counts) - 1)).toBeLessThan(4 * Math.sqrt(2 / intervals));
});

test('a constant rate has constant gaps', () => {
  expect(gapsOf(constantRate({ perSecond: 4_000 }), 3)).toEqual([us(250), us(250), us(250)]);
});

test('bursts come at once, one period apart', () => {
  const gaps = gapsOf(bursts({ size: 3, every: ms(5) }), 7);
  expect(gaps).toEqual([ms(5), 0, 0, ms(5), 0, 0, ms(5)]);
});

test('rates and bursts of nothing are refused', () => {
  expect(() => poisson({ perSecond: 0 })).toThrow('0 requests per second; expected more than 0');
  expect(() => constantRate({ perSecond: Number.NaN })).toThrow('NaN requests per second; expected more than 0');
  expect(() => bursts({ size: 0, every: ms(1) })).toThrow('bursts of 0 requests; expected at least 1');
  expect(() => bursts({ size: 1.5, every: ms(1) })).toThrow('bursts of 1.5 requests; expected at least 1');
});
