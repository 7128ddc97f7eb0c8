// What `import { … } from 'podwire'` offers to an experiment.

import { Cluster, type ClusterOptions } from '../models/cluster.ts';
import { CLUSTER_FACTORS } from './cluster-factors.ts';
import { experimentsOn } from './harness/experiment.ts';

export {
  type Duration,
  days,
  hours,
  type Instant,
  inMs,
  inSeconds,
  inUs,
  minutes,
  ms,
  ns,
  s,
  us,
} from '../engine/time.ts';
export { Cluster, type ClusterOptions } from '../models/cluster.ts';
export { ownNetwork } from '../models/cni/networks/own-network.ts';
export { type CniCall, type CniPlugin, cniPlugin } from '../models/cni/plugin.ts';
export type { CniResult } from '../models/cni/result.ts';
export { type CostFile, CostFileError, costModelOf, parseCostFile, printCostFile } from '../models/cpu/cost-file.ts';
export { type CostModel, LINUX_6_18 } from '../models/cpu/cost-model.ts';
export { INSTANT_SYNC, type SyncSettings } from '../models/kube/kube-proxy/kube-proxy.ts';
export { ProxyMetrics } from '../models/kube/kube-proxy/proxy-metrics.ts';
export type { ProxyMode } from '../models/kube/kube-proxy/proxy-mode.ts';
export { IPTABLES_NFT_RESTORE, MEASURED_SYNC_COSTS, syncDuration } from '../models/kube/kube-proxy/sync-cost.ts';
export type { EnforcementSettings } from '../models/kube/network-policy/policy-agent.ts';
export { objectFrom } from '../models/kube/objects.ts';
export { type Target, targetAt } from '../models/kube/target.ts';
export { bursts, constantRate, poisson } from '../models/workload/arrivals.ts';
export { closedLoop, openLoop } from '../models/workload/client.ts';
export { exponential, fixed, logNormal, uniform } from '../models/workload/duration-distribution.ts';
export { httpRequest } from '../models/workload/http.ts';
export { Load } from '../models/workload/load.ts';
export { DEFAULT_PROXY, type ProxySettings } from '../models/workload/proxy/http-proxy.ts';
export { DEFAULT_POOL, type PoolSettings } from '../models/workload/proxy/upstream.ts';
export { echo } from '../models/workload/server.ts';
export {
  atLeast,
  atMost,
  exactly,
  type Finding,
  type MeasuredRuns,
  meanFinding,
  near,
  shareFinding,
  sumOf,
} from './harness/expectation.ts';
export type { Experiment, ExperimentDefinition, Factors, Level, Levels, Measures } from './harness/experiment.ts';
export { compileForLongRun } from './harness/v8.ts';
export { type EndedLookup, type LookupPlan, NameLookups } from './name-lookups.ts';

/** Defines an experiment on a {@link Cluster}: see experiments/README.md. */
export const experiment = experimentsOn<Cluster, Omit<ClusterOptions, 'seed' | 'costs'>, typeof CLUSTER_FACTORS>(
  (options) => new Cluster(options),
  CLUSTER_FACTORS,
);
