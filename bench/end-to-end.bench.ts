// Packets per wall second through the complete data path: UDP request and response between pods of all nodes, through a
// Service (DNAT there, un-DNAT back), with kube-proxy's rules, conntrack, ARP, TTL and CPU accounting; journeys off.

import type { Part } from '../engine/parallel/part.ts';
import type { Place } from '../engine/simulator.ts';
import { type Duration, ms, ns, us } from '../engine/time.ts';
import { compileForLongRun } from '../experiments/harness/v8.ts';
import { Cluster } from '../models/cluster.ts';
import type { ClusterNode } from '../models/kube/cluster-node.ts';
import type { RunningPod } from '../models/kube/kubelet.ts';
import { parsePrefix } from '../models/packet/ip-address.ts';
import type { TcpConnection, TcpHandlers } from '../models/transport/tcp-connection.ts';
import type { SocketAddress } from '../models/transport/transport-stack.ts';
import type { UdpHandlers, UdpSocket } from '../models/transport/udp.ts';
import type { BenchReport } from './report.ts';

const SIZES = [
  { nodes: 8, podsPerNode: 16 },
  { nodes: 64, podsPerNode: 16 },
] as const;

const PACKETS = 1_000_000;
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
  /** How many pods ask, spread evenly over the cluster; all by default. */
  readonly clients?: number;
  /** How often each of them asks; once a millisecond by default. */
  readonly every?: Duration;
  readonly cpusPerNode?: number;
  /** Several workers simulate it together. */
  readonly part?: Part;
}

type TimedEcho = EchoOptions & {
  readonly packets: number;
  /** The clock; default: wall time. */
  readonly seconds?: () => number;
};

/** Delivered requests and responses per second of one run, after a warm-up that fills neighbor tables and conntrack. */
export const packetsPerSecond = (options: TimedEcho): number => echoRates(options).packets;

/** {@link packetsPerSecond}, and what nine tenths of the slices of 10,000 packets did not reach: the program, with little of others. */
export function echoRates({ packets, seconds = wallSeconds, ...options }: TimedEcho): {
  readonly packets: number;
  readonly undisturbed: number;
} {
  const { cluster, delivered } = buildEcho(options);
  const { nodes, podsPerNode, clients = nodes * podsPerNode } = options;
  const virtualMs = packets / (2 * clients); // each of them asks once a millisecond
  cluster.runFor(ms(Math.max(virtualMs * WARM_UP_RATIO, LEAST_WARM_UP_MS)));
  // While caches are cold, frames may race for one conntrack entry, or be sent again while ARP asks.
  const droppedBefore = cluster.frames.totals().dropped;
  const slices = Math.max(1, Math.round(packets / SLICE_PACKETS));
  const marks = [{ delivered: delivered(), seconds: seconds() }];
  for (let slice = 0; slice < slices; slice++) {
    cluster.runFor(ms(virtualMs / slices));
    marks.push({ delivered: delivered(), seconds: seconds() });
  }
  cluster.assertConserved();
  const drops = [...cluster.frames.drops()];
  if (cluster.frames.totals().dropped > droppedBefore)
    throw new Error(`frames were dropped: ${drops.map((drop) => drop.join(' ')).join(', ')}`);
  const rate = (from: number, to: number): number =>
    (marks[to]!.delivered - marks[from]!.delivered) / (marks[to]!.seconds - marks[from]!.seconds);
  const rates = Array.from({ length: slices }, (_, slice) => rate(slice, slice + 1)).sort((a, b) => b - a);
  return { packets: rate(0, slices), undisturbed: rates[Math.floor(slices / 10)]! };
}

/** Some ten milliseconds. */
const SLICE_PACKETS = 10_000;

/**
 * Of what is measured. Before a million packets of 8 x 16 pods these are 5.9 s of virtual time: whatever machines do once a
 * second, or when an answer of ARP is to be confirmed, has happened once, and V8 has compiled it.
 */
const WARM_UP_RATIO = 1.5;

/** Ways are remembered from the second frame of a flow on, and the first one may wait for ARP. */
const LEAST_WARM_UP_MS = 4;

const wallSeconds = (): number => Number(process.hrtime.bigint()) / 1e9;

const SERVER_PORT = 8080;
const MESSAGE = { sizeBytes: 512, id: 0 };

/**
 * Every pod answers behind one Service, and clients ask another one again and again from one socket. Bare sockets and not a
 * workload's clients: the data path is to be measured, not how requests are accounted for.
 */
export function buildEcho({
  nodes,
  podsPerNode,
  protocol = 'udp',
  services = nodes,
  clients = nodes * podsPerNode,
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
  compileForLongRun();
  const { pods } = cluster; // a new list each time
  const asking = Array.from({ length: clients }, (_, i) => Math.floor((i * pods.length) / clients));
  if (isLarge) introduceNeighbors(cluster, asking);
  const deliveries = { count: 0 };
  const programs = protocol === 'tcp' ? tcpEchoes(deliveries, every) : udpEchoes(deliveries, every);
  const addresses = Array.from({ length: nodes }, (_, i) =>
    cluster.resolve(`echo-${i}:80`, { protocol: serviceProtocol }),
  );
  for (const pod of pods) {
    cluster.servers.get(pod.name)!.close();
    programs.serve(pod);
  }
  for (const i of asking) {
    const pod = pods[i]!;
    const ask = programs.ask(pod, addresses[serviceAskedBy(i, nodes)]!);
    pod.place.schedule(ns((i * STAGGER_NS) % every), ask, undefined);
  }
  return { cluster, delivered: () => deliveries.count };
}

interface EchoPrograms {
  serve(pod: RunningPod): void;
  /** Asks, on time whether answers come or not, from the first call of what it returns on. */
  ask(pod: RunningPod, to: SocketAddress): () => void;
}

function udpEchoes(deliveries: { count: number }, every: Duration): EchoPrograms {
  const server: UdpHandlers = {
    onDatagram(message, from, socket) {
      deliveries.count++;
      socket.send(from, message);
    },
  };
  const client: UdpHandlers = { onDatagram: () => deliveries.count++ };
  return {
    serve: ({ namespace, cpu }) => namespace.udp.bind({ port: SERVER_PORT, cpu }, server),
    ask({ namespace, place, cpu }, to) {
      const asker = new UdpAsker({ socket: namespace.udp.bind({ cpu }, client), to, place, every });
      return () => UdpAsker.ask(asker);
    },
  };
}

/** An object and no closure, which would take two more lines of the processor's cache for each pod. */
class UdpAsker {
  readonly #socket: UdpSocket;
  readonly #to: SocketAddress;
  readonly #place: Place;
  readonly #every: Duration;

  constructor({ socket, to, place, every }: { socket: UdpSocket; to: SocketAddress; place: Place; every: Duration }) {
    this.#socket = socket;
    this.#to = to;
    this.#place = place;
    this.#every = every;
  }

  static ask(this: void, asker: UdpAsker): void {
    asker.#socket.send(asker.#to, MESSAGE);
    asker.#place.schedule(asker.#every, UdpAsker.ask, asker);
  }
}

function tcpEchoes(deliveries: { count: number }, every: Duration): EchoPrograms {
  const server: TcpHandlers = {
    onMessage(connection, message) {
      deliveries.count++;
      connection.send(message);
    },
  };
  const client: TcpHandlers = { onMessage: () => deliveries.count++ };
  return {
    serve: ({ namespace, cpu }) => namespace.tcp.listen({ port: SERVER_PORT, cpu }, () => server),
    ask({ namespace, place, cpu }, to) {
      let connection: TcpConnection | undefined;
      const ask = (): void => {
        connection ??= namespace.tcp.connect({ to, cpu }, client);
        connection.send(MESSAGE);
        place.schedule(every, ask, undefined);
      };
      return ask;
    },
  };
}

/** Of two pods that come one after the other: far from all others' instants, as the golden section has it. */
const STAGGER_NS = 618_033_989;

/** The service that this pod asks, by number. */
const serviceAskedBy = (pod: number, services: number): number => (pod * 7 + 1) % services;

/**
 * A question of ARP reaches every node of the segment, as do frames for a node that the switch has not heard, so that in a
 * larger cluster nothing else would be seen while all ask at once. There each Deployment has a node of its own, nodes know for
 * good where those are that they will talk to, and each has been heard.
 */
const MOST_NODES_OF_A_SEGMENT = 256;

function introduceNeighbors(cluster: Cluster, asking: readonly number[]): void {
  const { nodes, pods } = cluster;
  for (const i of asking) {
    const peer = nodes[serviceAskedBy(i, nodes.length)]!;
    const own = cluster.node(pods[i]!.node);
    if (own === peer) continue;
    introduce(own, peer);
    introduce(peer, own);
  }
  greetFirstNode(cluster);
}

/** Each node sends a datagram to the first one, which the switch hears before. */
function greetFirstNode(cluster: Cluster): void {
  const [first, second, ...others] = cluster.nodes as [ClusterNode, ClusterNode, ...ClusterNode[]];
  const ignore: UdpHandlers = { onDatagram: () => {} };
  const greet = (from: ClusterNode, to: ClusterNode): void => {
    introduce(from, to);
    const socket = from.machine.root.udp.bind({ cpu: 0 }, ignore);
    socket.send({ ip: to.ip, port: GREETING_PORT }, { sizeBytes: 1, id: 0 });
    socket.close();
  };
  for (const { machine } of [first, second]) machine.root.udp.bind({ port: GREETING_PORT, cpu: 0 }, ignore);
  greet(first, second);
  for (const [i, node] of [second, ...others].entries()) {
    node.machine.cpus.place.schedule(us(50 + i), () => greet(node, first), undefined);
  }
  cluster.runFor(us(cluster.nodes.length + 100));
}

const GREETING_PORT = 9;

function introduce({ machine, networkNode }: ClusterNode, { ip, networkNode: peer }: ClusterNode): void {
  machine.root.stack.neighbors.addPermanent(networkNode.nic, ip, peer.nic.mac);
}
