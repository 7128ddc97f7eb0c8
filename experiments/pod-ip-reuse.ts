// Whom do clients reach when the address of a pod that is gone belongs to another pod, before kube-proxy has noticed?
//
// Expectation (projectcalico/calico#4152, aws/amazon-vpc-cni-k8s#3634, kubernetes/kubernetes#109414). As long as rules and
// tracked flows lead to the old address, requests to the Service are answered by a stranger. host-local gives addresses
// in turn, so that this takes as many new pods as the node has addresses: with 8 of them (a /29; in IPv6 a /125, whose last
// address can be used) five or six pods are enough, with 256 they are not, and requests are lost instead. When kube-proxy has
// caught up, new connections are refused: the Service has no endpoint. A UDP client that keeps its socket stays with
// the stranger even then: from 1.32 kube-proxy ends the tracked flows of Services that have endpoints only (see stale-udp), and
// this one's does not run out while it sends.

import { rangeOf } from '../models/kube/ranges.ts';
import { addressAt, addressBits, formatPrefix, prefix } from '../models/packet/ip-address.ts';
import {
  atLeast,
  atMost,
  type Cluster,
  type Duration,
  experiment,
  ms,
  objectFrom,
  s,
  shareFinding,
  sumOf,
} from './podwire.ts';
import { webPod } from './web-pod.ts';

/** Of the range of each node. */
const NODE_ADDRESSES = [8, 256] as const;
/** UDP with one socket keeps to its tracked flow; TCP with a connection per request asks the rules each time. */
const PROTOCOLS = ['udp', 'tcp'] as const;
/** Of another application, on the node of the pod that goes, and soon gone themselves but for the last. */
const NEW_PODS = { 4: 5, 6: 6 } as const;
const CLIENTS = 10;
const WINDOW = s(2);
/** After a failure a kube-proxy tries again then. */
const SYNC_PERIOD = s(3);

export default experiment({
  name: 'pod-ip-reuse',
  question: 'Whom do clients reach when the address of a pod that is gone belongs to another pod?',
  factors: { nodeAddresses: NODE_ADDRESSES, protocol: PROTOCOLS },
  replications: 3,
  warmUp: s(1),
  duration: s(10),

  clusterOptions: () => ({ proxySync: { minSyncPeriod: ms(100), syncPeriod: SYNC_PERIOD } }),

  build({ nodeAddresses, protocol }, cluster) {
    cluster.addNodes([1, 2].map((number) => nodeWithRange(cluster, number, nodeAddresses)));
    cluster.apply([webPod({ name: 'web', node: 'node-2' })]);
    const transport = protocol === 'udp' ? 'UDP' : 'TCP';
    cluster.addService({ name: 'web', port: 80, protocol: transport, selects: { name: 'web' } });
    const to = cluster.resolve('web:80', { protocol: transport });
    const client = cluster.addPod({ name: 'client', node: 'node-1' });
    const loads = Array.from({ length: CLIENTS }, () =>
      cluster.closedLoop(client, { to, protocol, keepAlive: protocol === 'udp', thinkTime: ms(50), timeout: ms(200) }),
    );
    return { loads, before: NOTHING, during: NOTHING, after: NOTHING };
  },

  *story(cluster, run) {
    const { kubeProxy } = cluster.node('node-1');
    kubeProxy.failing = true; // as long as programming takes on a bad day
    cluster.api.remove('Pod', 'default/web');
    const newPods = NEW_PODS[cluster.ipFamilies[0]!]; // clients use the first family
    for (let number = 1; number <= newPods; number++) {
      cluster.apply([stranger(number)]);
      yield ms(50);
      if (number < newPods) cluster.api.remove('Pod', `default/stranger-${number}`);
    }
    yield ms(200);
    run.during = yield* watch(cluster, run.loads);
    kubeProxy.failing = false;
    yield SYNC_PERIOD;
    yield s(1);
    run.after = yield* watch(cluster, run.loads);
  },

  measure: ({ during, after }) => ({
    requests: during.ended,
    answeredByStranger: during.strangers,
    answeredByStrangerFraction: during.strangers / during.ended,
    requestsLater: after.ended,
    answeredByStrangerLater: after.strangers,
  }),

  findings: (runs) =>
    NODE_ADDRESSES.flatMap((nodeAddresses) =>
      PROTOCOLS.flatMap((protocol) => {
        const cells = runs.at({ nodeAddresses, protocol });
        const during = {
          successes: sumOf(cells, (cell) => cell.answeredByStranger),
          trials: sumOf(cells, (cell) => cell.requests),
        };
        const after = {
          successes: sumOf(cells, (cell) => cell.answeredByStrangerLater),
          trials: sumOf(cells, (cell) => cell.requestsLater),
        };
        const where = `${nodeAddresses} addresses, ${protocol}`;
        return [
          ...shareFinding(
            `${where}: answered by a stranger`,
            during,
            nodeAddresses === 8 ? atLeast(0.95) : atMost(0.05),
          ),
          ...shareFinding(
            `${where}: answered by a stranger once kube-proxy has caught up`,
            after,
            nodeAddresses === 8 && protocol === 'udp' ? atLeast(0.95) : atMost(0.05),
          ),
        ];
      }),
    ),

  charts: [{ x: 'nodeAddresses', y: 'answeredByStrangerFraction', by: 'protocol' }],
});

function nodeWithRange({ ipFamilies, ranges }: Cluster, number: number, addresses: (typeof NODE_ADDRESSES)[number]) {
  const podCIDRs = ipFamilies.map((family) => {
    const first = addressAt(rangeOf(ranges, 'pod', family)!, number * Math.max(...NODE_ADDRESSES));
    return formatPrefix(prefix(first, addressBits(family) - Math.log2(addresses), family));
  });
  return objectFrom('Node', { metadata: { name: `node-${number}` }, spec: { podCIDR: podCIDRs[0], podCIDRs } });
}

/** Listens where the pod of the Service did. */
const stranger = (number: number) =>
  objectFrom('Pod', {
    metadata: { name: `stranger-${number}` },
    spec: {
      nodeName: 'node-2',
      containers: [
        { name: 'other', ports: (['TCP', 'UDP'] as const).map((protocol) => ({ containerPort: 8080, protocol })) },
      ],
    },
  });

interface Seen {
  readonly ended: number;
  readonly strangers: number;
}

const NOTHING: Seen = { ended: 0, strangers: 0 };

interface Answers {
  readonly completed: number;
  readonly failed: number;
  readonly perServer: ReadonlyMap<string, number>;
}

function* watch(_: Cluster, loads: readonly Answers[]): Generator<Duration, Seen, void> {
  const count = (): Seen => ({
    ended: sumOf(loads, ({ completed, failed }) => completed + failed),
    strangers: sumOf(loads, ({ perServer }) =>
      sumOf([...perServer], ([name, answers]) => (name.includes('stranger') ? answers : 0)),
    ),
  });
  const before = count();
  yield WINDOW;
  const now = count();
  return { ended: now.ended - before.ended, strangers: now.strangers - before.strangers };
}
