import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LabelIndex, matchesLabels, matchesSelector } from './label-index.ts';
import type { LabelSelector, Labels } from './objects.ts';

describe('a selector matches', () => {
  const selector = (expression: Partial<LabelSelector['matchExpressions'][number]>): LabelSelector => ({
    matchLabels: { app: 'web' },
    matchExpressions: [{ key: 'tier', operator: 'Exists', values: [], ...expression }],
  });
  test.each<[Partial<LabelSelector['matchExpressions'][number]>, Labels, boolean]>([
    [{ operator: 'In', values: ['a', 'b'] }, { app: 'web', tier: 'b' }, true],
    [{ operator: 'In', values: ['a', 'b'] }, { app: 'web' }, false],
    [{ operator: 'NotIn', values: ['a'] }, { app: 'web' }, true],
    [{ operator: 'NotIn', values: ['a'] }, { app: 'web', tier: 'a' }, false],
    [{ operator: 'Exists' }, { app: 'web', tier: '' }, true],
    [{ operator: 'DoesNotExist' }, { app: 'web', tier: '' }, false],
    [{ operator: 'Exists' }, { app: 'api', tier: 'a' }, false],
  ])('%j on %j: %s', (expression, labels, expected) => {
    expect(matchesSelector(selector(expression), labels)).toBe(expected);
  });
});

test('the index selects what asking every item selects', () => {
  const labels = fc.dictionary(fc.constantFrom('a', 'b', 'c'), fc.constantFrom('1', '2'));
  const items = fc.array(fc.record({ namespace: fc.constantFrom('x', 'y'), labels, kept: fc.boolean() }));
  fc.assert(
    fc.property(items, labels, (all, selector) => {
      fc.pre(Object.keys(selector).length > 0);
      const index = new LabelIndex<object>();
      for (const item of all) index.add(item.namespace, item.labels, item);
      for (const item of all) if (!item.kept) index.delete(item.namespace, item.labels, item);
      const expected = all.filter(
        (item) => item.kept && item.namespace === 'x' && matchesLabels(selector, item.labels),
      );
      expect(index.select('x', selector)).toEqual(expected);
    }),
  );
});

test('objects of two namespaces may share their labels', () => {
  const index = new LabelIndex<string>();
  const labels = { app: 'web' };
  for (const namespace of ['x', 'y']) index.add(namespace, labels, namespace);
  expect(index.select('x', labels)).toEqual(['x']);
  expect(index.select('y', labels)).toEqual(['y']);
});
