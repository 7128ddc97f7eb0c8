// What becomes of requests of a pod to its own Service, when they are sent back to itself?
//
// Expectation (kubernetes/kubernetes#20475, #13375; behaviour of bridges as observed on Linux 6.18). kube-proxy chooses the
// asking pod itself for one request of n. With br_netfilter the bridge then has to send the frame out of the port it came
// in by, which it does in hairpin mode only: without, 1/n of the requests get no answer, and none of the others is touched.
// Where they are answered, the pod sees the address of its node's bridge, as kube-proxy masquerades what returns. Without
// br_netfilter the frame is routed back, and hairpin mode makes no difference.

import { addressAt } from '../models/packet/ip-address.ts';
import { atLeast, atMost, experiment, Load, ms, near, poisson, s, shareFinding, sumOf } from './podwire.ts';

const REQUESTS_PER_POD = 400;
const ENDPOINTS = [1, 2, 5] as const;
const PROXIES = ['iptables', 'nftables'] as const;

export default experiment({
  name: 'hairpin',
  question: 'What becomes of requests of a pod to its own Service, when they are sent back to itself?',
  factors: {
    bridge: ['hairpin mode', 'no hairpin mode', 'no br_netfilter'],
    endpoints: ENDPOINTS,
    proxy: PROXIES,
  },
  replications: 3,
  warmUp: ms(0),
  duration: s(3),

  clusterOptions: ({ bridge }) => ({
    bridge: { hairpinMode: bridge === 'hairpin mode', bridgeNfCallIptables: bridge !== 'no br_netfilter' },
  }),

  build({ endpoints, proxy }, cluster) {
    // A node per pod: without br_netfilter, answers of a neighbor on the same bridge would go wrong for another reason.
    cluster.addNodes(endpoints, { proxy });
    const web = cluster.addDeployment({ name: 'web', replicas: endpoints });
    cluster.addService({ name: 'web', port: 80, selects: web });
    return cluster.pods.map((pod) => {
      const bridge = addressAt(cluster.node(pod.node).podRangeOf(pod.family)!, 1);
      const load = new Load({
        groupBy: ({ server, sourceSeen }) =>
          server !== pod.name ? 'another pod' : sourceSeen === bridge ? 'itself, seen as bridge' : 'itself',
      });
      return cluster.openLoop(pod, {
        to: cluster.resolve('web:80'),
        arrivals: poisson({ perSecond: 200 }),
        requests: REQUESTS_PER_POD,
        timeout: ms(500),
        load,
      });
    });
  },

  measure(loads) {
    const answersBy = (group: string) => sumOf(loads, ({ groups }) => groups.get(group)?.latency.count ?? 0);
    const requests = sumOf(loads, ({ started }) => started);
    const failed = sumOf(loads, (load) => load.failed);
    return {
      requests,
      failed,
      failedFraction: failed / requests,
      answersOfAnother: answersBy('another pod'),
      answersOfItself: answersBy('itself') + answersBy('itself, seen as bridge'),
      seenAsBridge: answersBy('itself, seen as bridge'),
    };
  },

  findings: (runs) =>
    // Modes meet the same random numbers, so their runs are no independent trials.
    PROXIES.flatMap((proxy) => [
      ...ENDPOINTS.flatMap((endpoints) => {
        const failures = failuresIn(runs.at({ bridge: 'no hairpin mode', endpoints, proxy }));
        const claim = `${proxy}: share lost of a pod with ${endpoints} endpoint(s), no hairpin mode`;
        return shareFinding(claim, failures, near(1 / endpoints, { within: 0.03 }));
      }),
      ...(['hairpin mode', 'no br_netfilter'] as const).flatMap((bridge) => {
        const cells = runs.at({ bridge, proxy });
        const answersOfItself = sumOf(cells, (cell) => cell.answersOfItself);
        const seenAsBridge = { successes: sumOf(cells, (cell) => cell.seenAsBridge), trials: answersOfItself };
        return [
          ...shareFinding(`${proxy}: share lost, ${bridge}`, failuresIn(cells), atMost(NONE)),
          ...shareFinding(
            `${proxy}: answers to oneself that see the bridge, ${bridge}`,
            seenAsBridge,
            atLeast(1 - NONE),
          ),
        ];
      }),
    ]),

  charts: [{ x: 'endpoints', y: 'failedFraction', by: 'bridge' }],
});

/** So few that the number of requests could not tell them from none. */
const NONE = 0.005;

const failuresIn = (cells: readonly { readonly failed: number; readonly requests: number }[]) => ({
  successes: sumOf(cells, ({ failed }) => failed),
  trials: sumOf(cells, ({ requests }) => requests),
});
