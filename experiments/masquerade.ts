// Whom do the pods of a Service see when somebody from outside asks them?
//
// Expectation (kubernetes/kubernetes#36500, #17394). What comes to a node port is masqueraded, so that answers come back
// through the node that was asked: pods never see the client, but that node, by the address of the device towards them:
// its own for pods elsewhere, its bridge's for its own pods. So there are two sources per node that is asked. Under
// externalTrafficPolicy Local a node sends to its own pods only, and they see the client, as they see other pods that use
// the cluster IP. A pod that uses the node port of another node is seen as that node, too.

import { objectFrom } from '../models/kube/objects.ts';
import { formatIp } from '../models/packet/ip-address.ts';
import {
  atLeast,
  atMost,
  constantRate,
  exactly,
  experiment,
  Load,
  meanFinding,
  ms,
  s,
  shareFinding,
  sumOf,
} from './podwire.ts';

const NODES = 3;
const REQUESTS_PER_NODE = 200;
const PROXIES = ['iptables', 'nftables'] as const;
const ACCESSES = ['node port (Cluster)', 'node port (Local)', 'node port from a pod', 'cluster IP from a pod'] as const;

export default experiment({
  name: 'masquerade',
  question: 'Whom do the pods of a Service see when somebody from outside asks them?',
  factors: { access: ACCESSES, proxy: PROXIES },
  replications: 3,
  warmUp: ms(0),
  duration: s(3),

  build({ access, proxy }, cluster) {
    cluster.addNodes(NODES, { proxy });
    cluster.addDeployment({ name: 'web', replicas: NODES });
    const externalTrafficPolicy = access === 'node port (Local)' ? 'Local' : 'Cluster';
    const ports = [{ port: 80, targetPort: 8080, nodePort: NODE_PORT }];
    const spec = { type: 'NodePort', externalTrafficPolicy, selector: { app: 'web' }, ports } as const;
    cluster.apply([objectFrom('Service', { apiVersion: 'v1', metadata: { name: 'web' }, spec })]);
    const client = access.endsWith('from a pod') ? cluster.addPod({ name: 'client', node: 'node-1' }) : undefined;
    const load = new Load();
    for (const { name } of access === 'node port from a pod' ? cluster.nodes.slice(1) : cluster.nodes)
      cluster.openLoop(client ?? cluster.outside.client, {
        to: access === 'cluster IP from a pod' ? cluster.resolve('web:80') : cluster.resolve(`${name}:${NODE_PORT}`),
        arrivals: constantRate({ perSecond: 100 }),
        requests: REQUESTS_PER_NODE,
        load,
      });
    const { family, ip } = client ?? cluster.outside.addresses[0]!;
    return { load, clientIp: formatIp(ip, family) };
  },

  measure: ({ load, clientIp }) => ({
    requests: load.started,
    failed: load.failed,
    sourcesSeen: load.perSource.size,
    clientSeen: load.perSource.get(clientIp) ?? 0,
    clientSeenFraction: (load.perSource.get(clientIp) ?? 0) / load.completed,
  }),

  findings: (runs) =>
    PROXIES.flatMap((proxy) =>
      ACCESSES.flatMap((access) => {
        const cells = runs.at({ access, proxy });
        const { isClientSeen, sourcesSeen } = EXPECTED[access];
        const seen = {
          successes: sumOf(cells, (cell) => cell.clientSeen),
          trials: sumOf(cells, (cell) => cell.requests),
        };
        return [
          ...shareFinding(`${proxy}, ${access}: client seen`, seen, isClientSeen ? atLeast(0.99) : atMost(0.01)),
          ...meanFinding(
            `${proxy}, ${access}: sources seen`,
            cells.map((cell) => cell.sourcesSeen),
            exactly(sourcesSeen),
          ),
        ];
      }),
    ),

  charts: [{ x: 'access', y: 'sourcesSeen', by: 'proxy' }],
});

const NODE_PORT = 30_080;

/** Of the pod's requests none enter at its own node. */
const EXPECTED: Readonly<Record<(typeof ACCESSES)[number], { isClientSeen: boolean; sourcesSeen: number }>> = {
  'node port (Cluster)': { isClientSeen: false, sourcesSeen: 2 * NODES },
  'node port (Local)': { isClientSeen: true, sourcesSeen: 1 },
  'node port from a pod': { isClientSeen: false, sourcesSeen: 2 * (NODES - 1) },
  'cluster IP from a pod': { isClientSeen: true, sourcesSeen: 1 },
};
