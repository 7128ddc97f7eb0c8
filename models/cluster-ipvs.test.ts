// What clusters with kube-proxy in IPVS mode are known for.

import { describe, expect, test } from 'vitest';
import { minutes, ms, s } from '../engine/time.ts';
import { Cluster, type ClusterOptions } from './cluster.ts';
import { PROXY_MODES } from './kube/kube-proxy/proxy-mode.ts';
import { listIpvs, listIpvsConnections } from './netfilter/ipvs/ipvs-text.ts';
import { formatIp, formatSocketAddress } from './packet/ip-address.ts';
import { Load } from './workload/load.ts';

/** `web` with so many pods, spread over nodes, behind a Service. */
function webCluster({
  nodes = 2,
  replicas = 2,
  node,
  ...options
}: Partial<ClusterOptions> & { nodes?: number; replicas?: number; node?: string } = {}) {
  const cluster = new Cluster({ seed: 'ipvs', proxy: 'ipvs', ...options });
  cluster.addNodes(nodes);
  const web = cluster.addDeployment({ name: 'web', replicas, ...(node !== undefined && { node }) });
  cluster.addService({ name: 'web', port: 80, selects: web });
  return cluster;
}

/** `ipvsadm -Ln` of a node, without its head. */
const ipvsadm = (cluster: Cluster, node: string): string[] =>
  listIpvs(cluster.node(node).machine.root.netfilter!.ipvs).trimEnd().split('\n').slice(3);

describe('a kept connection that is idle for', () => {
  /** Two requests on one connection, so many seconds apart. */
  function idle(proxy: (typeof PROXY_MODES)[number], seconds: number): readonly string[] {
    const cluster = webCluster({ proxy });
    const client = cluster.addPod({ name: 'client', node: 'node-1' });
    const load = cluster.closedLoop(client, {
      to: cluster.resolve('web:80'),
      requests: 2,
      thinkTime: s(seconds),
      keepAlive: true,
    });
    cluster.runFor(s(seconds * 40)); // think times are random
    cluster.assertConserved();
    return [`${load.completed} of ${load.started}`, ...load.failures.keys()];
  }

  // The time between the two is drawn: that it is above or below 900 s is seen by what follows.
  test('less than 900 s goes on, in every mode', () => {
    for (const proxy of PROXY_MODES) expect([proxy, ...idle(proxy, 30)]).toEqual([proxy, '2 of 2']);
  });

  test('more is reset in IPVS mode, and goes on in the others', () => {
    for (const proxy of PROXY_MODES)
      expect([proxy, ...idle(proxy, 3_000)]).toEqual(proxy === 'ipvs' ? [proxy, '1 of 2', 'reset'] : [proxy, '2 of 2']);
  });
});

describe('with few connections from each of many nodes', () => {
  /** How many of the first connections, one from each of 12 nodes, each of 4 pods gets, the most first. */
  function firstConnections(options: Partial<ClusterOptions> = {}, perNode = 1): number[] {
    const cluster = webCluster({ nodes: 12, replicas: 4, ...options });
    const load = new Load();
    for (const { process } of cluster.nodes)
      for (let i = 0; i < perNode; i++)
        cluster.closedLoop(process, { to: cluster.resolve('web:80'), requests: 1, thinkTime: ms(i * 10), load });
    cluster.runFor(s(5));
    expect(load.completed).toBe(12 * perNode);
    return [...load.perServer.values()].sort((a, b) => b - a);
  }

  test('all begin with the same pod: every node has its own turn, and all turns begin alike', () => {
    expect(firstConnections()).toEqual([12]);
  });

  test('not where endpoints are added in arbitrary order', () => {
    const counts = firstConnections({ proxyFlags: { ipvs: { endpointOrder: 'random' } } });
    expect(counts.length).toBeGreaterThan(2);
  });

  test('nor with many: each node deals its own out evenly', () => {
    expect(firstConnections({}, 8)).toEqual([24, 24, 24, 24]); // 12 · 8 / 4
  });
});

test.each([
  ['ipv4', '192.168.0.11'],
  ['ipv6', 'fd00:192:168::b'],
] as const)('a node reaches a ClusterIP from that very address, which is masqueraded, in %s', (ipFamily, nodeIp) => {
  const cluster = webCluster({ node: 'node-2', replicas: 1, ipFamily });
  const seen = new Set<string>();
  const load = new Load({
    groupBy: ({ sourceSeen, sourceFamily }) => {
      seen.add(formatIp(sourceSeen, sourceFamily));
      return '';
    },
  });
  const to = cluster.resolve('web:80');
  cluster.closedLoop(cluster.node('node-1').process, {
    to,
    requests: 1,
    thinkTime: ms(0),
    load,
  });
  cluster.runFor(s(1));
  expect([...seen]).toEqual([nodeIp]);
  const [, , connection] = listIpvsConnections(
    cluster.node('node-1').machine.root.netfilter!.ipvs,
    cluster.sim.now,
  ).split('\n');
  const clusterIp = formatSocketAddress(to.ip, 80, to.family);
  const [, source, virtual] = /TIME_WAIT +(\S+):\d+ +(\S+)/.exec(connection!)!;
  expect({ source: `${source}:80`, virtual }).toEqual({ source: clusterIp, virtual: clusterIp });
});

test('a pod that is its own server sees the bridge’s address (KUBE-LOOP-BACK)', () => {
  const cluster = new Cluster({ seed: 'hairpin', proxy: 'ipvs', bridge: { hairpinMode: true } });
  cluster.addNodes(1);
  const web = cluster.addDeployment({ name: 'web', replicas: 1 });
  cluster.addService({ name: 'web', port: 80, selects: web });
  const seen = new Set<string>();
  const load = new Load({
    groupBy: ({ sourceSeen }) => {
      seen.add(formatIp(sourceSeen));
      return '';
    },
  });
  cluster.closedLoop(cluster.pods[0]!, { to: cluster.resolve('web:80'), requests: 1, thinkTime: ms(0), load });
  cluster.runFor(s(1));
  expect([...seen]).toEqual(['10.244.0.1']);
});

test('an endpoint that is gone is listed with weight 0 until its connections are over, looked at each minute', () => {
  const cluster = webCluster({ replicas: 2 });
  const client = cluster.addPod({ name: 'client', node: 'node-1' });
  const load = cluster.closedLoop(client, {
    to: cluster.resolve('web:80'),
    users: 4,
    thinkTime: ms(100),
    keepAlive: true,
  });
  cluster.runFor(s(2));
  const [gone] = cluster.pods.filter(({ name }) => name.includes('web')).map(({ name }) => name);
  cluster.setReady(gone!, false); // it goes on serving
  cluster.runFor(s(5));
  const weights = () => ipvsadm(cluster, 'node-1').map((line) => line.trim().split(/\s+/)[3] ?? '');
  expect(weights().sort()).toEqual(['', '0', '1']);
  expect(load.failed).toBe(0);
  // On the other node nobody was connected to it.
  expect(ipvsadm(cluster, 'node-2')).toHaveLength(2);
  cluster.runFor(minutes(3));
  expect(weights().sort()).toEqual(['', '0', '1']); // as long as they last
  expect(load.failed).toBe(0);
  cluster.assertConserved();
});

test('the same seed gives the same run', () => {
  const run = (): string => {
    const cluster = webCluster({ nodes: 3, replicas: 5 });
    const client = cluster.addPod({ name: 'client', node: 'node-1' });
    const load = cluster.closedLoop(client, { to: cluster.resolve('web:80'), users: 5, thinkTime: ms(10) });
    cluster.runFor(s(2));
    return `${cluster.sim.fingerprint} ${load.completed} ${load.latency.mean}`;
  };
  expect(run()).toBe(run());
});
