// Packets per wall second through the complete data path: UDP request and response between pods of all nodes, through a
// Service (DNAT there, un-DNAT back), with kube-proxy's rules, conntrack, ARP, TTL and CPU accounting; journeys off.

import { type Instant, ms, us } from '../engine/time.ts';
import { Cluster } from '../models/cluster.ts';
import { constantRate } from '../models/workload/arrivals.ts';
import { Load } from '../models/workload/load.ts';
import { echo } from '../models/workload/server.ts';
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
  const { cluster, load } = buildEcho({ nodes, podsPerNode });
  const perRequest = 2;
  const virtual = ms(packets / perRequest / (nodes * podsPerNode * REQUESTS_PER_MS));
  cluster.runFor(ms(virtual / 5e6));
  cluster.startMeasuring();
  const before = process.hrtime.bigint();
  cluster.runFor(virtual);
  const wallSeconds = Number(process.hrtime.bigint() - before) / 1e9;
  cluster.assertConserved();
  if (load.failed > 0) throw new Error(`${load.failed} requests failed: ${[...load.failures]}`);
  return (load.completed * perRequest) / wallSeconds;
}

const REQUESTS_PER_MS = 1;

/** Every pod serves one Service of its own number modulo the nodes, and asks another one, a thousand times a second. */
export function buildEcho({ nodes, podsPerNode }: { nodes: number; podsPerNode: number }): {
  cluster: Cluster;
  load: Load;
} {
  const cluster = new Cluster({ seed: 'bench' });
  cluster.addNodes(nodes);
  for (let i = 0; i < nodes; i++) {
    const selects = cluster.addDeployment({
      name: `echo-${i}`,
      replicas: podsPerNode,
      server: echo({ serviceTime: us(10) }),
    });
    cluster.addService({ name: `echo-${i}`, port: 80, protocol: 'UDP', selects });
  }
  cluster.start();
  const load = new Load();
  for (const [i, pod] of cluster.pods.entries()) {
    const to = cluster.resolve(`echo-${(i * 7 + 1) % nodes}:80`, { protocol: 'UDP' });
    const arrivals = constantRate({ perSecond: REQUESTS_PER_MS * 1_000 });
    // Clients start one after the other, so that their requests are not all at the same nanosecond.
    pod.place.scheduleAt(
      (cluster.sim.now + us((i * 7_919) % 1_000)) as Instant,
      () =>
        cluster.openLoop(pod, {
          to,
          protocol: 'udp',
          keepAlive: true,
          arrivals,
          load,
          requestBytes: 512,
          responseBytes: 512,
        }),
      undefined,
    );
  }
  return { cluster, load };
}
