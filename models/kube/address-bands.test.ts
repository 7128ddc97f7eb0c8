import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseAnyPrefix } from '../packet/ip-address.ts';
import { clusterIpBands, nodePortBands, pickOffset } from './address-bands.ts';

test.each([
  // range, addresses given out, static: 1/16 of the range, but 16 to 256
  ['10.96.0.0/28', 14, 0],
  ['10.96.0.0/26', 62, 16],
  ['10.96.0.0/24', 254, 16],
  ['10.96.0.0/20', 4_094, 256],
  ['10.96.0.0/12', 1_048_574, 256],
  ['10.96.0.1/32', 0, 0],
  ['fd00:10:96::/124', 15, 0], // IPv6 has no broadcast address
  ['fd00:10:96::/112', 65_535, 256],
])('a service range of %s', (text, size, staticSize) => {
  const range = parseAnyPrefix(text);
  expect(clusterIpBands(range)).toEqual({ size, staticSize });
});

test('of the 2768 node ports the first 86 are static: 2768 / 32 = 86.5', () => {
  expect(nodePortBands(2_768)).toEqual({ size: 2_768, staticSize: 86 });
});

test('every offset is given once, all of the dynamic band before any of the static one', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 60 }), fc.nat(70), fc.infiniteStream(fc.nat()), (size, staticSize, draws) => {
      const taken = new Set<number>();
      const given: number[] = [];
      const draw = (choices: number) => (draws.next().value as number) % choices;
      for (;;) {
        const offset = pickOffset({ size, staticSize }, draw, (candidate) => taken.has(candidate));
        if (offset === undefined) break;
        taken.add(offset);
        given.push(offset);
      }
      expect(given.toSorted((a, b) => a - b)).toEqual(Array.from({ length: size }, (_, i) => i));
      const firstStatic = given.findIndex((offset) => offset < staticSize);
      if (firstStatic >= 0) expect(given.slice(firstStatic).every((offset) => offset < staticSize)).toBe(true);
    }),
  );
});
