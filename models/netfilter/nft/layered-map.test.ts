import fc from 'fast-check';
import { expect, test } from 'vitest';
import { INET_PROTO, INET_SERVICE } from './datatype.ts';
import { elementLookup, keyTextOf, setOfElements } from './element-index.ts';
import { withChanges } from './layered-map.ts';
import type { NftSet, SetElement } from './syntax.ts';

const element = (protocol: number, port: number, chain: string): SetElement => ({
  key: [
    { first: protocol, last: protocol },
    { first: port, last: port },
  ],
  data: { kind: 'verdict', verdict: { code: 'goto', chain } },
});

const spec: Omit<NftSet, 'elements'> = {
  name: 'services',
  keyTypes: [INET_PROTO, INET_SERVICE],
  data: { kind: 'verdict' },
  flags: [],
  handle: 1,
};

const anyChange = fc.record({
  protocol: fc.constantFrom(6, 17),
  port: fc.integer({ min: 0, max: 12 }),
  chain: fc.option(fc.constantFrom('a', 'b'), { nil: undefined }),
});

test('after any changes a layered Map, and a set made of it, have what a Map has that was changed alike', () => {
  fc.assert(
    fc.property(fc.array(fc.array(anyChange, { maxLength: 5 }), { maxLength: 8 }), (rounds) => {
      let layered: ReadonlyMap<string, SetElement> = new Map();
      const plain = new Map<string, SetElement>();
      for (const round of rounds) {
        const changes = new Map<string, SetElement | undefined>();
        for (const { protocol, port, chain } of round) {
          const entry = element(protocol, port, chain ?? '');
          changes.set(keyTextOf(entry), chain === undefined ? undefined : entry);
        }
        for (const [key, value] of changes) value === undefined ? plain.delete(key) : plain.set(key, value);
        layered = withChanges(layered, changes);
      }
      const byKey = (entries: Iterable<[string, SetElement]>) => [...entries].sort(([a], [b]) => (a < b ? -1 : 1));
      expect(byKey(layered)).toEqual(byKey(plain));
      expect(layered.size).toBe(plain.size);
      const [set, twin] = [setOfElements(spec, layered), setOfElements(spec, plain)];
      expect(set.elements).toEqual(twin.elements);
      expect(elementLookup(set).size).toBe(plain.size);
      for (const protocol of [6, 17]) {
        for (let port = 0; port <= 12; port++) {
          const key = [protocol, port];
          expect(layered.has(key.join(' '))).toBe(plain.has(key.join(' ')));
          expect(elementLookup(set).find(key)).toBe(elementLookup({ ...twin }).find(key));
        }
      }
    }),
  );
});
