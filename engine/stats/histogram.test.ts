import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Duration, ms, ns, s, us } from '../time.ts';
import { Histogram } from './histogram.ts';

const histogramOf = (values: Iterable<number>): Histogram => {
  const histogram = new Histogram();
  for (const value of values) histogram.record(ns(value));
  return histogram;
};

const anyDuration = fc.oneof(fc.nat(1_000), fc.nat(), fc.maxSafeNat());

test('quantiles of 1 to 100 microseconds', () => {
  const histogram = histogramOf(Array.from({ length: 100 }, (_, i) => us(i + 1)));
  expect([histogram.count, histogram.min, histogram.mean, histogram.max]).toEqual([100, us(1), us(50.5), us(100)]);
  expect(Math.abs(histogram.quantileUs(0.5) - 50)).toBeLessThan(50 / 256);
  expect(Math.abs(histogram.quantileUs(0.07) - 7)).toBeLessThan(7 / 256); // 0.07 x 100 > 7 in floating point
});

test('every quantile is within 1/256 of the recorded value of that rank', () => {
  const fraction = fc.double({ min: 0, max: 1, noNaN: true });
  fc.assert(
    fc.property(fc.array(anyDuration, { minLength: 1 }), fraction, (values, q) => {
      const sorted = [...values].sort((a, b) => a - b);
      const exact = sorted[Math.max(1, Math.ceil(q * values.length - 1e-6)) - 1]!;
      expect(Math.abs(histogramOf(values).quantile(q) - exact)).toBeLessThanOrEqual(exact / 256);
    }),
  );
});

test('two merged histograms are the histogram of both', () => {
  fc.assert(
    fc.property(fc.array(anyDuration), fc.array(anyDuration), (a, b) => {
      const merged = histogramOf(a);
      merged.merge(histogramOf(b));
      const both = histogramOf([...a, ...b]);
      const summary = (h: Histogram) => [h.count, h.min, h.max, h.quantile(0.5), h.quantile(0.99)];
      expect(summary(merged)).toEqual(summary(both));
    }),
  );
});

test('nanoseconds and hours fit one histogram', () => {
  const histogram = histogramOf([1, ms(1), s(3_600)]);
  expect([histogram.quantile(0.3), histogram.max]).toEqual([1, s(3_600)]);
});

test('without values there are no quantiles', () => {
  const { count, mean, min, max } = new Histogram();
  expect([count, mean, min, max]).toEqual([0, Number.NaN, Number.NaN, Number.NaN]);
  expect(new Histogram().quantileUs(0.5)).toBeNaN();
});

test('what is no duration is refused', () => {
  expect(() => new Histogram().record(-1 as Duration)).toThrow('a histogram of -1 ns');
  expect(() => new Histogram().record(Number.NaN as Duration)).toThrow(RangeError);
  expect(() => new Histogram().quantile(99)).toThrow('quantile 99; expected 0 to 1');
});
