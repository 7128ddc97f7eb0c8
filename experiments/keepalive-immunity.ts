// What do many Services cost connections that are made for one request, and connections that are kept?
//
// Expectation (imroc/tke-guide, network benchmark of Cilium and kube-proxy, nodes of 4 cores): with 5,000 and 10,000 Services
// a node makes 22.3 % and 37.3 % fewer short connections per second than with none, in iptables mode; kept ones lose 1.3 %
// and 0.8 %. Rules are for the first packet of a connection; of the others conntrack knows where they go. In nftables mode
// the first packet is no slower either.
//
// Servers and clients take no CPU time here, of which a short request took 179 us there (4 cores / 22,313 per second). So
// what is compared is the CPU time that Services add to a connection: the loss that it would be beside those 179 us.

import { atMost, experiment, inUs, Load, meanFinding, ms, near, ns, us } from './podwire.ts';

const CPUS = 4;
const USERS = 64;
const SERVICES = [0, 5_000, 10_000] as const;
const PROXIES = ['iptables', 'iptables-nft', 'nftables'] as const;

/** CPU time of a short request there without Services. */
const PUBLISHED_US = (CPUS / 22_313) * 1e6;
const PUBLISHED_LOSS = { 5000: 0.223, 10000: 0.373 } as const;

export default experiment({
  name: 'keepalive-immunity',
  question: 'What do many Services cost connections that are made for one request, and connections that are kept?',
  factors: { services: SERVICES, proxy: PROXIES, connection: ['new per request', 'kept alive'] },
  replications: 3,
  warmUp: ms(15),
  duration: ms(30),
  divisible: true,

  clusterOptions: () => ({ cpusPerNode: CPUS }),

  build({ services, proxy, connection }, cluster) {
    cluster.addNodes(2, { proxy: proxy === 'nftables' ? 'nftables' : 'iptables' });
    if (proxy === 'iptables-nft')
      for (const { machine } of cluster.nodes) machine.root.enableNetfilter().tables.backend = 'nft';
    for (let i = 0; i < services; i++) cluster.addService({ name: `idle-${i}`, port: 80, endpoints: 1 });
    const load = new Load();
    // Each CPU has servers and clients; each user has a Service, because a single one would stand at one place in the list.
    const server = { serviceTime: us(10), concurrency: Number.POSITIVE_INFINITY, responseBytes: 512 };
    for (let i = 0; i < CPUS; i++) cluster.addDeployment({ name: `web-${i}`, replicas: 1, node: 'node-2', server });
    for (let i = 0; i < USERS; i++)
      cluster.addService({ name: `web-${i}`, port: 80, selects: { name: `web-${i % CPUS}` } });
    for (let i = 0; i < CPUS; i++) {
      const client = cluster.addPod({ name: `client-${i}`, node: 'node-1' });
      for (let user = i; user < USERS; user += CPUS)
        cluster.closedLoop(client, {
          to: cluster.resolve(`web-${user}:80`),
          thinkTime: ns(0),
          keepAlive: connection === 'kept alive',
          load,
        });
    }
    return load;
  },

  measure(load, cluster) {
    const requestsPerSecond = load.throughputPerSecond(cluster.sim.now);
    return {
      requestsPerSecond,
      latencyP50Us: inUs(load.latency.quantile(0.5)),
      failed: load.failed,
      /** CPU time of the node that is busy, per request. */
      cpuPerRequestUs: (CPUS / requestsPerSecond) * 1e6,
      rulesPerRequest: cluster.rulesVisited / load.completed,
    };
  },

  findings: (runs) =>
    PROXIES.flatMap((proxy) =>
      ([5_000, 10_000] as const).flatMap((services) => {
        const none = { services: 0, proxy } as const;
        const many = { services, proxy } as const;
        const short = { connection: 'new per request' } as const;
        const kept = { connection: 'kept alive' } as const;
        const lossBesidePublished = runs.pairs({ ...none, ...short }, { ...many, ...short }, (before, after) => {
          const addedUs = after.cpuPerRequestUs - before.cpuPerRequestUs;
          return addedUs / (PUBLISHED_US + addedUs);
        });
        const loss = runs.pairs(
          { ...none, ...kept },
          { ...many, ...kept },
          (before, after) => 1 - after.requestsPerSecond / before.requestsPerSecond,
        );
        const name = `${proxy}, ${services.toLocaleString('en-US')} Services`;
        const expected = proxy === 'nftables' ? atMost(0.01) : near(PUBLISHED_LOSS[services], { within: 0.08 });
        return [
          ...meanFinding(
            `${name}: share of short connections lost, beside the published CPU time`,
            lossBesidePublished,
            expected,
          ),
          ...meanFinding(`${name}: share of requests on kept connections lost`, loss, atMost(0.02)),
        ];
      }),
    ),

  charts: [{ x: 'services', y: 'cpuPerRequestUs', by: 'proxy' }],
});
