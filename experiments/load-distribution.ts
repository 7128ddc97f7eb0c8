// How evenly does kube-proxy spread the load over the endpoints of a Service?
//
// Expectation: every connection tosses its own coin, so with many short connections each endpoint gets its share, within
// the square root of the count. With kept connections the coin is tossed once per connection: few connections, however
// many requests, leave some endpoints with several and some with none. IPVS deals connections out in turn: from one node
// every endpoint gets as many as any other, give or take one.
//
// Latency is no part of the question. Users think for a fixed time, so where nothing is left to chance (IPVS) a few users who
// once meet at an endpoint meet there again each time, and the 99th percentile is theirs.

import { chiSquarePValue } from './harness/confidence.ts';
import { echo, experiment, Load, ms, s, us } from './podwire.ts';

const ENDPOINTS = 10;

export default experiment({
  name: 'load-distribution',
  question: 'How evenly does kube-proxy spread load over the endpoints of a Service?',
  factors: {
    proxy: ['iptables', 'nftables', 'ipvs', 'ebpf'],
    connections: [10, 100, 1_000],
    connection: ['new per request', 'kept alive'],
  },
  replications: 10,
  warmUp: ms(500),
  duration: s(1),

  build({ proxy, connections, connection }, cluster) {
    cluster.addNodes(3, { proxy });
    const web = cluster.addDeployment({ name: 'web', replicas: ENDPOINTS, server: echo({ serviceTime: us(50) }) });
    cluster.addService({ name: 'web', port: 80, selects: web });
    const client = cluster.addPod({ name: 'client', node: 'node-1' });
    // As many requests per second in all variants: 1,000.
    const load = new Load();
    cluster.closedLoop(client, {
      to: cluster.resolve('web:80'),
      users: connections,
      thinkTime: ms(connections),
      keepAlive: connection === 'kept alive',
      load,
    });
    return load;
  },

  measure(load) {
    const counts = [...load.perServer.values()];
    while (counts.length < ENDPOINTS) counts.push(0); // endpoints that nobody asked
    const expected = load.completed / ENDPOINTS;
    const squares = counts.reduce((sum, count) => sum + (count - expected) ** 2, 0);
    return {
      requests: load.completed,
      maxToMean: Math.max(...counts) / expected,
      idleEndpoints: counts.filter((count) => count === 0).length,
      /** Standard deviation over mean: 0 is perfectly even. */
      variationCoefficient: Math.sqrt(squares / ENDPOINTS) / expected,
      chiSquareP: chiSquarePValue(counts.map((observed) => ({ observed, expected }))),
      latencyP99Us: load.latency.quantileUs(0.99),
      failed: load.failed,
    };
  },
});
