import { describe, expect, test } from 'vitest';
import {
  atLeast,
  atMost,
  describeFinding,
  exactly,
  MeasuredRuns,
  meanFinding,
  near,
  shareFinding,
  verdictOf,
} from './expectation.ts';

describe('a mean', () => {
  // Student's t for 2 degrees of freedom is 4.303: 10 ± 4.303 × 1 / sqrt(3) = 7.516 to 12.484.
  const found = [9, 10, 11];

  test.each([
    [near(10, { within: 3 }), 'as expected'],
    [atMost(12.5), 'as expected'],
    [atLeast(7.5), 'as expected'],
    [near(10, { within: 1 }), 'unclear'],
    [near(12.5, { within: 1 }), 'unclear'],
    [exactly(13), 'differs'],
    [atMost(7), 'differs'],
  ])('of 10 with the interval 7.5 to 12.5, expected %o: %s', (expected, verdict) => {
    const [finding] = meanFinding('something', found, expected);
    expect(verdictOf(finding!)).toBe(verdict);
  });

  test('of one value has no interval to judge by', () => {
    const [finding] = meanFinding('something', [10], exactly(10));
    expect(describeFinding(finding!)).toBe('unclear: something: 10 (one value, no interval), expected 10');
  });

  test('of nothing is no finding', () => {
    expect(meanFinding('something', [], exactly(10))).toEqual([]);
  });
});

test('the line says by how much it differs', () => {
  const lines = [exactly(13), atMost(7), near(10, { within: 3 })].flatMap((expected) =>
    meanFinding('latency (us)', [9, 10, 11], expected).map(describeFinding),
  );
  expect(lines).toEqual([
    'differs: latency (us): 10 (95 % interval 7.516 to 12.48), expected 13; too low by 3',
    'differs: latency (us): 10 (95 % interval 7.516 to 12.48), expected at most 7; too high by 3',
    'as expected: latency (us): 10 (95 % interval 7.516 to 12.48), expected 7 to 13',
  ]);
});

// Clopper and Pearson's table: 5 of 10 is 0.1871 to 0.8129; none of 100 is at most 0.0362.
test.each([
  [{ successes: 5, trials: 10 }, 0.1871, 0.8129],
  [{ successes: 0, trials: 100 }, 0, 0.0362],
  [{ successes: 100, trials: 100 }, 0.9638, 1],
])('the share %o is %d to %d', (share, from, to) => {
  const [finding] = shareFinding('share', share, exactly(0));
  expect(finding!.found.interval!.from).toBeCloseTo(from, 4);
  expect(finding!.found.interval!.to).toBeCloseTo(to, 4);
});

test('runs are looked up by level, and paired by replication', () => {
  const runs = new MeasuredRuns<{ size: readonly number[]; kind: readonly string[] }, { found: number }>([
    { levels: { size: 1, kind: 'a' }, measures: { found: 10 } },
    { levels: { size: 1, kind: 'a' }, measures: { found: 20 } },
    { levels: { size: 2, kind: 'a' }, measures: { found: 11 } },
    { levels: { size: 2, kind: 'a' }, measures: { found: 22 } },
    { levels: { size: 2, kind: 'b' }, measures: { found: 33 } },
  ]);
  expect(runs.at({ kind: 'b' })).toEqual([{ found: 33 }]);
  expect(runs.pairs({ size: 1 }, { size: 2, kind: 'a' }, (one, two) => two.found - one.found)).toEqual([1, 2]);
  expect(runs.pairs({ size: 3 }, { size: 1 }, () => 0)).toEqual([]);
});
