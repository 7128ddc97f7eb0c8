import { expect, test } from 'vitest';
import { chiSquarePValue, meanInterval, pairedDifference, sampleOf, unpairedDifference } from './confidence.ts';

/** `count` values with mean 0 and variance 1: half the width of the interval of their mean is then t / sqrt(count). */
function standardised(count: number): number[] {
  const half = Math.sqrt((count - 1) / count);
  return Array.from({ length: count }, (_, i) => (i % 2 === 0 ? half : -half));
}

// Two-sided 95 % points of Student's t, as printed in any table.
test.each([
  [2, 12.706],
  [6, 2.571],
  [10, 2.262],
  [20, 2.093],
  [30, 2.045],
  [120, 1.98],
])('the interval of %d values uses t = %d', (count, t) => {
  const { mean, halfWidth } = meanInterval(standardised(count));
  expect(mean).toBeCloseTo(0, 12);
  expect(halfWidth! * Math.sqrt(count)).toBeCloseTo(t, 2);
});

test('a single value has a mean and no interval', () => {
  expect(meanInterval([7])).toEqual({ mean: 7, halfWidth: undefined });
});

test('a paired difference does not see what both have in common', () => {
  const pairs = [100, 500, 900].map((before, i) => ({ before, after: before + 10 + i }));
  const { mean, halfWidth } = pairedDifference(pairs);
  expect(mean).toBe(11); // (10 + 11 + 12) / 3
  expect(halfWidth).toBeCloseTo((4.303 * 1) / Math.sqrt(3), 3); // t(2) = 4.303, standard deviation 1
});

test('an unpaired difference is that of Welch', () => {
  // Welch-Satterthwaite by hand: a = 4/10, b = 9/10, (a + b)^2 / (a^2/9 + b^2/9) = 1.69 / 0.1078 = 15.68; t = 2.124.
  const before = { mean: 20, variance: 4, count: 10 };
  const after = { mean: 22, variance: 9, count: 10 };
  const { mean, halfWidth } = unpairedDifference(before, after);
  expect(mean).toBe(2);
  expect(halfWidth).toBeCloseTo(2.124 * Math.sqrt(1.3), 2);
});

test('samples without spread differ for certain, single values perhaps', () => {
  expect(unpairedDifference(sampleOf([3, 3]), sampleOf([4, 4]))).toEqual({ mean: 1, halfWidth: 0 });
  expect(unpairedDifference(sampleOf([3]), sampleOf([4, 4]))).toEqual({ mean: 1, halfWidth: undefined });
});

// Upper 5 % points of chi-square: 3.841 with 1 degree of freedom, 9.488 with 4, 16.919 with 9.
test.each([
  [2, 3.841],
  [5, 9.488],
  [10, 16.919],
])('the chi-square test of %d classes has its 5 %% point at %d', (classes, statistic) => {
  const expected = 100;
  const deviation = Math.sqrt((statistic * expected) / classes);
  const counts = Array.from({ length: classes }, (_, i) => ({
    observed: expected + (i % 2 === 0 ? deviation : -deviation),
    expected,
  }));
  expect(chiSquarePValue(counts)).toBeCloseTo(0.05, 4);
});

test('counts as expected are no surprise, one class is no test', () => {
  expect(
    chiSquarePValue([
      { observed: 50, expected: 50 },
      { observed: 50, expected: 50 },
    ]),
  ).toBe(1);
  expect(() => chiSquarePValue([{ observed: 5, expected: 5 }])).toThrow('1 classes; expected at least 2');
});
