import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { type Instant, ms, START, s } from '../../../engine/time.ts';
import { Nftables } from '../../netfilter/nft/nftables.ts';
import { printRule } from '../../netfilter/nft/print.ts';
import { ANY_PREFIX, formatIp, parseIp, parseIpv6, parseIpv6Prefix, parsePrefix } from '../../packet/ip-address.ts';
import { type EndpointSlice, objectFrom } from '../objects.ts';
import { service, slice, snapshotOf, trackerOf } from './kube-proxy.fixture.ts';
import { DEFAULT_NFTABLES_CONFIG, type NftablesConfig, NftablesProxier, type NftSyncReport } from './nftables.ts';
import { NftChainCache } from './nftables-chain-cache.ts';
import type { ProxyNode } from './port-on-node.ts';
import { kindOfService } from './service-kinds.fixture.ts';
import { NO_SERVICES, type ServiceSnapshot, ServiceTracker } from './service-tracker.ts';

const podNetwork: Partial<NftablesConfig> = {
  localDetector: { mode: 'ClusterCIDR', cidr: parsePrefix('10.244.0.0/16') },
  serviceRanges: [parsePrefix('10.96.0.0/12')],
};

/** Nodes node-1, node-2 and so on, of one cluster: 192.168.0.1, 192.168.0.2. */
class TestCluster {
  readonly #cache = new NftChainCache();

  node(number: number, config: Partial<NftablesConfig> = podNetwork, node: Partial<ProxyNode> = {}): TestNode {
    return new TestNode(
      new NftablesProxier({
        node: { name: `node-${number}`, zone: undefined, ips: [parseIp(`192.168.0.${number}`)], ...node },
        config: { ...DEFAULT_NFTABLES_CONFIG, ...config },
        cache: this.#cache,
      }),
    );
  }
}

class TestNode {
  readonly nftables = new Nftables(() => START);

  constructor(readonly proxier: NftablesProxier) {}

  sync(services: ServiceSnapshot, at: Instant = START): NftSyncReport {
    return this.proxier.sync(this.nftables, services, at);
  }

  get table() {
    return this.nftables.table('ip', 'kube-proxy')!;
  }

  /** Names of the chains of Services that begin so. */
  chains(beginning = ''): string[] {
    return [...this.table.chains.keys()].filter((name) => name.includes('/') && name.startsWith(beginning));
  }

  /** Rules of the chain of that name, or of all chains of Services that begin so. */
  rules(beginning: string): string[] {
    const names = this.table.chains.has(beginning) ? [beginning] : this.chains(beginning);
    return names.flatMap((name) => this.table.chains.get(name)!.rules.map((rule) => printRule(rule, 'ip')));
  }

  elements(set: string): string[] {
    const listed = new RegExp(`\\t(?:set|map) ${set} \\{[^}]*?elements = \\{ ([^}]*) \\}`).exec(this.nftables.list());
    return (listed?.[1] ?? '').split(/,\s*/).filter(Boolean);
  }
}

const later = (delay: number): Instant => (START + delay) as Instant;

function syncedNode(services: ServiceSnapshot, config?: Partial<NftablesConfig>): TestNode {
  const node = new TestCluster().node(1, config);
  node.sync(services);
  return node;
}

const web = service('web', { clusterIP: '10.96.0.10', ports: [{ port: 80 }] });
const webEndpoints = slice('web', ['10.244.1.5 node-1', '10.244.2.5 node-2']);

const balanced = objectFrom('Service', {
  metadata: { name: 'web' },
  spec: {
    type: 'LoadBalancer',
    clusterIP: '10.96.0.10',
    externalTrafficPolicy: 'Local',
    loadBalancerSourceRanges: ['203.0.113.0/24', '192.168.0.1/32'],
    ports: [{ port: 80, nodePort: 30_080 }],
  },
  status: { loadBalancer: { ingress: [{ ip: '192.0.2.10' }] } },
});

describe('settings', () => {
  test('of dual-stack service ranges, that of the family is guarded', () => {
    const serviceRanges = [parseIpv6Prefix('fd00:96::/112'), parsePrefix('10.96.0.0/12')];
    expect(syncedNode(NO_SERVICES, { serviceRanges }).rules('cluster-ips-check')[1]).toMatch(
      /^ip daddr 10.96.0.0\/12 drop/,
    );
  });

  test('node ports answer on the first address of the node, on those in the ranges, or on all', () => {
    const ips = ['192.168.0.1', '10.244.1.1', '172.16.0.1'].map(parseIp);
    const served = (nodePortAddresses: NftablesConfig['nodePortAddresses']): string[] => {
      const node = new TestCluster().node(1, { ...podNetwork, nodePortAddresses }, { ips });
      node.sync(NO_SERVICES);
      const [, toPort = ''] = node.rules('services');
      return [...node.elements('nodeport-ips'), toPort.replace(' meta l4proto . th dport vmap @service-nodeports', '')];
    };
    expect(served('primary')).toEqual(['192.168.0.1', 'ip daddr @nodeport-ips']);
    expect(served([parsePrefix('192.168.0.0/16'), parsePrefix('172.16.0.0/12')])).toEqual([
      '172.16.0.1',
      '192.168.0.1',
      'ip daddr @nodeport-ips',
    ]);
    for (const all of [[ANY_PREFIX], [], [parseIpv6Prefix('fd00::/8')]]) {
      expect(served(all)).toEqual(['fib daddr type local ip daddr != 127.0.0.0/8']);
    }
  });

  test.each([
    [{ mode: 'ClusterCIDR', cidr: parsePrefix('10.244.0.0/16') }, 'ip saddr != 10.244.0.0/16 '],
    [{ mode: 'BridgeInterface', device: 'cbr0' }, 'iif != "cbr0" '],
    [{ mode: 'InterfaceNamePrefix', prefix: 'veth' }, 'iifname != "veth*" '],
  ] as const)('what does not come from pods is masqueraded: %o', (localDetector, selection) => {
    const node = syncedNode(snapshotOf(web, webEndpoints), { localDetector });
    expect(node.rules('service-')[0]).toBe(`ip daddr 10.96.0.10 ${selection}jump mark-for-masquerade`);
  });

  test('without a detector nothing is masqueraded, or all', () => {
    const services = snapshotOf(web, webEndpoints);
    expect(syncedNode(services, { localDetector: { mode: 'None' } }).rules('service-')).toHaveLength(1);
    const all = syncedNode(services, { masqueradeAll: true }).rules('service-');
    expect(all[0]).toBe('ip daddr 10.96.0.10 jump mark-for-masquerade');
  });

  test('source ranges are looked at with and without endpoints; a node in them may loop back', () => {
    const node = syncedNode(snapshotOf(balanced));
    const [firewall] = node.chains('firewall-');
    expect(node.elements('firewall-ips')).toEqual([`192.0.2.10 . tcp . 80 : goto ${firewall}`]);
    expect(node.rules('firewall-')).toContain('ip saddr != { 192.0.2.10, 192.168.0.1, 203.0.113.0/24 } drop');
    const other = new TestCluster().node(2);
    other.sync(snapshotOf(balanced));
    expect(other.rules('firewall-')).toContain('ip saddr != { 192.168.0.1, 203.0.113.0/24 } drop');
  });
});

describe('syncs', () => {
  const scaled = (...ips: string[]): EndpointSlice => slice('web', ips);

  test('a chain that nobody uses is emptied at once, and deleted by a sync more than a second later', () => {
    const tracker = trackerOf(web, scaled('10.244.1.5', '10.244.1.6'));
    const node = new TestCluster().node(1);
    node.sync(tracker.snapshot());
    const [, second = ''] = node.chains('endpoint-');
    expect(second).toMatch(/10\.244\.1\.6\/8080$/);
    tracker.apply({ type: 'MODIFIED', object: scaled('10.244.1.5') });
    expect(node.sync(tracker.snapshot())).toMatchObject({
      kind: 'partial',
      chainsEmptied: [second],
      chainsDeleted: [],
    });
    expect(node.rules(second)).toEqual([]);
    expect(node.sync(tracker.snapshot(), later(s(1)))).toMatchObject({ operations: 0, chainsDeleted: [] });
    expect(node.chains()).toContain(second);
    expect(node.sync(tracker.snapshot(), later(ms(1_001)))).toMatchObject({ operations: 0, chainsDeleted: [second] });
    expect(node.chains()).not.toContain(second);
  });

  test('a chain that comes back in time is not deleted', () => {
    const tracker = trackerOf(web, scaled('10.244.1.5', '10.244.1.6'));
    const node = new TestCluster().node(1);
    for (const ips of [['10.244.1.5', '10.244.1.6'], ['10.244.1.5'], ['10.244.1.5', '10.244.1.6']]) {
      tracker.apply({ type: 'MODIFIED', object: scaled(...ips) });
      node.sync(tracker.snapshot());
    }
    expect(node.sync(tracker.snapshot(), later(s(5)))).toMatchObject({ operations: 0, chainsDeleted: [] });
    expect(node.rules('endpoint-')).toHaveLength(4);
  });

  test('a table that somebody has deleted is written in full; so is that of a node with another address', () => {
    const node = new TestCluster().node(1);
    const services = snapshotOf(web, webEndpoints);
    expect(node.sync(services).kind).toBe('full');
    const text = node.nftables.list();
    node.nftables.apply('delete table ip kube-proxy');
    expect(node.sync(services)).toMatchObject({ kind: 'full', chainsEmptied: [] });
    expect(node.nftables.list()).toBe(text);
    node.proxier.updateNode({ name: 'node-1', zone: undefined, ips: [parseIp('192.168.0.9')] });
    expect(node.sync(services).kind).toBe('full');
    expect(node.elements('nodeport-ips')).toEqual(['192.168.0.9']);
  });

  test('the set of clients of an endpoint that stays is the same set, with its elements', () => {
    const sticky = service('web', { clusterIP: '10.96.0.10', sessionAffinity: 'ClientIP', ports: [{ port: 80 }] });
    const tracker = trackerOf(sticky, scaled('10.244.1.5', '10.244.1.6'));
    const node = new TestCluster().node(1);
    node.sync(tracker.snapshot());
    const sets = () => [...node.table.sets.values()].filter(({ name }) => name.startsWith('affinity-'));
    const [first] = sets();
    expect(sets()).toHaveLength(2);
    tracker.apply({ type: 'MODIFIED', object: scaled('10.244.1.5', '10.244.1.7') });
    node.sync(tracker.snapshot());
    expect(sets()[0]).toBe(first);
    expect(sets().map(({ name }) => name.split('__')[1])).toEqual(['10.244.1.5/8080', '10.244.1.7/8080']);
  });
});

describe('nodes share', () => {
  const many = Array.from({ length: 50 }, (_, i) => [
    service(`s${i}`, { clusterIP: formatIp(parseIp(`10.96.1.${i}`)), ports: [{ port: 80 }] }),
    slice(`s${i}`, [`10.244.1.${i} node-1`, `10.244.2.${i} node-2`]),
  ]).flat();

  test('chains and sets, if they differ in nothing but their addresses', () => {
    const cluster = new TestCluster();
    const tracker = trackerOf(...many);
    const nodes = [cluster.node(1), cluster.node(2)];
    for (const node of nodes) node.sync(tracker.snapshot());
    const [one, other] = nodes.map(({ table }) => table);
    expect(one!.chains).toBe(other!.chains);
    expect(one!.sets.get('service-ips')).toBe(other!.sets.get('service-ips'));
    tracker.apply({ type: 'MODIFIED', object: slice('s7', ['10.244.1.7 node-1']) });
    expect(nodes.map((node) => node.sync(tracker.snapshot()).operations)).toEqual([9, 9]); // two chains, one is emptied
    for (const [name, chain] of one!.chains) {
      if (!name.includes('/s7/')) expect(nodes[1]!.table.chains.get(name)).toBe(chain);
    }
  });

  test('all but what policy Local sets apart', () => {
    const cluster = new TestCluster();
    const [host, other] = [cluster.node(1), cluster.node(3)];
    for (const node of [host, other]) node.sync(snapshotOf(...many, balanced, webEndpoints));
    const different = [...host.table.chains].filter(([name, chain]) => other.table.chains.get(name) !== chain);
    expect(different.map(([name]) => name.split('-')[0]).sort()).toEqual(['external', 'firewall', 'local']);
    expect(host.elements('no-endpoint-nodeports')).toEqual([]);
    expect(other.elements('no-endpoint-nodeports')).toEqual(['tcp . 30080 comment "default/web" : drop']);
  });
});

describe('the kernel takes the table and lists it the same (needs root and nft)', () => {
  const isRoot = process.getuid?.() === 0;
  const hasNft = spawnSync('nft', ['--version']).status === 0;
  const inKernel = (text: string) => {
    const commands = 'nft -f - && nft list ruleset';
    const { status, stderr, stdout } = spawnSync('unshare', ['--net', 'sh', '-c', commands], {
      input: text,
      encoding: 'utf8',
      maxBuffer: 1 << 28,
    });
    return { status, stderr, stdout };
  };

  test.skipIf(!isRoot || !hasNft)('200 Services of all kinds, on a node with and one without endpoints', () => {
    const services = snapshotOf(...Array.from({ length: 200 }, (_, i) => kindOfService(i)).flat());
    const cluster = new TestCluster();
    for (const number of [1, 3]) {
      const node = cluster.node(number);
      node.sync(services);
      const text = node.nftables.list();
      expect(text).toMatch(/affinity-[\s\S]*firewall-[\s\S]*local-/);
      expect(inKernel(text)).toEqual({ status: 0, stderr: '', stdout: text });
    }
  });

  test.skipIf(!isRoot || !hasNft)('IPv6', () => {
    const tracker = new ServiceTracker({ family: 6 });
    const objects = [
      objectFrom('Service', {
        metadata: { name: 'web' },
        spec: {
          type: 'NodePort',
          clusterIP: '10.96.0.10',
          clusterIPs: ['10.96.0.10', 'fd00:96::10'],
          ipFamilies: ['IPv4', 'IPv6'],
          sessionAffinity: 'ClientIP',
          externalIPs: ['192.0.2.1', '2001:db8::7'],
          ports: [{ port: 80, nodePort: 30_080 }],
        },
      }),
      webEndpoints,
      objectFrom('EndpointSlice', {
        metadata: { name: 'web-6', labels: { 'kubernetes.io/service-name': 'web' } },
        addressType: 'IPv6',
        endpoints: [{ addresses: ['fd00:244:1::5'] }, { addresses: ['fd00:244:2::5'] }],
        ports: [{ port: 8080 }],
      }),
    ];
    for (const object of objects) tracker.apply({ type: 'ADDED', object });
    const config: Partial<NftablesConfig> = {
      family: 6,
      localDetector: { mode: 'ClusterCIDR', cidr: parseIpv6Prefix('fd00:244::/32') },
      serviceRanges: [parseIpv6Prefix('fd00:96::/112')],
    };
    const node = new TestCluster().node(1, config, { ips: [parseIpv6('fd00:1::1')] });
    node.sync(tracker.snapshot());
    const text = node.nftables.list();
    expect(text).toContain('dnat to [fd00:244:1::5]:8080');
    expect(text).not.toContain('10.96.0.10');
    expect(inKernel(text)).toEqual({ status: 0, stderr: '', stdout: text });
  });
});
