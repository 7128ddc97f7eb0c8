// Services of all kinds and the EndpointSlices behind them, drawn at random: types, policies, protocols, families, affinity,
// addresses outside the cluster, source ranges, hints, and endpoints in every condition. Their addresses and pods are those
// of service-network.ts.

import { type EndpointSlice, type Manifest, objectFrom, type Service } from '../../kube/objects.ts';
import type { Draw } from './draw.ts';
import {
  CLIENT_RANGES,
  CLIENT_RANGES6,
  CLUSTER_NODES,
  clusterIp6Of,
  clusterIpOf,
  externalIp6Of,
  externalIpOf,
  loadBalancerIp6Of,
  loadBalancerIpOf,
  proxyIpOf,
} from './service-network.ts';

/** Of fewer, none may be of some kind that packets ask for. */
export const FEWEST_SERVICES = 20;
/** As many as there are addresses for. */
export const MOST_SERVICES = 249;

export interface DrawnService {
  readonly service: Service;
  readonly slices: readonly EndpointSlice[];
}

type Spec = NonNullable<Manifest<'Service'>['spec']>;
type Port = NonNullable<Spec['ports']>[number];
type Family = 4 | 6;
type Kind = 'headless' | 'ExternalName' | 'ClusterIP' | 'NodePort' | 'LoadBalancer';

/** No two have an address or node port in common. */
export function drawServices(draw: Draw, count: number): DrawnService[] {
  const nodePorts = freeNodePorts();
  return Array.from({ length: count }, (_, i) => drawService(draw, i + 1, nodePorts));
}

/**
 * `--service-node-port-range` is 100-599 here: from 512 to 599 NAT never chooses a port, below it only in place of one from
 * there, so that none looks like a node port.
 */
function* freeNodePorts(): Generator<number, never> {
  for (let port = 100; port < 600; port++) if (!SERVICE_PORTS.some((other) => other === port)) yield port;
  throw new RangeError('more node ports than there are from 100 to 599');
}

function drawService(draw: Draw, number: number, nodePorts: Generator<number, never>): DrawnService {
  const kind = draw.weighted<Kind>(KINDS.map(([weight, name]) => [weight, () => name]));
  const families = draw.weighted<readonly Family[]>([
    [5, () => [4]],
    [1, () => [6]],
    [4, () => [4, 6]],
  ]);
  const name = `s${number}`;
  const ports = drawPorts(draw, hasNodePorts(draw, kind) ? nodePorts : undefined);
  const service = objectFrom('Service', {
    metadata: { name },
    spec: { ...specOf(draw, { kind, number, families, nodePorts }), ports },
    status: kind === 'LoadBalancer' ? drawStatus(draw, { number, families }) : {},
  });
  if (kind === 'ExternalName') return { service, slices: [] };
  const backing = drawEndpoints(draw);
  return { service, slices: families.map((family) => sliceOf(name, { family, ports, ...backing })) };
}

const KINDS: readonly (readonly [weight: number, kind: Kind])[] = [
  [1, 'headless'],
  [0.5, 'ExternalName'],
  [8, 'ClusterIP'],
  [6, 'NodePort'],
  [8, 'LoadBalancer'],
];

const hasNodePorts = (draw: Draw, kind: Kind): boolean =>
  kind === 'NodePort' || (kind === 'LoadBalancer' && draw.chance(0.85)); // allocateLoadBalancerNodePorts: false

// ── spec and status ──────────────────────────────────────────────────────────────────────────────────────────────────

interface KindOfService {
  readonly kind: Kind;
  readonly number: number;
  readonly families: readonly Family[];
}

function specOf(
  draw: Draw,
  { kind, number, families, nodePorts }: KindOfService & { readonly nodePorts: Generator<number, never> },
): Spec {
  if (kind === 'ExternalName') return { type: kind, externalName: 'db.example.com' };
  if (kind === 'headless') return { type: 'ClusterIP', clusterIP: 'None' };
  const clusterIPs = families.map((family) => (family === 4 ? clusterIpOf(number) : clusterIp6Of(number)));
  const external = externalIps(draw, { number, families });
  const isExternal = kind !== 'ClusterIP' || external.length > 0;
  const externalPolicyLocal = isExternal && draw.chance(0.35);
  return {
    ...{ type: kind, clusterIP: clusterIPs[0]!, clusterIPs, externalIPs: external },
    ipFamilies: families.map((family) => `IPv${family}` as const),
    internalTrafficPolicy: draw.chance(0.15) ? 'Local' : 'Cluster',
    ...(isExternal && { externalTrafficPolicy: externalPolicyLocal ? 'Local' : 'Cluster' }),
    ...(draw.chance(0.15) && {
      sessionAffinity: 'ClientIP',
      sessionAffinityConfig: { clientIP: { timeoutSeconds: draw.pick([600, 10_800]) } },
    }),
    ...(kind === 'LoadBalancer' && {
      loadBalancerSourceRanges: draw.chance(0.4) ? sourceRanges(draw) : [],
      ...(externalPolicyLocal && { healthCheckNodePort: nodePorts.next().value }),
    }),
  };
}

function externalIps(draw: Draw, { number, families }: Omit<KindOfService, 'kind'>): string[] {
  if (!draw.chance(0.2)) return [];
  return families.map((family) => (family === 4 ? externalIpOf(number) : externalIp6Of(number)));
}

const sourceRanges = (draw: Draw): string[] => [
  ...draw.some(draw.between(1, 3), CLIENT_RANGES),
  ...draw.some(draw.between(1, 3), CLIENT_RANGES6),
];

function drawStatus(draw: Draw, { number, families }: Omit<KindOfService, 'kind'>): Manifest<'Service'>['status'] {
  if (draw.chance(0.05)) return { loadBalancer: { ingress: [{ hostname: 'lb.example.com' }] } };
  const vips = families.map((family) => (family === 4 ? loadBalancerIpOf(number) : loadBalancerIp6Of(number)));
  return {
    loadBalancer: {
      ingress: [
        ...(draw.chance(0.9) ? vips.map((ip) => ({ ip, ipMode: 'VIP' as const })) : []),
        ...(draw.chance(0.1) ? [{ ip: proxyIpOf(number), ipMode: 'Proxy' as const }] : []),
      ],
    },
  };
}

// ── ports ────────────────────────────────────────────────────────────────────────────────────────────────────────────

export const SERVICE_PORTS = [53, 80, 443] as const;
const TARGET_PORTS = [53, 80, 8080, 8443];
const PROTOCOLS = ['TCP', 'UDP', 'SCTP'] as const;

/** Each with a node port if there are any to take. */
function drawPorts(draw: Draw, nodePorts: Generator<number, never> | undefined): Port[] {
  const count = draw.weighted([
    [6, () => 1],
    [2, () => 2],
    [1, () => 3],
  ]);
  const places = SERVICE_PORTS.flatMap((port) => PROTOCOLS.map((protocol) => ({ port, protocol })));
  const isSctp = ({ protocol }: { protocol: string }): boolean => protocol === 'SCTP';
  const usual = draw.chance(0.2) ? places : places.filter((place) => !isSctp(place));
  return draw.some(count, usual).map((place, i) => ({
    ...place,
    ...(count > 1 && { name: `port-${i + 1}` }),
    targetPort: draw.pick(TARGET_PORTS),
    ...(nodePorts !== undefined && { nodePort: nodePorts.next().value }),
  }));
}

// ── endpoints ────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Backing {
  readonly endpoints: readonly { readonly node: number; readonly pod: number; readonly state: State }[];
  readonly hints: Hints;
}

/** What an EndpointSlice says of it; `serving` is what is left when nothing is ready. */
type State = 'ready' | 'unready' | 'serving, terminating' | 'terminating';
type Hints = 'none' | 'zones' | 'zones of some' | 'nodes';

const CONDITIONS: Readonly<Record<State, { ready: boolean; serving: boolean; terminating: boolean }>> = {
  ready: { ready: true, serving: true, terminating: false },
  unready: { ready: false, serving: false, terminating: false },
  'serving, terminating': { ready: false, serving: true, terminating: true },
  terminating: { ready: false, serving: false, terminating: true },
};

function drawEndpoints(draw: Draw): Backing {
  const places = CLUSTER_NODES.flatMap(({ pods }, node) => pods.map((_, pod) => ({ node, pod })));
  const count = draw.weighted([
    [1, () => 0],
    [3, () => 1],
    [3, () => 2],
    [2, () => draw.between(3, 5)],
  ]);
  const onlyTerminating = draw.chance(0.1);
  const state = (): State =>
    onlyTerminating
      ? draw.pick(['serving, terminating', 'terminating'] as const)
      : draw.weighted<State>([
          [8, () => 'ready'],
          [1, () => 'unready'],
          [1, () => 'serving, terminating'],
          [0.5, () => 'terminating'],
        ]);
  return {
    endpoints: draw.some(count, places).map((place) => ({ ...place, state: state() })),
    hints: draw.weighted<Hints>([
      [7, () => 'none'],
      [2, () => 'zones'],
      [0.5, () => 'zones of some'],
      [1, () => 'nodes'],
    ]),
  };
}

function sliceOf(
  service: string,
  { family, ports, endpoints, hints }: Backing & { readonly family: Family; readonly ports: readonly Port[] },
): EndpointSlice {
  return objectFrom('EndpointSlice', {
    metadata: { name: `${service}-ipv${family}`, labels: { 'kubernetes.io/service-name': service } },
    addressType: `IPv${family}`,
    endpoints: endpoints.map(({ node: position, pod: number, state }, i) => {
      const { name: nodeName, zone, pods } = CLUSTER_NODES[position]!;
      const { ip, ip6 } = pods[number]!;
      const hasZone = hints !== 'none' && !(hints === 'zones of some' && i === 0);
      return {
        ...{ addresses: [family === 4 ? ip : ip6], nodeName, zone, conditions: CONDITIONS[state] },
        ...(hasZone && {
          hints: { forZones: [{ name: zone }], ...(hints === 'nodes' && { forNodes: [{ name: nodeName }] }) },
        }),
      };
    }),
    ports: ports.map(({ name, protocol, targetPort }) => ({
      ...(name !== undefined && { name }),
      port: Number(targetPort),
      ...(protocol !== undefined && { protocol }),
    })),
  });
}
