import { expect, expectTypeOf, test } from 'vitest';
import { type Cluster, experiment, ms } from './podwire.ts';

test('an experiment runs on a cluster, and the same seed gives the same run', () => {
  const nodes = experiment({
    name: 'nodes',
    factors: { nodes: [1, 3] },
    replications: 1,
    warmUp: ms(1),
    duration: ms(2),
    build({ nodes }, cluster) {
      expectTypeOf(cluster).toEqualTypeOf<Cluster>();
      cluster.addNodes(nodes);
      cluster.addDeployment({ name: 'web', replicas: 2 });
    },
    measure: (_, cluster) => ({ nodes: cluster.nodes.length, pods: cluster.pods.length, nowMs: cluster.sim.now / 1e6 }),
  });
  const run = nodes.run({ nodes: 3 }, '1/1');
  expect(run.measures).toEqual({ nodes: 3, pods: 2, nowMs: 3 });
  expect(run).toEqual(nodes.run({ nodes: 3 }, '1/1'));
});
