// Which pods get the first connections of many nodes?
//
// Expectation. In IPVS mode every node has a turn of its own, and all turns begin with the same pod (if endpoints are added in
// the order of their addresses: kubernetes/kubernetes#126378 and the like). So of c connections from each of N nodes to n pods
// the first pod in turn gets N · ⌈c / n⌉, exactly: with one connection per node it gets all of them, and the bias is gone when
// c is a multiple of n, or large. In iptables and nftables mode each connection tosses coins: whatever c is, pods get equal
// shares within the accuracy of counting.

import { chiSquarePValue } from './harness/confidence.ts';
import { echo, experiment, Load, ms, s, us } from './podwire.ts';

const NODES = 60;
const PODS = 6;

export default experiment({
  name: 'first-server-bias',
  question: 'Which pods get the first connections of many nodes?',
  factors: {
    proxy: ['iptables', 'nftables', 'ipvs'],
    connectionsPerNode: [1, 2, 6, 20],
  },
  replications: 5,
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
    return { load, proxy, connectionsPerNode };
  },

  measure({ load, proxy, connectionsPerNode }) {
    const counts = [...load.perServer.values()];
    while (counts.length < PODS) counts.push(0); // pods that nobody asked
    const expected = load.completed / PODS;
    const most = Math.max(...counts);
    const mostByTurns = NODES * Math.ceil(connectionsPerNode / PODS);
    const p = chiSquarePValue(counts.map((observed) => ({ observed, expected })));
    return {
      connections: load.completed,
      maxToMean: most / expected,
      idlePods: counts.filter((count) => count === 0).length,
      chiSquareP: p,
      latencyP99Us: load.latency.quantileUs(0.99),
      failed: load.failed,
      /** 1 if the busiest pod has exactly what the turns give it, or the coins may be fair. */
      asExpected: (proxy === 'ipvs' ? most === mostByTurns : p > 0.001) ? 1 : 0,
    };
  },
});
