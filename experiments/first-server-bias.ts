// Which pods get the first connections of many nodes?
//
// Expectation. In IPVS mode every node has a turn of its own, and all turns begin with the same pod (if endpoints are added in
// the order of their addresses: kubernetes/kubernetes#126378 and the like). So of c connections from each of N nodes to n pods
// the first pod in turn gets N · ⌈c / n⌉, exactly: with one connection per node it gets all of them, and the bias is gone when
// c is a multiple of n, or large. In iptables and nftables mode each connection tosses coins: whatever c is, pods get equal
// shares within the accuracy of counting.

import { chiSquarePValue } from './harness/confidence.ts';
import { atMost, echo, exactly, experiment, Load, meanFinding, ms, s, us } from './podwire.ts';

const NODES = 60;
const PODS = 6;

const MODES = ['iptables', 'nftables', 'ipvs'] as const;
const CONNECTIONS_PER_NODE = [1, 2, 6, 20] as const;

export default experiment({
  name: 'first-server-bias',
  question: 'Which pods get the first connections of many nodes?',
  factors: { proxy: MODES, connectionsPerNode: CONNECTIONS_PER_NODE },
  replications: 20,
  warmUp: ms(0),
  duration: s(3),
  divisible: true,

  build({ proxy, connectionsPerNode }, cluster) {
    cluster.addNodes(NODES, { proxy });
    const web = cluster.addDeployment({ name: 'web', replicas: PODS, server: echo({ serviceTime: us(50) }) });
    cluster.addService({ name: 'web', port: 80, selects: web });
    const load = new Load();
    for (const { process } of cluster.nodes)
      cluster.closedLoop(process, {
        to: cluster.resolve('web:80'),
        requests: connectionsPerNode,
        thinkTime: ms(20),
        load,
      });
    return load;
  },

  measure(load) {
    const counts = [...load.perServer.values()];
    while (counts.length < PODS) counts.push(0); // pods that nobody asked
    const expected = load.completed / PODS;
    return {
      connections: load.completed,
      most: Math.max(...counts),
      maxToMean: Math.max(...counts) / expected,
      idlePods: counts.filter((count) => count === 0).length,
      chiSquare: counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0),
      chiSquareP: chiSquarePValue(counts.map((observed) => ({ observed, expected }))),
      latencyP99Us: load.latency.quantileUs(0.99),
      failed: load.failed,
    };
  },

  findings: (runs) =>
    MODES.flatMap((proxy) =>
      CONNECTIONS_PER_NODE.flatMap((connectionsPerNode) => {
        const cells = runs.at({ proxy, connectionsPerNode });
        const where = `${proxy}, ${connectionsPerNode} per node`;
        if (proxy === 'ipvs')
          return meanFinding(
            `${where}: connections of the busiest pod`,
            cells.map(({ most }) => most),
            exactly(NODES * Math.ceil(connectionsPerNode / PODS)),
          );
        return meanFinding(
          `${where}: chi-square over its degrees of freedom`,
          cells.map(({ chiSquare }) => chiSquare / (PODS - 1)),
          atMost(2),
        );
      }),
    ),
});
