// kube-proxy as a program on the nodes of a cluster: what it asks of them, and what becomes of its rules without it.

import { describe, expect, test } from 'vitest';
import { ms, s } from '../engine/time.ts';
import { Cluster, type ClusterOptions } from './cluster.ts';
import { PROXY_MODES } from './kube/kube-proxy/proxy-mode.ts';
import type { VirtualServer } from './netfilter/ipvs/virtual-server.ts';
import type { Netfilter } from './netfilter/netfilter.ts';
import { formatIp, parseAddress } from './packet/ip-address.ts';
import { DEFAULT_HEALTH_CHECK } from './workload/health-check.ts';

/** A Service of two pods, on node-1 and node-2, that answers on node ports. */
function webCluster(options: Partial<ClusterOptions> = {}) {
  const cluster = new Cluster({ seed: 'kube-proxy', ...options });
  cluster.addNodes(2);
  cluster.addDeployment({ name: 'web', replicas: 2 });
  cluster.addService({ name: 'web', port: 80, type: 'NodePort', selects: { name: 'web' } });
  return cluster;
}

describe('a node port on loopback', () => {
  /** How many of ten requests of a program on node-1 to 127.0.0.1 are answered. */
  function answeredOnLoopback(options: Partial<ClusterOptions>) {
    const cluster = webCluster(options);
    const [{ nodePort = 0 } = {}] = cluster.api.get('Service', 'default/web')!.spec.ports;
    const node = cluster.node('node-1');
    const to = { ...parseAddress('127.0.0.1'), port: nodePort };
    const load = cluster.closedLoop(node.process, { to, requests: 10, thinkTime: ms(1), timeout: ms(100) });
    cluster.runFor(s(3));
    return { answered: load.completed, node };
  }

  test('answers in iptables mode, which has the node send from loopback to pods', () => {
    const { answered, node } = answeredOnLoopback({ proxy: 'iptables' });
    expect(answered).toBe(10);
    expect(node.kubeProxy.accountMetric('kubeproxy_iptables_localhost_nodeports_accepted_packets_total')).toBe(0);
  });

  test('counts connections, not packets, in the account that the kernel has for it', () => {
    const { node } = answeredOnLoopback({
      proxyFlags: { iptables: { accounts: ['localhost_nps_accepted_pkts'] } },
    });
    // Table nat sees the first packet of each of the ten connections.
    expect(node.kubeProxy.accountMetric('kubeproxy_iptables_localhost_nodeports_accepted_packets_total')).toBe(10);
  });

  test.each([
    { proxy: 'iptables', proxyFlags: { iptables: { localhostNodePorts: false } } },
    { proxy: 'iptables', proxyFlags: { iptables: { nodePortAddresses: 'primary' } } },
    { proxy: 'nftables' },
    { proxy: 'ipvs' },
  ] as const)('does not answer with %j', (options) => {
    expect(answeredOnLoopback(options).answered).toBe(0);
  });
});

describe('a kube-proxy that is restarted', () => {
  const CLIENT = { name: 'client', node: 'node-1' };

  test.each(PROXY_MODES)('finds connections as they were, and goes on with what it missed, in %s mode', (proxy) => {
    const cluster = webCluster({ proxy });
    const client = cluster.addPod(CLIENT);
    const kept = cluster.closedLoop(client, { to: cluster.resolve('web:80'), keepAlive: true, thinkTime: ms(10) });
    cluster.runFor(s(1));
    cluster.restartKubeProxy('node-1', { downtime: s(10) });
    cluster.runFor(s(1));
    // Nobody tells this node of the new Service, and the old one is served by the rules that are there.
    cluster.addService({ name: 'late', port: 80, selects: { name: 'web' } });
    const asked = (name: string) =>
      cluster.closedLoop(client, { to: cluster.resolve(`${name}:80`), requests: 20, timeout: ms(100) });
    const [oldBefore, lateBefore] = [asked('web'), asked('late')];
    cluster.runFor(s(4));
    expect([oldBefore.completed, lateBefore.completed]).toEqual([20, 0]);
    cluster.runFor(s(10));
    const [oldAfter, lateAfter] = [asked('web'), asked('late')];
    const completed = kept.completed;
    cluster.runFor(s(1));
    expect([oldAfter.completed, lateAfter.completed]).toEqual([20, 20]);
    expect(kept.failed).toBe(0);
    expect(kept.completed).toBeGreaterThan(completed);
  });

  test.each(PROXY_MODES)('takes away what has gone meanwhile, in %s mode', (proxy) => {
    const cluster = webCluster({ proxy });
    cluster.addService({ name: 'gone', port: 80, selects: { name: 'web' } });
    const client = cluster.addPod(CLIENT);
    const to = cluster.resolve('gone:80');
    const ask = () => {
      const load = cluster.closedLoop(client, { to, requests: 5, timeout: ms(100) });
      cluster.runFor(s(1));
      return load.completed;
    };
    cluster.restartKubeProxy('node-1', { downtime: s(5) });
    cluster.api.delete('Service', 'default/gone');
    cluster.runFor(s(1));
    expect(ask()).toBe(5);
    cluster.runFor(s(10));
    expect(ask()).toBe(0);
  });

  test.each(['iptables', 'nftables', 'ipvs'] as const)(
    'leaves what a node has that has seen the changes one by one, in %s mode',
    (proxy) => {
      const leftOn = (isRestarted: boolean): string[] => {
        const cluster = webCluster({ proxy });
        cluster.addService({ name: 'gone', port: 80, selects: { name: 'web' } });
        cluster.start();
        if (isRestarted) cluster.restartKubeProxy('node-1', { downtime: s(5) });
        cluster.scale('web', 4);
        cluster.api.delete('Service', 'default/gone');
        cluster.addService({ name: 'late', port: 80, selects: { name: 'web' } });
        cluster.runFor(s(90));
        return contentOf(cluster.node('node-1').machine.root.netfilter!);
      };
      const content = leftOn(false);
      expect(content.length).toBeGreaterThan(10);
      expect(leftOn(true)).toEqual(content);
    },
  );

  /** Names of chains, elements of ipsets, virtual servers. */
  const contentOf = ({ tables, nftables, sets, ipvs }: Netfilter): string[] => {
    const table = nftables.table('ip', 'kube-proxy');
    const servers = ({ servers }: VirtualServer) => servers.map(({ ip, weight }) => `${formatIp(ip)} ${weight}`);
    return [
      ...tables.chainNames('nat'),
      ...(table?.chains.keys() ?? []),
      ...[...sets].flatMap((set) => set.members().map((member) => `${set.name} ${member}`)),
      ...[...ipvs.virtualServers()].map((one) => `${formatIp(one.ip)}:${one.port} ${servers(one).toSorted()}`),
    ].toSorted();
  };

  test('is not asked by the load balancer while it is gone: its node gets nothing', () => {
    const cluster = webCluster({ loadBalancer: { healthCheck: { ...DEFAULT_HEALTH_CHECK, interval: s(2) } } });
    cluster.addService({ name: 'public', port: 80, type: 'LoadBalancer', selects: { name: 'web' } });
    const healthy = () => [...cluster.loadBalancer!.healthyNodes.values()].flat().join(' ');
    cluster.runFor(s(10));
    expect(healthy()).toBe('node-1 node-2');
    cluster.restartKubeProxy('node-1', { downtime: s(20) });
    cluster.runFor(s(15));
    expect(healthy()).toBe('node-2');
    cluster.runFor(s(15));
    expect(healthy()).toBe('node-1 node-2');
  });

  test('writes everything at once, and counts anew', () => {
    const cluster = webCluster();
    cluster.runFor(s(1));
    const before = cluster.node('node-1').kubeProxy;
    cluster.restartKubeProxy('node-1');
    cluster.restartKubeProxy('node-1'); // before the first one has begun
    cluster.runFor(s(5));
    const { kubeProxy } = cluster.node('node-1');
    expect(kubeProxy).not.toBe(before);
    expect(kubeProxy.metrics.durations.kubeproxy_sync_full_proxy_rules_duration_seconds.count).toBe(1);
    expect(kubeProxy.metrics.durations.kubeproxy_sync_partial_proxy_rules_duration_seconds.count).toBe(0);
  });
});
