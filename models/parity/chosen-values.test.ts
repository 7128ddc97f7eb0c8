import { expect, test } from 'vitest';
import { ChosenValues, valuesOf } from './chosen-values.ts';

test('numbers that a case gives keep their value, also where an initial one is near by chance', () => {
  const chosen = new ChosenValues(valuesOf({ topology: { nodes: [] }, packets: [] }));
  const initial = 2 ** 32 - 400;
  expect(chosen.sequence(initial, { isInitial: true })).toBe('initial 1 + 0');
  expect(chosen.sequence(initial + 10, { isInitial: false })).toBe('initial 1 + 10');
  expect(chosen.sequence(0, { isInitial: false })).toBe('0');
  expect(chosen.sequence(50, { isInitial: false })).toBe('initial 1 + 450'); // it has wrapped
  expect(chosen.sequence(1_000_000, { isInitial: false })).toBe('1000000');
});
