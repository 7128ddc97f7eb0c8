// Packets per wall second through the complete data path: UDP request and response between pods of all nodes, through a
// Service (DNAT there, un-DNAT back), with kube-proxy's rules, conntrack, ARP, TTL and CPU accounting; journeys off.

import type { Part } from '../engine/parallel/part.ts';
import { type Duration, inUs, ms, us } from '../engine/time.ts';
import { Cluster } from '../models/cluster.ts';
import type { ClusterNode } from '../models/kube/cluster-node.ts';
import { parsePrefix } from '../models/packet/ip-address.ts';
import type { TcpConnection, TcpHandlers } from '../models/transport/tcp-connection.ts';
import type { UdpHandlers } from '../models/transport/udp.ts';
import type { BenchReport } from './report.ts';

const SIZES = [
  { nodes: 8, podsPerNode: 16 },
  { nodes: 64, podsPerNode: 16 },
] as const;

/** Long enough for 400,000 packets a run: the compiler has settled after the first fifth. */
const PACKETS = 400_000;
const RUNS = 5;

export async function run(report: BenchReport): Promise<void> {
  for (const { nodes, podsPerNode } of SIZES) {
    const rates: number[] = [];
    for (let i = 0; i < RUNS; i++) rates.push(packetsPerSecond({ nodes, podsPerNode, packets: PACKETS }));
    rates.sort((a, b) => a - b);
    const median = rates[RUNS >> 1]!;
    const rsd = Math.sqrt(rates.reduce((sum, rate) => sum + (rate / median - 1) ** 2, 0) / RUNS);
    const name = `${nodes} nodes x ${podsPerNode} pods`;
    report.add({
      bench: 'end to end',
      case: name,
      variant: 'udp, service',
      unit: 'packets/s',
      value: median,
      samples: RUNS,
      rsd,
    });
  }
}

export interface EchoOptions {
  readonly nodes: number;
  readonly podsPerNode: number;
  /** TCP: each client keeps one connection. */
  readonly protocol?: 'udp' | 'tcp';
  /** All Services of the cluster; default, and at least: those that are asked, one per node. */
  readonly services?: number;
  /** How often each pod asks; once a millisecond by default. */
  readonly every?: Duration;
  readonly cpusPerNode?: number;
  /** Several workers simulate it together. */
  readonly part?: Part;
}

/** Delivered requests and responses per second of one run, after a warm-up that fills neighbor tables and conntrack. */
export function packetsPerSecond({
  packets,
  seconds = wallSeconds,
  ...options
}: EchoOptions & {
  readonly packets: number;
  /** The clock; default: wall time. */
  readonly seconds?: () => number;
}): number {
  const { cluster, delivered } = buildEcho(options);
  const virtualMs = packets / (2 * options.nodes * options.podsPerNode); // each pod asks once a millisecond
  cluster.runFor(ms(Math.max(virtualMs / 5, WARM_UP_MS)));
  // While caches are cold, frames may race for one conntrack entry, or be sent again while ARP asks.
  const droppedBefore = cluster.frames.totals().dropped;
  const deliveredBefore = delivered();
  const before = seconds();
  cluster.runFor(ms(virtualMs));
  const elapsedSeconds = seconds() - before;
  cluster.assertConserved();
  const drops = [...cluster.frames.drops()];
  if (cluster.frames.totals().dropped > droppedBefore)
    throw new Error(`frames were dropped: ${drops.map((drop) => drop.join(' ')).join(', ')}`);
  return (delivered() - deliveredBefore) / elapsedSeconds;
}

/** Ways are remembered from the second frame of a flow on, and the first one may wait for ARP. */
const WARM_UP_MS = 4;

const wallSeconds = (): number => Number(process.hrtime.bigint()) / 1e9;

const SERVER_PORT = 8080;
const MESSAGE = { sizeBytes: 512, id: 0 };

/**
 * Every pod answers behind one Service, and asks another one again and again from one socket. Bare sockets and not a
 * workload's clients: the data path is to be measured, not how requests are accounted for.
 */
export function buildEcho({
  nodes,
  podsPerNode,
  protocol = 'udp',
  services = nodes,
  every = ms(1),
  cpusPerNode = 2,
  part,
}: EchoOptions): {
  readonly cluster: Cluster;
  /** Requests and responses that reached a socket so far, of this part of the cluster. */
  delivered(): number;
} {
  const serviceProtocol = protocol === 'tcp' ? 'TCP' : 'UDP';
  // A /24 for each node: the usual /16 is used up by 256 of them.
  const isLarge = nodes > MOST_NODES_OF_A_SEGMENT;
  const ranges = isLarge ? { pod: parsePrefix('10.128.0.0/9') } : {};
  const cluster = new Cluster({ seed: 'bench', ranges, cpusPerNode, ...(part && { part }) });
  cluster.addNodes(nodes);
  for (let i = 0; i < nodes; i++) {
    const home = isLarge ? { node: `node-${i + 1}` } : {};
    const selects = cluster.addDeployment({ name: `echo-${i}`, replicas: podsPerNode, port: SERVER_PORT, ...home });
    cluster.addService({ name: `echo-${i}`, port: 80, targetPort: SERVER_PORT, protocol: serviceProtocol, selects });
  }
  for (let i = nodes; i < services; i++) cluster.addService({ name: `idle-${i}`, port: 80, endpoints: 2 });
  cluster.start();
  if (isLarge) introduceNeighbors(cluster);
  let count = 0;
  for (const [i, { name, namespace, place, cpu }] of cluster.pods.entries()) {
    cluster.servers.get(name)!.close();
    const to = cluster.resolve(`echo-${serviceAskedBy(i, nodes)}:80`, { protocol: serviceProtocol });
    let send: () => void;
    if (protocol === 'tcp') {
      const server: TcpHandlers = {
        onMessage(connection, message) {
          count++;
          connection.send(message);
        },
      };
      namespace.tcp.listen({ port: SERVER_PORT, cpu }, () => server);
      let client: TcpConnection | undefined;
      send = () => (client ??= namespace.tcp.connect({ to, cpu }, { onMessage: () => count++ })).send(MESSAGE);
    } else {
      const server: UdpHandlers = {
        onDatagram(message, from, socket) {
          count++;
          socket.send(from, message);
        },
      };
      namespace.udp.bind({ port: SERVER_PORT, cpu }, server);
      const client = namespace.udp.bind({ cpu }, { onDatagram: () => count++ });
      send = () => client.send(to, MESSAGE);
    }
    const ask = (): void => {
      send();
      place.schedule(every, ask, undefined);
    };
    place.schedule(us((i * 7_919) % inUs(every)), ask, undefined); // not all in the same nanosecond
  }
  return { cluster, delivered: () => count };
}

/** The service that this pod asks, by number. */
const serviceAskedBy = (pod: number, services: number): number => (pod * 7 + 1) % services;

/**
 * A question of ARP reaches every node of the segment, so that in a larger cluster nothing else would be seen while all ask
 * at once. There each Deployment has a node of its own, and nodes know for good where those are that they will talk to.
 */
const MOST_NODES_OF_A_SEGMENT = 256;

function introduceNeighbors(cluster: Cluster): void {
  const { nodes } = cluster;
  for (const [i, pod] of cluster.pods.entries()) {
    const peer = nodes[serviceAskedBy(i, nodes.length)]!;
    const own = cluster.node(pod.node);
    if (own === peer) continue;
    introduce(own, peer);
    introduce(peer, own);
  }
}

function introduce({ machine, networkNode }: ClusterNode, { ip, networkNode: peer }: ClusterNode): void {
  machine.root.stack.neighbors.addPermanent(networkNode.nic, ip, peer.nic.mac);
}
