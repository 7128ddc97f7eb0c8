import fc from 'fast-check';
import { expect, test } from 'vitest';
import { clusterIpBands, nodePortBands, pickOffset } from './address-bands.ts';

test.each([
  // addresses, given out, static: 1/16 of the range, but 16 to 256
  [16, 14, 0],
  [64, 62, 16],
  [256, 254, 16],
  [4_096, 4_094, 256],
  [1_048_576, 1_048_574, 256],
])('a service range of %i addresses', (addresses, size, staticSize) => {
  expect(clusterIpBands(addresses)).toEqual({ size, staticSize });
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
