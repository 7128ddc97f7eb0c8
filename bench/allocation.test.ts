import { describe, expect, test } from 'vitest';
import { allocationOf, run } from './allocation.bench.ts';
import type { BenchRow } from './report.ts';

/** Reachable, so that no compiler leaves it out. */
let latest: unknown;

const OPERATIONS = 1_000;

const repeating = (operation: () => unknown) => (): number => {
  for (let i = 0; i < OPERATIONS; i++) latest = operation();
  return OPERATIONS;
};

describe('what an operation allocates', () => {
  test('is told to a few bytes', async () => {
    // An array of 64 elements of 8 bytes (4 with pointers compressed), with the headers of two objects.
    const { bytesPerOperation } = await allocationOf(
      repeating(() => new Array(64)),
      50,
    );
    expect(bytesPerOperation).toBeGreaterThan(64 * 4);
    expect(bytesPerOperation).toBeLessThan(64 * 8 + 100);
    const twice = await allocationOf(
      repeating(() => [new Array(64), new Array(64)]),
      50,
    );
    expect(twice.bytesPerOperation).toBeGreaterThan(1.9 * bytesPerOperation);
  });

  test('is nothing where there is nothing to allocate', async () => {
    const { bytesPerOperation, collectionsPerMillion } = await allocationOf(
      repeating(() => latest),
      50,
    );
    expect(bytesPerOperation).toBeLessThan(5); // what asking for the size of the heap takes
    expect(collectionsPerMillion).toBe(0);
  });

  test('is collected', async () => {
    const slice = repeating(() => new Array(1_000).fill(0));
    expect((await allocationOf(slice, 50)).collectionsPerMillion).toBeGreaterThan(50); // 8 GB per million
  });
});

test('the allocation bench runs and tells bytes and collections of each cluster', async () => {
  const rows: BenchRow[] = [];
  await run({ add: (row) => rows.push(row) }, { sizes: [{ nodes: 2, podsPerNode: 4 }], slices: 20 });
  expect(rows.map(({ case: name, unit }) => `${name}: ${unit}`)).toEqual([
    '2 nodes x 4 pods: bytes/packet',
    '2 nodes x 4 pods: collections/million packets',
  ]);
  expect(rows[0]!.value).toBeLessThan(1_000);
});
