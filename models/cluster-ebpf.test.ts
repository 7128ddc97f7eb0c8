// Clusters with an eBPF-style replacement of kube-proxy. There is no oracle: these tests say what the model means.

import { describe, expect, test } from 'vitest';
import { ms, s } from '../engine/time.ts';
import { Cluster, type ClusterOptions } from './cluster.ts';
import { byMaglev, MAGLEV_TABLE_SIZE } from './host/ebpf/backend-choice.ts';
import type { Process } from './host/process.ts';
import { objectFrom } from './kube/objects.ts';
import { maglevTable } from './netfilter/ipvs/schedulers/maglev.ts';
import { PROTOCOL_TCP } from './packet/frame.ts';
import { formatIp, type Ip, parseIp } from './packet/ip-address.ts';
import { Load } from './workload/load.ts';

/** `web` on three nodes, with a pod on each unless `node` says where, behind a Service of that spec. */
function webCluster({
  spec = {},
  node,
  replicas = 3,
  ...options
}: Partial<ClusterOptions> & { spec?: object; node?: string; replicas?: number } = {}) {
  const cluster = new Cluster({ seed: 'ebpf', proxy: 'ebpf', ...options });
  cluster.addNodes(3);
  cluster.addDeployment({ name: 'web', replicas, ...(node !== undefined && { node }) });
  cluster.apply([
    objectFrom('Service', {
      apiVersion: 'v1',
      metadata: { name: 'web' },
      spec: {
        type: 'NodePort',
        selector: { app: 'web' },
        ports: [{ port: 80, targetPort: 8080, nodePort: 30_080 }],
        ...spec,
      },
    }),
  ]);
  return cluster;
}

/** Who answered on which node, and whom they saw. */
function whoAnswers(
  cluster: Cluster,
  from: Process,
  to: { ip: Ip; port: number },
  { requests = 30, protocol = 'tcp' }: { requests?: number; protocol?: 'tcp' | 'udp' } = {},
): string[] {
  const seen = new Set<string>();
  const load = new Load({
    groupBy: ({ server, sourceSeen }) => {
      seen.add(`${cluster.pods.find(({ name }) => name === server)?.node} saw ${formatIp(sourceSeen)}`);
      return '';
    },
  });
  cluster.closedLoop(from, { to, protocol, requests, thinkTime: ms(1), load });
  cluster.runFor(s(20));
  cluster.assertConserved();
  return [...seen, ...load.failures.keys()].sort();
}

const CLIENT = '203.0.113.10';
const nodePort = (cluster: Cluster, node: string, port = 30_080) => ({ ip: cluster.node(node).ip, port });

test('a socket goes to the endpoint itself: no packet to the Service is ever sent, nothing is translated', () => {
  const cluster = webCluster({ node: 'node-2', replicas: 1 });
  const client = cluster.addPod({ name: 'client', node: 'node-1' });
  whoAnswers(cluster, client, cluster.resolve('web:80'), { requests: 3 });
  const { conntrack, rulesVisited } = cluster.node('node-1').machine.root.netfilter!;
  const [pod] = cluster.pods.filter(({ name }) => name.includes('web'));
  const entries = conntrack.list();
  expect(entries).toHaveLength(3);
  for (const { original, dstNat, srcNat } of entries)
    expect([formatIp(original.dstIp), original.dstPort, dstNat, srcNat]).toEqual([
      formatIp(pod!.ip),
      8080,
      false,
      false,
    ]);
  expect(rulesVisited).toBeLessThan(50); // the network plugin's own
});

test('over UDP each datagram asks, and the answer seems to come from the Service', () => {
  const cluster = new Cluster({ seed: 'udp', proxy: 'ebpf' });
  cluster.addNodes(2);
  const answering = ['node-1', 'node-2'].map((node) => cluster.addPod({ name: `dns-${node}`, node }));
  const heardBy = answering.map(({ namespace, cpu }) => {
    const heard = { count: 0 };
    namespace.udp.bind(
      { port: 53, cpu },
      {
        onDatagram(message, from, socket) {
          heard.count++;
          socket.send(from, message);
        },
      },
    );
    return heard;
  });
  cluster.apply([
    objectFrom('Service', { metadata: { name: 'dns' }, spec: { ports: [{ port: 53, protocol: 'UDP' }] } }),
    objectFrom('EndpointSlice', {
      metadata: { name: 'dns', labels: { 'kubernetes.io/service-name': 'dns' } },
      addressType: 'IPv4',
      ports: [{ port: 53, protocol: 'UDP' }],
      endpoints: cluster.pods.map(({ ip }) => ({ addresses: [formatIp(ip)] })),
    }),
  ]);
  const { namespace, cpu } = cluster.addPod({ name: 'client', node: 'node-1' });
  cluster.start();
  const to = cluster.resolve('dns:53', { protocol: 'UDP' });
  const heard: string[] = [];
  const socket = namespace.udp.bind(
    { cpu },
    { onDatagram: (_message, from) => heard.push(`${formatIp(from.ip)}:${from.port}`) },
  );
  for (let id = 0; id < 20; id++) socket.send(to, { id, sizeBytes: 20 });
  cluster.runFor(s(1));
  expect(heard).toEqual(new Array(20).fill(`${formatIp(to.ip)}:53`));
  expect(heardBy.map(({ count }) => count > 0)).toEqual([true, true]);
});

describe('from outside through a node port', () => {
  test('an endpoint on the node sees the client; one elsewhere sees the node', () => {
    const cluster = webCluster();
    expect(whoAnswers(cluster, cluster.outside.client, nodePort(cluster, 'node-1'))).toEqual([
      `node-1 saw ${CLIENT}`,
      'node-2 saw 192.168.0.11',
      'node-3 saw 192.168.0.11',
    ]);
  });

  test('with direct server return all see the client, and answers do not come back by the node', () => {
    const receivedBy = (directServerReturn: boolean) => {
      const cluster = webCluster({ node: 'node-3', replicas: 1, proxyFlags: { ebpf: { directServerReturn } } });
      let answers = 0;
      cluster.node('node-1').machine.root.deviceNamed('eth0').tap = ({ srcIp }, direction) => {
        if (direction === 'in' && formatIp(srcIp).startsWith('10.244.')) answers++;
      };
      return { saw: whoAnswers(cluster, cluster.outside.client, nodePort(cluster, 'node-1')), answers };
    };
    expect(receivedBy(true)).toEqual({ saw: [`node-3 saw ${CLIENT}`], answers: 0 });
    const translated = receivedBy(false);
    expect(translated.saw).toEqual(['node-3 saw 192.168.0.11']);
    expect(translated.answers).toBeGreaterThan(100);
  });

  test('policy Local keeps to endpoints of the node, and drops where there are none', () => {
    const cluster = webCluster({ node: 'node-2', replicas: 2, spec: { externalTrafficPolicy: 'Local' } });
    const { client } = cluster.outside;
    expect(whoAnswers(cluster, client, nodePort(cluster, 'node-2'))).toEqual([`node-2 saw ${CLIENT}`]);
    expect(whoAnswers(cluster, client, nodePort(cluster, 'node-1'), { requests: 1 })).toEqual(['timed out']);
    expect(cluster.frames.drops().get('TC_INGRESS')).toBeGreaterThan(0);
  });

  test('a Service that nobody serves is refused', () => {
    const cluster = webCluster({ replicas: 0 });
    expect(whoAnswers(cluster, cluster.outside.client, nodePort(cluster, 'node-1'), { requests: 1 })).toEqual([
      'refused',
    ]);
  });

  test('by Maglev’s table a connection goes to the same endpoint through whichever node, and all get some', () => {
    const cluster = webCluster({
      proxyFlags: { ebpf: { algorithm: 'maglev' } },
      spec: { externalIPs: ['192.0.2.80'] },
    });
    cluster.start();
    const [ip, port] = [parseIp('192.0.2.80'), 80];
    const backends = (clientPort: number): Set<Ip> =>
      new Set(
        cluster.nodes.map(({ rules }) => {
          const { protocol, outside } = rules.ebpf.services.find(PROTOCOL_TCP, ip, port)!;
          return byMaglev(outside!, { protocol, clientIp: parseIp(CLIENT), clientPort, ip, port }).ip;
        }),
      );
    for (let clientPort = 40_000; clientPort < 40_050; clientPort++) expect(backends(clientPort).size).toBe(1);
    expect(whoAnswers(cluster, cluster.outside.client, nodePort(cluster, 'node-1'))).toHaveLength(3);
  });
});

test('a client outside keeps its endpoint with affinity, and so do the pods of a network namespace', () => {
  const spec = { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } } };
  const cluster = webCluster({ spec });
  const client = cluster.addPod({ name: 'client', node: 'node-1' });
  expect(whoAnswers(cluster, client, cluster.resolve('web:80'))).toHaveLength(1);
  expect(whoAnswers(cluster, cluster.outside.client, nodePort(cluster, 'node-1'))).toHaveLength(1);
});

describe('Maglev’s table of 16,381 places', () => {
  const membersOf = (count: number) =>
    Array.from({ length: count }, (_, i) => ({ key: [parseIp('10.244.0.0') + 7 * i, 8080], weight: 1 }));

  /** Of the places that were not the lost backend's, the share of all that changed hands when one of `count` goes. */
  function disruption(count: number, gone: number): number {
    const members = membersOf(count);
    const before = maglevTable(members, MAGLEV_TABLE_SIZE);
    const after = maglevTable(members.toSpliced(gone, 1), MAGLEV_TABLE_SIZE);
    let changed = 0;
    for (const [place, owner] of before.entries()) {
      const now = after[place]! + (after[place]! >= gone ? 1 : 0);
      if (owner !== gone && now !== owner) changed++;
    }
    return changed / MAGLEV_TABLE_SIZE;
  }

  // Cilium's documentation speaks of a difference of at most 1 % in the reassignments with 100 places per backend. With the
  // paper's algorithm that is so up to some dozens of backends; near that limit it is 1.3 to 1.6 %.
  test.each([
    [10, 0.01],
    [50, 0.0105],
    [100, 0.015],
    [160, 0.018],
  ])('loses few of the other places when one of %i backends goes', (count, most) => {
    for (const gone of [0, Math.floor(count / 2), count - 1]) {
      expect(disruption(count, gone)).toBeGreaterThan(0);
      expect(disruption(count, gone)).toBeLessThan(most);
    }
  });

  test('gives each of 160 backends its share within 1 % (Eisenbud et al. 2016, for 100 places each)', () => {
    const table = maglevTable(membersOf(160), MAGLEV_TABLE_SIZE);
    const shares = new Array<number>(160).fill(0);
    for (const owner of table) shares[owner]!++;
    expect(Math.max(...shares) / (MAGLEV_TABLE_SIZE / 160)).toBeLessThan(1.01);
  });
});

test('the same seed gives the same run, with direct server return or without', () => {
  const run = (directServerReturn: boolean): string => {
    const cluster = webCluster({ proxyFlags: { ebpf: { directServerReturn } } });
    const load = cluster.closedLoop(cluster.outside.client, {
      to: nodePort(cluster, 'node-1'),
      users: 5,
      thinkTime: ms(10),
    });
    cluster.runFor(s(1));
    return `${cluster.sim.fingerprint} ${load.completed}`;
  };
  expect(run(true)).toBe(run(true));
  expect(run(false)).toBe(run(false));
});
