// The table that kube-proxy writes in nftables mode, asked by packets of pods on its node and on another one: every Service
// that is there, and what there is not. All Services have one endpoint at most, so that nothing is left to chance.

import { START } from '../../../engine/time.ts';
import { DEFAULT_NFTABLES_CONFIG, NftablesProxier } from '../../kube/kube-proxy/nftables.ts';
import { NftChainCache } from '../../kube/kube-proxy/nftables-chain-cache.ts';
import { ServiceTracker } from '../../kube/kube-proxy/service-tracker.ts';
import { type Manifest, objectFrom } from '../../kube/objects.ts';
import { Nftables } from '../../netfilter/nft/nftables.ts';
import { parseIp, parsePrefix } from '../../packet/ip-address.ts';
import type { PacketStep, Topology } from '../case.ts';
import type { Fact } from './fact.ts';

type Spec = Manifest<'Service'>['spec'];
type Status = NonNullable<Manifest<'Service'>['status']>;

/** By endpoint: `10.244.1.2 n1`, or none. */
const SERVICES: readonly (readonly [Spec, endpoint?: string, status?: Status])[] = [
  [{ type: 'NodePort', clusterIP: '10.96.0.1', ports: [{ port: 80, nodePort: 30_080 }] }, '10.244.1.2 n1'],
  [{ clusterIP: '10.96.0.2', ports: [{ port: 53, protocol: 'UDP' }] }, '10.244.1.3 n1'],
  [{ type: 'NodePort', clusterIP: '10.96.0.3', ports: [{ port: 80, nodePort: 30_081 }] }],
  [
    {
      type: 'LoadBalancer',
      clusterIP: '10.96.0.4',
      externalTrafficPolicy: 'Local',
      loadBalancerSourceRanges: ['10.244.0.0/16', '10.244.1.0/24'],
      ports: [{ port: 80, nodePort: 30_082 }],
    },
    '10.244.2.2 n2',
    { loadBalancer: { ingress: [{ ip: '192.0.2.10' }] } },
  ],
  [{ clusterIP: '10.96.0.5', internalTrafficPolicy: 'Local', ports: [{ port: 80 }] }, '10.244.2.2 n2'],
  [{ clusterIP: '10.96.0.6', sessionAffinity: 'ClientIP', ports: [{ port: 80 }] }, '10.244.1.3 n1'],
];

function kubeProxyTable(): string {
  const tracker = new ServiceTracker();
  for (const [i, [spec, endpoint, status = {}]] of SERVICES.entries()) {
    const name = `s${i + 1}`;
    tracker.apply({ type: 'ADDED', object: objectFrom('Service', { metadata: { name }, spec, status }) });
    if (endpoint === undefined) continue;
    const [address = '', nodeName] = endpoint.split(' ');
    const object = objectFrom('EndpointSlice', {
      metadata: { name, labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      endpoints: [{ addresses: [address], nodeName }],
      ports: [{ port: 8080, protocol: spec.ports?.[0]?.protocol }],
    });
    tracker.apply({ type: 'ADDED', object });
  }
  const nftables = new Nftables(() => START);
  const proxier = new NftablesProxier({
    node: { name: 'n1', zone: undefined, ips: [parseIp('192.168.1.1')] },
    config: {
      ...DEFAULT_NFTABLES_CONFIG,
      localDetector: { mode: 'ClusterCIDR', cidr: parsePrefix('10.244.0.0/16') },
      serviceRanges: [parsePrefix('10.96.0.0/12')],
    },
    cache: new NftChainCache(),
  });
  proxier.sync(nftables, tracker.snapshot(), START);
  return nftables.list();
}

/** Traffic of n2 to Services goes to n1. */
const topology = (hairpin: boolean): Topology => ({
  nodes: [
    {
      name: 'n1',
      ip: '192.168.1.1',
      podCIDR: '10.244.1.0/24',
      routes: [{ to: '192.0.2.0/24', via: '192.168.1.2', dev: 'eth0' }],
      pods: [
        { name: 'p1', ip: '10.244.1.2', hairpin },
        { name: 'p2', ip: '10.244.1.3', hairpin },
      ],
    },
    {
      name: 'n2',
      ip: '192.168.1.2',
      podCIDR: '10.244.2.0/24',
      routes: ['10.96.0.0/16', '192.0.2.0/24'].map((to) => ({ to, via: '192.168.1.1', dev: 'eth0' })),
      pods: [{ name: 'q1', ip: '10.244.2.2' }],
    },
  ],
});

/** The sticky one twice; ports, addresses and node ports that nobody has; a node port on another address of the node. */
const TARGETS = [
  ...[
    '10.96.0.1:80',
    '10.96.0.1:81',
    '10.96.0.2:53/udp',
    '10.96.0.2:53',
    '10.96.0.3:80',
    '10.96.0.4:80',
    '10.96.0.5:80',
  ],
  ...['10.96.0.6:80', '10.96.0.6:80', '10.96.77.7:80', '192.168.1.1:30080', '192.168.1.1:30081', '192.168.1.1:30082'],
  ...['192.168.1.1:30099/udp', '192.0.2.10:80', '10.244.1.1:30080'],
];

const CLIENTS = [
  { from: 'p1', src: '10.244.1.2' },
  { from: 'p2', src: '10.244.1.3' },
  { from: 'q1', src: '10.244.2.2' },
];

const PACKETS = CLIENTS.flatMap((client, i) =>
  TARGETS.map((target, j): PacketStep => {
    const [, dst = '', dport, udp] = /^(.*):(\d+)(\/udp)?$/.exec(target) ?? [];
    const sport = 40_001 + i * TARGETS.length + j;
    return { ...client, proto: udp === undefined ? 'tcp' : 'udp', dst, sport, dport: Number(dport), autoreply: true };
  }),
);

export const KUBE_PROXY: readonly Fact[] = [false, true].map((hairpin) => ({
  name: `kube-proxy-nftables${hairpin ? '-with-hairpin-mode' : ''}`,
  says: "kube-proxy's table: packets to every kind of Service, and to none, frame by frame and with their connections",
  case: {
    topology: topology(hairpin),
    rules: { n1: { backend: 'nftnative', text: kubeProxyTable() } },
    packets: PACKETS,
  },
  shows: [],
  watch: { steps: false },
}));
