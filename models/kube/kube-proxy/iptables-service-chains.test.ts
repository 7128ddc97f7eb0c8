import fc from 'fast-check';
import { expect, test } from 'vitest';
import { shareOf } from './iptables-service-chains.ts';

test('the chances 1/n, 1/(n-1), ... 1 give each of n endpoints the same share', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1_000 }), (endpoints) => {
      let reached = 1;
      for (let left = endpoints; left > 0; left--) {
        expect(reached * shareOf(left)).toBeCloseTo(1 / endpoints, 6);
        reached *= 1 - shareOf(left);
      }
    }),
    { numRuns: 50 },
  );
});
