// How evenly does kube-proxy's random choice spread the load over the endpoints of a Service?
//
// Expectation: every connection tosses its own coin, so with many short connections each endpoint gets its share, within
// the square root of the count. With kept connections the coin is tossed once per connection: few connections, however
// many requests, leave some endpoints with several and some with none. Of C coins over n endpoints the standard deviation of
// their loads over the mean is sqrt((n - 1) / C). (IPVS deals connections out in turn instead; see first-server-bias.)

import { chiSquarePValue } from './harness/confidence.ts';
import { echo, experiment, Load, meanFinding, ms, near, s, us } from './podwire.ts';

const ENDPOINTS = 10;
const CONNECTIONS = [10, 100, 1_000] as const;
const KINDS = ['new per request', 'kept alive'] as const;

export default experiment({
  name: 'load-distribution',
  question: 'How evenly does the random choice of kube-proxy spread load over the endpoints of a Service?',
  factors: {
    connections: CONNECTIONS,
    connection: KINDS,
  },
  replications: 10,
  warmUp: ms(500),
  duration: s(1),
  divisible: true,

  build({ connections, connection }, cluster) {
    cluster.addNodes(3);
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

  findings: (runs) =>
    KINDS.flatMap((connection) =>
      CONNECTIONS.flatMap((connections) => {
        const cells = runs.at({ connections, connection });
        const coins = connection === 'kept alive' ? connections : (cells[0]?.requests ?? 1);
        const expected = Math.sqrt((ENDPOINTS - 1) / coins);
        const found = cells.map(({ variationCoefficient }) => variationCoefficient);
        const claim = `${connections} connections, ${connection}: standard deviation of loads over their mean`;
        return meanFinding(claim, found, near(expected, { within: 0.35 * expected }));
      }),
    ),

  charts: [{ x: 'connections', y: 'variationCoefficient', by: 'connection' }],
});
