// What kube-proxy exports about its syncs, under the names and with the buckets of pkg/proxy/metrics.
//
// Not modelled: counts of rules per table, healthz and livez, metrics of other subsystems.

import { Histogram } from '../../../engine/stats/histogram.ts';
import { type Duration, type Instant, inSeconds } from '../../../engine/time.ts';
import type { KubeProxyAccount } from './iptables-fixed-chains.ts';

export const DURATION_METRICS = [
  'kubeproxy_sync_proxy_rules_duration_seconds',
  'kubeproxy_sync_full_proxy_rules_duration_seconds',
  'kubeproxy_sync_partial_proxy_rules_duration_seconds',
  'kubeproxy_network_programming_duration_seconds',
] as const;
export type DurationMetricName = (typeof DURATION_METRICS)[number];

export const COUNTERS = [
  'kubeproxy_sync_proxy_rules_endpoint_changes_total',
  'kubeproxy_sync_proxy_rules_service_changes_total',
  'kubeproxy_sync_proxy_rules_iptables_restore_failures_total',
  'kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total',
  'kubeproxy_sync_proxy_rules_nftables_sync_failures_total',
] as const;
export type CounterName = (typeof COUNTERS)[number];

/** In spite of its name the last one counts the service ports of the last sync. */
export const GAUGES = [
  'kubeproxy_sync_proxy_rules_endpoint_changes_pending',
  'kubeproxy_sync_proxy_rules_service_changes_pending',
  'kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="internal"}',
  'kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="external"}',
] as const;
export type GaugeName = (typeof GAUGES)[number];

/** When a sync last succeeded, and when one was last asked for. */
export const TIMESTAMPS = [
  'kubeproxy_sync_proxy_rules_last_timestamp_seconds',
  'kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds',
] as const;
export type TimestampName = (typeof TIMESTAMPS)[number];

/** Counted by the kernel, in the accounts of `-m nfacct`, and read when somebody asks (1.33 and later). */
export const ACCOUNT_METRICS = {
  kubeproxy_iptables_ct_state_invalid_dropped_packets_total: 'ct_state_invalid_dropped_pkts',
  kubeproxy_iptables_localhost_nodeports_accepted_packets_total: 'localhost_nps_accepted_pkts',
} as const satisfies Readonly<Record<string, KubeProxyAccount>>;
export type AccountMetricName = keyof typeof ACCOUNT_METRICS;

/** Of one kube-proxy, or of all that are made with it as `total`: the sums of their counts, the latest of their times. */
export class ProxyMetrics {
  readonly durations: Readonly<Record<DurationMetricName, DurationMetric>>;
  readonly #values = new Map<CounterName | GaugeName | TimestampName, number>();
  readonly #total: ProxyMetrics | undefined;

  constructor({ total }: { total?: ProxyMetrics } = {}) {
    this.#total = total;
    const isTotal = total === undefined;
    const metrics = DURATION_METRICS.map((name) => [name, new DurationMetric(bucketsOf(name), { isTotal })]);
    this.durations = Object.fromEntries(metrics) as Record<DurationMetricName, DurationMetric>;
  }

  /** Timestamps are seconds of virtual time. */
  value(name: CounterName | GaugeName | TimestampName): number {
    return this.#values.get(name) ?? 0;
  }

  observe(name: DurationMetricName, duration: Duration): void {
    this.durations[name].observe(duration);
    this.#total?.observe(name, duration);
  }

  add(name: CounterName | GaugeName, amount = 1): void {
    this.#values.set(name, this.value(name) + amount);
    this.#total?.add(name, amount);
  }

  set(name: GaugeName, value: number): void {
    this.add(name, value - this.value(name));
  }

  stamp(name: TimestampName, now: Instant): void {
    this.#values.set(name, inSeconds(now));
    this.#total?.stamp(name, now);
  }

  /** Forgets what has been counted and observed. A real kube-proxy never does; a scraper takes differences instead. */
  startMeasuring(): void {
    for (const name of DURATION_METRICS) this.durations[name].clear();
    for (const name of COUNTERS) this.#values.delete(name);
  }

  /** As a scraper reads it. */
  text(): string {
    const values = [...COUNTERS, ...GAUGES, ...TIMESTAMPS].map((name) => `${name} ${this.value(name)}\n`);
    return DURATION_METRICS.map((name) => this.durations[name].text(name)).join('') + values.join('');
  }
}

/** A histogram of Prometheus; that of all proxies together also knows quantiles better than its buckets do. */
export class DurationMetric {
  /** Upper bounds in seconds; one more bucket has no bound. */
  readonly buckets: readonly number[];
  readonly #isTotal: boolean;
  #counts: Float64Array | undefined;
  #sum = 0;
  #exact: Histogram | undefined;

  constructor(buckets: readonly number[], { isTotal }: { isTotal: boolean }) {
    this.buckets = buckets;
    this.#isTotal = isTotal;
  }

  observe(duration: Duration): void {
    const seconds = inSeconds(duration);
    const bucket = this.buckets.findIndex((bound) => seconds <= bound);
    this.#counts ??= new Float64Array(this.buckets.length + 1);
    this.#counts[bucket < 0 ? this.buckets.length : bucket]!++;
    this.#sum += duration;
    if (this.#isTotal) (this.#exact ??= new Histogram()).record(duration);
  }

  get count(): number {
    return this.#counts?.reduce((sum, count) => sum + count, 0) ?? 0;
  }

  get sumSeconds(): number {
    return this.#sum / 1e9;
  }

  /** As Prometheus estimates it from the buckets (histogram_quantile). NaN without values. */
  bucketQuantileSeconds(q: number): number {
    const rank = q * this.count;
    if (!(this.count > 0)) return Number.NaN;
    let below = 0;
    for (let i = 0; i < this.buckets.length; i++) {
      const count = this.#counts![i]!;
      const [low, high] = [this.buckets[i - 1] ?? 0, this.buckets[i]!];
      if (count > 0 && below + count >= rank) return low + ((high - low) * (rank - below)) / count;
      below += count;
    }
    return this.buckets.at(-1)!;
  }

  /** Within 1/256; of the total only, and NaN without values. */
  get exact(): Histogram {
    return this.#exact ?? new Histogram();
  }

  clear(): void {
    this.#counts = undefined;
    this.#exact = undefined;
    this.#sum = 0;
  }

  text(name: string): string {
    let cumulative = 0;
    const lines = [...this.buckets, Number.POSITIVE_INFINITY].map((bound, i) => {
      cumulative += this.#counts?.[i] ?? 0;
      return `${name}_bucket{le="${bound === Number.POSITIVE_INFINITY ? '+Inf' : bound}"} ${cumulative}\n`;
    });
    return `${lines.join('')}${name}_sum ${this.sumSeconds}\n${name}_count ${cumulative}\n`;
  }
}

const steps = (first: number, last: number, step: number): number[] =>
  Array.from({ length: (last - first) / step + 1 }, (_, i) => first + i * step);

/** ExponentialBuckets(0.001, 2, 15). */
const SYNC_BUCKETS = Array.from({ length: 15 }, (_, i) => 2 ** i / 1_000);

const PROGRAMMING_BUCKETS = [0.25, 0.5, ...steps(1, 59, 1), ...steps(60, 115, 5), ...steps(120, 300, 30)];

const bucketsOf = (name: DurationMetricName): readonly number[] =>
  name === 'kubeproxy_network_programming_duration_seconds' ? PROGRAMMING_BUCKETS : SYNC_BUCKETS;
