// What is lost at a node under externalTrafficPolicy Local whose only pod is deleted, until the load balancer notices?
//
// Expectation (KEP-1669). The load balancer asks each node every 8 s and gives it up after 3 failures in a row, so a node
// without a ready endpoint goes on getting its share for 16 to 24 s, 20 s on average. What becomes of it depends on the pod.
// - It goes on serving while it terminates (a preStop hook that sleeps longer than that): the proxy sends to it as there
//   is no better one, and nothing is lost.
// - It stops when it is asked to: what the node gets is lost for those 20 s.
// - It still serves but is not ready any more, so that its endpoint does not count as serving: the same loss. This is also
//   what a proxy did before KEP-1669, whatever the pod.

import { objectFrom } from '../models/kube/objects.ts';
import { atMost, constantRate, experiment, meanFinding, near, ns, s, targetAt } from './podwire.ts';
import { webPod } from './web-pod.ts';

const PROXIES = ['iptables', 'nftables'] as const;
const ENDINGS = ['drains', 'stops at once', 'not ready'] as const;

const REQUESTS_PER_SECOND = 20;
/** The default, said because the expectation follows from it. */
const CHECK = { interval: s(8), timeout: s(1), healthyThreshold: 1, unhealthyThreshold: 3 };
/** Longer than the load balancer takes. */
const PRE_STOP_SECONDS = 40;

export default experiment({
  name: 'terminating-endpoints',
  question: 'What is lost at a node under externalTrafficPolicy Local whose only pod is deleted?',
  factors: { ending: ENDINGS, proxy: PROXIES },
  replications: 12,
  warmUp: s(1),
  duration: s(40),

  clusterOptions: () => ({ loadBalancer: { healthCheck: CHECK } }),

  build({ ending, proxy }, cluster) {
    cluster.addNodes(2, { proxy });
    const preStopSeconds = ending === 'stops at once' ? 0 : PRE_STOP_SECONDS;
    cluster.apply([
      webPod({ name: 'web-1', node: 'node-1' }),
      webPod({ name: DELETED, node: 'node-2', preStopSeconds }),
    ]);
    const ports = [{ port: 80, targetPort: 8080 }];
    const spec = { type: 'LoadBalancer', externalTrafficPolicy: 'Local', selector: { app: 'web' }, ports } as const;
    cluster.apply([objectFrom('Service', { apiVersion: 'v1', metadata: { name: 'web' }, spec })]);
    const [{ ip } = {}] = cluster.api.get('Service', 'default/web')!.status.loadBalancer.ingress;
    const to = targetAt(ip!, 80);
    const arrivals = constantRate({ perSecond: REQUESTS_PER_SECOND });
    const load = cluster.openLoop(cluster.outside.client, { to, arrivals, timeout: s(2) });
    return { ending, load };
  },

  *story(cluster, { ending }) {
    // At any moment between two health checks.
    yield ns(cluster.sim.random.stream('terminating-endpoints').uniform() * CHECK.interval);
    if (ending === 'not ready') cluster.setReady(`default/${DELETED}`, false);
    cluster.api.delete('Pod', `default/${DELETED}`);
  },

  measure: ({ load }) => ({
    requests: load.started,
    failed: load.failed,
    /** For so long the node's half of the requests was lost. */
    outageSeconds: load.failed / (REQUESTS_PER_SECOND / 2),
  }),

  findings: (runs) =>
    PROXIES.flatMap((proxy) =>
      ENDINGS.flatMap((ending) => {
        const outages = runs.at({ ending, proxy }).map(({ outageSeconds }) => outageSeconds);
        const expected = ending === 'drains' ? atMost(0) : near(20, { within: 3 });
        return meanFinding(`${proxy}: outage of a node whose pod ${VERBS[ending]} (s)`, outages, expected);
      }),
    ),

  charts: [{ x: 'ending', y: 'outageSeconds', by: 'proxy' }],
});

const DELETED = 'web-2';

const VERBS = { drains: 'drains', 'stops at once': 'stops at once', 'not ready': 'is not ready' } as const;
