// How does externalTrafficPolicy Local spread the load over pods that stand unevenly on their nodes?
//
// Expectation (kubernetes/kubernetes#97147, Azure/AKS#4905: 25 %, 25 % and 50 % for two pods on one node and one on
// another). A load balancer spreads connections over nodes, whatever they run. Under policy Local each node keeps what it
// gets: of N nodes that have pods, each of the p pods of a node has the share 1 / (N p). Under policy Cluster nodes pass
// connections on, so that pods have equal shares, and pods see the address of a node instead of the client's.

import { objectFrom } from '../models/kube/objects.ts';
import { formatIp } from '../models/packet/ip-address.ts';
import { atLeast, atMost, experiment, ms, near, s, shareFinding, sumOf, targetAt } from './podwire.ts';
import { webPod } from './web-pod.ts';

const PROXIES = ['iptables', 'nftables'] as const;
const POLICIES = ['Cluster', 'Local'] as const;
/** Pods by node: one node has none. */
const LAYOUTS = ['2+1+0', '3+2+1'] as const;

export default experiment({
  name: 'external-traffic-policy',
  question: 'How does externalTrafficPolicy Local spread the load over pods that stand unevenly on their nodes?',
  factors: { pods: LAYOUTS, policy: POLICIES, proxy: PROXIES },
  replications: 3,
  warmUp: s(1),
  duration: s(2),

  build({ pods, policy, proxy }, cluster) {
    const layout = podsByNode(pods);
    cluster.addNodes(layout.length, { proxy });
    for (const [index, count] of layout.entries())
      for (let pod = 0; pod < count; pod++)
        cluster.apply([webPod({ name: `web-${index}-${pod}`, node: `node-${index + 1}` })]);
    const ports = [{ port: 80, targetPort: 8080 }];
    const spec = { type: 'LoadBalancer', externalTrafficPolicy: policy, selector: { app: 'web' }, ports } as const;
    cluster.apply([objectFrom('Service', { apiVersion: 'v1', metadata: { name: 'web' }, spec })]);
    const [{ ip } = {}] = cluster.api.get('Service', 'default/web')!.status.loadBalancer.ingress;
    return cluster.closedLoop(cluster.outside.client, { to: targetAt(ip!, 80), users: 20, thinkTime: ms(10) });
  },

  measure(load, { outside }) {
    const [client] = outside.addresses;
    const answers = [...load.perServer];
    const onFirstNode = answers.filter(([server]) => server.startsWith('default/web-0-'));
    return {
      requests: load.completed,
      failed: load.failed,
      answersOfFirstNode: sumOf(onFirstNode, ([, count]) => count),
      clientSeen: load.perSource.get(formatIp(client!.ip, client!.family)) ?? 0,
      busiestPodFraction: Math.max(...load.perServer.values()) / load.completed,
      idlestPodFraction: Math.min(...load.perServer.values()) / load.completed,
    };
  },

  findings: (runs) =>
    PROXIES.flatMap((proxy) =>
      LAYOUTS.flatMap((pods) =>
        POLICIES.flatMap((policy) => {
          const cells = runs.at({ pods, policy, proxy });
          const trials = sumOf(cells, ({ requests }) => requests);
          const successes = sumOf(cells, ({ answersOfFirstNode }) => answersOfFirstNode);
          const [onFirst] = podsByNode(pods);
          const share = shareOfFirstNode(pods, policy);
          const name = `${proxy}, ${pods} pods, policy ${policy}`;
          const seen = { successes: sumOf(cells, ({ clientSeen }) => clientSeen), trials };
          return [
            ...shareFinding(
              `${name}: share of the first node's ${onFirst} pods`,
              { successes, trials },
              near(share, { within: 0.03 }),
            ),
            ...shareFinding(`${name}: client seen`, seen, policy === 'Local' ? atLeast(0.99) : atMost(0.01)),
          ];
        }),
      ),
    ),

  charts: [{ x: 'pods', y: 'busiestPodFraction', by: 'policy' }],
});

const podsByNode = (pods: string): number[] => pods.split('+').map(Number);

function shareOfFirstNode(pods: string, policy: (typeof POLICIES)[number]): number {
  const layout = podsByNode(pods);
  if (policy === 'Local') return 1 / layout.filter((count) => count > 0).length;
  return layout[0]! / sumOf(layout, (count) => count);
}
