// How many requests does a rolling update lose, by how long pods wait before they stop (a preStop hook that sleeps)?
//
// Expectation (kubernetes/kubernetes#43576, #86280; "sleep 3 generally sufficient"). A pod is asked to stop while the news is
// on its way to the proxies. From when it stops until the rules have changed, connections to it are refused: of r requests
// per second over n endpoints, r / n for as long as programming takes longer than the hook, for each pod. Nothing is lost
// when the hook outlasts the slowest programming.
//
// The cluster is a busy one: other Services change all the time, so that a change waits for the next sync, anything
// between nothing and minSyncPeriod, and then for that sync. That period is 0.7 s instead of kube-proxy's 1 s because the
// probes of new pods succeed after 1 s: an update in step with the syncs waits equally long at each of its pods.

import { objectFrom } from '../models/kube/objects.ts';
import { EndpointChurn } from './endpoint-churn.ts';
import { atMost, constantRate, type Duration, experiment, inSeconds, meanFinding, ms, ns, s } from './podwire.ts';

const PROXIES = ['iptables', 'nftables'] as const;
const PRE_STOPS = [0, 0.3, 0.6, 3] as const;
const REPLICAS = 6;
const REQUESTS_PER_SECOND = 150;
const MIN_SYNC_PERIOD = ms(700);
const WATCH_DELAY = ms(5);
/** Of Services that have nothing to do with it. */
const CHANGES_PER_SECOND = 10;
/** Not so long that a source port comes again: conntrack remembers where the first SYN from it was sent. */
const LASTING = s(14);

export default experiment({
  name: 'rolling-update',
  question: 'How many requests does a rolling update lose, by how long pods wait before they stop?',
  factors: { preStopSeconds: PRE_STOPS, proxy: PROXIES },
  replications: 12,
  warmUp: ms(0),
  duration: LASTING,

  clusterOptions: () => ({ watchDelay: WATCH_DELAY, proxySync: { minSyncPeriod: MIN_SYNC_PERIOD } }),

  build({ preStopSeconds, proxy }, cluster) {
    cluster.useProxy(proxy);
    cluster.addNodes(3);
    cluster.apply([deployment(preStopSeconds)]);
    cluster.addService({ name: 'web', port: 80, selects: { name: 'web' } });
    cluster.addService({ name: 'other', port: 80, selects: cluster.addDeployment({ name: 'other', replicas: 3 }) });
    const client = cluster.addPod({ name: 'client', node: 'node-1' });
    const churn = new EndpointChurn(cluster, { pods: 'default/other', perSecond: CHANGES_PER_SECOND });
    churn.runFor(s(3)); // until the burst that kube-proxy allows is used up
    const arrivals = constantRate({ perSecond: REQUESTS_PER_SECOND });
    const load = cluster.openLoop(client, { to: cluster.resolve('web:80'), arrivals, timeout: s(2) });
    return { preStopSeconds, load, churn };
  },

  *story(cluster, { churn }) {
    // At any moment between two syncs.
    yield* churn.lasting(ns(cluster.sim.random.stream('rolling-update/start').uniform() * MIN_SYNC_PERIOD));
    cluster.restart('web');
    yield* churn.lasting(LASTING);
  },

  measure({ preStopSeconds, load }, { kubeProxyMetrics: { durations } }) {
    const programming = durations.kubeproxy_network_programming_duration_seconds.exact;
    const sync = durations.kubeproxy_sync_proxy_rules_duration_seconds.exact;
    return {
      requests: load.started,
      failed: load.failed,
      refused: load.failures.get('refused') ?? 0,
      expectedFailed: expectedFailures({ preStopSeconds, sync: sync.mean }),
      programmingP50Ms: inSeconds(programming.quantile(0.5)) * 1e3,
      programmingMaxMs: inSeconds(programming.max) * 1e3,
    };
  },

  findings: (runs) =>
    PROXIES.flatMap((proxy) =>
      PRE_STOPS.flatMap((preStopSeconds) => {
        const cells = runs.at({ preStopSeconds, proxy });
        const name = `${proxy}, preStop ${preStopSeconds} s`;
        const failed = cells.map((cell) => cell.failed);
        const spare = cells.map(({ programmingMaxMs }) => preStopSeconds - programmingMaxMs / 1e3);
        if (Math.min(...spare) > 0)
          return meanFinding(`${name}, longer than any programming took: requests lost`, failed, atMost(0));
        const [cell] = cells;
        const expected = cell?.expectedFailed ?? 0;
        return meanFinding(`${name}: requests lost`, failed, {
          from: Math.max(0, 0.65 * expected - 5),
          to: 1.35 * expected + 5,
        });
      }),
    ),

  charts: [{ x: 'preStopSeconds', y: 'failed', by: 'proxy' }],
});

/** A change waits for the rest of a period, uniformly, then for the sync; a pod stops as soon as its kubelet has heard. */
function expectedFailures({
  preStopSeconds,
  sync,
}: {
  readonly preStopSeconds: number;
  readonly sync: Duration;
}): number {
  const shortest = inSeconds(WATCH_DELAY) + inSeconds(sync) - preStopSeconds;
  const longest = shortest + Math.max(inSeconds(MIN_SYNC_PERIOD), inSeconds(sync));
  const [from, to] = [Math.max(0, shortest), Math.max(0, longest)];
  // The mean of max(0, x) for x uniform from shortest to longest.
  const lostSeconds = (to ** 2 - from ** 2) / 2 / (longest - shortest);
  // The old pod goes when the new one is ready: the rules hear of both at once, and have n endpoints until then.
  return REPLICAS * (REQUESTS_PER_SECOND / REPLICAS) * lostSeconds;
}

function deployment(preStopSeconds: number) {
  const labels = { app: 'web' };
  const container = {
    name: 'web',
    ports: [{ containerPort: 8080 }],
    readinessProbe: { initialDelaySeconds: 1, periodSeconds: 1 },
    ...(preStopSeconds > 0 && { lifecycle: { preStop: { exec: { command: ['sleep', String(preStopSeconds)] } } } }),
  };
  return objectFrom('Deployment', {
    apiVersion: 'apps/v1',
    metadata: { name: 'web' },
    spec: {
      replicas: REPLICAS,
      strategy: { rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [container] } },
    },
  });
}
