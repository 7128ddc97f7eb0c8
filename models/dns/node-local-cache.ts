// NodeLocal DNSCache (KEP-1024): a cache on each node, at an address of its own and at that of the kube-dns Service, so
// that what pods ask does not leave the node, and is not tracked there. What it does not know about the cluster it asks over
// TCP, by a Service of its own in front of the same pods (kube-dns-upstream): no race of UDP packets and no lost datagram
// is in between. The rest of the world it asks itself.
//
// Not modelled: the health port, setting up and taking down while pods ask, stub domains.

import { type Duration, us } from '../../engine/time.ts';
import { addAddress } from '../host/ip-setup.ts';
import type { Machine } from '../host/machine.ts';
import type { Process } from '../host/process.ts';
import { DummyDevice } from '../link/dummy.ts';
import { Rule } from '../netfilter/rule.ts';
import { parseRule } from '../netfilter/rule-text.ts';
import { addressBits, formatIp, type IpAddress, type IpFamily, parseIp, parseIpv6 } from '../packet/ip-address.ts';
import { type Answering, DnsServer, type DnsServerSettings } from './dns-server.ts';
import { DNS_PORT, serverAt } from './dns-transport.ts';
import { isInZone } from './domain-name.ts';
import { DEFAULT_FORWARD, Forwarder, type ForwardSettings } from './forwarder.ts';
import { type CacheSettings, NameCache } from './name-cache.ts';
import { NameServer } from './name-server.ts';

/** The documented choice in IPv4; in IPv6 one is to be chosen from a range that is not used. */
export const NODE_LOCAL_ADDRESSES: Readonly<Record<IpFamily, IpAddress>> = {
  4: { family: 4, ip: parseIp('169.254.20.10') },
  6: { family: 6, ip: parseIpv6('fd00:169:254:20::10') },
};

export interface NodeLocalOptions {
  readonly node: string;
  readonly machine: Machine;
  /** Of the kube-dns Service; undefined in IPVS mode, where another device of the node has it. */
  readonly clusterDns: IpAddress | undefined;
  readonly family: IpFamily;
  /** Of kube-dns-upstream. */
  readonly clusterUpstream: string;
  readonly clusterZones: readonly string[];
  readonly hostUpstreams: readonly string[];
  readonly server: Partial<DnsServerSettings>;
  readonly forward: Partial<ForwardSettings>;
}

/** An answer from the cache of a node: the same work as CoreDNS does, of which it is a build. */
const SERVICE_TIME: Duration = us(58);

/** `cache { success 9984 30; denial 9984 5 }` for the cluster's names, `cache 30` for others. */
const CLUSTER_CACHE: CacheSettings = { positiveTtlSeconds: 30, negativeTtlSeconds: 5, capacity: 9984 };
const OTHER_CACHE: CacheSettings = { positiveTtlSeconds: 30, negativeTtlSeconds: 30, capacity: 9984 };

/** Puts the device, its addresses and the rules on a node, and starts the cache. */
export function startNodeLocalCache(options: NodeLocalOptions): DnsServer {
  const { node, machine, clusterDns, family } = options;
  const addresses = [NODE_LOCAL_ADDRESSES[family], ...(clusterDns === undefined ? [] : [clusterDns])];
  const { root, place } = machine;
  const device = root.add(new DummyDevice(root.device('nodelocaldns', machine.nextMac())));
  for (const address of addresses) addAddress(root, device, { ...address, length: addressBits(address.family) });
  addRules(machine, addresses);
  const process = { name: `kube-system/node-local-dns-${node}`, place, namespace: root, cpu: machine.nextCpu() };
  const { answering, close } = cacheOf(process, options);
  const settings = { serviceTime: SERVICE_TIME, ...options.server };
  const server = new DnsServer(process, answering, { settings, at: addresses, onExit: close });
  for (const protocol of ['UDP', 'TCP'] as const) server.listen(protocol);
  return server;
}

/** Neither tracked nor translated, on the way there and back (cmd/node-cache of kubernetes/dns). */
function addRules(machine: Machine, addresses: readonly IpAddress[]): void {
  const { tables, tables6 } = machine.root.enableNetfilter();
  const comment = '-m comment --comment "NodeLocal DNS Cache: skip conntrack"';
  for (const { family, ip } of addresses) {
    const address = `${formatIp(ip, family)}/${addressBits(family)}`;
    for (const protocol of ['udp', 'tcp'])
      for (const [table, chain, selector, target] of [
        ['raw', 'PREROUTING', `-d ${address} -p ${protocol} -m ${protocol} --dport ${DNS_PORT}`, 'NOTRACK'],
        ['filter', 'INPUT', `-d ${address} -p ${protocol} -m ${protocol} --dport ${DNS_PORT}`, 'ACCEPT'],
        ['raw', 'OUTPUT', `-s ${address} -p ${protocol} -m ${protocol} --sport ${DNS_PORT}`, 'NOTRACK'],
        ['filter', 'OUTPUT', `-s ${address} -p ${protocol} -m ${protocol} --sport ${DNS_PORT}`, 'ACCEPT'],
        ['raw', 'OUTPUT', `-d ${address} -p ${protocol} -m ${protocol} --dport ${DNS_PORT}`, 'NOTRACK'],
      ] as const) {
        const rule = new Rule(parseRule(`${selector} ${comment} -j ${target}`, { family }));
        (family === 6 ? tables6 : tables).prependRule(table, chain, rule);
      }
  }
}

function cacheOf(
  process: Process,
  { clusterUpstream, clusterZones, hostUpstreams, forward }: NodeLocalOptions,
): { readonly answering: Answering; readonly close: () => void } {
  const { place } = process;
  const serverFor = (name: string, cache: CacheSettings, forwarder: Forwarder): NameServer =>
    new NameServer({
      zones: [],
      upstream: forwarder,
      cache: new NameCache(cache, place.random(`dns-cache/${process.name}/${name}`)),
      random: place.random(`loadbalance/${process.name}/${name}`),
      now: () => place.now,
    });
  const common = { ...DEFAULT_FORWARD, ...forward };
  const toCluster = new Forwarder(process, { ...common, upstreams: [serverAt(clusterUpstream)], protocol: 'TCP' });
  const toWorld = new Forwarder(process, { ...common, upstreams: hostUpstreams.map(serverAt) });
  const cluster = serverFor('cluster', CLUSTER_CACHE, toCluster);
  const world = serverFor('world', OTHER_CACHE, toWorld);
  return {
    answering: {
      answer: (question, done) =>
        (clusterZones.some((zone) => isInZone(question.name, zone)) ? cluster : world).answer(question, done),
    },
    close: () => {
      toCluster.close();
      toWorld.close();
    },
  };
}
