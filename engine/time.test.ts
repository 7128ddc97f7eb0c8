import { expect, test } from 'vitest';
import { days, formatInstant, type Instant, inUs, ms, ns, s, us } from './time.ts';

test('durations are whole nanoseconds', () => {
  expect([ns(1), us(1.5), ms(2), s(0.1)]).toEqual([1, 1_500, 2_000_000, 100_000_000]);
  expect(inUs(ms(1))).toBe(1_000);
  expect(days(104)).toBeLessThan(Number.MAX_SAFE_INTEGER);
});

test.each([-1, Number.NaN, Number.POSITIVE_INFINITY])('a duration of %s is refused', (count) => {
  expect(() => us(count)).toThrow(`duration ${count}`);
});

test('instants print as seconds with nine decimals', () => {
  expect(formatInstant(1_250_000 as Instant)).toBe('0.001250000');
  expect(formatInstant(61_000_000_007 as Instant)).toBe('61.000000007');
});
