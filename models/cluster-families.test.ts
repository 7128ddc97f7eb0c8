// Every path of the network model in IPv4-only, IPv6-only and dual-stack clusters.

import { describe, expect, test } from 'vitest';
import { ms, s } from '../engine/time.ts';
import { Cluster, type ClusterOptions } from './cluster.ts';
import { outsideClientIp } from './host/outside-world.ts';
import type { Process } from './host/process.ts';
import { IPV6_MODES } from './kube/kube-proxy/proxy-mode.ts';
import { addressesOf, type RunningPod } from './kube/kubelet.ts';
import { readManifests } from './kube/manifests.ts';
import { clusterIpsOf, podIpsOf } from './kube/objects.ts';
import { PROTOCOL_ICMPV6 } from './packet/frame.ts';
import { formatIp, type Ip, type IpFamily, parseAnyPrefix, parseIpv6 } from './packet/ip-address.ts';
import type { SocketAddress } from './transport/transport-stack.ts';
import { Load } from './workload/load.ts';
import { echo, Server } from './workload/server.ts';

/** Three nodes, `web` with a pod on each, behind a Service with node ports; a client pod on node-1. */
function webCluster(options: Partial<ClusterOptions> = {}) {
  const cluster = new Cluster({ seed: 'families', ...options });
  cluster.addNodes(3);
  const web = cluster.addDeployment({ name: 'web', replicas: 3 });
  cluster.addService({ name: 'web', port: 80, type: 'NodePort', selects: web });
  const client = cluster.addPod({ name: 'client', node: 'node-1' });
  return { cluster, client: client as RunningPod };
}

/** Who answers within so many requests, and whom they saw: `node-2 saw 10.244.0.3`; and what failed. */
function whoAnswers(
  cluster: Cluster,
  from: Process,
  to: SocketAddress,
  { requests = 40, protocol = 'tcp' as 'tcp' | 'udp' } = {},
): string[] {
  const seen = new Set<string>();
  const load = new Load({
    groupBy({ server, sourceSeen, sourceFamily }) {
      const node = cluster.pods.find(({ name }) => name === server)?.node ?? server;
      seen.add(`${node} saw ${formatIp(sourceSeen, sourceFamily)}`);
      return '';
    },
  });
  cluster.closedLoop(from, { to, protocol, requests, thinkTime: ms(1), load });
  cluster.runFor(s(2));
  cluster.assertConserved();
  expect(load.outstanding).toBe(0);
  return [...seen, ...load.failures.keys()].sort();
}

const addressOf = (pod: RunningPod, family: IpFamily): Ip =>
  addressesOf(pod).find((address) => address.family === family)!.ip;

/** The same hosts in both families: pods, gateways of their bridges, nodes. */
const TEXTS = {
  4: { client: '10.244.0.3', bridges: ['10.244.0.1', '10.244.1.1'], nodes: ['192.168.0.11', '192.168.0.12'] },
  6: {
    client: 'fd00:10:244::3',
    bridges: ['fd00:10:244::1', 'fd00:10:244:1::1'],
    nodes: ['fd00:192:168::b', 'fd00:192:168::c'],
  },
} as const;

const FAMILIES_OF = { ipv4: [4], ipv6: [6], dual: [4, 6] } as const;
const VARIANTS = (['ipv4', 'ipv6', 'dual'] as const).flatMap((ipFamily) =>
  FAMILIES_OF[ipFamily].flatMap((family) => IPV6_MODES.map((proxy) => ({ ipFamily, family, proxy }))),
);

describe.each(VARIANTS)(
  'IPv$family in a cluster of $ipFamily, kube-proxy in mode $proxy',
  ({ ipFamily, family, proxy }) => {
    const { client: own, bridges, nodes } = TEXTS[family];

    test('a pod reaches pods on its node and on others', () => {
      const { cluster, client } = webCluster({ ipFamily, proxy });
      const answers = cluster.pods
        .filter(({ name }) => name !== client.name)
        .map((pod) => whoAnswers(cluster, client, { family, ip: addressOf(pod, family), port: 8080 }, { requests: 1 }));
      expect(answers.flat()).toEqual([`node-1 saw ${own}`, `node-2 saw ${own}`, `node-3 saw ${own}`]);
    });

    test.each(['tcp', 'udp'] as const)('a pod reaches every endpoint of a Service over %s', (protocol) => {
      const { cluster, client } = webCluster({ ipFamily, proxy });
      cluster.addService({ name: 'udp', port: 53, protocol: 'UDP', selects: { name: 'web' } });
      const to =
        protocol === 'tcp'
          ? cluster.resolve('web:80', { family })
          : cluster.resolve('udp:53', { family, protocol: 'UDP' });
      expect(whoAnswers(cluster, client, to, { protocol })).toEqual([
        `node-1 saw ${own}`,
        `node-2 saw ${own}`,
        `node-3 saw ${own}`,
      ]);
    });

    test('a pod reaches itself through a Service', () => {
      const { cluster } = webCluster({ ipFamily, proxy });
      const web = cluster.pods.find(({ node, name }) => node === 'node-2' && name.startsWith('default/web'))!;
      const answers = whoAnswers(cluster, web, cluster.resolve('web:80', { family }));
      // By way of the bridge and back: masqueraded, so that the answer comes the same way.
      expect(answers).toContain(`node-2 saw ${bridges[1]}`);
      expect(answers).toHaveLength(3);
    });

    test('a program on a node reaches a Service', () => {
      const { cluster } = webCluster({ ipFamily, proxy });
      const answers = whoAnswers(cluster, cluster.node('node-2').process, cluster.resolve('web:80', { family }));
      expect(answers).toEqual([`node-1 saw ${nodes[1]}`, `node-2 saw ${bridges[1]}`, `node-3 saw ${nodes[1]}`]);
    });

    test('from outside, a node port answers on every node, and endpoints see the node', () => {
      const { cluster } = webCluster({ ipFamily, proxy });
      const { nodePort: port } = cluster.api.get('Service', 'default/web')!.spec.ports[0]!;
      const to = { family, ip: cluster.node('node-1').addressOf(family)!, port: port! };
      const answers = whoAnswers(cluster, cluster.outside.client, to);
      expect(answers).toEqual([`node-1 saw ${bridges[0]}`, `node-2 saw ${nodes[0]}`, `node-3 saw ${nodes[0]}`]);
    });

    test('what leaves the cluster leaves with the address of its node', () => {
      const { cluster, client } = webCluster({ ipFamily, proxy });
      new Server(cluster.outside.client, echo()).listen('TCP', 443);
      cluster.start();
      const to = { family, ip: outsideClientIp(family), port: 443 };
      expect(whoAnswers(cluster, client, to, { requests: 1 })).toEqual([`outside saw ${nodes[0]}`]);
    });

    test('a Service without endpoints refuses', () => {
      const { cluster, client } = webCluster({ ipFamily, proxy });
      cluster.addService({ name: 'nobody', port: 80 });
      const to = cluster.resolve('nobody:80', { family });
      expect(whoAnswers(cluster, client, to, { requests: 1 })).toEqual(['refused']);
    });

    test('pods that come while it runs are served', () => {
      const { cluster, client } = webCluster({ ipFamily, proxy });
      cluster.runFor(s(1));
      cluster.scale('web', 6);
      cluster.runFor(s(3));
      const load = new Load();
      const to = cluster.resolve('web:80', { family });
      cluster.closedLoop(client, { to, requests: 100, thinkTime: ms(1), load });
      cluster.runFor(s(1));
      expect(load.completed).toBe(100);
      expect(load.perServer.size).toBe(6);
    });
  },
);

describe('addresses', () => {
  test('of a dual-stack cluster are those of an IPv4-only one, and one of IPv6 beside each', () => {
    const { cluster } = webCluster({ ipFamily: 'dual' });
    const { cluster: alone } = webCluster();
    const textsOf = ({ api }: Cluster) => [
      ...api.list('Node').map(({ spec }) => spec.podCIDRs!),
      ...api.list('Pod').map(podIpsOf),
      ...api.list('Service').map(clusterIpsOf),
    ];
    expect(textsOf(cluster).map(([first]) => first)).toEqual(textsOf(alone).flat());
    for (const addresses of textsOf(cluster)) expect(addresses[1]).toMatch(/^fd00:10:(244|96):/);
    const { status } = cluster.api.get('Pod', 'default/client')!;
    expect(status.podIPs).toEqual([{ ip: '10.244.0.3' }, { ip: 'fd00:10:244::3' }]);
    expect(cluster.api.get('Node', 'node-2')!.spec).toMatchObject({
      podCIDR: '10.244.1.0/24',
      podCIDRs: ['10.244.1.0/24', 'fd00:10:244:1::/64'],
    });
  });

  test('of the first family come from the first range: IPv6 may go before IPv4', () => {
    const ranges = { service: parseAnyPrefix('fd00:10:96::/112'), secondaryService: parseAnyPrefix('10.96.0.0/12') };
    const { cluster, client } = webCluster({ ranges });
    expect(cluster.ipFamilies).toEqual([6, 4]);
    expect(podIpsOf(cluster.api.get('Pod', 'default/client')!)).toEqual(['fd00:10:244::3', '10.244.0.3']);
    expect(whoAnswers(cluster, client, cluster.resolve('web:80'))).toHaveLength(3);
  });

  test('of a snapshot are kept, those of a pod outside the range of its node included', () => {
    const manifests = readManifests([
      {
        name: 'snapshot.yaml',
        text: `
apiVersion: v1
kind: Node
metadata: {name: a}
spec: {podCIDR: 10.42.0.0/24, podCIDRs: [10.42.0.0/24, "fd42:0:0:1::/64"]}
status: {addresses: [{type: InternalIP, address: 172.18.0.3}, {type: InternalIP, address: "fd18::3"}]}
---
apiVersion: v1
kind: Node
metadata: {name: b}
spec: {podCIDR: 10.42.1.0/24, podCIDRs: [10.42.1.0/24, "fd42:0:0:2::/64"]}
status: {addresses: [{type: InternalIP, address: 172.18.0.4}, {type: InternalIP, address: "fd18::4"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stray, labels: {app: web}}
spec: {nodeName: b, containers: [{name: web, ports: [{containerPort: 8080}]}]}
status: {podIP: 10.42.9.9, podIPs: [{ip: 10.42.9.9}, {ip: "fd42:0:0:99::9"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: a, containers: [{name: main}]}
status: {podIP: 10.42.0.7, podIPs: [{ip: 10.42.0.7}, {ip: "fd42:0:0:1::7"}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ipFamilyPolicy: RequireDualStack, clusterIP: 10.43.0.10, clusterIPs: [10.43.0.10, "fd43::10"], selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`,
      },
    ]);
    const cluster = Cluster.fromManifests(manifests, { seed: 'snapshot' });
    const client = cluster.pod('default/client');
    for (const [target, own] of [
      ['10.43.0.10:80', '10.42.0.7'],
      ['[fd43::10]:80', 'fd42:0:0:1::7'],
      ['[fd42:0:0:99::9]:8080', 'fd42:0:0:1::7'],
    ] as const)
      expect(whoAnswers(cluster, client, cluster.resolve(target), { requests: 1 })).toEqual([`b saw ${own}`]);
  });

  test('a range that is no part of its cluster is an error', () => {
    const pod = parseAnyPrefix('fd00:10:244::/56');
    expect(() => new Cluster({ seed: '1', ipFamily: 'ipv4', ranges: { pod } })).toThrow(
      'range fd00:10:244::/56 in a cluster whose family is IPv4; expected ranges of its family, or a dual-stack cluster',
    );
    const node = parseAnyPrefix('fd00:10:244:7::/64');
    expect(() => new Cluster({ seed: '1', ipFamily: 'dual', ranges: { node } })).toThrow(
      'second pod range fd00:10:244::/56 overlaps second node range fd00:10:244:7::/64',
    );
  });
});

test('a pod of a dual-stack cluster is restarted with two new addresses', () => {
  const { cluster } = webCluster({ ipFamily: 'dual' });
  cluster.runFor(s(1));
  const before = cluster.api.list('Pod').flatMap(podIpsOf);
  cluster.restart('web');
  cluster.runFor(s(60));
  const after = cluster.api
    .list('Pod')
    .filter(({ metadata }) => metadata.name !== 'client')
    .flatMap(podIpsOf);
  expect(after).toHaveLength(6);
  for (const address of after) expect(before).not.toContain(address);
});

test('neighbors are asked for in IPv6, and nobody tracks or masquerades the questions', () => {
  const { cluster, client } = webCluster({ ipFamily: 'ipv6' });
  cluster.frames.followAll();
  expect(whoAnswers(cluster, client, cluster.resolve('web:80'))).toHaveLength(3);
  const solicitations = cluster.frames.journeys.filter(({ title }) => title.includes('neighbor'));
  expect(solicitations.length).toBeGreaterThan(0);
  for (const { machine } of cluster.nodes) {
    const entries = machine.root.netfilter!.conntrack.list();
    expect(entries.some(({ original }) => original.protocol === PROTOCOL_ICMPV6)).toBe(false);
  }
});

test.each(['ipv6', 'dual'] as const)(
  'the same seed takes the same course in a cluster of %s, whatever was before',
  (ipFamily) => {
    const course = () => {
      const { cluster, client } = webCluster({ ipFamily });
      const load = new Load();
      for (const family of cluster.ipFamilies)
        cluster.closedLoop(client, { to: cluster.resolve('web:80', { family }), users: 4, load });
      cluster.runFor(ms(500));
      return [cluster.sim.fingerprint, cluster.frames.totals(), [...load.perServer], load.latency.quantileUs(0.99)];
    };
    const first = course();
    for (let i = 0; i < 1_000; i++) parseIpv6(`2001:db8::${i.toString(16)}`); // other numbers stand for the addresses now
    expect(course()).toEqual(first);
  },
);
