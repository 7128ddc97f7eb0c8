import { describe, expect, test } from 'vitest';
import { BranchingRandom } from './branching-random.ts';

/** Every run's result with its probability. */
function runs<T>(work: (random: BranchingRandom) => T): [T, number][] {
  const random = new BranchingRandom();
  const results: [T, number][] = [];
  do results.push([work(random), random.probability]);
  while (random.advance());
  return results;
}

describe('every outcome of random draws', () => {
  test('of two coins', () => {
    const coin = 2 ** 30;
    expect(runs((random) => [random.chance31(coin), random.chance31(coin)])).toEqual([
      [[true, true], 0.25],
      [[true, false], 0.25],
      [[false, true], 0.25],
      [[false, false], 0.25],
    ]);
  });

  test('of a list of three endpoints as kube-proxy writes it: 1/3, then 1/2 of the rest, then the rest', () => {
    const third = Math.round(2 ** 31 / 3);
    const found = runs((random) => (random.chance31(third) ? 'a' : random.chance31(2 ** 30) ? 'b' : 'c'));
    expect(found.map(([endpoint]) => endpoint)).toEqual(['a', 'b', 'c']);
    for (const [, probability] of found) expect(probability).toBeCloseTo(1 / 3, 9);
  });

  test('of a draw among five, of which one draws again', () => {
    const found = runs((random) => {
      const bucket = random.int(5);
      return bucket === 4 ? bucket + random.int(2) : bucket;
    });
    expect(found.map(([result]) => result)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(found.map(([, probability]) => probability)).toEqual([0.2, 0.2, 0.2, 0.2, 0.1, 0.1]);
  });

  test('is one where nothing is left to chance', () => {
    expect(runs((random) => [random.chance31(0), random.chance31(2 ** 31), random.int(1)])).toEqual([
      [[false, true, 0], 1],
    ]);
  });

  test('knows where its draws happened', () => {
    const random = new BranchingRandom();
    let place = 0;
    random.mark = () => place;
    place = 7;
    random.int(2);
    place = 9;
    random.int(2);
    expect(random.draws).toEqual([
      { probability: 0.5, mark: 7 },
      { probability: 0.5, mark: 9 },
    ]);
  });
});
