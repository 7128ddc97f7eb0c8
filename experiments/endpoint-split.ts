// Does each of seven endpoints get its share of a hundred thousand connections?
//
// Expectation. In iptables mode the i-th of n endpoints is taken with probability 1 / (n - i + 1) of what the ones before it have
// left; in nftables mode one number of n is drawn; both give every endpoint 1 / n, so that chi-square over its n - 1 degrees of
// freedom is near 1. IPVS deals connections out in turn: of a multiple of n every endpoint gets exactly the same, if they
// come to one node (each has a turn of its own: see first-server-bias).

import { chiSquarePValue } from './harness/confidence.ts';
import { atMost, echo, exactly, experiment, Load, meanFinding, ms, s, us } from './podwire.ts';

const ENDPOINTS = 7;
const CLIENTS = 7;
/** A client has 28,232 ports, each of which waits for a minute after its connection. */
const CONNECTIONS_PER_CLIENT = 14_286;
const MODES = ['iptables', 'nftables', 'ipvs'] as const;

export default experiment({
  name: 'endpoint-split',
  question: 'Does each of seven endpoints get its share of a hundred thousand connections?',
  factors: { proxy: MODES },
  replications: 5,
  warmUp: ms(0),
  duration: s(30),

  build({ proxy }, cluster) {
    cluster.addNodes(2, { proxy });
    const web = cluster.addDeployment({ name: 'web', replicas: ENDPOINTS, server: echo({ serviceTime: us(10) }) });
    cluster.addService({ name: 'web', port: 80, selects: web });
    const load = new Load();
    for (let i = 1; i <= CLIENTS; i++)
      cluster.closedLoop(cluster.addPod({ name: `client-${i}`, node: 'node-1' }), {
        to: cluster.resolve('web:80'),
        requests: CONNECTIONS_PER_CLIENT,
        users: 10,
        thinkTime: ms(15),
        load,
      });
    return load;
  },

  measure(load) {
    const counts = [...load.perServer.values()];
    while (counts.length < ENDPOINTS) counts.push(0); // endpoints that nobody asked
    const expected = load.completed / ENDPOINTS;
    return {
      connections: load.completed,
      fewest: Math.min(...counts),
      most: Math.max(...counts),
      chiSquare: counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0),
      chiSquareP: chiSquarePValue(counts.map((observed) => ({ observed, expected }))),
      failed: load.failed,
    };
  },

  findings: (runs) =>
    MODES.flatMap((proxy) => {
      const cells = runs.at({ proxy });
      if (proxy === 'ipvs')
        return meanFinding(
          'ipvs: connections of the busiest endpoint beyond those of the idlest',
          cells.map(({ fewest, most }) => most - fewest),
          exactly(0),
        );
      // With two seventeenths of the connections in the wrong place it would be beyond 20.
      return meanFinding(
        `${proxy}: chi-square over its degrees of freedom`,
        cells.map(({ chiSquare }) => chiSquare / (ENDPOINTS - 1)),
        atMost(2.5),
      );
    }),
});
