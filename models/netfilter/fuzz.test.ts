// Whatever is given as a dump ends in tables or in one RuleTextError that names a line, and soon.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { IpSets } from './ipset/ip-sets.ts';
import { restoreIpsets } from './ipset/ipset-text.ts';
import { parseIptablesSave } from './iptables-save.ts';
import { RuleTextError } from './words.ts';

const read = (file: string): string => readFileSync(join(import.meta.dirname, 'testdata', file), 'utf8');
const DUMPS = ['every-option.rules', 'every-option6.rules', 'kube-proxy.saved.rules', 'spellings.rules'].map(read);
const SETS = read('sets.ipset');

function expectTextError(parse: () => void): void {
  try {
    parse();
  } catch (error) {
    expect(error).toBeInstanceOf(RuleTextError);
    expect((error as Error).message).toMatch(/^\S+:\d+: ./);
  }
}

const parseBoth = (text: string): void => {
  for (const lenient of [false, true]) expectTextError(() => parseIptablesSave(text, { fileName: 'dump', lenient }));
  expectTextError(() => restoreIpsets(new IpSets(), text, { fileName: 'dump' }));
};

test('random bytes', () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
  );
  fc.assert(fc.property(text, parseBoth), { numRuns: 1_000 });
});

/** A dump in which words were exchanged, doubled, left out, or have lost or gained characters. */
const mutated = (dumps: readonly string[]): fc.Arbitrary<string> =>
  fc
    .record({
      dump: fc.constantFrom(...dumps),
      changes: fc.array(
        fc.record({
          at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
          from: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
          how: fc.constantFrom('exchange', 'double', 'remove', 'cut', 'append'),
          character: fc.string({ minLength: 1, maxLength: 2 }),
        }),
        { minLength: 1, maxLength: 4 },
      ),
    })
    .map(({ dump, changes }) => {
      const parts = dump.split(/(\s)/);
      for (const { at, from, how, character } of changes) {
        const i = Math.floor(at * parts.length);
        const other = parts[Math.floor(from * parts.length)]!;
        if (how === 'exchange') parts[i] = other;
        else if (how === 'double') parts.splice(i, 0, parts[i]!, ' ');
        else if (how === 'remove') parts.splice(i, 1);
        else if (how === 'cut') parts[i] = parts[i]!.slice(0, -1);
        else parts[i] += character;
      }
      return parts.join('');
    });

test('dumps with mistakes', () => {
  fc.assert(fc.property(mutated(DUMPS), parseBoth), { numRuns: 600 });
});

test('sets with mistakes', () => {
  fc.assert(
    fc.property(mutated([SETS]), (text) => expectTextError(() => restoreIpsets(new IpSets(), text))),
    { numRuns: 1_000 },
  );
});
