// How does the number of Services change the latency of a request to one of them?
//
// Expectation: kube-proxy's KUBE-SERVICES chain is a list, so a new connection pays for every rule before its own; on
// average half of them. So does the node of the pod that is chosen, where no rule matches any more: all of them, for two thirds
// of the connections on three nodes. A kept connection does not: conntrack knows it. In nftables mode Services are found in a map, so
// their number makes no difference that one would notice (KEP-3866).

import { atMost, echo, experiment, Load, meanFinding, ms, near, s, us } from './podwire.ts';

export default experiment({
  name: 'service-count',
  question: 'How does the number of Services change the latency of a request to one of them?',
  factors: {
    services: [10, 100, 1_000, 10_000],
    proxy: ['iptables', 'nftables'],
    connection: ['new per request', 'kept alive'],
  },
  replications: 10,
  warmUp: ms(100),
  duration: s(1),
  divisible: true,

  build({ services, proxy, connection }, cluster) {
    cluster.addNodes(3, { proxy });
    for (let i = 1; i < services; i++) cluster.addService({ name: `idle-${i}`, port: 80, endpoints: 2 });
    const web = cluster.addDeployment({ name: 'web', replicas: 6, server: echo({ serviceTime: us(50) }) });
    cluster.addService({ name: 'web', port: 80, selects: web });
    // A client on each node: where the Service stands in the chain differs from node to node.
    const load = new Load();
    for (const { name } of cluster.nodes) {
      const client = cluster.addPod({ name: `client-${name}`, node: name });
      cluster.closedLoop(client, {
        to: cluster.resolve('web:80'),
        thinkTime: ms(1),
        keepAlive: connection === 'kept alive',
        load,
      });
    }
    return load;
  },

  measure: (load, cluster) => ({
    latencyP50Us: load.latency.quantileUs(0.5),
    latencyP99Us: load.latency.quantileUs(0.99),
    connectP50Us: load.connect.quantileUs(0.5),
    rulesPerRequest: cluster.rulesVisited / load.completed,
    requestsPerSecond: load.throughputPerSecond(cluster.sim.now),
    failed: load.failed,
  }),

  findings(runs) {
    const [few, many] = [10, 10_000] as const;
    const gain = (proxy: 'iptables' | 'nftables', connection: 'new per request' | 'kept alive') =>
      runs.pairs(
        { services: few, proxy, connection },
        { services: many, proxy, connection },
        (before, after) => after.latencyP50Us / before.latencyP50Us,
      );
    const rules = runs
      .at({ services: many, proxy: 'iptables', connection: 'new per request' })
      .map(({ rulesPerRequest }) => rulesPerRequest / many);
    return [
      ...meanFinding(
        'iptables, new connections: rules per request, over 10,000 Services',
        rules,
        near(1 / 2 + 2 / 3, { within: 0.2 }),
      ),
      ...meanFinding(
        'iptables, kept connections: median at 10,000 Services over that at 10',
        gain('iptables', 'kept alive'),
        atMost(1.02),
      ),
      ...meanFinding('nftables, new connections: the same', gain('nftables', 'new per request'), atMost(1.05)),
      ...meanFinding('nftables, kept connections: the same', gain('nftables', 'kept alive'), atMost(1.02)),
    ];
  },

  charts: [{ x: 'services', y: 'latencyP50Us', by: 'connection' }],
});
