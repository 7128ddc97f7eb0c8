// Whom does a server see, by the way in, the mode of kube-proxy and the traffic policy?
//
// Expectation (kubernetes.io, "Using Source IP"; kubernetes#36500; the Gateway and Ingress documentation on X-Forwarded-For).
// Within the cluster servers see the pod, but not what goes to a node port of another node: pods are masqueraded towards
// nodes, unless those are among the ranges of ip-masq-agent. What comes by a node port or a load balancer has the address of a node under
// policy Cluster and its own under policy Local; a load balancer that proxies is seen itself, if not a node. What an
// Ingress or a Gateway passes on has the address of the proxy's pod; whom the proxy has seen is in X-Forwarded-For, and
// that is the client if its Service has policy Local. A server outside sees the pod's node. The mode does not matter.

import { stackOf } from '../models/host/ip-setup.ts';
import { LOAD_BALANCER_RANGES } from '../models/host/outside-world.ts';
import { objectFrom, podIpsOf } from '../models/kube/objects.ts';
import { contains, formatIp, parseAddress } from '../models/packet/ip-address.ts';
import { ingressFor } from './ingress-pools.ts';
import {
  type Cluster,
  exactly,
  experiment,
  httpRequest,
  Load,
  meanFinding,
  ms,
  s,
  sumOf,
  type Target,
  targetAt,
} from './podwire.ts';
import { webPod } from './web-pod.ts';

const WAYS = [
  ...(['pod to pod', 'pod to ClusterIP', 'pod to node port', 'node port', 'load balancer (VIP)'] as const),
  ...(['load balancer (Proxy)', 'Ingress', 'Gateway', 'pod to outside'] as const),
] as const;
const PROXIES = ['iptables', 'nftables', 'ipvs'] as const;
const POLICIES = ['Cluster', 'Local'] as const;
const HOST = 'web.example.com';
const NODE_PORT = 30_080;

type Way = (typeof WAYS)[number];
type Policy = (typeof POLICIES)[number];
/** Who has an address. */
type Who = 'client' | 'node' | 'load balancer' | 'proxy';

export default experiment({
  name: 'source-ip',
  question: 'Whom does a server see, by the way in, the mode of kube-proxy and the traffic policy?',
  factors: { way: WAYS, policy: POLICIES, proxy: PROXIES },
  replications: 2,
  warmUp: ms(0),
  duration: s(1),

  clusterOptions: ({ way, policy }) => ({
    loadBalancer: { ipMode: way === 'load balancer (Proxy)' ? 'Proxy' : 'VIP' },
    httpProxy: { externalTrafficPolicy: policy },
  }),

  build({ way, policy, proxy }, cluster) {
    cluster.addNodes(3, { proxy });
    cluster.apply(['node-1', 'node-2'].map((node) => webPod({ name: `web-${node}`, node })));
    const type = way.startsWith('load balancer') ? 'LoadBalancer' : 'NodePort';
    const ports = [{ port: 80, targetPort: 8080, nodePort: NODE_PORT }];
    const spec = { type, externalTrafficPolicy: policy, selector: { app: 'web' }, ports } as const;
    cluster.apply([objectFrom('Service', { metadata: { name: 'web' }, spec })]);
    if (way === 'Ingress') cluster.apply([ingressFor(HOST)]);
    if (way === 'Gateway') cluster.apply(gatewayTo('web'));
    const isFromPod = way.startsWith('pod');
    const client = isFromPod ? cluster.addPod({ name: 'client', node: 'node-1' }) : cluster.outside.client;
    if (way === 'pod to outside') cluster.serveOutside('TCP', 80);
    const load = new Load();
    for (const to of targetsOf(cluster, way))
      cluster.closedLoop(client, {
        to,
        requests: 50,
        thinkTime: ms(2),
        http: httpRequest(`http://${HOST}/`),
        load,
      });
    const clientIps = isFromPod ? podIpsOf(cluster.api.get('Pod', 'default/client')!) : outsideIps(cluster);
    return { load, clientIps };
  },

  measure({ load, clientIps }, cluster) {
    const share = (counts: ReadonlyMap<string, number>, who: Who) =>
      sumOf(
        [...counts].filter(([ip]) => whoHas(cluster, ip, clientIps) === who),
        ([, count]) => count,
      ) / load.completed;
    return {
      requests: load.completed,
      failed: load.failed,
      clientSeenFraction: share(load.perSource, 'client'),
      nodeSeenFraction: share(load.perSource, 'node'),
      loadBalancerSeenFraction: share(load.perSource, 'load balancer'),
      proxySeenFraction: share(load.perSource, 'proxy'),
      clientForwardedFraction: share(load.perForwardedFor, 'client'),
      nodeForwardedFraction: share(load.perForwardedFor, 'node'),
    };
  },

  tables: ({ load, clientIps }, cluster) => ({
    addresses: [...load.perSource].map(([sourceSeen, requests]) => ({
      sourceSeen,
      whose: whoHas(cluster, sourceSeen, clientIps),
      requests,
    })),
  }),

  findings: (runs) =>
    WAYS.flatMap((way) =>
      POLICIES.flatMap((policy) =>
        PROXIES.flatMap((proxy) => {
          const cells = runs.at({ way, policy, proxy });
          const { seen, forwarded } = expectedOf(way, policy);
          const name = `${way}, policy ${policy}, ${proxy}`;
          const of = (
            measure:
              | 'clientSeenFraction'
              | 'nodeSeenFraction'
              | 'loadBalancerSeenFraction'
              | 'proxySeenFraction'
              | 'clientForwardedFraction'
              | 'nodeForwardedFraction',
          ) => cells.map((cell) => cell[measure]);
          return [
            ...meanFinding(`${name}: share that sees the ${seen}`, of(MEASURES[seen]), exactly(1)),
            ...(forwarded === undefined
              ? []
              : meanFinding(
                  `${name}: share with the ${forwarded} in X-Forwarded-For`,
                  of(FORWARDED[forwarded]),
                  exactly(1),
                )),
          ];
        }),
      ),
    ),
});

const MEASURES = {
  client: 'clientSeenFraction',
  node: 'nodeSeenFraction',
  'load balancer': 'loadBalancerSeenFraction',
  proxy: 'proxySeenFraction',
} as const;
const FORWARDED = { client: 'clientForwardedFraction', node: 'nodeForwardedFraction' } as const;

function expectedOf(way: Way, policy: Policy): { seen: Who; forwarded?: 'client' | 'node' } {
  switch (way) {
    case 'pod to pod':
    case 'pod to ClusterIP':
      return { seen: 'client' };
    case 'pod to node port':
    case 'pod to outside':
      return { seen: 'node' };
    case 'node port':
    case 'load balancer (VIP)':
      return { seen: policy === 'Local' ? 'client' : 'node' };
    case 'load balancer (Proxy)':
      return { seen: policy === 'Local' ? 'load balancer' : 'node' };
    case 'Ingress':
    case 'Gateway':
      return { seen: 'proxy', forwarded: policy === 'Local' ? 'client' : 'node' };
  }
}

function targetsOf(cluster: Cluster, way: Way): Target[] {
  const { api } = cluster;
  const named = (...names: string[]) => names.map((name) => cluster.resolve(name));
  const at = (addresses: readonly string[]) => addresses.map((address) => targetAt(address, 80));
  switch (way) {
    case 'pod to pod':
      return named('web-node-1:8080', 'web-node-2:8080');
    case 'pod to ClusterIP':
      return named('web:80');
    case 'pod to node port':
      return named(`node-2:${NODE_PORT}`);
    case 'node port':
      return named(`node-1:${NODE_PORT}`, `node-2:${NODE_PORT}`);
    case 'load balancer (VIP)':
    case 'load balancer (Proxy)':
      return at(api.get('Service', 'default/web')!.status.loadBalancer.ingress.map(({ ip }) => ip!));
    case 'Ingress':
      return at(api.get('Ingress', 'default/web')!.status.loadBalancer.ingress.map(({ ip }) => ip!));
    case 'Gateway':
      return at(api.get('Gateway', 'default/web')!.status.addresses.map(({ value }) => value));
    case 'pod to outside':
      return at(outsideIps(cluster));
  }
}

const outsideIps = ({ outside }: Cluster): string[] => outside.addresses.map(({ ip, family }) => formatIp(ip, family));

function whoHas(cluster: Cluster, ip: string, clientIps: readonly string[]): Who | 'nobody known' {
  if (clientIps.includes(ip)) return 'client';
  const { family, ip: address } = parseAddress(ip);
  if (contains(LOAD_BALANCER_RANGES[family], address)) return 'load balancer';
  const isProxy = [...cluster.httpProxies.keys()].some((pod) => podIpsOf(cluster.api.get('Pod', pod)!).includes(ip));
  if (isProxy) return 'proxy';
  const isOfNode = cluster.nodes.some(({ machine }) =>
    stackOf(machine.root, family).addresses.some((own) => own.ip === address),
  );
  return isOfNode ? 'node' : 'nobody known';
}

const gatewayTo = (service: string) => [
  objectFrom('Gateway', {
    metadata: { name: 'web' },
    spec: { gatewayClassName: 'example', listeners: [{ name: 'http', port: 80, protocol: 'HTTP' }] },
  }),
  objectFrom('HTTPRoute', {
    metadata: { name: 'web' },
    spec: { parentRefs: [{ name: 'web' }], rules: [{ backendRefs: [{ name: service, port: 80 }] }] },
  }),
];
