// How well does session affinity keep clients on their pods, when they come with their own addresses and when they share one?
//
// Expectation (kubernetes/kubernetes#55603, #103000; extensions/libxt_recent and net/netfilter/xt_recent.c). Affinity goes by
// source address, on each node by itself.
// - Clients with addresses of their own spread over the pods, and each stays where it is.
// - Behind one address (here that of their node, which masquerades what goes to another node's port) all are one client,
//   so one pod gets everything.
// - If they enter by two nodes, each of these chooses for itself: two different pods of n in 1 - 1/n of the cases.
// - In iptables mode a node remembers 100 clients per endpoint (ip_list_tot) and forgets the one that has not come for
//   longest. If more come again in turn, each is forgotten before it does, and chooses anew each time: of n pods, all r
//   requests meet the same in n^(1-r) of the cases. A set of nftables has room for 65,535.

import { objectFrom } from '../models/kube/objects.ts';
import { atLeast, exactly, experiment, meanFinding, ms, near, s, sumOf } from './podwire.ts';

const ENDPOINTS = 2;
const REQUESTS_PER_CLIENT = 4;
const PROXIES = ['iptables', 'nftables'] as const;

export default experiment({
  name: 'session-affinity',
  question: 'How well does session affinity keep clients on their pods, with their own addresses and behind one?',
  factors: {
    clients: ['20 addresses', '240 addresses', 'one address', 'one address by two nodes'],
    proxy: PROXIES,
  },
  replications: 40,
  warmUp: ms(0),
  duration: s(2),

  build({ clients, proxy }, cluster) {
    cluster.addNodes(3, { proxy });
    cluster.addDeployment({ name: 'web', replicas: ENDPOINTS });
    const ports = [{ port: 80, targetPort: 8080, nodePort: NODE_PORT }];
    const spec = { type: 'NodePort', sessionAffinity: 'ClientIP', selector: { app: 'web' }, ports } as const;
    cluster.apply([objectFrom('Service', { apiVersion: 'v1', metadata: { name: 'web' }, spec })]);
    const [, second, third] = cluster.nodes;
    const hasOwnAddresses = clients.endsWith('addresses');
    // More than two endpoints' worth of xt_recent's 100, or fewer.
    return Array.from({ length: clients === '240 addresses' ? 240 : 20 }, (_, index) => {
      const client = cluster.addPod({ name: `client-${index}`, node: 'node-1' });
      const entry = clients === 'one address by two nodes' && index % 2 === 1 ? third! : second!;
      const to = hasOwnAddresses ? cluster.resolve('web:80') : { ip: entry.ip, port: NODE_PORT };
      return cluster.closedLoop(client, { to, thinkTime: ms(200), requests: REQUESTS_PER_CLIENT });
    });
  },

  measure(loads) {
    const perPod = new Map<string, number>();
    for (const { perServer } of loads)
      for (const [server, answers] of perServer) perPod.set(server, (perPod.get(server) ?? 0) + answers);
    return {
      requests: sumOf(loads, ({ completed }) => completed),
      failed: sumOf(loads, ({ failed }) => failed),
      podsUsed: perPod.size,
      busiestPodFraction: Math.max(...perPod.values()) / sumOf(loads, ({ completed }) => completed),
      /** Of the clients. */
      keptFraction: loads.filter(({ perServer }) => perServer.size === 1).length / loads.length,
    };
  },

  findings: (runs) =>
    PROXIES.flatMap((proxy) => {
      const few = runs.at({ clients: '20 addresses', proxy });
      const many = runs.at({ clients: '240 addresses', proxy });
      const one = runs.at({ clients: 'one address', proxy });
      const two = runs.at({ clients: 'one address by two nodes', proxy });
      const kept = (cells: typeof few) => cells.map(({ keptFraction }) => keptFraction);
      const used = (cells: typeof few) => cells.map(({ podsUsed }) => podsUsed);
      const keptOfMany =
        proxy === 'iptables' ? near(ENDPOINTS ** (1 - REQUESTS_PER_CLIENT), { within: 0.05 }) : exactly(1);
      return [
        ...meanFinding(`${proxy}: of 20 clients with own addresses, share that keeps its pod`, kept(few), exactly(1)),
        ...meanFinding(`${proxy}: of 240 clients with own addresses, share that keeps its pod`, kept(many), keptOfMany),
        ...meanFinding(`${proxy}: pods used by 20 clients with own addresses`, used(few), atLeast(ENDPOINTS - 0.1)),
        ...meanFinding(`${proxy}: pods used by clients behind one address`, used(one), exactly(1)),
        ...meanFinding(
          `${proxy}: pods used by clients behind one address, by way of two nodes`,
          used(two),
          near(2 - 1 / ENDPOINTS, { within: 0.3 }),
        ),
      ];
    }),

  charts: [
    { x: 'clients', y: 'busiestPodFraction', by: 'proxy' },
    { x: 'clients', y: 'keptFraction', by: 'proxy' },
  ],
});

const NODE_PORT = 30_080;
