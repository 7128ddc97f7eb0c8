import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Tally } from './tally.ts';

const tallyOf = (observations: number[]): Tally => {
  const tally = new Tally();
  for (const observation of observations) tally.record(observation);
  return tally;
};

test('mean, variance and extremes of a small sample', () => {
  const tally = tallyOf([2, 4, 4, 4, 5, 5, 7, 9]); // squared deviations from 5: 9 + 3 + 0 + 4 + 16 = 32
  expect([tally.count, tally.mean, tally.min, tally.max]).toEqual([8, 5, 2, 9]);
  expect(tally.variance).toBeCloseTo(32 / 7, 12);
  expect(tally.standardDeviation).toBeCloseTo(Math.sqrt(32 / 7), 12);
});

test('a large mean does not drown a small variance', () => {
  expect(tallyOf([1e9 + 1, 1e9 + 2, 1e9 + 3]).variance).toBeCloseTo(1, 6);
});

test('the running mean is the mean', () => {
  const observation = fc.double({ min: -1e6, max: 1e6, noNaN: true });
  fc.assert(
    fc.property(fc.array(observation, { minLength: 1 }), (observations) => {
      const sum = observations.reduce((total, value) => total + value, 0);
      expect(tallyOf(observations).mean).toBeCloseTo(sum / observations.length, 4);
    }),
  );
});

test('what was not observed is not a number', () => {
  const { mean, variance, min, max } = new Tally();
  expect([mean, variance, min, max]).toEqual([Number.NaN, Number.NaN, Number.NaN, Number.NaN]);
  expect(tallyOf([3]).variance).toBeNaN();
  expect(() => tallyOf([Number.NaN])).toThrow('a tally of NaN');
});
