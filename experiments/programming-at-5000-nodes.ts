// What did writing only what has changed, and doing it more often, gain in a cluster of 5,000 nodes?
//
// Expectation (KEP-3453, test of 5,000 nodes, network programming latency in iptables mode):
//
//   seconds                                        p50    p90    p99
//   everything is written, every 10 s at most       27     36     42
//   only what has changed, every 10 s at most       13     19     24
//   only what has changed, every 1 s at most         5     18     24
//
// Nodes are alike, so one of them stands for all: what there is in 5,000 nodes are Services and changes. The load test has 30
// pods per node in groups of 250, 30 and 5, and Services for half of these: 8,200 Services. How long a sync takes is measured
// here on an idle machine (models/cpu/calibration.json): 2.7 s for everything. Those nodes were slower, or busier: a median
// of 27 s is half a cycle of waiting and one of writing, if a sync takes 18 s, 7 times as long. Both machines are asked.
//
// A change waits for half a cycle, which is as long as minSyncPeriod or as a sync, and then for its sync.

import { EndpointChurn } from './endpoint-churn.ts';
import { experiment, inSeconds, MEASURED_SYNC_COSTS, meanFinding, ms, near, s } from './podwire.ts';

const MACHINES = ['as measured', '7 times slower'] as const;
const RESTORES = ['everything / 10 s', 'changes / 10 s', 'changes / 1 s'] as const;

const SERVICES = 8_200;
const CHANGING = 30;
const ENDPOINTS = 5;
/** "churn <= 20/s", say the scalability thresholds of Kubernetes about pods. */
const CHANGES_PER_SECOND = 20;
const HEARING = ms(10);
const LASTING = s(100);

export default experiment({
  name: 'programming-at-5000-nodes',
  question: 'What did writing only changed rules, and doing it more often, gain in a cluster of 5,000 nodes?',
  factors: { machine: MACHINES, restore: RESTORES },
  replications: 3,
  warmUp: ms(0),
  duration: LASTING,

  clusterOptions({ machine, restore }) {
    const factor = machine === 'as measured' ? 1 : 7;
    return {
      proxySync: {
        minSyncPeriod: restore === 'changes / 1 s' ? s(1) : s(10),
        minimizesRestore: restore !== 'everything / 10 s',
        costs: { ...MEASURED_SYNC_COSTS, iptables: slowed(MEASURED_SYNC_COSTS.iptables, factor) },
      },
    };
  },

  build({ restore }, cluster) {
    cluster.addNodes(1);
    for (let i = CHANGING; i < SERVICES; i++) cluster.addService({ name: `idle-${i}`, port: 80, endpoints: ENDPOINTS });
    for (let i = 0; i < CHANGING; i++) {
      const web = cluster.addDeployment({ name: `web-${i}`, replicas: ENDPOINTS });
      cluster.addService({ name: `web-${i}`, port: 80, selects: web });
    }
    const churn = new EndpointChurn(cluster, { pods: 'default/web-', perSecond: CHANGES_PER_SECOND });
    churn.runFor(s(25)); // until the burst that the runner allows is used up
    return { minSyncPeriod: restore === 'changes / 1 s' ? s(1) : s(10), churn };
  },

  *story(_, { churn }) {
    yield* churn.lasting(LASTING);
  },

  measure({ minSyncPeriod }, { kubeProxyMetrics: { durations } }) {
    const programming = durations.kubeproxy_network_programming_duration_seconds.exact;
    const sync = durations.kubeproxy_sync_proxy_rules_duration_seconds.exact;
    const cycle = Math.max(inSeconds(minSyncPeriod), inSeconds(sync.mean));
    return {
      programmingP50Seconds: inSeconds(programming.quantile(0.5)),
      programmingP90Seconds: inSeconds(programming.quantile(0.9)),
      programmingP99Seconds: inSeconds(programming.quantile(0.99)),
      expectedP50Seconds: cycle / 2 + inSeconds(sync.mean) + inSeconds(HEARING),
      syncMeanSeconds: inSeconds(sync.mean),
      syncs: sync.count,
    };
  },

  findings: (runs) =>
    MACHINES.flatMap((machine) => {
      const median = (measures: { readonly programmingP50Seconds: number }) => measures.programmingP50Seconds;
      const [full, partial, often] = RESTORES.map((restore) => ({ machine, restore }));
      const gain = (before: typeof full, after: typeof full) =>
        runs.pairs(before!, after!, (a, b) => median(a) / median(b));
      return [
        ...RESTORES.flatMap((restore) => {
          const cells = runs.at({ machine, restore });
          const arithmetic = cells.map((cell) => median(cell) / cell.expectedP50Seconds);
          const published = PUBLISHED_P50_SECONDS[restore];
          return [
            ...meanFinding(
              `${machine}, ${restore}: median over half a cycle and a sync`,
              arithmetic,
              near(1, { within: 0.1 }),
            ),
            ...meanFinding(
              `${machine}, ${restore}: median (s), of KEP-3453`,
              cells.map(median),
              near(published, { within: 0.3 * published }),
            ),
          ];
        }),
        ...meanFinding(
          `${machine}: gain of writing only changes`,
          gain(full, partial),
          near(27 / 13, { within: 0.3 * (27 / 13) }),
        ),
        ...meanFinding(
          `${machine}: gain of a minSyncPeriod of 1 s`,
          gain(partial, often),
          near(13 / 5, { within: 0.3 * (13 / 5) }),
        ),
      ];
    }),

  charts: [
    { x: 'restore', y: 'programmingP50Seconds', by: 'machine' },
    { x: 'restore', y: 'programmingP99Seconds', by: 'machine' },
  ],
});

const PUBLISHED_P50_SECONDS = { 'everything / 10 s': 27, 'changes / 10 s': 13, 'changes / 1 s': 5 } as const;

type SyncCost = (typeof MEASURED_SYNC_COSTS)['iptables'];

function slowed({ full, partial }: SyncCost, factor: number): SyncCost {
  const slow = (curve: SyncCost['full']): SyncCost['full'] =>
    curve.map(([servicePorts, costNs]) => [servicePorts, costNs * factor]);
  return { full: slow(full), partial: slow(partial) };
}
