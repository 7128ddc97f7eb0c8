// The table of facts in the README and the tests agree.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { PACKAGE_ROOT } from '../../../experiments/harness/package.ts';
import { FACTS } from './facts.ts';

const read = (path: string): string => readFileSync(join(PACKAGE_ROOT, path), 'utf8');

/** The last column of the table. */
const places = read('models/parity/README.md')
  .split('\n')
  .filter((line) => line.startsWith('| ') && !line.startsWith('| what Linux does'))
  .map((line) => line.split(' | ')[1]!.replace(/\|$/, '').trim());

const named = new Set(places.flatMap((place) => [...place.matchAll(/`([a-z0-9-]+\*?)`/g)].map(([, name]) => name!)));
const elsewhere = places.flatMap((place) => [...place.matchAll(/`(models\/[^`]+)`: ([^;]+?)(?:; |$)/g)]);

/** A fact with iptables-nft stands in the row of the one with iptables-legacy. */
const isNamed = (name: string): boolean =>
  named.has(name.replace(/-nft$/, '')) ||
  [...named].some((known) => known.endsWith('*') && name.startsWith(known.slice(0, -1)));

test('every fact has a row', () => {
  expect(FACTS.map(({ name }) => name).filter((name) => !isNamed(name))).toEqual([]);
});

test('every name in the table is a fact', () => {
  const names = FACTS.map(({ name }) => name);
  const isKnown = (name: string): boolean =>
    name.endsWith('*') ? names.some((known) => known.startsWith(name.slice(0, -1))) : names.includes(name);
  expect([...named].filter((name) => !isKnown(name))).toEqual([]);
});

test('every test that the table points to is there', () => {
  expect(elsewhere.length).toBeGreaterThan(5);
  expect(
    elsewhere.map(([, file, title]) => ({ file, title })).filter(({ file, title }) => !read(file!).includes(title!)),
  ).toEqual([]);
});
