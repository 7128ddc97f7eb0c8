// How long until a changed endpoint is programmed on every node, by number of Services and mode of kube-proxy?
//
// Expectation. A change waits for the next sync and then for that sync. A sync may begin once per minSyncPeriod, or when the
// last one has ended if that takes longer: under steady changes half of the longer one on average. (10 s instead of 1 s cost
// 4.5 s, says kubernetes/kubernetes#114229; in KEP-3453's test of 5,000 nodes the median fell from 13 s to 5 s.) The sync takes
// what restoring the rules took when measured: in iptables mode that grows with all Services, as KUBE-SERVICES is always
// written (91 ms at 1,000, 473 ms at 5,000), in nftables mode it grows less (40 and 173 ms), and in IPVS mode, by figures that
// others published, hardly at all.
//
// Not asked: what a busy CPU adds, which dominates in published figures. Nodes are alike and hear of a change at the same
// moment, so that it is in force on all of them at the same moment.

import {
  type Cluster,
  type Duration,
  experiment,
  inMs,
  MEASURED_SYNC_COSTS,
  ms,
  type ProxyMode,
  s,
  syncDuration,
} from './podwire.ts';

/** Services whose pods become ready and unready, in turn with each other; the others only fill the rules. */
const CHANGING = 10;
/** As in the rows of the calibration. */
const ENDPOINTS = 5;
const CHANGES_PER_SECOND = 10;
const NODES = 3;
/** From a pod's status to the EndpointSlice controller, and from the slice to the proxies. */
const HEARING = ms(10);

export default experiment({
  name: 'programming-latency',
  question: 'How long until a changed endpoint is programmed on every node?',
  factors: {
    services: [10, 100, 1_000, 5_000],
    proxy: ['iptables', 'nftables', 'ipvs'],
    minSyncPeriodSeconds: [1, 10],
  },
  replications: 3,
  warmUp: ms(0),
  duration: s(120),

  build({ services, proxy, minSyncPeriodSeconds }, cluster) {
    cluster.useProxy(proxy, { minSyncPeriod: s(minSyncPeriodSeconds) });
    cluster.addNodes(NODES);
    for (let i = 0; i < services - CHANGING; i++)
      cluster.addService({ name: `idle-${i}`, port: 80, endpoints: ENDPOINTS });
    for (let i = 0; i < CHANGING; i++) {
      const web = cluster.addDeployment({ name: `web-${i}`, replicas: ENDPOINTS });
      cluster.addService({ name: `web-${i}`, port: 80, selects: web });
    }
    // Until the burst that the runner allows is used up.
    for (const pause of changes(cluster, s(3 * minSyncPeriodSeconds))) cluster.runFor(pause);
    return { services, proxy, minSyncPeriod: s(minSyncPeriodSeconds) };
  },

  *story(cluster) {
    yield* changes(cluster, s(120));
  },

  measure(variant, { kubeProxyMetrics: { durations } }) {
    const programming = durations.kubeproxy_network_programming_duration_seconds.exact;
    const sync = durations.kubeproxy_sync_proxy_rules_duration_seconds.exact;
    const changes = programming.count / NODES;
    const expected = expectedOf(variant, { sync: sync.mean, changes });
    return {
      programmingP50Ms: inMs(programming.quantile(0.5)),
      programmingP99Ms: inMs(programming.quantile(0.99)),
      programmingMeanMs: inMs(programming.mean),
      expectedMeanMs: expected.meanMs,
      expectedMarginMs: expected.marginMs,
      syncP50Ms: inMs(sync.quantile(0.5)),
      syncP99Ms: inMs(sync.quantile(0.99)),
      expectedSyncMs: expected.syncMs,
      syncs: sync.count,
      /** 1 if the mean latency is within the margin, and the mean sync within 5 % of the measured figures. */
      asExpected:
        Math.abs(inMs(programming.mean) - expected.meanMs) <= expected.marginMs &&
        Math.abs(inMs(sync.mean) - expected.syncMs) <= 0.05 * expected.syncMs
          ? 1
          : 0,
    };
  },
});

/** A pod of a changing Service becomes ready, or unready, after exponential pauses. */
function* changes(cluster: Cluster, lasting: Duration): Generator<Duration, void, void> {
  const random = cluster.sim.random.stream('programming-latency/changes');
  const pods = cluster.pods.map(({ name }) => name);
  const unready = new Set<string>();
  const mean = (s(1) / CHANGES_PER_SECOND) as Duration;
  for (let elapsed = 0; ; ) {
    const pause = random.exponential(mean);
    elapsed += pause;
    if (elapsed > lasting) return;
    yield pause;
    const pod = random.pick(pods);
    cluster.setReady(pod, unready.has(pod));
    if (!unready.delete(pod)) unready.add(pod);
  }
}

interface Variant {
  readonly services: number;
  readonly proxy: ProxyMode;
  readonly minSyncPeriod: Duration;
}

function expectedOf(
  { services, proxy, minSyncPeriod }: Variant,
  { sync, changes }: { readonly sync: Duration; readonly changes: number },
) {
  const cycle = Math.max(minSyncPeriod, sync);
  const changesPerSync = (CHANGES_PER_SECOND * cycle) / s(1);
  const changed = Math.round(CHANGING * (1 - (1 - 1 / CHANGING) ** changesPerSync));
  const extent = { kind: 'partial', servicePorts: services, changed } as const;
  const mean = cycle / 2 + sync + HEARING;
  // A wait is uniform over the cycle: three standard errors of its mean, and 2 % for what is between a token and a change.
  const margin = (3 * cycle) / Math.sqrt(12 * changes) + 0.02 * mean;
  return {
    syncMs: inMs(syncDuration(MEASURED_SYNC_COSTS[proxy], extent)),
    meanMs: inMs(Math.round(mean) as Duration),
    marginMs: inMs(Math.round(margin) as Duration),
  };
}
