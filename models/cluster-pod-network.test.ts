// Pods on each of the networks that a cluster can have: what reaches what, host ports, addresses, and a plugin of one's own.

import { describe, expect, test } from 'vitest';
import { ms, s } from '../engine/time.ts';
import { Cluster, type ClusterOptions } from './cluster.ts';
import { ownNetwork } from './cni/networks/own-network.ts';
import { CNI_NETWORKS } from './cni/networks/registry.ts';
import { cniPlugin } from './cni/plugin.ts';
import { stackOf } from './host/ip-setup.ts';
import type { NetworkNamespace } from './host/network-namespace.ts';
import type { Process } from './host/process.ts';
import { addressesOf, type RunningPod } from './kube/kubelet.ts';
import { objectFrom } from './kube/objects.ts';
import type { VxlanDevice } from './link/vxlan.ts';
import { formatIp, type IpAddress, isIpv6LinkLocal, LOOPBACK_IP, parsePrefix } from './packet/ip-address.ts';

type Container = { name: string; ports: { containerPort: number; hostPort?: number; protocol?: 'TCP' | 'UDP' }[] };

function addPod(
  cluster: Cluster,
  name: string,
  { node, containers }: { node?: string; containers: Container[] },
): void {
  const spec = { containers, ...(node !== undefined && { nodeName: node }) };
  cluster.apply([objectFrom('Pod', { metadata: { name, labels: { app: name } }, spec })]);
}

/** Who answers, and whom it saw; or what the client hears. */
function ask(cluster: Cluster, from: Process, to: IpAddress & { readonly port: number }): string {
  const load = cluster.closedLoop(from, { to, thinkTime: ms(100), keepAlive: false, timeout: ms(800) });
  cluster.runFor(ms(950));
  const [server] = load.perServer.keys();
  const [seen] = load.perSource.keys();
  return server === undefined ? [...load.failures.keys()].join() || 'nothing' : `${server} saw ${seen}`;
}

const ipOf = (pod: RunningPod | { ip: RunningPod['ip']; family: 4 | 6 }): string => formatIp(pod.ip, pod.family);

describe.each(CNI_NETWORKS)('on the network %s', (cni) => {
  const web: Container = { name: 'web', ports: [{ containerPort: 8080, hostPort: 80 }] };

  function cluster(): Cluster {
    const made = new Cluster({ seed: cni, cni });
    made.addNodes(2);
    addPod(made, 'web', { node: 'node-2', containers: [web] });
    made.addPod({ name: 'near', node: 'node-2' });
    made.addPod({ name: 'far', node: 'node-1' });
    return made;
  }

  test('pods see each other’s own addresses, near and far, and the outside sees their node', () => {
    const made = cluster();
    const to = { ...made.pod('default/web'), port: 8080 };
    for (const name of ['near', 'far']) {
      const client = made.pod(`default/${name}`);
      expect(ask(made, client, to)).toBe(`default/web saw ${ipOf(client)}`);
    }
    made.assertConserved();
  });

  test('a host port leads to its pod from outside, from the node itself, and from the pod', () => {
    const made = cluster();
    const node = made.node('node-2');
    const hostPort = { family: 4 as const, ip: node.ip, port: 80 };
    expect(ask(made, made.outside.client, hostPort)).toBe('default/web saw 203.0.113.10');
    expect(ask(made, node.process, hostPort)).toContain('default/web saw');
    expect(ask(made, node.process, { family: 4, ip: LOOPBACK_IP, port: 80 })).toContain('default/web saw');
    expect(ask(made, made.pod('default/web'), hostPort)).toContain('default/web saw');
    made.assertConserved();
  });

  test('a NetworkPolicy keeps out whom it does not name, near and far', () => {
    const made = cluster();
    const spec = {
      podSelector: {},
      ingress: [{ from: [{ ipBlock: { cidr: `${ipOf(made.pod('default/near'))}/32` } }] }],
    };
    made.apply([objectFrom('NetworkPolicy', { metadata: { name: 'near-only' }, spec })]);
    const to = { ...made.pod('default/web'), port: 8080 };
    expect(ask(made, made.pod('default/near'), to)).toContain('default/web saw');
    expect(ask(made, made.pod('default/far'), to)).toBe('refused');
  });

  test('a pod that is gone leaves nothing, and the next one has another address', () => {
    const made = cluster();
    const { root } = made.node('node-2').machine;
    const before = { ip: ipOf(made.pod('default/web')), devices: root.devices.length };
    made.api.remove('Pod', 'default/web');
    expect(root.devices).toHaveLength(before.devices - 1);
    expect(root.netfilter!.tables.chain('nat', 'CNI-HOSTPORT-DNAT')!.rules).toEqual([]);
    addPod(made, 'web', { node: 'node-2', containers: [web] });
    expect(ipOf(made.pod('default/web'))).not.toBe(before.ip);
    expect(root.devices).toHaveLength(before.devices);
  });
});

describe('in IPv6', () => {
  const withIpv6 = CNI_NETWORKS.filter((cni) => cni !== 'calico-ipip');

  test.each(withIpv6)('%s', (cni) => {
    const cluster = new Cluster({ seed: cni, cni, ipFamily: 'ipv6' });
    cluster.addNodes(2);
    addPod(cluster, 'web', {
      node: 'node-2',
      containers: [{ name: 'web', ports: [{ containerPort: 8080, hostPort: 80 }] }],
    });
    const client = cluster.addPod({ name: 'client', node: 'node-1' });
    const web = cluster.pod('default/web');
    expect(ask(cluster, client, { ...web, port: 8080 })).toBe(`default/web saw ${ipOf(client)}`);
    const node = cluster.node('node-2');
    expect(ask(cluster, cluster.outside.client, { family: 6, ip: node.ip, port: 80 })).toContain(
      'default/web saw 2001:',
    );
    cluster.assertConserved();
  });

  test.each(['ipv6', 'dual'] as const)('IP-in-IP is for IPv4 only: %s', (ipFamily) => {
    expect(() => new Cluster({ seed: 'x', cni: 'calico-ipip', ipFamily })).toThrow(
      'cni calico-ipip: there is no IP-in-IP over IPv6; expected a cluster of IPv4 only, or another network',
    );
  });
});

describe.each(['flannel-vxlan', 'calico-vxlan'] as const)('tunnels of both families: %s', (cni) => {
  const NAMES = {
    'flannel-vxlan': { 4: 'flannel.1', 6: 'flannel-v6.1', port: 8472 },
    'calico-vxlan': { 4: 'vxlan.calico', 6: 'vxlan-v6.calico', port: 4789 },
  } as const;
  const names = NAMES[cni];

  function cluster(ipFamily: 'ipv6' | 'dual') {
    const made = new Cluster({ seed: cni, cni, ipFamily });
    made.addNodes(3);
    addPod(made, 'web', { node: 'node-2', containers: [{ name: 'web', ports: [{ containerPort: 8080 }] }] });
    const client = made.addPod({ name: 'client', node: 'node-1' }) as RunningPod;
    return { made, client, root: made.node('node-1').machine.root };
  }

  /** The packets that left node-1 while something was done, of tunnels with the family outside and inside. */
  function sentBy({ made, root }: { made: Cluster; root: NetworkNamespace }, action: () => void): string[] {
    const seen = new Set<string>();
    root.deviceNamed('eth0').tap = ({ family, dstPort, inner }, direction) => {
      if (direction === 'out' && inner !== undefined) seen.add(`IPv${inner.family} in IPv${family} to ${dstPort}`);
    };
    action();
    made.assertConserved();
    return [...seen];
  }

  test.each([4, 6] as const)('in a dual-stack cluster IPv%i goes through its own, also to a Service', (family) => {
    const lab = cluster('dual');
    const { made, client } = lab;
    const ports = [{ port: 80, targetPort: 8080 }];
    const spec = { selector: { app: 'web' }, ports, ipFamilyPolicy: 'PreferDualStack' } as const;
    made.apply([objectFrom('Service', { metadata: { name: 'web' }, spec })]);
    const [web, own] = [made.pod('default/web'), client].map(
      (pod) => addressesOf(pod).find((address) => address.family === family)!,
    ) as [IpAddress, IpAddress];
    const seen = sentBy(lab, () => {
      expect(ask(made, client, { ...web, port: 8080 })).toBe(`default/web saw ${formatIp(own.ip, family)}`);
      const service = made.resolve('web:80', { family });
      expect(ask(made, client, { family, ...service })).toBe(`default/web saw ${formatIp(own.ip, family)}`);
    });
    expect(seen).toEqual([`IPv${family} in IPv${family} to ${names.port}`]);
  });

  test('an IPv6-only cluster has the one over IPv6 only', () => {
    const lab = cluster('ipv6');
    const { made, client, root } = lab;
    const seen = sentBy(lab, () => {
      expect(ask(made, client, { ...made.pod('default/web'), port: 8080 })).toBe(`default/web saw ${ipOf(client)}`);
    });
    expect(seen).toEqual([`IPv6 in IPv6 to ${names.port}`]);
    expect(root.findDevice(names[4])).toBe(undefined);
  });

  test('a device knows every other node: a neighbor and an endpoint each, with the addresses of its family', () => {
    const { made, root } = cluster('dual');
    for (const family of [4, 6] as const) {
      const tunnel = root.deviceNamed(names[family]) as VxlanDevice;
      const peers = ['node-2', 'node-3'].map((name) => made.node(name));
      const macs = peers.map(({ machine }) => machine.root.deviceNamed(names[family]).mac);
      const ips = peers.map((peer) => peer.addressOf(family));
      expect([...tunnel.forwarding].map(([mac, { remotes }]) => [mac, ...remotes])).toEqual(
        macs.map((mac, i) => [mac, ips[i]]),
      );
      const known = [...stackOf(root, family).neighbors].filter(({ device }) => device === tunnel);
      expect(known.map(({ mac, state }) => [mac, state])).toEqual(macs.map((mac) => [mac, 'PERMANENT']));
      expect(tunnel.mtuBytes).toBe(family === 4 ? 1450 : 1430);
    }
  });

  test('a node is seen elsewhere by the address of the tunnel', () => {
    const { made, root } = cluster('ipv6');
    const own = root.stack.ipv6!.addresses.find(({ device, ip }) => device.name === names[6] && !isIpv6LinkLocal(ip))!;
    expect(ask(made, made.node('node-1').process, { ...made.pod('default/web'), port: 8080 })).toBe(
      `default/web saw ${formatIp(own.ip, 6)}`,
    );
  });
});

test('through IP-in-IP a node is seen elsewhere by the address of its tunl0, the first of its block', () => {
  const made = new Cluster({ seed: 'tunl0', cni: 'calico-ipip' });
  made.addNodes(2);
  addPod(made, 'web', { node: 'node-2', containers: [{ name: 'web', ports: [{ containerPort: 8080 }] }] });
  const tunnel = made.node('node-2').machine.root.deviceNamed('tunl0');
  expect(tunnel.mtuBytes).toBe(1480);
  const { process, machine } = made.node('node-1');
  const own = machine.root.stack.addresses.find(({ device }) => device.name === 'tunl0')!;
  expect(formatIp(own.ip)).toBe('10.244.0.0'); // Calico gives all 64 addresses of a block away
  expect(ask(made, process, { ...made.pod('default/web'), port: 8080 })).toBe('default/web saw 10.244.0.0');
  made.assertConserved();
});

test('with VXLAN pods have 50 bytes less, with IP-in-IP 20', () => {
  const mtu = (cni: NonNullable<ClusterOptions['cni']>, ipFamily: 'ipv4' | 'ipv6' | 'dual' = 'ipv4'): number => {
    const cluster = new Cluster({ seed: 'mtu', cni, ipFamily });
    cluster.addNodes(1);
    return cluster.addPod({ name: 'a' }).namespace.deviceNamed('eth0').mtuBytes;
  };
  expect([
    mtu('bridge'),
    mtu('flannel-vxlan'),
    mtu('flannel-host-gw'),
    mtu('calico-vxlan'),
    mtu('calico-ipip'),
  ]).toEqual([1500, 1450, 1500, 1450, 1480]);
  // flannel does not ask which family is outside; Calico leaves room for the larger header.
  expect([mtu('flannel-vxlan', 'ipv6'), mtu('calico-vxlan', 'ipv6'), mtu('calico-vxlan', 'dual')]).toEqual([
    1450, 1430, 1430,
  ]);
});

test('containers of a pod meet on localhost, which no NAT sees, and one port is for one of them', () => {
  const cluster = new Cluster({ seed: 'containers' });
  cluster.addNodes(1);
  const ports = [{ containerPort: 8080 }];
  addPod(cluster, 'pair', {
    containers: [
      { name: 'web', ports },
      { name: 'proxy', ports },
      { name: 'log', ports: [{ containerPort: 9000 }] },
    ],
  });
  const pair = cluster.pod('default/pair');
  cluster.start();
  const visited = cluster.rulesVisited;
  expect(ask(cluster, pair, { family: 4, ip: LOOPBACK_IP, port: 9000 })).toBe('default/pair saw 127.0.0.1');
  expect(cluster.rulesVisited).toBe(visited);
  expect(cluster.bindFailures).toEqual([{ pod: 'default/pair', container: 'proxy', protocol: 'TCP', port: 8080 }]);
  expect(cluster.notes).toEqual([
    'Pod default/pair: container proxy: cannot listen on TCP port 8080: container web has it',
  ]);
});

test('a pod for which there is no address stays ContainerCreating, and starts when one is free', () => {
  const cluster = new Cluster({ seed: 'full', ranges: { pod: parsePrefix('10.244.0.0/30') } });
  cluster.addNodes(1);
  cluster.addPod({ name: 'first' });
  addPod(cluster, 'second', { containers: [{ name: 'web', ports: [{ containerPort: 8080 }] }] });
  const message = 'host-local: no IP addresses available in range set: 10.244.0.1-10.244.0.2';
  expect([...cluster.creatingPods]).toEqual([['default/second', message]]);
  expect(cluster.notes).toEqual([`Pod default/second: ContainerCreating on node-1: ${message}`]);
  expect(() => cluster.pod('default/second')).toThrow(`pod default/second does not run: ContainerCreating: ${message}`);
  cluster.runFor(s(11));
  expect(cluster.pods).toHaveLength(1);
  cluster.api.delete('Pod', 'default/first');
  cluster.runFor(s(60));
  expect(ipOf(cluster.pod('default/second'))).toBe('10.244.0.2');
  expect(cluster.creatingPods.size).toBe(0);
});

test('a plugin of one’s own is one value, given to the cluster with its list', () => {
  const calls: string[] = [];
  const telling = cniPlugin<{ readonly greeting: string }>({
    type: 'telling',
    options: { greeting: { expected: 'a text', isGood: (value) => typeof value === 'string', byDefault: 'hello' } },
    add({ containerId, options, prevResult }) {
      calls.push(`${options.greeting} ${containerId} ${formatIp(prevResult!.ips[0]!.ip)}`);
      return prevResult!;
    },
    del: ({ containerId }) => void calls.push(`bye ${containerId}`),
    check() {},
  });
  const cni = (options: object) =>
    ownNetwork({
      plugins: [telling],
      configList: ({ ranges }) => ({
        ...{ cniVersion: '1.0.0', name: 'mine' },
        plugins: [
          { type: 'ptp', ipam: { type: 'host-local', ranges, routes: [{ dst: '0.0.0.0/0' }] } },
          { type: 'telling', ...options },
        ],
      }),
    });
  const cluster = new Cluster({ seed: 'own', cni: cni({ greeting: 'welcome' }) });
  cluster.addNodes(2);
  const a = cluster.addPod({ name: 'a', node: 'node-1' });
  addPod(cluster, 'b', { node: 'node-2', containers: [{ name: 'web', ports: [{ containerPort: 8080 }] }] });
  expect(ask(cluster, a, { ...cluster.pod('default/b'), port: 8080 })).toBe('default/b saw 10.244.0.2');
  cluster.api.remove('Pod', 'default/b');
  expect(calls).toEqual(['welcome default/a 10.244.0.2', 'welcome default/b 10.244.1.2']);

  const misspelt = new Cluster({ seed: 'own', cni: cni({ greting: 'hi' }) });
  expect(() => misspelt.addNodes(1)).toThrow(
    'plugin telling: unknown option "greting": "hi"; its options are greeting',
  );
});

test.each<[what: string, options: Partial<ClusterOptions>, message: string]>([
  [
    'a network',
    { cni: 'weave' as never },
    'cni weave: unknown network; expected one of bridge, kubenet, flannel-vxlan',
  ],
  [
    'a setting of a bridge that is not there',
    { cni: 'calico', bridge: { hairpinMode: true } },
    'cni calico: has no bridge; expected no setting hairpinMode',
  ],
  [
    'pods that are cut off by a range that is not theirs',
    { cni: 'calico', networkPolicy: { unknownPods: 'closed' } },
    'cni calico: has no pod range per node to close; expected networkPolicy.unknownPods open',
  ],
])('not known: %s', (_, options, message) => {
  expect(() => new Cluster({ seed: 'x', ...options })).toThrow(message);
});
