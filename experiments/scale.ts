// How do the time to build a cluster, its memory, and packets per second grow with nodes and Services?
//
// Expectation: time and memory in proportion to pods, and nothing like nodes times Services, because what nodes have in
// common they share; packets cost the same in any cluster, but for the caches of the machine that simulates.
//
// The load is the same in each cluster, so that the cluster is all that grows: as many clients, spread over all nodes, that
// each ask one Service over one UDP flow. Its figures are of this machine, now, unlike those of any other experiment:
// columns with "Wall" in their names and `heapBytes` differ from run to run.

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { RunningPod } from '../models/kube/kubelet.ts';
import type { ClusterIpFamily } from '../models/kube/ranges.ts';
import { parseIpv6Prefix, parsePrefix } from '../models/packet/ip-address.ts';
import { CLUSTER_FACTORS } from './cluster-factors.ts';
import { type ClusterSize, checkMemory } from './cluster-memory.ts';
import { experimentsOn } from './harness/experiment.ts';
import { Cluster, Load, ms, us } from './podwire.ts';

/** kubernetes.io/docs/setup/best-practices/cluster-large: at most 5,000 nodes, 150,000 pods, 10,000 Services. */
export const PODS_PER_NODE = 30;
const CLIENTS = 300;
/** Of a Service that has no pods, because there are more Services than pods. */
const IDLE_ENDPOINTS = 2;

const MEASURED = ms(100);

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
  readonly load: Load;
  readonly buildWallSeconds: number;
  readonly heapBytes: number;
  /** When measuring began, and how many frames had arrived by then. */
  began: { readonly wallSeconds: number; readonly delivered: number };
}

export default experiment({
  name: 'scale',
  question: 'How do the time to build a cluster, its memory, and packets per second grow with nodes and Services?',
  factors: { nodes: [10, 100, 1_000, 5_000], services: [10, 100, 1_000, 10_000] },
  replications: 1,
  warmUp: ms(50),
  duration: MEASURED,
  divisible: true,

  build(levels, cluster): Scale {
    checkMemory(sizeOf(levels));
    const heapBefore = heapBytes();
    const started = wallSeconds();
    addServices(cluster, levels);
    cluster.start();
    const buildWallSeconds = wallSeconds() - started;
    const heap = heapBytes() - heapBefore;
    const load = startClients(cluster, withPods(levels));
    return { load, buildWallSeconds, heapBytes: heap, began: { wallSeconds: 0, delivered: 0 } };
  },

  /** Begins when measuring does. */
  *story(cluster, scale) {
    scale.began = { wallSeconds: wallSeconds(), delivered: cluster.frames.totals().delivered };
    yield MEASURED;
  },

  measure({ load, buildWallSeconds, heapBytes, began }, cluster) {
    const elapsedSeconds = wallSeconds() - began.wallSeconds;
    return {
      pods: cluster.pods.length,
      buildWallSeconds,
      heapBytes,
      packetsPerWallSecond: (cluster.frames.totals().delivered - began.delivered) / elapsedSeconds,
      latencyP50Us: load.latency.quantileUs(0.5),
      failed: load.failed,
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

function startClients(cluster: Cluster, services: number): Load {
  const load = new Load();
  for (const [i, pod] of clientsOf(cluster).entries()) {
    const to = cluster.resolve(`web-${(i * 7 + 1) % services}:80`, { protocol: 'UDP' });
    cluster.closedLoop(pod, { to, protocol: 'udp', keepAlive: true, thinkTime: us(200), load });
  }
  return load;
}

/** Spread over all nodes, and over the pods of each. The scheduler has given pods to nodes in turn. */
function clientsOf({ nodes, pods }: Cluster): RunningPod[] {
  return Array.from({ length: CLIENTS }, (_, i) => {
    const node = Math.floor((i * nodes.length) / CLIENTS);
    return pods[node + nodes.length * (i % PODS_PER_NODE)]!;
  });
}

const wallSeconds = (): number => performance.now() / 1e3;

/** What is alive on the heap of this thread. */
function heapBytes(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
