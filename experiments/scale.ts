// How do the time to build a cluster, its memory, packets per second, and what a change costs grow with nodes and Services?
//
// Expectation: time and memory in proportion to pods, and nothing like nodes times Services, because what nodes have in
// common they share; packets cost the same in any cluster, but for the caches of the machine that simulates. A changed
// endpoint costs in proportion to the nodes that it reaches; what is done about all Services is done once for all nodes, and
// shows in small clusters only. In virtual time a change takes what kube-proxy takes to restore its rules: longer with more
// Services, on one node or on all.
//
// The load is the same in each cluster, so that the cluster is all that grows: as many clients, spread over all nodes, that
// each ask one Service over one UDP flow. When they are done, they fill the conntrack tables of their nodes, in proportion to
// the cluster's pods: more than a million entries in the largest one. Then an endpoint becomes unready.
//
// Figures of wall time are of this machine, now, unlike those of any other experiment: columns with "Wall" in their names and
// `heapBytes` differ from run to run.

import assert from 'node:assert/strict';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Measure } from '../engine/simulator.ts';
import { Histogram, type HistogramSnapshot } from '../engine/stats/histogram.ts';
import type { RunningPod } from '../models/kube/kubelet.ts';
import type { ClusterIpFamily } from '../models/kube/ranges.ts';
import { parseIpv6Prefix, parsePrefix } from '../models/packet/ip-address.ts';
import { CLUSTER_FACTORS } from './cluster-factors.ts';
import { type ClusterSize, checkMemory } from './cluster-memory.ts';
import { experimentsOn } from './harness/experiment.ts';
import { reportToNodes } from './node-reports.ts';
import { Cluster, inMs, Load, ms, s, us } from './podwire.ts';

/** kubernetes.io/docs/setup/best-practices/cluster-large: at most 5,000 nodes, 150,000 pods, 10,000 Services. */
export const PODS_PER_NODE = 30;
const CLIENTS = 300;
/** Of a Service that has no pods, because there are more Services than pods. */
const IDLE_ENDPOINTS = 2;

/** Of each client: more than it gets answered while packets are counted. */
const REQUESTS = 1_000;
/** Datagrams per pod of the cluster that clients send when they are done; ports come again, so that some find an entry. */
const REPORTS_PER_POD = 8;

const MEASURED = ms(100);
/** Until clients have asked all they want. */
const FINISHING = s(2);
/** From a changed endpoint until all nodes have it: a sync of 10,000 Services takes one second. */
const PROGRAMMING = s(2);

const DEFAULT_IP_FAMILY = 'ipv4';

/** 16,384 ranges of a /24, and 65,536 of a /64: the defaults have 256 of each. */
const POD_RANGES = { ipv4: parsePrefix('10.128.0.0/10'), ipv6: parseIpv6Prefix('fd00:10::/48') };

const podRangesOf = (ipFamily: ClusterIpFamily) =>
  ipFamily === 'dual' ? { pod: POD_RANGES.ipv4, secondaryPod: POD_RANGES.ipv6 } : { pod: POD_RANGES[ipFamily] };

const experiment = experimentsOn(
  ({ ipFamily = DEFAULT_IP_FAMILY, ...options }) =>
    new Cluster({ ...options, ipFamily, ranges: podRangesOf(ipFamily) }),
  CLUSTER_FACTORS,
);

/** What is measured beside the load. */
interface Scale {
  readonly clients: readonly RunningPod[];
  readonly load: Load;
  readonly buildWallSeconds: number;
  readonly heapBytes: number;
  readonly programming: Programming;
  packetsPerWallSecond: number;
  endpointChangeWallMs: number;
}

/** How long it takes until nodes have a change in their rules. Each worker knows that of its own nodes. */
class Programming implements Measure {
  latency = new Histogram();

  snapshot(): HistogramSnapshot {
    return this.latency.snapshot();
  }

  add(snapshot: HistogramSnapshot): void {
    this.latency.merge(Histogram.of(snapshot));
  }
}

export default experiment({
  name: 'scale',
  question:
    'How do the time to build a cluster, its memory, packets per second, and what a change costs grow with nodes and Services?',
  factors: { nodes: [10, 100, 1_000, 5_000], services: [10, 100, 1_000, 10_000] },
  replications: 1,
  warmUp: ms(50),
  duration: s(17),
  divisible: true,

  build(levels, cluster): Scale {
    checkMemory(sizeOf(levels));
    const heapBefore = heapBytesBefore();
    const started = wallSeconds();
    addServices(cluster, levels);
    cluster.start();
    const buildWallSeconds = wallSeconds() - started;
    const heap = heapBytes() - heapBefore;
    const clients = clientsOf(cluster);
    const load = startClients(cluster, { clients, services: withPods(levels) });
    const programming = new Programming();
    cluster.sim.measures.add(programming);
    const later = { packetsPerWallSecond: Number.NaN, endpointChangeWallMs: Number.NaN };
    return { clients, load, buildWallSeconds, heapBytes: heap, programming, ...later };
  },

  *story(cluster, scale) {
    const { clients } = scale;
    const delivered = cluster.frames.totals().delivered;
    const began = wallSeconds();
    yield MEASURED;
    scale.packetsPerWallSecond = (cluster.frames.totals().delivered - delivered) / (wallSeconds() - began);
    collectGarbage(); // the heap has grown freely until now, and in the largest cluster the tables take what is left of 2 GB
    yield FINISHING;
    const reports = Math.ceil((REPORTS_PER_POD * cluster.pods.length) / clients.length);
    yield reportToNodes(cluster, { pods: clients, reports });
    const changed = wallSeconds();
    cluster.setReady(clients[0]!.name, false);
    yield PROGRAMMING;
    scale.endpointChangeWallMs = (wallSeconds() - changed) * 1e3;
    scale.programming.latency = cluster.kubeProxyMetrics.durations.kubeproxy_network_programming_duration_seconds.exact;
  },

  measure({ load, buildWallSeconds, heapBytes, packetsPerWallSecond, endpointChangeWallMs, programming }, cluster) {
    const { latency } = programming;
    const { nodes, ipFamilies } = cluster;
    assert.equal(latency.count, nodes.length * ipFamilies.length, 'an endpoint change reaches each kube-proxy');
    return {
      pods: cluster.pods.length,
      buildWallSeconds,
      heapBytes,
      packetsPerWallSecond,
      latencyP50Us: load.latency.quantileUs(0.5),
      failed: load.failed,
      conntrackEntries: cluster.conntrackEntries,
      endpointChangeWallMs,
      endpointChangeMs: inMs(latency.max),
    };
  },
});

export interface ScaleLevels {
  readonly nodes: number;
  readonly services: number;
  /** Only if it was asked for. */
  readonly ipFamily?: ClusterIpFamily;
}

/** Services that have pods; the rest have addresses where nobody is. */
const withPods = ({ nodes, services }: ScaleLevels): number => Math.min(services, nodes * PODS_PER_NODE);

export function sizeOf({ nodes, services, ipFamily = DEFAULT_IP_FAMILY }: ScaleLevels): ClusterSize {
  const pods = nodes * PODS_PER_NODE;
  const endpoints = pods + IDLE_ENDPOINTS * (services - withPods({ nodes, services }));
  return { nodes, pods, services, endpoints, ipFamily };
}

/** Each pod of the cluster is behind one Service; the scheduler spreads those of a Service over the nodes. */
function addServices(cluster: Cluster, { nodes, services }: ScaleLevels): void {
  cluster.addNodes(nodes);
  const pods = nodes * PODS_PER_NODE;
  const served = withPods({ nodes, services });
  for (let i = 0; i < served; i++) {
    const replicas = Math.floor(pods / served) + (i < pods % served ? 1 : 0);
    const selects = cluster.addDeployment({ name: `web-${i}`, replicas });
    cluster.addService({ name: `web-${i}`, port: 80, targetPort: 8080, protocol: 'UDP', selects });
  }
  for (let i = served; i < services; i++) {
    cluster.addService({ name: `idle-${i}`, port: 80, endpoints: IDLE_ENDPOINTS });
  }
}

/** Spread over all nodes, and over the pods of each. The scheduler has given pods to nodes in turn. */
function clientsOf({ nodes, pods }: Cluster): RunningPod[] {
  return Array.from({ length: CLIENTS }, (_, i) => {
    const node = Math.floor((i * nodes.length) / CLIENTS);
    return pods[node + nodes.length * (i % PODS_PER_NODE)]!;
  });
}

function startClients(
  cluster: Cluster,
  { clients, services }: { readonly clients: readonly RunningPod[]; readonly services: number },
): Load {
  const load = new Load();
  for (const [i, pod] of clients.entries()) {
    const to = cluster.resolve(`web-${(i * 7 + 1) % services}:80`, { protocol: 'UDP' });
    const asked = { to, protocol: 'udp', keepAlive: true, thinkTime: us(200), requests: REQUESTS, load } as const;
    cluster.closedLoop(pod, asked);
  }
  return load;
}

const wallSeconds = (): number => performance.now() / 1e3;

/** In which V8 compiles what it has begun to; meanwhile it keeps alive what the code mentions: the cluster before. */
const COMPILING_MS = 1_000;

let isFirstCluster = true;

/** What is alive in this thread when it begins with a cluster. */
function heapBytesBefore(): number {
  if (!isFirstCluster) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, COMPILING_MS);
  isFirstCluster = false;
  return heapBytes();
}

/** What is alive in this thread: objects, and the arrays of tables. */
function heapBytes(): number {
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** V8 frees arrays beside the program: the second collection waits until those of the first are gone. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  gc();
  gc();
}
