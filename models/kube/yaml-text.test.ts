import { describe, expect, test } from 'vitest';
import { readYaml, YAML_LIMITS } from './yaml-text.ts';

const read = (text: string) => [...readYaml('shop.yaml', text)];
const values = (text: string) => read(text).map(({ value }) => value);

test('documents are numbered as they stand between the lines of dashes, empty ones too', () => {
  expect(read('# the shop\nkind: A\n---\n---\nkind: B\n')).toEqual([
    { number: 1, value: { kind: 'A' } },
    { number: 2, value: undefined },
    { number: 3, value: { kind: 'B' } },
  ]);
});

test('JSON is read too, and flow maps that are not quite JSON', () => {
  expect(values('{"kind": "A", "items": [1]}')).toEqual([{ kind: 'A', items: [1] }]);
  expect(values('{kind: A, items: [1]}')).toEqual([{ kind: 'A', items: [1] }]);
});

test('a null field is an absent field, but a null in a list stays to be complained about', () => {
  expect(values('labels:\ncreationTimestamp: null\nlist: [null]\n')).toEqual([{ list: [null] }]);
});

test('merge keys and a handful of aliases work', () => {
  expect(values('a: &a {x: 1}\nb: {<<: *a, y: 2}\n')).toEqual([{ a: { x: 1 }, b: { x: 1, y: 2 } }]);
});

describe('an error is one line that says where', () => {
  test.each([
    ['a: 1\n---\na: b: c\n', /^shop\.yaml:3:4: not YAML: /],
    ['a:\n\t- b\n', 'shop.yaml:2:1: not YAML: Tabs are not allowed as indentation'],
    ['a: 1\nb: 2\na: 3\n', 'shop.yaml:3:1: key "a" stands twice in one map'],
    ['a: *x\n', /^shop\.yaml: document 1: Unresolved alias/],
    ['{"a": 1', /^shop\.yaml:1:8: not YAML: /],
  ])('%j', (text, message) => {
    expect(() => read(text)).toThrow(message);
    expect(() => read(text)).not.toThrow('\n');
  });
});

describe('what would fill the memory ends in an error', () => {
  const nineTimes = (name: string) => Array(9).fill(`*${name}`).join(', ');
  const laughs = [...'bcdefghi']
    .map((name, i) => `${name}: &${name} [${nineTimes('abcdefgh'[i] as string)}]`)
    .join('\n');

  test.each([
    [
      'a billion laughs',
      `a: &a [ha]\n${laughs}\n`,
      'shop.yaml: document 1: an anchor stands for more than 100 aliases',
    ],
    ['deep lists', '['.repeat(100_000), 'shop.yaml:1: nested deeper than 200 levels'],
    ['deep blocks', '- '.repeat(1_000), 'shop.yaml:1: nested deeper than 200 levels'],
    ['deep JSON', `${'['.repeat(1_000)}${']'.repeat(1_000)}`, 'shop.yaml: document 1: nested deeper than 200 levels'],
    ['a file of 100 MB', ' '.repeat(100e6), 'shop.yaml: 100 MB of text; expected at most 64 MB'],
  ])('%s', (_, text, message) => {
    expect(() => read(text)).toThrow(message);
  });

  test('one wide map under a hundred aliases', () => {
    const limits = { ...YAML_LIMITS, valuesPerDocument: 5_000 };
    const text = `a: &a ${wideMap(100)}\nb:\n${'- *a\n'.repeat(99)}`; // 100 + 99 x 100 values
    expect(() => [...readYaml('shop.yaml', text, limits)]).toThrow('shop.yaml: document 1: more than 5000 values');
  });

  test('a document of many small tokens, however many documents a file may have', () => {
    const limits = { ...YAML_LIMITS, tokensPerDocument: 1_000 };
    const problem = /^shop\.yaml:\d+: the document has over 1000 tokens; split it, or use JSON/;
    expect(() => [...readYaml('shop.yaml', '- 1\n'.repeat(1_000), limits)]).toThrow(problem);
    expect([...readYaml('shop.yaml', '---\n- 1\n'.repeat(1_000), limits)]).toHaveLength(1_000);
  });

  test('but not a map of many keys', () => {
    expect(values(wideMap(20_000))).toHaveLength(1);
  });
});

const wideMap = (keys: number) => `{${Array.from({ length: keys }, (_, i) => `k${i}: 1`).join()}}`;
