import { describe, expect, test } from 'vitest';
import { type Duration, inMs, minutes, ms, s } from '../engine/time.ts';
import { Cluster, type ClusterOptions } from './cluster.ts';
import { INSTANT_SYNC } from './kube/kube-proxy/kube-proxy.ts';
import type { SyncCosts } from './kube/kube-proxy/sync-cost.ts';

const taking = (full: Duration, partial: Duration): SyncCosts => {
  const cost = { full: [[0, full]], partial: [[0, partial]] } as const;
  return { iptables: cost, nftables: cost, ipvs: cost, ebpf: cost };
};

/** Service `web` of three pods on three nodes; a change reaches each watcher 5 ms later, so proxies after 10. */
function webCluster(options: Partial<ClusterOptions> = {}) {
  const proxySync = { costs: taking(ms(900), ms(400)), ...options.proxySync };
  const cluster = new Cluster({ seed: 'programming', ...options, proxySync });
  cluster.addNodes(3);
  const web = cluster.addDeployment({ name: 'web', replicas: 3 });
  cluster.addService({ name: 'web', port: 80, selects: web });
  cluster.runFor(s(1));
  const [first, second] = cluster.pods.map(({ name }) => name) as [string, string];
  return { cluster, first, second };
}

/** How many endpoints the rules of a node know, in iptables mode. */
const endpointsOn = (cluster: Cluster, node: string): number =>
  (cluster.node(node).machine.root.netfilter?.tables.chainNames('nat') ?? []).filter((name) =>
    name.startsWith('KUBE-SEP-'),
  ).length;

const programming = ({ kubeProxyMetrics }: Cluster) =>
  kubeProxyMetrics.durations.kubeproxy_network_programming_duration_seconds;

describe('a sync', () => {
  test('leaves the old rules in force until it ends', () => {
    const { cluster, first } = webCluster();
    cluster.setReady(first, false);
    cluster.runFor(ms(409));
    expect(endpointsOn(cluster, 'node-1')).toBe(3);
    cluster.runFor(ms(1));
    expect(endpointsOn(cluster, 'node-1')).toBe(2);
    expect(programming(cluster).count).toBe(3); // one change, three nodes
    expect(inMs(programming(cluster).exact.max)).toBe(410);
  });

  test('does not see what changes while it goes on: that waits for the next one', () => {
    const { cluster, first, second } = webCluster();
    cluster.setReady(first, false);
    cluster.runFor(ms(100));
    cluster.setReady(second, false);
    cluster.runFor(ms(400));
    expect(endpointsOn(cluster, 'node-1')).toBe(2);
    cluster.runFor(ms(310)); // 10 + 400 + 400
    expect(endpointsOn(cluster, 'node-1')).toBe(1);
    expect(inMs(programming(cluster).exact.max)).toBe(710);
  });

  test('that fails is made again after the sync period, in full', () => {
    const { cluster, first } = webCluster();
    const { kubeProxy } = cluster.node('node-2');
    kubeProxy.failing = true;
    cluster.setReady(first, false);
    cluster.runFor(s(30));
    kubeProxy.failing = false;
    expect([endpointsOn(cluster, 'node-1'), endpointsOn(cluster, 'node-2')]).toEqual([2, 3]);
    // The failure is known 410 ms after the change, and the full sync 30 s later takes 900 ms.
    cluster.runFor(ms(1_309));
    expect(endpointsOn(cluster, 'node-2')).toBe(3);
    cluster.runFor(ms(1));
    expect(endpointsOn(cluster, 'node-2')).toBe(2);
    const { metrics } = kubeProxy;
    expect(metrics.value('kubeproxy_sync_proxy_rules_iptables_restore_failures_total')).toBe(1);
    expect(metrics.value('kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total')).toBe(1);
    expect(metrics.durations.kubeproxy_sync_full_proxy_rules_duration_seconds.count).toBe(1);
    expect(metrics.durations.kubeproxy_network_programming_duration_seconds.count).toBe(0);
  });

  test('comes every sync period in nftables mode', () => {
    const { cluster, first } = webCluster({ proxy: 'nftables' });
    cluster.setReady(first, false);
    cluster.runFor(s(62));
    const { metrics } = cluster.node('node-1').kubeProxy;
    expect(metrics.durations.kubeproxy_sync_proxy_rules_duration_seconds.count).toBe(3);
    expect(metrics.value('kubeproxy_sync_proxy_rules_last_timestamp_seconds')).toBeCloseTo(
      1 + 0.01 + 0.4 + 2 * 30.4,
      9,
    );
  });

  test.each(['iptables', 'nftables'] as const)('writes everything again an hour after the last time (%s)', (proxy) => {
    const cluster = new Cluster({ seed: 'hourly', proxy, proxySync: INSTANT_SYNC });
    cluster.addNodes(1);
    cluster.addService({ name: 'idle', port: 80, endpoints: 2 });
    const { durations } = cluster.node('node-1').kubeProxy.metrics;
    cluster.runFor(minutes(59));
    cluster.addService({ name: 'other', port: 80, endpoints: 2 });
    cluster.runFor(s(30));
    expect(durations.kubeproxy_sync_full_proxy_rules_duration_seconds.count).toBe(0);
    cluster.runFor(s(61));
    cluster.addService({ name: 'third', port: 80, endpoints: 2 });
    cluster.runFor(s(60));
    expect(durations.kubeproxy_sync_full_proxy_rules_duration_seconds.count).toBe(1);
  });

  test('takes no time if a cluster is made so', () => {
    const { cluster, first } = webCluster({ proxySync: INSTANT_SYNC });
    cluster.setReady(first, false);
    cluster.runFor(ms(10));
    expect(endpointsOn(cluster, 'node-1')).toBe(2);
    expect(inMs(programming(cluster).exact.max)).toBe(10);
  });
});

test('a node that joins later has rules when its first full sync has ended', () => {
  const { cluster } = webCluster();
  cluster.addNodes(1);
  cluster.runFor(ms(904)); // it is heard of after 5 ms
  expect(endpointsOn(cluster, 'node-4')).toBe(0);
  cluster.runFor(ms(1));
  expect(endpointsOn(cluster, 'node-4')).toBe(3);
});

test('metrics are those of kube-proxy, forgotten when measuring starts', () => {
  const { cluster, first } = webCluster();
  cluster.setReady(first, false);
  cluster.runFor(s(1));
  const text = cluster.kubeProxyMetrics.text();
  expect(text).toContain('kubeproxy_sync_proxy_rules_duration_seconds_bucket{le="0.256"} 0\n');
  expect(text).toContain('kubeproxy_sync_proxy_rules_duration_seconds_bucket{le="0.512"} 3\n');
  expect(text).toContain('kubeproxy_sync_proxy_rules_duration_seconds_bucket{le="16.384"} 3\n');
  expect(text).toContain('kubeproxy_network_programming_duration_seconds_bucket{le="0.25"} 0\n');
  expect(text).toContain('kubeproxy_network_programming_duration_seconds_bucket{le="0.5"} 3\n');
  expect(text).toContain('kubeproxy_network_programming_duration_seconds_bucket{le="300"} 3\n');
  expect(text).toContain('kubeproxy_network_programming_duration_seconds_count 3\n');
  expect(text).toContain('kubeproxy_sync_proxy_rules_endpoint_changes_total 3\n');
  expect(programming(cluster).bucketQuantileSeconds(0.5)).toBe(0.375); // half way through its bucket
  cluster.startMeasuring();
  expect(programming(cluster).count).toBe(0);
});
