import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { RandomStream } from '../../../engine/random.ts';
import { type Instant, START, s } from '../../../engine/time.ts';
import { printIptablesSave } from '../../netfilter/iptables-save.ts';
import { Rule } from '../../netfilter/rule.ts';
import { RuleTables, type TableName } from '../../netfilter/rule-tables.ts';
import { parseIp, parseIpv6, parseIpv6Prefix, parsePrefix } from '../../packet/ip-address.ts';
import { objectFrom, type Service } from '../objects.ts';
import { DEFAULT_IPTABLES_CONFIG, type IptablesConfig, IptablesProxier } from './iptables.ts';
import { ServiceChainCache } from './iptables-chain-cache.ts';
import { service, slice, snapshotOf, trackerOf } from './kube-proxy.fixture.ts';
import type { ProxyNode } from './port-on-node.ts';
import { NO_SERVICES, type ServiceSnapshot, ServiceTracker } from './service-tracker.ts';

const podNetwork: Partial<IptablesConfig> = {
  localDetector: { mode: 'ClusterCIDR', cidr: parsePrefix('10.244.0.0/16') },
};

/** Nodes node-1, node-2 and so on, of one cluster: 192.168.0.1, 192.168.0.2. */
class TestCluster {
  readonly #cache = new ServiceChainCache();

  node(number: number, config: Partial<IptablesConfig> = podNetwork, node: Partial<ProxyNode> = {}): TestNode {
    const name = `node-${number}`;
    return new TestNode(
      new IptablesProxier({
        node: { name, zone: undefined, ips: [parseIp(`192.168.0.${number}`)], ...node },
        config: { ...DEFAULT_IPTABLES_CONFIG, ...config },
        cache: this.#cache,
        random: new RandomStream(name),
      }),
    );
  }
}

class TestNode {
  readonly tables = new RuleTables();

  constructor(readonly proxier: IptablesProxier) {}

  sync(services: ServiceSnapshot, at: Instant = START): ReturnType<IptablesProxier['sync']> {
    return this.proxier.sync(this.tables, services, at);
  }

  rules(table: TableName, chain: string): string[] {
    return this.tables.chain(table, chain)?.rules.map(({ text }) => text) ?? [];
  }

  /** The rules of all chains whose names begin so, as iptables-save prints them. */
  dump(table: TableName, ...beginnings: string[]): string {
    const names = this.tables.chainNames(table).filter((name) => beginnings.some((start) => name.startsWith(start)));
    return names.flatMap((name) => this.rules(table, name).map((rule) => `-A ${name} ${rule}`)).join('\n');
  }
}

const web = service('web', { clusterIP: '10.96.0.10', ports: [{ port: 80 }] });
const webEndpoints = slice('web', ['10.244.1.5 node-1', '10.244.2.5 node-2']);

function syncedNode(services: ServiceSnapshot, config?: Partial<IptablesConfig>): TestNode {
  const node = new TestCluster().node(1, config);
  node.sync(services);
  return node;
}

test('a node without services has the rules that lead nowhere yet', () => {
  expect(`\n${printIptablesSave(syncedNode(NO_SERVICES).tables)}`).toMatchInlineSnapshot(`
    "
    *mangle
    :PREROUTING ACCEPT [0:0]
    :INPUT ACCEPT [0:0]
    :FORWARD ACCEPT [0:0]
    :OUTPUT ACCEPT [0:0]
    :POSTROUTING ACCEPT [0:0]
    :KUBE-PROXY-CANARY - [0:0]
    COMMIT
    *nat
    :PREROUTING ACCEPT [0:0]
    :INPUT ACCEPT [0:0]
    :OUTPUT ACCEPT [0:0]
    :POSTROUTING ACCEPT [0:0]
    :KUBE-MARK-MASQ - [0:0]
    :KUBE-NODEPORTS - [0:0]
    :KUBE-POSTROUTING - [0:0]
    :KUBE-PROXY-CANARY - [0:0]
    :KUBE-SERVICES - [0:0]
    -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
    -A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
    -A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
    -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
    -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
    -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
    -A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
    -A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
    COMMIT
    *filter
    :INPUT ACCEPT [0:0]
    :FORWARD ACCEPT [0:0]
    :OUTPUT ACCEPT [0:0]
    :KUBE-EXTERNAL-SERVICES - [0:0]
    :KUBE-FIREWALL - [0:0]
    :KUBE-FORWARD - [0:0]
    :KUBE-NODEPORTS - [0:0]
    :KUBE-PROXY-CANARY - [0:0]
    :KUBE-PROXY-FIREWALL - [0:0]
    :KUBE-SERVICES - [0:0]
    -A INPUT -j KUBE-FIREWALL
    -A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
    -A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
    -A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
    -A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
    -A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
    -A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
    -A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
    -A OUTPUT -j KUBE-FIREWALL
    -A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
    -A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
    -A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
    -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
    -A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
    -A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    COMMIT
    "
  `);
});

test('a ClusterIP service', () => {
  expect(syncedNode(snapshotOf(web, webEndpoints)).dump('nat', 'KUBE-S')).toMatchInlineSnapshot(`
    "-A KUBE-SEP-CBTFKNOSRCMRXDOA -s 10.244.2.5/32 -m comment --comment "default/web" -j KUBE-MARK-MASQ
    -A KUBE-SEP-CBTFKNOSRCMRXDOA -p tcp -m comment --comment "default/web" -m tcp -j DNAT --to-destination 10.244.2.5:8080
    -A KUBE-SEP-XQWD6PXGZUTOOIVQ -s 10.244.1.5/32 -m comment --comment "default/web" -j KUBE-MARK-MASQ
    -A KUBE-SEP-XQWD6PXGZUTOOIVQ -p tcp -m comment --comment "default/web" -m tcp -j DNAT --to-destination 10.244.1.5:8080
    -A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web cluster IP" -m tcp --dport 80 -j KUBE-SVC-LOLE4ISW44XBNF3G
    -A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
    -A KUBE-SVC-LOLE4ISW44XBNF3G ! -s 10.244.0.0/16 -d 10.96.0.10/32 -p tcp -m comment --comment "default/web cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
    -A KUBE-SVC-LOLE4ISW44XBNF3G -m comment --comment "default/web -> 10.244.1.5:8080" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-XQWD6PXGZUTOOIVQ
    -A KUBE-SVC-LOLE4ISW44XBNF3G -m comment --comment "default/web -> 10.244.2.5:8080" -j KUBE-SEP-CBTFKNOSRCMRXDOA"
  `);
});

test('a NodePort service with ClientIP affinity', () => {
  const sticky = service('web', {
    type: 'NodePort',
    clusterIP: '10.96.0.10',
    sessionAffinity: 'ClientIP',
    ports: [{ port: 80, nodePort: 30080 }],
  });
  const node = syncedNode(snapshotOf(sticky, webEndpoints));
  expect(node.dump('nat', 'KUBE-NODEPORTS', 'KUBE-EXT', 'KUBE-SVC', 'KUBE-SEP')).toMatchInlineSnapshot(`
    "-A KUBE-EXT-LOLE4ISW44XBNF3G -m comment --comment "masquerade traffic for default/web external destinations" -j KUBE-MARK-MASQ
    -A KUBE-EXT-LOLE4ISW44XBNF3G -j KUBE-SVC-LOLE4ISW44XBNF3G
    -A KUBE-NODEPORTS -p tcp -m comment --comment "default/web" -m tcp --dport 30080 -j KUBE-EXT-LOLE4ISW44XBNF3G
    -A KUBE-SEP-CBTFKNOSRCMRXDOA -s 10.244.2.5/32 -m comment --comment "default/web" -j KUBE-MARK-MASQ
    -A KUBE-SEP-CBTFKNOSRCMRXDOA -p tcp -m comment --comment "default/web" -m recent --set --name KUBE-SEP-CBTFKNOSRCMRXDOA --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.244.2.5:8080
    -A KUBE-SEP-XQWD6PXGZUTOOIVQ -s 10.244.1.5/32 -m comment --comment "default/web" -j KUBE-MARK-MASQ
    -A KUBE-SEP-XQWD6PXGZUTOOIVQ -p tcp -m comment --comment "default/web" -m recent --set --name KUBE-SEP-XQWD6PXGZUTOOIVQ --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.244.1.5:8080
    -A KUBE-SVC-LOLE4ISW44XBNF3G ! -s 10.244.0.0/16 -d 10.96.0.10/32 -p tcp -m comment --comment "default/web cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
    -A KUBE-SVC-LOLE4ISW44XBNF3G -m comment --comment "default/web -> 10.244.1.5:8080" -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-XQWD6PXGZUTOOIVQ --mask 255.255.255.255 --rsource -j KUBE-SEP-XQWD6PXGZUTOOIVQ
    -A KUBE-SVC-LOLE4ISW44XBNF3G -m comment --comment "default/web -> 10.244.2.5:8080" -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-CBTFKNOSRCMRXDOA --mask 255.255.255.255 --rsource -j KUBE-SEP-CBTFKNOSRCMRXDOA
    -A KUBE-SVC-LOLE4ISW44XBNF3G -m comment --comment "default/web -> 10.244.1.5:8080" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-XQWD6PXGZUTOOIVQ
    -A KUBE-SVC-LOLE4ISW44XBNF3G -m comment --comment "default/web -> 10.244.2.5:8080" -j KUBE-SEP-CBTFKNOSRCMRXDOA"
  `);
});

const balanced: Service = objectFrom('Service', {
  metadata: { name: 'web' },
  spec: {
    type: 'LoadBalancer',
    clusterIP: '10.96.0.10',
    externalIPs: ['198.51.100.7'],
    externalTrafficPolicy: 'Local',
    healthCheckNodePort: 32000,
    loadBalancerSourceRanges: ['203.0.113.0/24', '192.168.0.0/16'],
    ports: [{ port: 80, nodePort: 30080 }],
  },
  status: { loadBalancer: { ingress: [{ ip: '192.0.2.9' }] } },
});

describe('a LoadBalancer service with external policy Local and source ranges', () => {
  const cluster = new TestCluster();
  const [host, other] = [cluster.node(1), cluster.node(3)];
  for (const node of [host, other]) node.sync(snapshotOf(balanced, webEndpoints));

  test('on a node with an endpoint', () => {
    expect(host.dump('nat', 'KUBE-SERVICES', 'KUBE-EXT', 'KUBE-FW', 'KUBE-SVL')).toMatchInlineSnapshot(`
      "-A KUBE-EXT-LOLE4ISW44XBNF3G -s 10.244.0.0/16 -m comment --comment "pod traffic for default/web external destinations" -j KUBE-SVC-LOLE4ISW44XBNF3G
      -A KUBE-EXT-LOLE4ISW44XBNF3G -m comment --comment "masquerade LOCAL traffic for default/web external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
      -A KUBE-EXT-LOLE4ISW44XBNF3G -m comment --comment "route LOCAL traffic for default/web external destinations" -m addrtype --src-type LOCAL -j KUBE-SVC-LOLE4ISW44XBNF3G
      -A KUBE-EXT-LOLE4ISW44XBNF3G -j KUBE-SVL-LOLE4ISW44XBNF3G
      -A KUBE-FW-LOLE4ISW44XBNF3G -s 203.0.113.0/24 -m comment --comment "default/web loadbalancer IP" -j KUBE-EXT-LOLE4ISW44XBNF3G
      -A KUBE-FW-LOLE4ISW44XBNF3G -s 192.168.0.0/16 -m comment --comment "default/web loadbalancer IP" -j KUBE-EXT-LOLE4ISW44XBNF3G
      -A KUBE-FW-LOLE4ISW44XBNF3G -s 192.0.2.9/32 -m comment --comment "default/web loadbalancer IP" -j KUBE-EXT-LOLE4ISW44XBNF3G
      -A KUBE-FW-LOLE4ISW44XBNF3G -m comment --comment "other traffic to default/web will be dropped by KUBE-PROXY-FIREWALL"
      -A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web cluster IP" -m tcp --dport 80 -j KUBE-SVC-LOLE4ISW44XBNF3G
      -A KUBE-SERVICES -d 198.51.100.7/32 -p tcp -m comment --comment "default/web external IP" -m tcp --dport 80 -j KUBE-EXT-LOLE4ISW44XBNF3G
      -A KUBE-SERVICES -d 192.0.2.9/32 -p tcp -m comment --comment "default/web loadbalancer IP" -m tcp --dport 80 -j KUBE-FW-LOLE4ISW44XBNF3G
      -A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
      -A KUBE-SVL-LOLE4ISW44XBNF3G -m comment --comment "default/web -> 10.244.1.5:8080" -j KUBE-SEP-XQWD6PXGZUTOOIVQ"
    `);
    expect(host.dump('filter', 'KUBE-EXTERNAL', 'KUBE-NODEPORTS', 'KUBE-PROXY-FIREWALL')).toMatchInlineSnapshot(`
      "-A KUBE-NODEPORTS -p tcp -m comment --comment "default/web health check node port" -m tcp --dport 32000 -j ACCEPT
      -A KUBE-PROXY-FIREWALL -d 192.0.2.9/32 -p tcp -m comment --comment "default/web traffic not accepted by KUBE-FW-LOLE4ISW44XBNF3G" -m tcp --dport 80 -j DROP"
    `);
  });

  test('on a node without', () => {
    expect(other.dump('nat', 'KUBE-EXT', 'KUBE-SVL')).toMatchInlineSnapshot(`
      "-A KUBE-EXT-LOLE4ISW44XBNF3G -s 10.244.0.0/16 -m comment --comment "pod traffic for default/web external destinations" -j KUBE-SVC-LOLE4ISW44XBNF3G
      -A KUBE-EXT-LOLE4ISW44XBNF3G -m comment --comment "masquerade LOCAL traffic for default/web external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
      -A KUBE-EXT-LOLE4ISW44XBNF3G -m comment --comment "route LOCAL traffic for default/web external destinations" -m addrtype --src-type LOCAL -j KUBE-SVC-LOLE4ISW44XBNF3G"
    `);
    expect(other.dump('filter', 'KUBE-EXTERNAL', 'KUBE-NODEPORTS', 'KUBE-PROXY-FIREWALL')).toMatchInlineSnapshot(`
      "-A KUBE-EXTERNAL-SERVICES -d 198.51.100.7/32 -p tcp -m comment --comment "default/web has no local endpoints" -m tcp --dport 80 -j DROP
      -A KUBE-EXTERNAL-SERVICES -d 192.0.2.9/32 -p tcp -m comment --comment "default/web has no local endpoints" -m tcp --dport 80 -j DROP
      -A KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment "default/web has no local endpoints" -m addrtype --dst-type LOCAL -m tcp --dport 30080 -j DROP
      -A KUBE-NODEPORTS -p tcp -m comment --comment "default/web health check node port" -m tcp --dport 32000 -j ACCEPT
      -A KUBE-PROXY-FIREWALL -d 192.0.2.9/32 -p tcp -m comment --comment "default/web traffic not accepted by KUBE-FW-LOLE4ISW44XBNF3G" -m tcp --dport 80 -j DROP"
    `);
  });
});

test('a service without endpoints refuses at all its addresses', () => {
  const node = syncedNode(snapshotOf(balanced));
  expect(node.dump('nat', 'KUBE-SVC', 'KUBE-EXT', 'KUBE-FW', 'KUBE-NODEPORTS')).toBe('');
  expect(node.dump('filter', 'KUBE-SERVICES', 'KUBE-EXTERNAL')).toMatchInlineSnapshot(`
    "-A KUBE-EXTERNAL-SERVICES -d 198.51.100.7/32 -p tcp -m comment --comment "default/web has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable
    -A KUBE-EXTERNAL-SERVICES -d 192.0.2.9/32 -p tcp -m comment --comment "default/web has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable
    -A KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment "default/web has no endpoints" -m addrtype --dst-type LOCAL -m tcp --dport 30080 -j REJECT --reject-with icmp-port-unreachable
    -A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable"
  `);
});

test('internal policy Local without an endpoint on the node drops instead', () => {
  const local = service('web', { clusterIP: '10.96.0.10', internalTrafficPolicy: 'Local', ports: [{ port: 80 }] });
  const node = syncedNode(snapshotOf(local, slice('web', ['10.244.2.5 node-2'])));
  expect(node.dump('filter', 'KUBE-SERVICES')).toMatchInlineSnapshot(
    `"-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web has no local endpoints" -m tcp --dport 80 -j DROP"`,
  );
});

describe('traffic to a cluster IP is masqueraded', () => {
  test.each<[string, Partial<IptablesConfig>, string]>([
    ['unless it comes from the pod network', podNetwork, '! -s 10.244.0.0/16 -d 10.96.0.10/32'],
    [
      'unless it comes by the bridge',
      { localDetector: { mode: 'BridgeInterface', device: 'cni0' } },
      '-d 10.96.0.10/32 ! -i cni0',
    ],
    [
      'unless it comes by the device of a pod',
      { localDetector: { mode: 'InterfaceNamePrefix', prefix: 'veth' } },
      '-d 10.96.0.10/32 ! -i veth+',
    ],
    ['always with masqueradeAll', { ...podNetwork, masqueradeAll: true }, '-d 10.96.0.10/32'],
  ])('%s', (_title, config, source) => {
    const [first] = syncedNode(snapshotOf(web, webEndpoints), config).dump('nat', 'KUBE-SVC').split('\n');
    expect(first).toBe(
      `-A KUBE-SVC-LOLE4ISW44XBNF3G ${source} -p tcp -m comment --comment "default/web cluster IP" -m tcp --dport 80 ` +
        '-j KUBE-MARK-MASQ',
    );
  });

  test('never if sources cannot be told apart', () => {
    const [first] = syncedNode(snapshotOf(web, webEndpoints), {}).dump('nat', 'KUBE-SVC').split('\n');
    expect(first).toContain('-m statistic');
  });
});

describe('node ports', () => {
  const jump = (config: Partial<IptablesConfig>) => syncedNode(NO_SERVICES, config).rules('nat', 'KUBE-SERVICES');
  const why = '-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain"';

  test('answer on every address of the node', () => {
    expect(jump({})).toEqual([`${why} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS`]);
  });

  test('answer everywhere but on loopback', () => {
    expect(jump({ localhostNodePorts: false })).toEqual([
      `! -d 127.0.0.0/8 ${why} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS`,
    ]);
  });

  test('answer on the addresses in nodePortAddresses, loopback included', () => {
    const nodePortAddresses = [parsePrefix('127.0.0.0/8'), parsePrefix('192.168.0.0/24')];
    expect(jump({ nodePortAddresses })).toEqual([
      `-d 127.0.0.1/32 ${why} -j KUBE-NODEPORTS`,
      `-d 192.168.0.1/32 ${why} -j KUBE-NODEPORTS`,
    ]);
  });

  test('answer on the first address only, not on loopback, where nodePortAddresses is primary', () => {
    expect(jump({ nodePortAddresses: 'primary' })).toEqual([
      '-d 192.168.0.1/32 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -j KUBE-NODEPORTS',
    ]);
    expect(syncedNode(NO_SERVICES, { nodePortAddresses: 'primary' }).rules('filter', 'KUBE-FIREWALL')).toEqual(
      syncedNode(NO_SERVICES, { localhostNodePorts: false }).rules('filter', 'KUBE-FIREWALL'),
    );
  });

  test('need no guard of loopback where nodePortAddresses leaves it out', () => {
    const guards = (range: string): string[] =>
      syncedNode(NO_SERVICES, { nodePortAddresses: [parsePrefix(range)] }).rules('filter', 'KUBE-FIREWALL');
    expect(guards('192.168.0.0/24')).toEqual([]);
    expect(guards('127.0.0.0/8')).toHaveLength(1);
    expect(guards('0.0.0.0/0')).toHaveLength(1);
  });

  test('on loopback are counted first, if there is an account for them', () => {
    const exposed = service('web', {
      type: 'NodePort',
      clusterIP: '10.96.0.10',
      ports: [{ port: 80, nodePort: 30080 }],
    });
    const rules = (config: Partial<IptablesConfig>): string[] =>
      syncedNode(snapshotOf(exposed, webEndpoints), { accounts: ['localhost_nps_accepted_pkts'], ...config }).rules(
        'nat',
        'KUBE-NODEPORTS',
      );
    const [counted, plain] = rules({});
    expect(counted).toMatch(
      /^-d 127\.0\.0\.0\/8 -p tcp .* -m nfacct --nfacct-name localhost_nps_accepted_pkts -j KUBE-EXT/,
    );
    expect(plain).not.toContain('nfacct');
    expect(rules({ localhostNodePorts: false })).toEqual([plain]);
  });
});

describe('the builtin chains', () => {
  const jumpsIn = (node: TestNode, table: TableName, chain: string) =>
    node.rules(table, chain).map((rule) => rule.replace(/.*-j /, ''));

  test('lead into those of kube-proxy before everything that was there', () => {
    const node = new TestCluster().node(1);
    node.tables.appendRule('filter', 'FORWARD', new Rule({ target: { target: 'ACCEPT' } }));
    node.tables.appendRule('nat', 'POSTROUTING', new Rule({ target: { target: 'MASQUERADE' } }));
    node.sync(NO_SERVICES);
    expect(jumpsIn(node, 'filter', 'FORWARD')).toEqual([
      'KUBE-PROXY-FIREWALL',
      'KUBE-FORWARD',
      'KUBE-SERVICES',
      'KUBE-EXTERNAL-SERVICES',
      'ACCEPT',
    ]);
    expect(jumpsIn(node, 'nat', 'POSTROUTING')).toEqual(['KUBE-POSTROUTING', 'MASQUERADE']);
  });

  test('get each jump once, also from a kube-proxy that was started again', () => {
    const cluster = new TestCluster();
    const node = cluster.node(1);
    node.sync(NO_SERVICES);
    const before = printIptablesSave(node.tables);
    cluster.node(1).proxier.sync(node.tables, NO_SERVICES, START);
    expect(printIptablesSave(node.tables)).toBe(before);
  });
});

describe('a sync', () => {
  const dns = service('kube-system/dns', { clusterIP: '10.96.0.53', ports: [{ port: 53, protocol: 'UDP' }] });
  const dnsEndpoints = slice('kube-system/dns', ['10.244.1.2 node-1', '10.244.2.2 node-2'], {
    port: 53,
    protocol: 'UDP',
  });
  const moreEndpoints = slice('web', ['10.244.1.5 node-1', '10.244.3.5 node-3']);

  test('writes everything first, then only what has changed', () => {
    const node = new TestCluster().node(1);
    const tracker = trackerOf(web, webEndpoints, dns, dnsEndpoints);
    // Every sync: 6 chains in filter and 4 in nat, with 4 and 4 rules, and KUBE-SERVICES with 1 and 1 per service.
    // Each service: SVC with 3 rules and two SEP with 2.
    expect(node.sync(tracker.snapshot())).toEqual({
      kind: 'full',
      chainsWritten: 10 + 2 * 3,
      rulesWritten: 4 + 4 + 1 + 2 + 2 * 7,
      chainsDeleted: [],
      noLocalEndpoints: { internal: 0, external: 0 },
    });
    expect(node.sync(tracker.snapshot())).toEqual({
      kind: 'partial',
      chainsWritten: 10,
      rulesWritten: 4 + 4 + 1 + 2,
      chainsDeleted: [],
      noLocalEndpoints: { internal: 0, external: 0 },
    });
  });

  test('leaves the chains of unchanged services alone and deletes those of endpoints that are gone', () => {
    const node = new TestCluster().node(1);
    const tracker = trackerOf(web, webEndpoints, dns, dnsEndpoints);
    node.sync(tracker.snapshot());
    const dnsChains = () => ['KUBE-SVC-TCOU7JCQXEZGVUNU'].map((name) => node.tables.chain('nat', name));
    const before = dnsChains();
    tracker.apply({ type: 'MODIFIED', object: moreEndpoints });
    const gone = 'KUBE-SEP-CBTFKNOSRCMRXDOA'; // default/web, 10.244.2.5:8080
    expect(node.sync(tracker.snapshot()).chainsDeleted).toEqual([gone]);
    expect(node.tables.chain('nat', gone)).toBeUndefined();
    expect(dnsChains()).toEqual(before);
  });

  test('starts to count anew in the chains that it writes, and in no others', () => {
    const node = new TestCluster().node(1);
    const tracker = trackerOf(web, webEndpoints, dns, dnsEndpoints);
    node.sync(tracker.snapshot());
    const chains = node.tables.chainNames('nat').filter((name) => name.startsWith('KUBE-SVC-'));
    const chainOf = (service: string) =>
      chains.find((name) => node.tables.chain('nat', name)!.rules.some(({ text }) => text.includes(service)))!;
    const [webChain, dnsChain] = [chainOf('default/web'), chainOf('kube-system/dns')] as const;
    for (const name of [webChain, dnsChain]) node.tables.table('nat').use(name)!.counters.count(0, 60);
    tracker.apply({ type: 'MODIFIED', object: moreEndpoints });
    node.sync(tracker.snapshot());
    expect(node.tables.counters('nat', webChain)).toBeUndefined();
    expect(node.tables.counters('nat', dnsChain)?.packets(0)).toBe(1);
  });

  test('leaves nothing of a service that is deleted, whatever its policies', () => {
    const node = new TestCluster().node(1);
    const tracker = trackerOf(balanced, webEndpoints);
    node.sync(NO_SERVICES);
    const before = printIptablesSave(node.tables);
    node.sync(tracker.snapshot());
    tracker.apply({ type: 'DELETED', object: balanced });
    node.sync(tracker.snapshot());
    expect(printIptablesSave(node.tables)).toBe(before);
  });

  test('follows an endpoint that leaves the node and comes back', () => {
    const node = new TestCluster().node(1);
    const tracker = trackerOf(balanced, webEndpoints);
    node.sync(tracker.snapshot());
    const before = printIptablesSave(node.tables);
    tracker.apply({ type: 'MODIFIED', object: slice('web', ['10.244.2.5 node-2']) });
    node.sync(tracker.snapshot());
    expect(node.dump('nat', 'KUBE-SVL')).toBe('');
    tracker.apply({ type: 'MODIFIED', object: webEndpoints });
    node.sync(tracker.snapshot());
    expect(printIptablesSave(node.tables)).toBe(before);
  });

  test('is a full one again after somebody has flushed a table, or the node has changed', () => {
    const node = new TestCluster().node(1);
    const services = snapshotOf(web, webEndpoints);
    const kinds = [node.sync(services).kind, node.sync(services).kind];
    node.tables.deleteChain('mangle', 'KUBE-PROXY-CANARY');
    kinds.push(node.sync(services).kind, node.sync(services).kind);
    node.proxier.updateNode({ name: 'node-1', zone: 'zone-b', ips: [] });
    kinds.push(node.sync(services).kind, node.sync(services).kind);
    expect(kinds).toEqual(['full', 'partial', 'full', 'partial', 'full', 'partial']);
  });

  test('writes services in another order on every node and each time, those of one service together', () => {
    const cluster = new TestCluster();
    const services = snapshotOf(
      ...Array.from({ length: 20 }, (_, i) =>
        service(`svc-${i}`, { clusterIP: `10.96.1.${i}`, externalIPs: [`192.0.2.${i}`], ports: [{ port: 80 }] }),
      ),
      ...Array.from({ length: 20 }, (_, i) => slice(`svc-${i}`, [`10.244.1.${i}`])),
    );
    const [one, other] = [cluster.node(1), cluster.node(2)];
    const orders = [one, one, other].map((node) => {
      node.sync(services);
      const names = node.rules('nat', 'KUBE-SERVICES').map((rule) => /default\/(\S+)/.exec(rule)?.[1]);
      expect(names.pop()).toBeUndefined(); // the jump to node ports stays last
      for (let i = 0; i < names.length; i += 2) expect(names[i]).toBe(names[i + 1]);
      return names.join(' ');
    });
    expect(new Set(orders).size).toBe(3);
  });
});

describe('sharing', () => {
  const hinted = objectFrom('EndpointSlice', {
    ...webEndpoints,
    endpoints: ['a', 'b', 'a'].map((zone, i) => ({
      addresses: [`10.244.${i}.5`],
      hints: { forZones: [{ name: zone }] },
    })),
  });
  const chainsOf = (node: TestNode) =>
    new Map(
      node.tables
        .chainNames('nat')
        .filter((name) => /^KUBE-(SVC|SVL|EXT|FW|SEP)-/.test(name))
        .map((name) => [name, node.tables.chain('nat', name)]),
    );

  test.each([
    [
      'a node port',
      service('web', { type: 'NodePort', clusterIP: '10.96.0.10', ports: [{ port: 80, nodePort: 30080 }] }),
    ],
    ['a load balancer', balanced],
  ])('nodes that differ in nothing have the same chains and rules of %s', (_title, web) => {
    const cluster = new TestCluster();
    const services = snapshotOf(web, webEndpoints);
    const [one, other] = [cluster.node(3), cluster.node(4)];
    for (const node of [one, other]) node.sync(services);
    expect(chainsOf(one).size).toBeGreaterThan(3);
    for (const [name, chain] of chainsOf(one)) expect(chainsOf(other).get(name)).toBe(chain);
    const rules = one.tables.chain('nat', 'KUBE-SERVICES')?.rules ?? [];
    for (const rule of rules) expect(other.tables.chain('nat', 'KUBE-SERVICES')?.rules).toContain(rule);
  });

  test('policy Local sets the chains apart that differ, and no others', () => {
    const cluster = new TestCluster();
    const [host, other] = [cluster.node(1), cluster.node(3)];
    for (const node of [host, other]) node.sync(snapshotOf(balanced, webEndpoints));
    const different = [...chainsOf(host)].filter(([name, chain]) => chainsOf(other).get(name) !== chain);
    expect(different.map(([name]) => name.slice(0, 8))).toEqual(['KUBE-EXT', 'KUBE-SVL']);
  });

  test('a zone has its own chains where topology hints say so', () => {
    const cluster = new TestCluster();
    const [a, b] = ['a', 'b'].map((zone, i) => cluster.node(i + 1, podNetwork, { zone }));
    for (const node of [a!, b!]) node.sync(snapshotOf(web, hinted));
    expect([...chainsOf(a!).keys()].filter((name) => name.startsWith('KUBE-SEP'))).toHaveLength(2);
    expect([...chainsOf(b!).keys()].filter((name) => name.startsWith('KUBE-SEP'))).toHaveLength(1);
  });

  test('a node hint takes all other endpoints from the node', () => {
    const endpoints = [1, 2].map((i) => ({
      addresses: [`10.244.${i}.5`],
      nodeName: `node-${i}`,
      hints: { forNodes: [{ name: `node-${i}` }], forZones: [{ name: 'a' }] },
    }));
    const cluster = new TestCluster();
    const node = cluster.node(1, podNetwork, { zone: 'a' });
    node.sync(snapshotOf(web, objectFrom('EndpointSlice', { ...webEndpoints, endpoints })));
    expect(node.dump('nat', 'KUBE-SVC', 'KUBE-SEP')).not.toContain('10.244.2.5');
  });
});

describe('size', () => {
  const bigService = (endpoints: number): ServiceSnapshot =>
    snapshotOf(
      web,
      slice(
        'web',
        Array.from({ length: endpoints }, (_, i) => `10.244.${i >> 8}.${i & 255}`),
      ),
    );

  test.each([
    [1, 1],
    [10, 3],
    [50, 20],
  ])('%i services of %i endpoints each', (services, endpoints) => {
    const node = syncedNode(
      snapshotOf(
        ...Array.from({ length: services }, (_, i) =>
          service(`s${i}`, { clusterIP: `10.96.1.${i}`, ports: [{ port: 80 }] }),
        ),
        ...Array.from({ length: services }, (_, i) =>
          slice(
            `s${i}`,
            Array.from({ length: endpoints }, (_, j) => `10.244.${i}.${j}`),
          ),
        ),
      ),
    );
    const count = (chains: string) => node.dump('nat', chains).split('\n').length;
    expect(count('KUBE-SERVICES')).toBe(services + 1);
    expect(count('KUBE-SVC')).toBe(services * (1 + endpoints)); // one rule to masquerade, one per endpoint
    expect(count('KUBE-SEP')).toBe(services * endpoints * 2);
  });

  test('beyond 1,000 endpoints the rules that lead to them have no comments', () => {
    expect(syncedNode(bigService(1_000)).dump('nat', 'KUBE-SEP')).toContain('--comment');
    const large = syncedNode(bigService(1_001));
    expect(large.dump('nat', 'KUBE-SEP')).not.toContain('--comment');
    expect(large.dump('nat', 'KUBE-SVC').match(/--comment/g)).toHaveLength(1); // the rule to masquerade
  });

  describe('of which some go', () => {
    const endpointsOf = (first: number, last: number): string[] =>
      Array.from({ length: last - first }, (_, i) => `10.245.${(first + i) >> 8}.${(first + i) & 255}`);
    const change = (endpoints: readonly string[]) => ({ type: 'MODIFIED', object: slice('web', endpoints) }) as const;
    const seconds = (count: number): Instant => s(count) as number as Instant;
    const endpointChains = (node: TestNode): number =>
      node.tables.chainNames('nat').filter((name) => name.startsWith('KUBE-SEP-')).length;

    test('has stale chains for up to a sync period, to which no rule leads', () => {
      const node = new TestCluster().node(1);
      const tracker = trackerOf(web, slice('web', endpointsOf(0, 1_010)));
      node.sync(tracker.snapshot(), START);
      tracker.apply(change(endpointsOf(5, 1_010)));
      expect(node.sync(tracker.snapshot(), seconds(1)).chainsDeleted).toEqual([]);
      expect(endpointChains(node)).toBe(1_010);
      expect(node.dump('nat', 'KUBE-SVC').match(/-j KUBE-SEP-/g)).toHaveLength(1_005);
      tracker.apply(change(endpointsOf(7, 1_010)));
      expect(node.sync(tracker.snapshot(), seconds(30)).chainsDeleted).toEqual([]);
      expect(endpointChains(node)).toBe(1_010);
      expect(node.sync(tracker.snapshot(), seconds(30.001)).chainsDeleted).toHaveLength(7);
      expect(endpointChains(node)).toBe(1_003);
    });

    test('uses such a chain again if its endpoint comes back', () => {
      const node = new TestCluster().node(1);
      const tracker = trackerOf(web, slice('web', endpointsOf(0, 1_010)));
      node.sync(tracker.snapshot(), START);
      for (const [i, first] of [5, 0].entries()) {
        tracker.apply(change(endpointsOf(first, 1_010)));
        node.sync(tracker.snapshot(), seconds(i));
      }
      expect(node.sync(tracker.snapshot(), seconds(31)).chainsDeleted).toEqual([]);
      const fresh = syncedNode(tracker.snapshot());
      expect(node.dump('nat', 'KUBE-SEP')).toBe(fresh.dump('nat', 'KUBE-SEP'));
    });

    test('has none any more when it is small again', () => {
      const node = new TestCluster().node(1);
      const tracker = trackerOf(web, slice('web', endpointsOf(0, 1_010)));
      node.sync(tracker.snapshot(), START);
      tracker.apply(change(endpointsOf(5, 1_010)));
      node.sync(tracker.snapshot(), seconds(1));
      tracker.apply(change(endpointsOf(10, 1_010)));
      expect(node.sync(tracker.snapshot(), seconds(2)).chainsDeleted).toHaveLength(10);
    });

    test('loses them with the next full sync only if it is time', () => {
      const node = new TestCluster().node(1);
      const tracker = trackerOf(web, slice('web', endpointsOf(0, 1_010)));
      node.sync(tracker.snapshot(), START);
      tracker.apply(change(endpointsOf(5, 1_010)));
      for (const [at, gone] of [
        [1, 0],
        [2, 0],
        [40, 5],
      ] as const) {
        node.proxier.needFullSync();
        expect(node.sync(tracker.snapshot(), seconds(at)).chainsDeleted).toHaveLength(gone);
      }
    });
  });

  test('a cluster that becomes large keeps its comments where a partial sync writes nothing', () => {
    const node = new TestCluster().node(1);
    const other = service('other', { clusterIP: '10.96.0.11', ports: [{ port: 80 }] });
    const tracker = trackerOf(web, webEndpoints);
    const commented = (endpoint: string): boolean | undefined => {
      const rules = node.dump('nat', 'KUBE-SEP').split('\n');
      return rules.find((rule) => rule.endsWith(`--to-destination ${endpoint}:8080`))?.includes('--comment');
    };
    node.sync(tracker.snapshot());
    const many = Array.from({ length: 999 }, (_, i) => `10.245.${i >> 8}.${i & 255}`);
    for (const object of [other, slice('other', many)]) tracker.apply({ type: 'ADDED', object });
    node.sync(tracker.snapshot()); // 1,001 endpoints
    expect([commented('10.244.1.5'), commented('10.245.0.1')]).toEqual([true, false]);

    tracker.apply({ type: 'MODIFIED', object: slice('other', many.slice(1)) });
    node.sync(tracker.snapshot()); // 1,000: the service that changed has comments again
    expect([commented('10.244.1.5'), commented('10.245.0.0'), commented('10.245.0.1')]).toEqual([
      true,
      undefined,
      true,
    ]);

    tracker.apply({ type: 'MODIFIED', object: slice('other', many) });
    node.sync(tracker.snapshot());
    node.proxier.updateNode({ name: 'node-1', zone: undefined, ips: [] });
    node.sync(tracker.snapshot());
    expect([commented('10.244.1.5'), commented('10.245.0.1')]).toEqual([false, false]);
  });
});

const isRoot = process.getuid?.() === 0;
const hasIptables = spawnSync('iptables-legacy-restore', ['--version']).status === 0;

test.skipIf(!isRoot || !hasIptables)('the kernel takes the rules of a node and prints them back (needs root)', () => {
  const sticky = service('sticky', {
    type: 'NodePort',
    clusterIP: '10.96.0.11',
    sessionAffinity: 'ClientIP',
    ports: [{ port: 80, nodePort: 30081 }],
  });
  const dns = service('dns', { clusterIP: '10.96.0.53', ports: [{ port: 53, protocol: 'UDP' }] });
  const voice = service('voice', { clusterIP: '10.96.0.54', ports: [{ port: 36412, protocol: 'SCTP' }] });
  const lonely = service('lonely', { clusterIP: '10.96.0.55', ports: [{ port: 80 }] });
  const node = syncedNode(
    snapshotOf(
      ...[balanced, sticky, dns, voice, lonely],
      webEndpoints,
      slice('sticky', ['10.244.1.6', '10.244.2.6', '10.244.3.6']),
      slice('dns', ['10.244.1.2', '10.244.2.2'], { port: 53, protocol: 'UDP' }),
      slice('voice', ['10.244.1.3'], { port: 36412, protocol: 'SCTP' }),
    ),
  );
  const text = printIptablesSave(node.tables);
  expect(inKernel('iptables-legacy-restore --test', text)).toEqual({ status: 0, stderr: '', lines: [] });
  expect(inKernel('iptables-legacy-restore && iptables-legacy-save', text)).toEqual({
    status: 0,
    stderr: '',
    lines: text.split('\n').sort(),
  });
});

describe('in IPv6', () => {
  const tables = new RuleTables(6);
  const dual = objectFrom('Service', {
    ...balanced,
    spec: {
      ...balanced.spec,
      clusterIPs: ['10.96.0.10', 'fd00:96::10'],
      externalIPs: ['198.51.100.7', '2001:db8::7'],
      loadBalancerSourceRanges: ['203.0.113.0/24', '2001:db8:1::/48'],
      sessionAffinity: 'ClientIP',
    },
    status: { loadBalancer: { ingress: [{ ip: '192.0.2.9' }, { ip: '2001:db8::9' }] } },
  });
  const endpoints = objectFrom('EndpointSlice', {
    metadata: { name: 'web-6', labels: { 'kubernetes.io/service-name': 'web' } },
    addressType: 'IPv6',
    endpoints: [
      { addresses: ['fd00:10::5'], nodeName: 'node-1' },
      { addresses: ['fd00:10::6'], nodeName: 'node-2' },
    ],
    ports: [{ port: 8080 }],
  });
  const tracker = new ServiceTracker({ family: 6 });
  for (const object of [dual, webEndpoints, endpoints]) tracker.apply({ type: 'ADDED', object });
  new IptablesProxier({
    node: { name: 'node-1', zone: undefined, ips: [parseIpv6('fd00::1')] },
    config: {
      ...DEFAULT_IPTABLES_CONFIG,
      family: 6,
      localDetector: { mode: 'ClusterCIDR', cidr: parseIpv6Prefix('fd00:10::/64') },
    },
    cache: new ServiceChainCache(),
    random: new RandomStream('node-1'),
  }).sync(tables, tracker.snapshot(), START);
  const text = printIptablesSave(tables);

  test('a Service has the addresses and endpoints of the family, and loopback serves no node port', () => {
    expect(text).toContain('-A KUBE-SERVICES -d fd00:96::10/128 -p tcp');
    expect(text).toContain('-j DNAT --to-destination [fd00:10::6]:8080');
    expect(text).toMatch(/-A KUBE-SERVICES ! -d ::1\/128 .* -j KUBE-NODEPORTS/);
    expect(text).not.toMatch(/KUBE-FIREWALL|127\.0\.0|10\.96|10\.244/);
  });

  test('the kernel takes the rules and prints them back (needs root)', ({ skip }) => {
    skip(!isRoot || !hasIptables, 'needs root and iptables');
    expect(inKernel('ip6tables-legacy-restore && ip6tables-legacy-save', text)).toEqual({
      status: 0,
      stderr: '',
      lines: text.split('\n').sort(),
    });
  });
});

/** Runs commands in a network namespace of their own; lines are sorted, as the order of tables differs. */
function inKernel(commands: string, input: string): { status: number | null; stderr: string; lines: string[] } {
  const { status, stderr, stdout } = spawnSync('unshare', ['--net', 'sh', '-c', commands], { input, encoding: 'utf8' });
  const lines = stdout === '' ? [] : stdout.split('\n').filter((line) => !line.startsWith('#'));
  return { status, stderr, lines: lines.sort() };
}
