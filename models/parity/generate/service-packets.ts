// Random packets to the Services of a generated cluster: from pods, from the nodes themselves and from outside, to cluster
// IPs, node ports, load balancers' addresses and external IPs; and to what nobody serves beside them.

import { clusterIpsOf, type Service, type ServicePort } from '../../kube/objects.ts';
import { isIpv6 } from '../../packet/ip-address.ts';
import type { PacketStep } from '../case.ts';
import type { Draw } from './draw.ts';
import { type DrawnService, SERVICE_PORTS } from './service-cluster.ts';
import { CLIENTS, CLUSTER_NODES, type ClusterNode, UNUSED_CLUSTER_IPS } from './service-network.ts';

type Family = 4 | 6;

/** A packet and what it is to show. */
export interface ServicePacket {
  readonly step: PacketStep;
  /** `default/s12 node port` */
  readonly about: string;
}

interface Target {
  readonly about: string;
  readonly ip: string;
  readonly port: number;
  readonly proto: 'tcp' | 'udp' | 'sctp';
}

/** Few, so that flows come again, and that what NAT chooses is seldom one of them. */
const SOURCE_PORTS = [40_001, 40_002, 40_003, 40_004];

export function drawServicePacket(draw: Draw, services: readonly Service[]): ServicePacket {
  const { about, question } = drawQuestion(draw, services, draw.chance(0.65) ? 4 : 6);
  return {
    about,
    step: {
      ...{ ...question, sport: draw.pick(SOURCE_PORTS) },
      ...(question.proto === 'tcp' && draw.chance(0.08) && { flags: draw.pick(['A', 'PA', 'FA', 'R', 'SA']) }),
      ...(draw.chance(0.8) && { autoreply: true }),
    },
  };
}

/** Asks one Service that has several endpoints so often that each is met, but for one time in a million. */
export function drawSweep(draw: Draw, services: readonly DrawnService[]): ServicePacket[] {
  const asked = services
    .map(({ service, slices: [slice] }) => ({ service, endpoints: slice?.endpoints.length ?? 0 }))
    .filter(({ service, endpoints }) => endpoints > 1 && isBalanced(service));
  const { service, endpoints } = draw.pick(asked);
  const family = isOfFamily(clusterIpsOf(service)[0]!, 4) ? 4 : 6;
  const { about, question } = drawQuestion(draw, [service], family);
  const connections = Math.ceil(Math.log(1e-6 / endpoints) / Math.log(1 - 1 / endpoints));
  return Array.from({ length: connections }, (_, i) => ({ about, step: { ...question, sport: 40_000 + i } }));
}

/** Connections of one client go to all endpoints. */
const isBalanced = (service: Service): boolean =>
  clusterIpsOf(service).length > 0 && service.spec.sessionAffinity === 'None';

type Question = Pick<PacketStep, 'from' | 'src' | 'local' | 'proto' | 'dst'> & { readonly dport: number };

function drawQuestion(
  draw: Draw,
  services: readonly Service[],
  family: Family,
): { readonly about: string; readonly question: Question } {
  const node = draw.pick(CLUSTER_NODES);
  const sender = draw.weighted<Sender>([
    [9, () => podOf(draw, node, family)],
    [4, () => ({ from: node.name, local: true, src: family === 4 ? node.ip : node.ip6 })],
    [7, () => clientOf(draw, family)],
  ]);
  const { about, ip, port, proto } = drawTarget(draw, { services, family, node, sender });
  // A process that talks to loopback has an address there.
  const src = ip === LOOPBACK ? LOOPBACK : sender.src;
  return { about, question: { ...sender, src, proto, dst: ip, dport: port } };
}

type Sender = Pick<PacketStep, 'from' | 'src' | 'local'>;

function podOf(draw: Draw, { pods }: ClusterNode, family: Family): Sender {
  const { name, ip, ip6 } = draw.pick(pods);
  return { from: name, src: family === 4 ? ip : ip6 };
}

function clientOf(draw: Draw, family: Family): Sender {
  const { name, ip, ip6 } = draw.pick(CLIENTS);
  return { from: name, src: family === 4 ? ip : ip6 };
}

// ── where to ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const LOOPBACK = '127.0.0.1';

interface Place {
  readonly services: readonly Service[];
  readonly family: Family;
  /** Of the sender, unless it is outside. */
  readonly node: ClusterNode;
  readonly sender: Sender;
}

function drawTarget(draw: Draw, place: Place): Target {
  const service = draw.pick(place.services.filter((each) => servesFamily(each, place.family)));
  const port = draw.pick(service.spec.ports);
  return draw.weighted<Target>([
    [14, () => draw.pick(targetsOf(draw, { ...place, service, port }))],
    [1, () => draw.pick(besideServices(draw, { ...place, service, port }))],
  ]);
}

const isOfFamily = (ip: string, family: Family): boolean => isIpv6(ip) === (family === 6);

const servesFamily = (service: Service, family: Family): boolean =>
  clusterIpsOf(service).some((ip) => isOfFamily(ip, family));

interface ServicePlace extends Place {
  readonly service: Service;
  readonly port: ServicePort;
}

/** At least its cluster IP; node ports on an address of any node. */
function targetsOf(draw: Draw, { family, node, sender, service, port }: ServicePlace): Target[] {
  const name = `${service.metadata.namespace}/${service.metadata.name}`;
  const { externalIPs } = service.spec;
  const vips = service.status.loadBalancer.ingress.flatMap(({ ip }) => (ip === undefined ? [] : [ip]));
  const proto = PROTOCOLS[port.protocol];
  const at = (kind: string, ips: readonly string[], number = port.port): Target[] =>
    ips.filter((ip) => isOfFamily(ip, family)).map((ip) => ({ about: `${name} ${kind}`, ip, port: number, proto }));
  const nodePort = port.nodePort === undefined ? [] : [nodeAddress(draw, { family, node, sender })];
  return [
    ...at('cluster IP', clusterIpsOf(service)),
    ...at('node port', nodePort, port.nodePort),
    ...at('load balancer', vips),
    ...at('external IP', externalIPs),
  ];
}

const PROTOCOLS = { TCP: 'tcp', UDP: 'udp', SCTP: 'sctp' } as const;

/** Of the sender's own node or another one: the address on the fabric, at times that of the bridge, or loopback. */
function nodeAddress(draw: Draw, { family, node, sender }: Pick<Place, 'family' | 'node' | 'sender'>): string {
  if (sender.local === true && family === 4 && draw.chance(0.2)) return LOOPBACK;
  const asked = draw.chance(0.5) ? node : draw.pick(CLUSTER_NODES);
  if (draw.chance(0.15)) return family === 4 ? asked.gateway : asked.gateway6;
  return family === 4 ? asked.ip : asked.ip6;
}

/** The last of those that there may be. */
const UNUSED_NODE_PORT = 599;

/** Ports and protocols that the Service does not have, addresses of no Service, health checks, pods themselves. */
function besideServices(draw: Draw, { family, node, sender, service, port }: ServicePlace): Target[] {
  const name = `${service.metadata.namespace}/${service.metadata.name}`;
  const [clusterIp = ''] = clusterIpsOf(service).filter((ip) => isOfFamily(ip, family));
  const { healthCheckNodePort } = service.spec;
  const address = nodeAddress(draw, { family, node, sender });
  const pod = draw.pick(draw.pick(CLUSTER_NODES).pods);
  return [
    { about: `${name} port that it has not`, ip: clusterIp, port: 81, proto: 'tcp' },
    { about: `${name} in another protocol`, ip: clusterIp, port: port.port, proto: draw.pick(['tcp', 'udp', 'sctp']) },
    { about: 'no Service', ip: UNUSED_CLUSTER_IPS[family], port: draw.pick(SERVICE_PORTS), proto: 'udp' },
    { about: 'no node port', ip: address, port: UNUSED_NODE_PORT, proto: 'tcp' },
    { about: 'a pod', ip: family === 4 ? pod.ip : pod.ip6, port: 8080, proto: 'tcp' },
    ...(healthCheckNodePort === undefined
      ? []
      : [{ about: `${name} health check`, ip: address, port: healthCheckNodePort, proto: 'tcp' as const }]),
  ];
}
