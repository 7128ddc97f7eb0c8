import fc from 'fast-check';
import { expect, test } from 'vitest';
import { anyPolicies, clusterOf } from './cluster-policies.fixture.ts';
import { judgeReachability, partiesOf, ReachabilitySampler } from './cluster-reachability.ts';

const anyPort = fc.record({
  protocol: fc.constantFrom('TCP' as const, 'UDP' as const, 'SCTP' as const),
  port: fc.constantFrom(80, 81),
});

test('packets get through exactly where the evaluator says so', () => {
  fc.assert(
    fc.property(anyPolicies, anyPort, (policies, port) => {
      const cluster = clusterOf(policies);
      cluster.start();
      for (const family of cluster.ipFamilies) {
        const parties = partiesOf(cluster, family);
        const connection = { ...port, family };
        const judged = judgeReachability(cluster, parties, connection);
        const sampled = new ReachabilitySampler(cluster).sample(parties, connection);
        expect(sampled).toEqual(judged.map((row) => row.map(({ isAllowed }) => isAllowed)));
      }
      cluster.assertConserved();
    }),
    { numRuns: 2_000 },
  );
}, 300_000);
