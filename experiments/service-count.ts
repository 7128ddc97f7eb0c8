// How does the number of Services change the latency of a request to one of them?
//
// Expectation: kube-proxy's KUBE-SERVICES chain is a list, so a new connection pays for every rule before its own; on
// average half of them. A kept connection does not: conntrack knows it. In nftables mode Services are found in a map, so
// their number makes no difference that one would notice (KEP-3866). Nor does it in IPVS mode, whose rules ask ipsets; a
// connection pays there for two passes of the hooks, through INPUT and then OUTPUT. The eBPF-style replacement (a model without
// an oracle) pays for a lookup at the socket, and for no translation of packets.

import { echo, experiment, Load, ms, s, us } from './podwire.ts';

export default experiment({
  name: 'service-count',
  question: 'How does the number of Services change the latency of a request to one of them?',
  factors: {
    services: [10, 100, 1_000, 10_000],
    proxy: ['iptables', 'nftables', 'ipvs', 'ebpf'],
    connection: ['new per request', 'kept alive'],
  },
  replications: 10,
  warmUp: ms(100),
  duration: s(1),

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
});
