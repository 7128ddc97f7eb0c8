import { expect, test } from 'vitest';
import { NumberTable } from './number-table.ts';

test('numbers stay where they are when the table grows, and new ones are zero', () => {
  const table = new NumberTable();
  const places = Array.from({ length: 900 }, (_, i) => {
    const count = 1 + (i % 7);
    const first = table.add(count);
    for (let j = 0; j < count; j++) {
      expect(table.values[first + j]).toBe(0);
      table.values[first + j] = 2 ** 40 + 10 * i + j;
    }
    return { first, count };
  });
  for (const [i, { first, count }] of places.entries())
    for (let j = 0; j < count; j++) expect(table.values[first + j]).toBe(2 ** 40 + 10 * i + j);
  expect(table.add(100_000)).toBe(places.reduce((sum, { count }) => sum + count, 0));
  expect(table.values.length).toBeGreaterThan(100_000);
});
