// kube-proxy on a node, for one IP family: hears of changes, syncs when its runner lets it, and counts what it does. A sync takes at its
// beginning what is known, and the rules change at its end: until then the old ones are in force, and what comes meanwhile
// waits for the next one.
//
// A dual-stack node has two, as a kube-proxy of a dual-stack cluster is two proxies (metaproxier.go).
//
// Not modelled: the look at the canary chains every sync period (they are looked at when a sync begins), the packet work
// that a sync takes CPU time from.

import type { RandomStream } from '../../../engine/random.ts';
import type { Place } from '../../../engine/simulator.ts';
import { between, type Duration, hours, type Instant, ms, s } from '../../../engine/time.ts';
import type { Process } from '../../host/process.ts';
import type { IpFamily } from '../../packet/ip-address.ts';
import type { ClusterRanges } from '../ranges.ts';
import { BoundedFrequencyRunner } from './bounded-frequency-runner.ts';
import { type ConnectionTable, type ConntrackCleanup, staleConnections } from './conntrack-cleanup.ts';
import { HealthServer } from './health-server.ts';
import type { ProxyNode } from './port-on-node.ts';
import { ACCOUNT_METRICS, type AccountMetricName, GAUGES, ProxyMetrics } from './proxy-metrics.ts';
import {
  type NodeRules,
  type Proxier,
  type ProxyCaches,
  type ProxyFlags,
  type ProxyMode,
  startProxy,
} from './proxy-mode.ts';
import { NO_SERVICES, type ServiceSnapshot } from './service-tracker.ts';
import { MEASURED_SYNC_COSTS, NO_SYNC_COSTS, type SyncCosts, syncDuration } from './sync-cost.ts';

export interface SyncSettings {
  /** `--iptables-min-sync-period`, or that of nftables. */
  readonly minSyncPeriod: Duration;
  /** `--iptables-sync-period`, or that of nftables: how long after a failure it is tried again, and more in nftables mode. */
  readonly syncPeriod: Duration;
  readonly costs: SyncCosts;
  /** The feature gate MinimizeIPTablesRestore, on since 1.27: a sync writes only what has changed. Off: all of it, each time. */
  readonly minimizesRestore: boolean;
  /** What is done about connections to endpoints that are gone. */
  readonly conntrackCleanup: ConntrackCleanup;
}

export const DEFAULT_SYNC: SyncSettings = {
  ...{ minSyncPeriod: s(1), syncPeriod: s(30), costs: MEASURED_SYNC_COSTS },
  minimizesRestore: true,
  conntrackCleanup: 'reconcile',
};

/** Rules follow at once: for what is not about kube-proxy's timing. */
export const INSTANT_SYNC: SyncSettings = { ...DEFAULT_SYNC, minSyncPeriod: ms(0), costs: NO_SYNC_COSTS };

/** What a watch event tells kube-proxy that may call for a sync. */
export interface ProxyChange {
  readonly kind: 'Service' | 'EndpointSlice';
  /** `namespace/name` of the Service. */
  readonly service: string;
  /** Of a slice: when what it says now began to be true, if it says so; `removed` if it is gone. */
  readonly triggeredAt: Instant | 'removed' | undefined;
}

export interface KubeProxyOptions {
  readonly place: Place;
  readonly mode: ProxyMode;
  readonly node: ProxyNode;
  readonly family: IpFamily;
  readonly ranges: ClusterRanges;
  readonly caches: ProxyCaches;
  readonly random: RandomStream;
  readonly sync: SyncSettings;
  /** Of all proxies of the cluster. */
  readonly totalMetrics: ProxyMetrics;
  /** What proxies have heard of until now. */
  readonly services: () => ServiceSnapshot;
  /** Of the node. */
  readonly rules: () => NodeRules & {
    readonly conntrack: ConnectionTable;
    readonly accounts: ReadonlyMap<string, { readonly packets: number }>;
  };
  readonly flags: ProxyFlags;
}

export class KubeProxy {
  readonly metrics: ProxyMetrics;
  /** iptables-restore and nft fail, as while somebody else does not let go of the lock. */
  failing = false;
  readonly #options: KubeProxyOptions;
  readonly #proxier: Proxier;
  readonly #runner: BoundedFrequencyRunner;
  readonly #startedAt: Instant;
  #services = NO_SERVICES;
  #hasSynced = false;
  #isStopped = false;
  /** When everything was last written. */
  #fullSyncAt: Instant | undefined;
  /** When the oldest change was heard of that the rules do not serve yet, and of those that no sync has taken yet. */
  #behindSince: Instant | undefined;
  #queuedSince: Instant | undefined;
  /** Where somebody asks. */
  #healthServer: HealthServer | undefined;
  /** When changes that wait for a sync began, by Service. */
  readonly #triggers = new Map<string, Instant[]>();

  constructor(options: KubeProxyOptions) {
    const { place, mode, sync, totalMetrics } = options;
    this.#options = options;
    this.metrics = new ProxyMetrics({ total: totalMetrics });
    this.#proxier = startProxy(mode, options);
    this.#startedAt = place.now;
    this.#runner = new BoundedFrequencyRunner(place, {
      min: sync.minSyncPeriod,
      max: mode === 'iptables' ? IPTABLES_MAX_INTERVAL : sync.syncPeriod,
      run: (ended) => this.#sync(ended),
    });
  }

  get mode(): ProxyMode {
    return this.#options.mode;
  }

  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  /** Makes the rules serve what is known, in no time: how a cluster is found when a run starts. */
  syncAtOnce(): void {
    const { place, services, rules } = this.#options;
    this.#services = services();
    if (this.#proxier.nextKind(rules()) === 'full') this.#fullSyncAt = place.now;
    this.#proxier.sync(rules(), this.#services, place.now);
    this.#hasSynced = true;
    this.#healthServer?.update(this.#services);
  }

  /** Answers health checks of load balancers from now on; `process` is on the node's network. */
  serveHealth(process: Process): HealthServer {
    const { family, node } = this.#options;
    const isProxyHealthy = (): boolean => this.isHealthy;
    this.#healthServer ??= new HealthServer(process, { family, nodeName: node.name, isProxyHealthy });
    if (this.#hasSynced) this.#healthServer.update(this.#services);
    return this.#healthServer;
  }

  /** It has synced, and no change has waited for twice the sync period (ProxyHealthServer.Health). */
  get isHealthy(): boolean {
    const { place, sync } = this.#options;
    if (!this.#hasSynced) return false;
    return this.#behindSince === undefined || between(this.#behindSince, place.now) < 2 * sync.syncPeriod;
  }

  /** 0 without a rule that counts: flag `accounts` of mode iptables. */
  accountMetric(name: AccountMetricName): number {
    return this.#options.rules().accounts.get(ACCOUNT_METRICS[name])?.packets ?? 0;
  }

  /** The process ends, in the midst of a sync if need be: what the node has of it stays, and nobody looks after it. */
  stop(): void {
    this.#isStopped = true;
    this.#runner.stop();
    this.#proxier.stop?.();
    this.#healthServer?.close();
    for (const gauge of GAUGES) this.metrics.set(gauge, 0); // it is no part of the cluster's sums any more
  }

  /** Load balancers ask it. */
  get servesHealth(): boolean {
    return this.#healthServer !== undefined;
  }

  /** What has been heard at this instant; a proxy that has just started syncs without any. */
  hear(changes: readonly ProxyChange[]): void {
    if (this.#isStopped) return;
    for (const change of changes) this.#note(change);
    this.#behindSince ??= this.#options.place.now;
    this.#queuedSince ??= this.#options.place.now;
    this.metrics.stamp('kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds', this.#options.place.now);
    this.#runner.request();
  }

  /** EndpointsChangeTracker.EndpointSliceUpdate: the time of a slice that is gone is not that of its end. */
  #note({ kind, service, triggeredAt }: ProxyChange): void {
    const counted = kind === 'Service' ? 'service' : 'endpoint';
    this.metrics.add(`kubeproxy_sync_proxy_rules_${counted}_changes_total`);
    this.metrics.add(`kubeproxy_sync_proxy_rules_${counted}_changes_pending`);
    if (triggeredAt === 'removed') this.#triggers.delete(service);
    else if (triggeredAt !== undefined && triggeredAt > this.#startedAt) {
      const waiting = this.#triggers.get(service);
      if (waiting === undefined) this.#triggers.set(service, [triggeredAt]);
      else waiting.push(triggeredAt);
    }
  }

  /** syncProxyRules. */
  #sync(ended: () => void): void {
    const { place, mode, sync, services, rules } = this.#options;
    const start = place.now;
    const before = this.#services;
    const snapshot = services();
    if (!sync.minimizesRestore || this.#isFullSyncDue) this.#proxier.needFullSync();
    const kind = this.#proxier.nextKind(rules());
    const triggers = [...this.#triggers.values()].flat();
    this.#queuedSince = undefined;
    this.#services = snapshot;
    this.#triggers.clear();
    this.metrics.set('kubeproxy_sync_proxy_rules_endpoint_changes_pending', 0);
    this.metrics.set('kubeproxy_sync_proxy_rules_service_changes_pending', 0);
    const extent = { kind, servicePorts: snapshot.ports.length, changed: snapshot.changedSince(before) };
    const lasting = syncDuration(sync.costs[mode], extent);
    const end = (): void => {
      if (this.#isStopped) return;
      if (this.failing) this.#fail(kind);
      else {
        if (kind === 'full') this.#fullSyncAt = place.now;
        this.#write({ before, after: snapshot, triggers });
      }
      const took = between(start, place.now);
      this.metrics.observe('kubeproxy_sync_proxy_rules_duration_seconds', took);
      // Others know no such difference.
      if (mode === 'iptables' || mode === 'nftables')
        this.metrics.observe(`kubeproxy_sync_${kind}_proxy_rules_duration_seconds`, took);
      ended();
    };
    // What costs no time is a call.
    if (lasting === 0) end();
    else place.schedule(lasting, end, undefined);
  }

  get #isFullSyncDue(): boolean {
    return this.#fullSyncAt !== undefined && between(this.#fullSyncAt, this.#options.place.now) >= FULL_SYNC_PERIOD;
  }

  #write({
    before,
    after,
    triggers,
  }: {
    readonly before: ServiceSnapshot;
    readonly after: ServiceSnapshot;
    readonly triggers: readonly Instant[];
  }): void {
    const { place, rules, sync } = this.#options;
    const node = rules();
    const { noLocalEndpoints } = this.#proxier.sync(node, after, place.now);
    this.#hasSynced = true;
    this.#behindSince = this.#queuedSince;
    this.#healthServer?.update(after);
    if (noLocalEndpoints !== undefined)
      for (const policy of ['internal', 'external'] as const) {
        const gauge = `kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="${policy}"}` as const;
        this.metrics.set(gauge, noLocalEndpoints[policy]);
      }
    for (const trigger of triggers)
      this.metrics.observe('kubeproxy_network_programming_duration_seconds', between(trigger, place.now));
    this.metrics.stamp('kubeproxy_sync_proxy_rules_last_timestamp_seconds', place.now);
    const isStale = staleConnections({ cleanup: sync.conntrackCleanup, before, after });
    if (isStale !== undefined) node.conntrack.delete(isStale);
  }

  /** What was to be written is not known any more: the next sync writes everything, and no latency is observed. */
  #fail(kind: 'full' | 'partial'): void {
    const { mode, sync } = this.#options;
    this.#proxier.needFullSync();
    this.#runner.retryAfter(sync.syncPeriod);
    if (mode === 'ebpf') return; // it has no metric of that
    if (mode === 'nftables') return this.metrics.add('kubeproxy_sync_proxy_rules_nftables_sync_failures_total');
    this.metrics.add('kubeproxy_sync_proxy_rules_iptables_restore_failures_total');
    if (kind === 'partial' && mode === 'iptables')
      this.metrics.add('kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total');
  }
}

/** proxyutil.FullSyncPeriod, of releases after 1.30: a partial sync that comes later than that becomes a full one. */
const FULL_SYNC_PERIOD = hours(1);

/** "time.Hour is arbitrary", says NewProxier; in nftables mode it is the sync period. */
const IPTABLES_MAX_INTERVAL = hours(1);
