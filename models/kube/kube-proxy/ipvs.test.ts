import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RandomStream } from '../../../engine/random.ts';
import { s } from '../../../engine/time.ts';
import { listIpsets, printIpsets } from '../../netfilter/ipset/ipset-text.ts';
import { printIptablesSave, saveTables } from '../../netfilter/iptables-save.ts';
import { listIpvs } from '../../netfilter/ipvs/ipvs-text.ts';
import { TestNode } from '../../netfilter/netfilter.fixture.ts';
import type { RuleTables, TableName } from '../../netfilter/rule-tables.ts';
import { formatIp, type Ip, parseAnyPrefix, parseIp, parseIpv6, parsePrefix } from '../../packet/ip-address.ts';
import type { EndpointSlice, Service } from '../objects.ts';
import { DEFAULT_IPVS_CONFIG, type IpvsConfig, IpvsProxier } from './ipvs.ts';
import { IpvsChainCache } from './ipvs-chains.ts';
import { service, slice, snapshotOf, trackerOf } from './kube-proxy.fixture.ts';
import type { ProxyNode } from './port-on-node.ts';
import { anyChange, NODES } from './random-services.fixture.ts';
import { kindOfService } from './service-kinds.fixture.ts';
import { NO_SERVICES, type ServiceSnapshot, ServiceTracker } from './service-tracker.ts';

const POD_NETWORK = { mode: 'ClusterCIDR', cidr: parsePrefix('10.244.0.0/16') } as const;
const NODE_1: ProxyNode = { name: 'node-1', zone: undefined, ips: [parseIp('192.168.0.1'), parseIp('10.244.1.1')] };

const IPV6_POD_NETWORK = { mode: 'ClusterCIDR', cidr: parseAnyPrefix('fd00:10:244::/56') } as const;
const IPV6_NODE_1: ProxyNode = { ...NODE_1, ips: [parseIpv6('fd00:192:168::1'), parseIpv6('fd00:10:244:1::1')] };

/** The half of kube-proxy that is for IPv6. */
const ipv6Node = (config: Partial<IpvsConfig> = {}) =>
  new Node({ family: 6, localDetector: IPV6_POD_NETWORK, ...config }, IPV6_NODE_1);

/** What it hears of. */
function ipv6SnapshotOf(...objects: readonly (Service | EndpointSlice)[]): ServiceSnapshot {
  const tracker = new ServiceTracker({ family: 6 });
  for (const object of objects) tracker.apply({ type: 'ADDED', object });
  return tracker.snapshot();
}

/** A node with kube-proxy in IPVS mode, and a kernel that has nothing else. */
class Node {
  readonly kernel = new TestNode({ rules: '', local: ['192.168.0.1', '10.244.1.1'] });
  readonly proxier: IpvsProxier;
  readonly config: IpvsConfig;
  serviceIps: ReadonlySet<Ip> = new Set();

  constructor(config: Partial<IpvsConfig> = {}, node = NODE_1) {
    this.config = { ...DEFAULT_IPVS_CONFIG, localDetector: POD_NETWORK, ...config };
    this.proxier = new IpvsProxier({
      node,
      config: this.config,
      cache: new IpvsChainCache(),
      random: new RandomStream(node.name),
    });
  }

  sync(services: ServiceSnapshot): ReturnType<IpvsProxier['sync']> {
    const { sets, ipvs } = this.kernel.netfilter;
    const bindServiceAddresses = (ips: ReadonlySet<Ip>): void => {
      this.serviceIps = ips;
    };
    return this.proxier.sync({ tables: this.tables, sets, ipvs, bindServiceAddresses }, services);
  }

  get tables(): RuleTables {
    const { tables, tables6 } = this.kernel.netfilter;
    return this.config.family === 6 ? tables6 : tables;
  }

  rules(table: TableName, chain: string): string[] {
    return this.tables.chain(table, chain)?.rules.map(({ text }) => text) ?? [];
  }

  elements(set: string): string[] {
    return printIpsets(this.kernel.netfilter.sets)
      .split('\n')
      .filter((line) => line.startsWith(`add ${set} `))
      .map((line) => line.slice(`add ${set} `.length));
  }

  /** `TCP 10.96.0.10:80 rr: 10.244.1.5:8080 10.244.2.5:8080`, with the weight where it is not 1. */
  get virtuals(): string[] {
    const lines = listIpvs(this.kernel.netfilter.ipvs).trimEnd().split('\n').slice(3);
    const virtuals: string[] = [];
    for (const line of lines) {
      const [arrow, server, , weight] = line.trim().split(/\s+/);
      if (arrow !== '->') virtuals.push(line.replace(/ {2}/, ' '));
      else virtuals.push(`${virtuals.pop()} -> ${server}${weight === '1' ? '' : ` (${weight})`}`);
    }
    return virtuals;
  }
}

const web = service('web', { clusterIP: '10.96.0.10', ports: [{ port: 80 }] });
const webEndpoints = slice('web', ['10.244.1.5 node-1', '10.244.2.5 node-2']);

describe('a Service becomes', () => {
  test('a virtual server on its ClusterIP, which kube-ipvs0 has', () => {
    const node = new Node();
    node.sync(snapshotOf(web, webEndpoints));
    expect(node.virtuals).toEqual(['TCP 10.96.0.10:80 rr -> 10.244.1.5:8080 -> 10.244.2.5:8080']);
    expect([...node.serviceIps].map((ip) => formatIp(ip))).toEqual(['10.96.0.10']);
    expect(node.elements('KUBE-CLUSTER-IP')).toEqual(['10.96.0.10,tcp:80']);
    expect(node.elements('KUBE-LOOP-BACK')).toEqual(['10.244.1.5,tcp:8080,10.244.1.5']);
    expect(node.elements('KUBE-IPVS-IPS')).toEqual(['10.96.0.10']);
  });

  test('one on every address of the node for a node port, and on external addresses that are not the node’s', () => {
    const node = new Node();
    node.sync(
      snapshotOf(
        service('web', {
          type: 'NodePort',
          clusterIP: '10.96.0.10',
          externalIPs: ['192.0.2.1', '192.168.0.1'],
          ports: [{ port: 80, nodePort: 30_080 }],
        }),
        slice('web', ['10.244.2.5 node-2']),
      ),
    );
    expect(node.virtuals).toEqual([
      'TCP 10.96.0.10:80 rr -> 10.244.2.5:8080',
      'TCP 10.244.1.1:30080 rr -> 10.244.2.5:8080',
      'TCP 192.0.2.1:80 rr -> 10.244.2.5:8080',
      'TCP 192.168.0.1:80 rr -> 10.244.2.5:8080',
      'TCP 192.168.0.1:30080 rr -> 10.244.2.5:8080',
    ]);
    expect([...node.serviceIps].map((ip) => formatIp(ip))).toEqual(['10.96.0.10', '192.0.2.1']);
    expect(node.elements('KUBE-NODE-PORT-TCP')).toEqual(['30080']);
    expect(node.elements('KUBE-EXTERNAL-IP')).toEqual(['192.0.2.1,tcp:80', '192.168.0.1,tcp:80']);
  });

  test('one on the node’s new address, and none on the old one, once the node has another', () => {
    const node = new Node();
    const services = snapshotOf(
      service('web', { type: 'NodePort', clusterIP: '10.96.0.10', ports: [{ port: 80, nodePort: 30_080 }] }),
      webEndpoints,
    );
    node.sync(services);
    node.proxier.updateNode({ ...NODE_1, ips: [parseIp('192.168.0.9')] });
    node.sync(services);
    expect(node.virtuals).toEqual([
      'TCP 10.96.0.10:80 rr -> 10.244.1.5:8080 -> 10.244.2.5:8080',
      'TCP 192.168.0.9:30080 rr -> 10.244.1.5:8080 -> 10.244.2.5:8080',
    ]);
  });

  test('one with the scheduler and the affinity that are asked for; mh looks at ports, too', () => {
    const sticky = service('web', {
      clusterIP: '10.96.0.10',
      sessionAffinity: 'ClientIP',
      ports: [{ port: 80 }],
    });
    for (const [scheduler, flags] of [
      ['wlc', 'wlc persistent 10800'],
      ['mh', 'mh (mh-port) persistent 10800'],
    ] as const) {
      const node = new Node({ scheduler });
      node.sync(snapshotOf(sticky));
      expect(node.virtuals).toEqual([`TCP 10.96.0.10:80 ${flags}`]);
    }
  });

  test('with policy Local, one of the endpoints here; without any here, of all', () => {
    const objects = [
      service('web', {
        type: 'NodePort',
        clusterIP: '10.96.0.10',
        externalTrafficPolicy: 'Local',
        ports: [{ port: 80, nodePort: 30_080 }],
      }),
      webEndpoints,
    ];
    const here = new Node();
    expect(here.sync(snapshotOf(...objects))).toEqual({ noLocalEndpoints: { internal: 0, external: 0 } });
    expect(here.virtuals.at(-1)).toBe('TCP 192.168.0.1:30080 rr -> 10.244.1.5:8080');
    expect(here.elements('KUBE-NODE-PORT-LOCAL-TCP')).toEqual(['30080']);
    const elsewhere = new Node({}, { ...NODE_1, name: 'node-3' });
    expect(elsewhere.sync(snapshotOf(...objects))).toEqual({ noLocalEndpoints: { internal: 0, external: 1 } });
    expect(elsewhere.virtuals.at(-1)).toBe('TCP 192.168.0.1:30080 rr -> 10.244.1.5:8080 -> 10.244.2.5:8080');
  });

  test('--nodeport-addresses leaves out other addresses of the node', () => {
    const node = new Node({ nodePortAddresses: [parsePrefix('192.168.0.0/16')] });
    node.sync(
      snapshotOf(
        service('web', { type: 'NodePort', clusterIP: '10.96.0.10', ports: [{ port: 80, nodePort: 30_080 }] }),
      ),
    );
    expect(node.virtuals).toEqual(['TCP 10.96.0.10:80 rr', 'TCP 192.168.0.1:30080 rr']);
  });
});

describe('rules', () => {
  test('are the same few for any number of Services', () => {
    const node = new Node();
    const counts = [1, 100].map((count) => {
      const services = Array.from({ length: count }, (_, i) =>
        service(`s${i}`, { clusterIP: `10.96.1.${i}`, ports: [{ port: 80 }] }),
      );
      node.sync(snapshotOf(...services));
      return printIptablesSave(saveTables(node.kernel.netfilter.tables)).split('\n').length;
    });
    expect(counts[0]).toBe(counts[1]);
    expect(node.elements('KUBE-CLUSTER-IP')).toHaveLength(100);
  });

  test('leave out what asks an empty set', () => {
    const node = new Node();
    node.sync(NO_SERVICES);
    expect(node.rules('nat', 'KUBE-SERVICES')).toEqual([
      '-s 127.0.0.0/8 -j RETURN',
      '-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT',
    ]);
    expect(node.rules('nat', 'KUBE-POSTROUTING')).toEqual([
      '-m mark ! --mark 0x4000/0x4000 -j RETURN',
      '-j MARK --set-xmark 0x4000/0x0',
      '-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
    ]);
  });

  const external = service('web', {
    type: 'LoadBalancer',
    clusterIP: '10.96.0.10',
    externalIPs: ['192.0.2.1'],
    loadBalancerSourceRanges: ['203.0.113.0/24'],
    ports: [{ port: 80, nodePort: 30_080 }],
  });
  const withLoadBalancer = { ...external, status: { loadBalancer: { ingress: [{ ip: '198.51.100.7' }] } } };
  const PURPOSE = '-m comment --comment "Kubernetes service';

  test('stand in the order of kube-proxy', () => {
    const node = new Node();
    node.sync(snapshotOf(withLoadBalancer as typeof external));
    const toExternal = `${PURPOSE} external ip + port for masquerade and filter purpose" -m set --match-set KUBE-EXTERNAL-IP dst,dst`;
    expect(node.rules('nat', 'KUBE-SERVICES')).toEqual([
      '-s 127.0.0.0/8 -j RETURN',
      `${PURPOSE} lb portal" -m set --match-set KUBE-LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER`,
      `! -s 10.244.0.0/16 ${PURPOSE} cluster ip + port for masquerade purpose" -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ`,
      `${toExternal} -j KUBE-MARK-MASQ`,
      `${toExternal} -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT`,
      `${toExternal} -m addrtype --dst-type LOCAL -j ACCEPT`,
      '-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT',
      '-m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT',
      '-m set --match-set KUBE-LOAD-BALANCER dst,dst -j ACCEPT',
    ]);
    expect(node.rules('filter', 'KUBE-SOURCE-RANGES-FIREWALL')).toEqual([
      `${PURPOSE} load balancer ip + port + source cidr for packet filter purpose" -m set --match-set KUBE-LOAD-BALANCER-SOURCE-CIDR dst,dst,src -j RETURN`,
      '-j DROP',
    ]);
    expect(node.rules('filter', 'KUBE-IPVS-OUT-FILTER')).toEqual([
      '-s 198.51.100.7/32 -m ipvs --vproto 6 --vaddr 198.51.100.7 --vport 80 -j DROP',
    ]);
  });

  test('let the node at the load balancer’s address if its own address is in the source ranges', () => {
    const node = new Node({}, { ...NODE_1, ips: [parseIp('203.0.113.5')] });
    node.sync(snapshotOf(withLoadBalancer as typeof external));
    expect(node.rules('filter', 'KUBE-IPVS-OUT-FILTER')).toEqual([]);
    expect(node.elements('KUBE-LOAD-BALANCER-SOURCE-IP')).toEqual(['198.51.100.7,tcp:80,198.51.100.7']);
  });

  test('masquerade everything to ClusterIPs, or what comes from one where local pods cannot be told', () => {
    const toClusterIp = (config: Partial<IpvsConfig>): string | undefined => {
      const node = new Node(config);
      node.sync(snapshotOf(web));
      return node.rules('nat', 'KUBE-SERVICES')[1]?.replace(/-m comment --comment "[^"]*" /, '');
    };
    expect(toClusterIp({ masqueradeAll: true })).toBe('-m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ');
    expect(toClusterIp({ localDetector: { mode: 'None' } })).toBe(
      '-m set --match-set KUBE-CLUSTER-IP src,dst -j KUBE-MARK-MASQ',
    );
  });
});

describe('in IPv6', () => {
  const clusterIP = 'fd00:10:96::10';
  const services = ipv6SnapshotOf(
    service('web', {
      type: 'LoadBalancer',
      clusterIP,
      externalIPs: ['2001:db8::1'],
      loadBalancerSourceRanges: ['2001:db8:203::/48'],
      ports: [{ port: 80, nodePort: 30_080 }],
    }),
    slice('web', ['fd00:10:244:1::5 node-1', 'fd00:10:244:2::5 node-2']),
  );

  test('a Service has virtual servers of that family', () => {
    const node = ipv6Node();
    node.sync(services);
    const servers = ' -> [fd00:10:244:1::5]:8080 -> [fd00:10:244:2::5]:8080';
    expect(node.virtuals).toEqual([
      `TCP [2001:db8::1]:80 rr${servers}`,
      `TCP [fd00:10:96::10]:80 rr${servers}`,
      `TCP [fd00:10:244:1::1]:30080 rr${servers}`,
      `TCP [fd00:192:168::1]:30080 rr${servers}`,
    ]);
    expect([...node.serviceIps].map((ip) => formatIp(ip, 6))).toEqual([clusterIP, '2001:db8::1']);
  });

  test('sets have names of their own, 31 characters at most, and rules ask those', () => {
    const node = ipv6Node();
    node.sync(services);
    expect(node.elements('KUBE-6-CLUSTER-IP')).toEqual([`${clusterIP},tcp:80`]);
    expect(node.elements('KUBE-6-LOOP-BACK')).toEqual(['fd00:10:244:1::5,tcp:8080,fd00:10:244:1::5']);
    expect(node.elements('KUBE-6-NODE-PORT-TCP')).toEqual(['30080']);
    const names = printIpsets(node.kernel.netfilter.sets).match(/^create \S+/gm)!;
    expect(names.filter((name) => name.length === 'create '.length + 31)).toEqual([
      'create KUBE-6-LOAD-BALANCER-SOURCE-CID',
      'create KUBE-6-NODE-PORT-LOCAL-SCTP-HAS',
    ]);
    expect(node.rules('nat', 'KUBE-SERVICES')[0]).toBe('-s ::1/128 -j RETURN');
    expect(node.rules('nat', 'KUBE-SERVICES').at(-1)).toBe('-m set --match-set KUBE-6-CLUSTER-IP dst,dst -j ACCEPT');
  });

  test('both families share the node, and neither touches what is the other’s', () => {
    const node = new Node();
    node.sync(snapshotOf(web, webEndpoints));
    const before = [node.virtuals, printIpsets(node.kernel.netfilter.sets)];
    const other = ipv6Node();
    const { sets, ipvs, tables6: tables } = node.kernel.netfilter;
    const sync = (services: ServiceSnapshot) =>
      other.proxier.sync({ tables, sets, ipvs, bindServiceAddresses: () => {} }, services);
    sync(services);
    expect(node.virtuals.filter((line) => !line.includes('['))).toEqual(before[0]);
    sync(ipv6SnapshotOf());
    expect(node.virtuals).toEqual(before[0]);
    const ofIpv4 = printIpsets(sets)
      .split('\n')
      .filter((line) => !line.includes(' KUBE-6-'));
    expect(ofIpv4.join('\n')).toBe(before[1]);
  });
});

describe('an endpoint that goes', () => {
  const SYN = 'tcp 10.244.1.9:4000 > 10.96.0.10:80 S seq 1';

  /** A connection to 10.244.1.5, which is then no endpoint any more. */
  function drained(protocol: 'TCP' | 'UDP' = 'TCP') {
    const port = { port: 8080, protocol };
    const endpoints = (...addresses: string[]) => slice('web', addresses, port);
    const tracker = trackerOf(
      service('web', { clusterIP: '10.96.0.10', ports: [{ port: 80, protocol }] }),
      endpoints('10.244.1.5 node-1'),
    );
    const node = new Node();
    node.sync(tracker.snapshot());
    node.kernel.receive(protocol === 'TCP' ? SYN : 'udp 10.244.1.9:4000 > 10.96.0.10:80');
    const change = (...addresses: string[]): void => {
      tracker.apply({ type: 'MODIFIED', object: endpoints(...addresses) });
      node.sync(tracker.snapshot());
    };
    change('10.244.2.5 node-2');
    return { node, change };
  }

  test('stays with weight 0 until its connections are over', () => {
    const { node } = drained();
    const { ipvs } = node.kernel.netfilter;
    expect(node.virtuals).toEqual(['TCP 10.96.0.10:80 rr -> 10.244.1.5:8080 (0) -> 10.244.2.5:8080']);
    expect(node.proxier.isDraining).toBe(true);
    node.proxier.checkDraining(ipvs);
    expect(node.virtuals[0]).toContain('(0)');
    node.kernel.wait(s(61)); // a SYN without answer is forgotten after 60
    node.proxier.checkDraining(ipvs);
    expect(node.virtuals).toEqual(['TCP 10.96.0.10:80 rr -> 10.244.2.5:8080']);
    expect(node.proxier.isDraining).toBe(false);
  });

  test('goes at once if it serves UDP, or has no connections', () => {
    expect(drained('UDP').node.virtuals).toEqual(['UDP 10.96.0.10:80 rr -> 10.244.2.5:8080']);
    const { node, change } = drained();
    change(); // 10.244.2.5 has served nobody
    expect(node.virtuals).toEqual(['TCP 10.96.0.10:80 rr -> 10.244.1.5:8080 (0)']);
  });

  test('and comes back, is served again', () => {
    const { node, change } = drained();
    change('10.244.1.5 node-1');
    expect(node.virtuals).toEqual(['TCP 10.96.0.10:80 rr -> 10.244.1.5:8080']);
    expect(node.proxier.isDraining).toBe(false);
    expect(node.kernel.receive('tcp 10.244.1.9:4000 > 10.96.0.10:80 . seq 2 ack 1')).toContain('10.244.1.5:8080');
  });

  test('goes with its Service, connections or not', () => {
    const { node } = drained();
    node.sync(NO_SERVICES);
    expect(node.virtuals).toEqual([]);
    expect(node.proxier.isDraining).toBe(false);
    expect([...node.serviceIps]).toEqual([]);
  });
});

test('the node that has seen changes one by one is as one that sees the outcome only', () => {
  const state = (node: Node): unknown => ({
    virtuals: node.virtuals,
    sets: listIpsets(node.kernel.netfilter.sets).split('\n').sort(),
    rules: printIptablesSave(saveTables(node.kernel.netfilter.tables)),
    addresses: [...node.serviceIps].sort(),
  });
  fc.assert(
    fc.property(fc.array(anyChange, { maxLength: 12 }), fc.constantFrom(...NODES), (changes, proxyNode) => {
      const tracker = new ServiceTracker();
      const node = new Node({}, proxyNode);
      for (const change of changes) {
        tracker.apply(change);
        node.sync(tracker.snapshot());
      }
      const fresh = new Node({}, proxyNode);
      fresh.sync(NO_SERVICES);
      fresh.sync(tracker.snapshot());
      if (changes.length > 0) expect(state(node)).toEqual(state(fresh));
    }),
    { numRuns: 60 },
  );
});

describe('the kernel takes sets and rules and lists them the same (needs root, ipset and iptables)', () => {
  const isRoot = process.getuid?.() === 0;
  const hasTools = ['ipset', 'iptables-legacy-restore', 'ip6tables-legacy-restore'].every(
    (tool) => spawnSync(tool, ['--version']).status === 0,
  );

  test.skipIf(!isRoot || !hasTools).each([4, 6] as const)('200 Services of all kinds, IPv%i', (family) => {
    const node = family === 6 ? ipv6Node() : new Node();
    const objects = Array.from({ length: 200 }, (_, i) => kindOfService(i, family)).flat();
    node.sync(family === 6 ? ipv6SnapshotOf(...objects) : snapshotOf(...objects));
    const { tables } = node;
    const { sets } = node.kernel.netfilter;
    // No kernel without the module of IPVS knows `-m ipvs`.
    const rules = printIptablesSave(saveTables(tables))
      .split('\n')
      .filter((line) => !line.includes(' -m ipvs '));
    const iptables = family === 6 ? 'ip6tables' : 'iptables';
    const commands = `ipset restore && ${iptables}-legacy-restore /dev/fd/3 && ipset save && echo = && ${iptables}-legacy-save`;
    const { status, stderr, stdout } = spawnSync('unshare', ['--net', 'bash', '-c', `exec 3<<<"$RULES"; ${commands}`], {
      input: printIpsets(sets),
      env: { ...process.env, RULES: rules.join('\n') },
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const [listedSets = '', listedRules = ''] = stdout.split('\n=\n');
    const lines = (text: string): string[] =>
      text
        .replace(/ bucketsize \d+ initval \w+/g, '')
        .split('\n')
        .filter((line) => line !== '' && !line.startsWith('#'));
    expect(lines(listedSets).sort()).toEqual(lines(printIpsets(sets)).sort());
    const byTable = (text: string): string[] =>
      lines(text)
        .map((line) => line.replace(/ \[\d+:\d+\]$/, ''))
        .filter((line) => line.startsWith('-A'));
    expect(byTable(listedRules).sort()).toEqual(byTable(rules.join('\n')).sort());
    expect(byTable(listedRules).filter((line) => line.startsWith('-A KUBE-SERVICES'))).toEqual(
      byTable(rules.join('\n')).filter((line) => line.startsWith('-A KUBE-SERVICES')),
    );
  });
});
