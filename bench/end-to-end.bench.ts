// Packets per wall second through the complete data path: UDP request and response between pods of all nodes, through a
// Service (DNAT there, un-DNAT back), with kube-proxy's rules, conntrack, ARP, TTL and CPU accounting; journeys off.

import { ms, us } from '../engine/time.ts';
import { Cluster } from '../models/cluster.ts';
import { parsePrefix } from '../models/packet/ip-address.ts';
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

/** Delivered data packets per wall second of one run, after a warm-up that fills neighbor tables and conntrack. */
export function packetsPerSecond({
  nodes,
  podsPerNode,
  packets,
}: {
  nodes: number;
  podsPerNode: number;
  packets: number;
}): number {
  const { cluster, delivered } = buildEcho({ nodes, podsPerNode });
  const virtualMs = packets / (2 * nodes * podsPerNode); // each pod asks once a millisecond
  cluster.runFor(ms(virtualMs / 5));
  const deliveredBefore = delivered();
  const before = process.hrtime.bigint();
  cluster.runFor(ms(virtualMs));
  const wallSeconds = Number(process.hrtime.bigint() - before) / 1e9;
  cluster.assertConserved();
  const drops = [...cluster.frames.drops()];
  if (drops.length > 0) throw new Error(`frames were dropped: ${drops.map((drop) => drop.join(' ')).join(', ')}`);
  return (delivered() - deliveredBefore) / wallSeconds;
}

const SERVER_PORT = 8080;
const MESSAGE = { sizeBytes: 512, id: 0 };

/**
 * Every pod answers behind one Service, and asks another one once a millisecond from one socket. Bare sockets and not a
 * workload's clients: the data path is to be measured, not how requests are accounted for.
 */
export function buildEcho({ nodes, podsPerNode }: { nodes: number; podsPerNode: number }): {
  readonly cluster: Cluster;
  /** Datagrams that reached a socket so far. */
  delivered(): number;
} {
  // A /24 for each node: the usual /16 is used up by 256 of them.
  const cluster = new Cluster({ seed: 'bench', ranges: nodes > 256 ? { pod: parsePrefix('10.128.0.0/9') } : {} });
  cluster.addNodes(nodes);
  for (let i = 0; i < nodes; i++) {
    const selects = cluster.addDeployment({ name: `echo-${i}`, replicas: podsPerNode, port: SERVER_PORT });
    cluster.addService({ name: `echo-${i}`, port: 80, targetPort: SERVER_PORT, protocol: 'UDP', selects });
  }
  cluster.start();
  let count = 0;
  for (const [i, { name, namespace, place, cpu }] of cluster.pods.entries()) {
    cluster.servers.get(name)!.close();
    const to = cluster.resolve(`echo-${(i * 7 + 1) % nodes}:80`, { protocol: 'UDP' });
    const server: UdpHandlers = {
      onDatagram(message, from, socket) {
        count++;
        socket.send(from, message);
      },
    };
    namespace.udp.bind({ port: SERVER_PORT, cpu }, server);
    const client = namespace.udp.bind({ cpu }, { onDatagram: () => count++ });
    const ask = (): void => {
      client.send(to, MESSAGE);
      place.schedule(ms(1), ask, undefined);
    };
    place.schedule(us((i * 7_919) % 1_000), ask, undefined); // not all in the same nanosecond
  }
  return { cluster, delivered: () => count };
}
