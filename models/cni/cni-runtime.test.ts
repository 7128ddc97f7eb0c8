import { describe, expect, test } from 'vitest';
import type { VethDevice } from '../link/veth.ts';
import { formatIp, formatPrefix, parseAddress, parsePrefix } from '../packet/ip-address.ts';
import { CniError } from './cni-error.ts';
import { addressesOf, CniLab } from './cni-lab.fixture.ts';
import { readNetworkConfigList } from './network-config.ts';
import { BlockPool } from './networks/block-pool.ts';
import { resultJson } from './result.ts';

const IPAM = { type: 'host-local', subnet: '10.1.2.0/24', routes: [{ dst: '0.0.0.0/0' }] };
const BRIDGE = { type: 'bridge', isGateway: true, ipMasq: true, ipam: IPAM };

test('a result is what the specification prints', () => {
  const lab = new CniLab();
  const result = lab.network([BRIDGE]).add(lab.container('c1'));
  expect(resultJson(result, '1.0.0')).toEqual({
    cniVersion: '1.0.0',
    interfaces: [
      { name: 'cni0', mac: expect.any(String) },
      { name: 'veth0001', mac: expect.any(String) },
      { name: 'eth0', mac: expect.any(String), sandbox: '/var/run/netns/c1' },
    ],
    ips: [{ address: '10.1.2.2/24', gateway: '10.1.2.1', interface: 2 }],
    routes: [{ dst: '0.0.0.0/0' }],
    dns: {},
  });
});

test('DEL takes away what ADD has made, once or twice', () => {
  const lab = new CniLab();
  const runtime = lab.network([BRIDGE, { type: 'portmap', capabilities: { portMappings: true } }]);
  const container = lab.container('c1', {
    capabilities: { portMappings: [{ hostPort: 80, containerPort: 8080, protocol: 'tcp' }] },
  });
  runtime.add(container);
  runtime.check(container);
  const { root } = lab.machine;
  const { tables } = root.enableNetfilter();
  const ownChains = () => tables.chainNames('nat').filter((name) => /^CNI-([0-9a-f]|DN)/.test(name));
  expect(ownChains()).toHaveLength(2);
  const { containerId, ifName, namespace } = container;
  for (let i = 0; i < 2; i++) runtime.del({ containerId, ifName, namespace });
  expect(ownChains()).toEqual([]);
  expect(root.devices.map(({ name }) => name)).toEqual(['lo', 'cni0']);
  expect(addressesOf(runtime.add(lab.container('c2')))).toEqual(['10.1.2.3/24']);
});

test('who knows an address finds it at the container that has it now', () => {
  const lab = new CniLab();
  const runtime = lab.network([BRIDGE]);
  const requestedIps = [parseAddress('10.1.2.9')];
  const old = lab.container('old', { requestedIps });
  const peer = lab.container('peer');
  for (const container of [old, peer]) runtime.add(container);
  const { root } = lab.machine;
  const knowing = [
    [root, root.deviceNamed('cni0')],
    [peer.namespace!, peer.namespace!.deviceNamed('eth0')],
  ] as const;
  const known = () => knowing.map(([{ stack }]) => [...stack.neighbors].map(({ mac, state }) => [mac, state]));
  expect(known()).toEqual([[], []]);
  const { ip } = requestedIps[0]!;
  const before = old.namespace!.deviceNamed('eth0').mac;
  for (const [{ stack }, device] of knowing)
    stack.neighbors.learn(device, { ip, mac: before, state: 'REACHABLE', create: true });
  runtime.del(old);
  const next = lab.container('next', { requestedIps });
  runtime.add(next);
  const after = next.namespace!.deviceNamed('eth0').mac;
  expect(after).not.toBe(before);
  expect(known()).toEqual([[[after, 'STALE']], [[after, 'STALE']]]);
});

test('CHECK notices what is missing', () => {
  const lab = new CniLab();
  const runtime = lab.network([BRIDGE]);
  const container = lab.container('c1');
  runtime.add(container);
  const veth = lab.machine.root.deviceNamed('veth0001');
  lab.machine.root.remove(veth);
  const bridge = lab.machine.root.deviceNamed('cni0');
  expect(bridge.name).toBe('cni0');
  container.namespace!.remove(container.namespace!.deviceNamed('eth0'));
  expect(() => runtime.check(container)).toThrow('container c1 has no interface eth0');
});

test('a plugin that fails leaves nothing of those before it', () => {
  const lab = new CniLab();
  const runtime = lab.network([BRIDGE, { type: 'bandwidth', ingressRate: 1_000 }]);
  expect(() => runtime.add(lab.container('c1'))).toThrow(
    'ingressRate 1000 and ingressBurst 0: expected both or neither',
  );
  expect(lab.machine.root.devices.map(({ name }) => name)).toEqual(['lo', 'cni0']);
});

test('bandwidth puts a bucket on each way that is limited', () => {
  const lab = new CniLab();
  const runtime = lab.network([
    { type: 'ptp', ipam: IPAM },
    { type: 'bandwidth', ingressRate: 8e6, ingressBurst: 80_000 },
  ]);
  const container = lab.container('c1');
  runtime.add(container);
  const inside = container.namespace!.deviceNamed('eth0') as VethDevice;
  // 8 Mbit/s for 25 ms are 25,000 bytes, beside the burst.
  expect(inside.peer!.bucket).toEqual({ rateBps: 8e6, burstBytes: 10_000, limitBytes: 35_000 });
  expect(inside.bucket).toBeUndefined();
});

describe('an error names what is wrong, with the code of the specification', () => {
  const plugins = (...list: object[]) => ({ cniVersion: '1.0.0', name: 'net', plugins: list });
  test.each<[what: string, config: unknown, code: number, message: string]>([
    ['no map', 'bridge', 6, 'test: expected a network configuration, got "bridge"'],
    ['a version', { ...plugins(BRIDGE), cniVersion: '2.0.0' }, 1, 'test: cniVersion: expected one of 0.1.0, 0.2.0'],
    ['a name', { ...plugins(BRIDGE), name: '-x' }, 7, 'test: name: expected letters, digits'],
    ['no plugins', plugins(), 7, 'test: plugins: expected at least one plugin, got []'],
    ['a plugin', plugins({ type: 'weave' }), 7, 'failed to find plugin "weave"; there are bandwidth, bridge, calico'],
    ['an IPAM plugin', plugins({ ...BRIDGE, ipam: { type: 'dhcp' } }), 7, 'failed to find plugin "dhcp"'],
    [
      'an option',
      plugins({ ...BRIDGE, hairpin: true }),
      2,
      'plugin bridge: unknown option "hairpin": true; its options are bridge, isGateway',
    ],
    [
      'an option of IPAM',
      plugins({ ...BRIDGE, ipam: { ...IPAM, range: 1 } }),
      2,
      'plugin host-local: unknown option "range": 1',
    ],
    [
      'a value',
      plugins({ ...BRIDGE, mtu: 'big' }),
      7,
      'plugin bridge: option "mtu": expected a whole number from 0 to 65535, got "big"',
    ],
    ['what is not modelled', plugins({ ...BRIDGE, vlan: 7 }), 2, 'plugin bridge: option "vlan": 7: is not modelled'],
    [
      'both ways to oneself',
      plugins({ ...BRIDGE, hairpinMode: true, promiscMode: true }),
      7,
      'hairpinMode and promiscMode: expected one of them',
    ],
    [
      'a plugin without its first',
      plugins({ type: 'portmap' }),
      7,
      'plugin portmap: must be behind a plugin that connects',
    ],
  ])('%s', (_, config, code, message) => {
    const lab = new CniLab();
    const add = () => lab.network(readNetworkConfigList(config, 'test')).add(lab.container('c1'));
    expect(add).toThrow(message);
    expect(add).toThrow(expect.objectContaining({ code }));
    expect(add).toThrow(CniError);
  });
});

test('blocks of a pool: a node claims the next one, and addresses of a block go round', () => {
  const pool = new BlockPool(parsePrefix('10.244.0.0/24')); // four blocks of 64
  const claims: string[] = [];
  pool.whenClaimed = (block, node) => claims.push(`${node} ${formatPrefix(block)}`);
  const next = (node: string, holder: string): string => formatIp(pool.assign(node, holder, () => false));
  expect([next('a', '1'), next('b', '2'), next('a', '3')]).toEqual(['10.244.0.0', '10.244.0.64', '10.244.0.1']);
  pool.release('1');
  expect(next('a', '4')).toBe('10.244.0.2');
  for (let i = 0; i < 62; i++) next('a', `more-${i}`); // .3 to .63, then the .0 that was free
  expect(claims).toEqual(['a 10.244.0.0/26', 'b 10.244.0.64/26']);
  expect(next('a', 'one-more')).toBe('10.244.0.128');
  expect([...claims.slice(2)]).toEqual(['a 10.244.0.128/26']);
  next('c', 'other');
  expect(() => next('d', 'last')).toThrow(
    'calico-ipam: no IP addresses available in pool 10.244.0.0/24: all 4 blocks are claimed',
  );
});
