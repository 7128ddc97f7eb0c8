// Does a long run slow down? Events per second of CPU time around a virtual time t and around 10 t: with flows that stay, and
// with connections that come and go, whose entries in all tables have to go, too (soak.test.ts counts them).

import { type Duration, type Instant, ms, s } from '../engine/time.ts';
import { Cluster } from '../models/cluster.ts';
import { flowCacheOf } from '../models/ip/flow-cache.ts';
import { Bridge } from '../models/link/bridge.ts';
import { Load } from '../models/workload/load.ts';
import { buildEcho } from './end-to-end.bench.ts';
import type { BenchReport } from './report.ts';
import { makeYardstick } from './yardstick.ts';

interface Soak {
  readonly variant: string;
  readonly build: () => Cluster;
  readonly t: Duration;
  /** As long as some 50 ms of CPU time. */
  readonly window: Duration;
}

const SOAKS: readonly Soak[] = [
  { variant: '8 nodes x 16 pods, flows that stay', build: buildStaying, t: s(3), window: ms(250) },
  // Longer than anything is remembered: conntrack keeps a closed TCP connection for two minutes.
  { variant: '4 nodes x 4 pods, connections that come and go', build: buildChurn, t: s(300), window: s(10) },
];

/** Half of them before the instant, half after it. */
const WINDOWS = 20;

export async function run(report: BenchReport, soaks: readonly Soak[] = SOAKS): Promise<void> {
  const yardstick = makeYardstick();
  for (const { variant, build, t, window } of soaks) {
    const cluster = build();
    const [early, late] = [t, 10 * t].map((at) => ratesAround(at as Instant, { cluster, window, yardstick }));
    cluster.assertConserved();
    const add = (name: string, unit: string, value: number, rsd: number): void =>
      report.add({ bench: 'soak', case: variant, variant: name, unit, value, samples: WINDOWS, rsd });
    add(`around ${t / s(1)} s`, 'events/s', early!.perSecond, early!.rsd);
    add(`around ${(10 * t) / s(1)} s`, 'events/s', late!.perSecond, late!.rsd);
    // In units of the yardstick, so that a machine that became slower meanwhile is no run that did.
    add('late over early', 'times', late!.perYard / early!.perYard, Math.hypot(early!.rsd, late!.rsd));
  }
}

interface Rates {
  readonly perSecond: number;
  readonly perYard: number;
  /** Of what was done per unit of the yardstick. */
  readonly rsd: number;
}

/** Medians over windows around an instant, each with the yardstick before and after it. */
function ratesAround(
  at: Instant,
  { cluster, window, yardstick }: { cluster: Cluster; window: Duration; yardstick: () => number },
): Rates {
  cluster.run((at - (WINDOWS / 2) * window) as Instant);
  const perSecond: number[] = [];
  const perYard: number[] = [];
  let yard = yardstick();
  for (let i = 0; i < WINDOWS; i++) {
    const rate = eventsPerCpuSecond(cluster, window);
    const next = yardstick();
    perSecond.push(rate);
    perYard.push((rate * (yard + next)) / 2 / 1e9);
    yard = next;
  }
  const middle = median(perYard);
  const rsd = Math.sqrt(perYard.reduce((sum, rate) => sum + (rate / middle - 1) ** 2, 0) / WINDOWS);
  return { perSecond: median(perSecond), perYard: middle, rsd };
}

/** Of the whole process: what collects garbage meanwhile counts, and other programs do not. */
function eventsPerCpuSecond(cluster: Cluster, window: Duration): number {
  const { executedEvents } = cluster.sim;
  const before = process.cpuUsage();
  cluster.runFor(window);
  const { user, system } = process.cpuUsage(before);
  return (cluster.sim.executedEvents - executedEvents) / ((user + system) / 1e6);
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

/** One flow of each pod, kept for good. */
export function buildStaying(): Cluster {
  return buildEcho({ nodes: 8, podsPerNode: 16 }).cluster;
}

/**
 * Each pod asks a Service ten times a second, half of them by UDP and half by TCP, and from a new port each time. Timeouts are
 * those of Linux.
 */
export function buildChurn({ thinkTime = ms(100) }: { readonly thinkTime?: Duration } = {}): Cluster {
  const nodes = 4;
  const cluster = new Cluster({ seed: 'soak' });
  cluster.addNodes(nodes);
  const web = cluster.addDeployment({ name: 'web', replicas: 4 * nodes });
  for (const protocol of ['UDP', 'TCP'] as const)
    cluster.addService({ name: protocol.toLowerCase(), port: 80, targetPort: 8080, protocol, selects: web });
  cluster.start();
  const load = new Load();
  for (const [i, pod] of cluster.pods.entries()) {
    const [name, protocol] = Math.floor(i / nodes) % 2 === 0 ? (['udp', 'UDP'] as const) : (['tcp', 'TCP'] as const);
    cluster.closedLoop(pod, { to: cluster.resolve(`${name}:80`, { protocol }), protocol: name, thinkTime, load });
  }
  return cluster;
}

/** All that a run could let grow. */
export function sizesOf({ sim, frames, nodes, pods, conntrackEntries }: Cluster) {
  const sum = <T>(all: readonly T[], sizeOf: (one: T) => number): number =>
    all.reduce((total, one) => total + sizeOf(one), 0);
  const bridges = nodes.flatMap(({ machine }) => machine.root.devices.filter((device) => device instanceof Bridge));
  return {
    pendingEvents: sim.pendingEvents,
    conntrackEntries,
    flowCacheRecords: flowCacheOf(frames).capacity,
    framesInFlight: frames.totals().inFlight,
    fdbEntries: sum(bridges, ({ fdb }) => [...fdb.entries()].length),
    neighbors: sum(pods, ({ namespace }) => [...namespace.stack.neighbors].length),
    tcpConnections: sum(pods, ({ namespace }) => namespace.tcp.connections.length),
    tcpTimeWait: sum(pods, ({ namespace }) => namespace.tcp.timeWaitCount),
  };
}
