import { expect, test } from 'vitest';
import { days, formatInstant, type Instant, inUs, ms, ns, parseInstant, s, us } from './time.ts';

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

test('instants are read as they are printed, dates are not', () => {
  expect(parseInstant('61.000000007')).toBe(61_000_000_007);
  expect(parseInstant('2024-05-01T10:00:00Z')).toBeUndefined();
  expect(parseInstant('9999999999.000000000')).toBeUndefined();
});
