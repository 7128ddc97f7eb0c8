// How long until a changed endpoint is programmed on every node, by number of Services and mode of kube-proxy?
//
// Expectation. A change waits for the next sync and then for that sync. A sync may begin once per minSyncPeriod, or when the
// last one has ended if that takes longer: under steady changes half of the longer one on average. (10 s instead of 1 s cost
// 4.5 s, says kubernetes/kubernetes#114229; in KEP-3453's test of 5,000 nodes the median fell from 13 s to 5 s.) The sync takes
// what restoring the rules took when measured: in iptables mode that grows with all Services, as KUBE-SERVICES is always
// written (91 ms at 1,000, 473 ms at 5,000), in nftables mode it grows less (40 and 173 ms).
//
// Not asked: what a busy CPU adds, which dominates in published figures. Nodes are alike and hear of a change at the same
// moment, so that it is in force on all of them at the same moment.

import { EndpointChurn } from './endpoint-churn.ts';
import {
  type Duration,
  experiment,
  inMs,
  MEASURED_SYNC_COSTS,
  meanFinding,
  ms,
  near,
  s,
  syncDuration,
} from './podwire.ts';

const SERVICES = [10, 100, 1_000, 5_000] as const;
const PROXIES = ['iptables', 'nftables'] as const;
const MIN_SYNC_PERIODS = [1, 10] as const;

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
    services: SERVICES,
    proxy: PROXIES,
    minSyncPeriodSeconds: MIN_SYNC_PERIODS,
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
    const churn = new EndpointChurn(cluster, { pods: 'default/web-', perSecond: CHANGES_PER_SECOND });
    churn.runFor(s(3 * minSyncPeriodSeconds)); // until the burst that the runner allows is used up
    return { services, proxy, minSyncPeriod: s(minSyncPeriodSeconds), churn };
  },

  *story(_, { churn }) {
    yield* churn.lasting(s(120));
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
      syncMeanMs: inMs(sync.mean),
      syncP50Ms: inMs(sync.quantile(0.5)),
      syncP99Ms: inMs(sync.quantile(0.99)),
      expectedSyncMs: expected.syncMs,
      syncs: sync.count,
    };
  },

  findings: (runs) =>
    PROXIES.flatMap((proxy) =>
      MIN_SYNC_PERIODS.flatMap((minSyncPeriodSeconds) =>
        SERVICES.flatMap((services) => {
          const cells = runs.at({ services, proxy, minSyncPeriodSeconds });
          const [{ expectedMeanMs, expectedMarginMs, expectedSyncMs } = NOTHING] = cells;
          const name = `${proxy}, ${services.toLocaleString('en-US')} Services, minSyncPeriod ${minSyncPeriodSeconds} s`;
          const [latencies, syncs] = [
            cells.map((cell) => cell.programmingMeanMs),
            cells.map((cell) => cell.syncMeanMs),
          ];
          return [
            ...meanFinding(`${name}: mean latency (ms)`, latencies, near(expectedMeanMs, { within: expectedMarginMs })),
            ...meanFinding(`${name}: mean sync (ms)`, syncs, near(expectedSyncMs, { within: 0.05 * expectedSyncMs })),
          ];
        }),
      ),
    ),

  charts: [
    { x: 'services', y: 'programmingMeanMs', by: 'minSyncPeriodSeconds' },
    { x: 'services', y: 'syncMeanMs', by: 'proxy' },
  ],
});

const NOTHING = { expectedMeanMs: 0, expectedMarginMs: 0, expectedSyncMs: 0 };

interface Variant {
  readonly services: number;
  readonly proxy: 'iptables' | 'nftables';
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
  // A wait is uniform over the cycle: three standard errors of its mean, and 5 % for what is between a token and a change.
  const margin = (3 * cycle) / Math.sqrt(12 * changes) + 0.05 * mean;
  return {
    syncMs: inMs(syncDuration(MEASURED_SYNC_COSTS[proxy], extent)),
    meanMs: inMs(Math.round(mean) as Duration),
    marginMs: inMs(Math.round(margin) as Duration),
  };
}
