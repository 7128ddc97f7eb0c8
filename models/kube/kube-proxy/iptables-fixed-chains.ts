// The iptables rules of kube-proxy that do not depend on Services: how the builtin chains lead into its chains,
// masquerading of marked traffic, forwarding of service traffic, and the guard of loopback addresses.

import { Chain } from '../../netfilter/chain.ts';
import { type MatchSpec, Rule, type RuleSpec } from '../../netfilter/rule.ts';
import type { BuiltinChain, TableName } from '../../netfilter/rule-tables.ts';
import { orMark, xorMark } from '../../netfilter/targets/mark.ts';
import { type IpFamily, LOOPBACK_IP, overlaps } from '../../packet/ip-address.ts';
import { comment, host, jump, loopbackNet, ofFamily, TO_LOCAL_ADDRESS } from './iptables-dispatch.ts';
import { MARK_MASQ_CHAIN } from './iptables-service-chains.ts';
import { type NodePortAddressSettings, servedOf, servesAllAddresses } from './node-port-addresses.ts';
import type { ProxyNode } from './port-on-node.ts';

export interface FixedChainSettings {
  /** Of iptables or ip6tables. */
  readonly family: IpFamily;
  /** --iptables-masquerade-bit: the bit of the mark that asks for masquerading. */
  readonly masqueradeBit: number;
  /** iptables 1.6.2 and later understand `MASQUERADE --random-fully`, and kube-proxy then uses it. */
  readonly randomFully: boolean;
  /** --iptables-localhost-nodeports: node ports answer on loopback too. */
  readonly localhostNodePorts: boolean;
  /** Sysctl nf_conntrack_tcp_be_liberal: conntrack accepts segments outside the window, so nothing INVALID needs dropping. */
  readonly tcpBeLiberal: boolean;
  /** The nfacct accounts that the kernel has for kube-proxy to count in (1.33 and later). */
  readonly accounts: readonly KubeProxyAccount[];
}

/** INVALID segments dropped, and packets accepted by node ports on loopback. */
export type KubeProxyAccount = 'ct_state_invalid_dropped_pkts' | 'localhost_nps_accepted_pkts';

export interface FixedChains {
  readonly filter: readonly Chain[];
  readonly nat: readonly Chain[];
}

export function fixedChains(settings: FixedChainSettings): FixedChains {
  const mark = 1 << settings.masqueradeBit;
  return {
    filter: [
      chain('KUBE-FORWARD', forwardRules(mark, settings), settings),
      ...(settings.localhostNodePorts ? [chain(FIREWALL_CHAIN, [dropToLoopback], settings)] : []),
    ],
    nat: [
      chain('KUBE-POSTROUTING', postroutingRules(mark, settings), settings),
      chain(MARK_MASQ_CHAIN, [{ target: orMark(mark) }], settings),
    ],
  };
}

/** Clears the mark, so that traffic that is encapsulated and comes through here again is not masqueraded twice. */
function postroutingRules(mark: number, { randomFully }: FixedChainSettings): RuleSpec[] {
  return [
    { matches: [{ match: 'mark', value: mark, mask: mark, negated: true }], target: { target: 'RETURN' } },
    { target: xorMark(mark) },
    {
      matches: [comment('kubernetes service traffic requiring SNAT')],
      target: randomFully ? { target: 'MASQUERADE', randomFully } : { target: 'MASQUERADE' },
    },
  ];
}

function forwardRules(mark: number, { tcpBeLiberal, accounts }: FixedChainSettings): RuleSpec[] {
  const account = accounts.find((name) => name === 'ct_state_invalid_dropped_pkts');
  const isInvalid: MatchSpec = { match: 'conntrack', states: ['INVALID'] };
  // An INVALID segment would go out untranslated, and the client would answer it with a reset of its connection.
  const dropInvalid: RuleSpec = {
    matches: account === undefined ? [isInvalid] : [isInvalid, { match: 'nfacct', name: account }],
    target: { target: 'DROP' },
  };
  return [
    ...(tcpBeLiberal ? [] : [dropInvalid]),
    {
      matches: [comment('kubernetes forwarding rules'), { match: 'mark', value: mark, mask: mark }],
      target: { target: 'ACCEPT' },
    },
    {
      matches: [
        comment('kubernetes forwarding conntrack rule'),
        { match: 'conntrack', states: ['RELATED', 'ESTABLISHED'] },
      ],
      target: { target: 'ACCEPT' },
    },
  ];
}

/** CVE-2020-8558: with route_localnet on, as localhost node ports need it, neighbours could reach loopback addresses. */
const dropToLoopback: RuleSpec = {
  source: loopbackNet(4),
  sourceNegated: true,
  destination: loopbackNet(4),
  matches: [
    comment('block incoming localnet connections'),
    { match: 'conntrack', states: ['RELATED', 'ESTABLISHED', 'DNAT'], negated: true },
  ],
  target: { target: 'DROP' },
};

const FIREWALL_CHAIN = 'KUBE-FIREWALL';
const chain = (name: string, specs: readonly RuleSpec[], { family }: FixedChainSettings): Chain =>
  new Chain(
    name,
    specs.map((spec) => new Rule(ofFamily(family, spec))),
  );

/** A rule of a builtin chain that leads into one of kube-proxy's. */
export interface Jump {
  readonly table: TableName;
  readonly from: BuiltinChain;
  readonly rule: RuleSpec;
}

const newOnly: readonly MatchSpec[] = [{ match: 'conntrack', states: ['NEW'] }];

const jumpFrom = (
  table: TableName,
  from: BuiltinChain,
  toChain: string,
  why: string,
  matches: readonly MatchSpec[] = [],
): Jump => ({ table, from, rule: { matches: [...matches, comment(why)], target: jump(toChain) } });

const SERVICES = 'kubernetes service portals';
const EXTERNAL = 'kubernetes externally-visible service portals';
const LOAD_BALANCER = 'kubernetes load balancer firewall';

/** In the order of kube-proxy, which puts each before all rules that are there: the last of a chain comes first in it. */
const JUMPS: readonly Jump[] = [
  jumpFrom('filter', 'INPUT', 'KUBE-EXTERNAL-SERVICES', EXTERNAL, newOnly),
  jumpFrom('filter', 'FORWARD', 'KUBE-EXTERNAL-SERVICES', EXTERNAL, newOnly),
  jumpFrom('filter', 'INPUT', 'KUBE-NODEPORTS', 'kubernetes health check service ports'),
  jumpFrom('filter', 'FORWARD', 'KUBE-SERVICES', SERVICES, newOnly),
  jumpFrom('filter', 'OUTPUT', 'KUBE-SERVICES', SERVICES, newOnly),
  jumpFrom('filter', 'FORWARD', 'KUBE-FORWARD', 'kubernetes forwarding rules'),
  jumpFrom('filter', 'INPUT', 'KUBE-PROXY-FIREWALL', LOAD_BALANCER, newOnly),
  jumpFrom('filter', 'OUTPUT', 'KUBE-PROXY-FIREWALL', LOAD_BALANCER, newOnly),
  jumpFrom('filter', 'FORWARD', 'KUBE-PROXY-FIREWALL', LOAD_BALANCER, newOnly),
  jumpFrom('nat', 'OUTPUT', 'KUBE-SERVICES', SERVICES),
  jumpFrom('nat', 'PREROUTING', 'KUBE-SERVICES', SERVICES),
  jumpFrom('nat', 'POSTROUTING', 'KUBE-POSTROUTING', 'kubernetes postrouting rules'),
];

const toFirewall: RuleSpec = { target: jump(FIREWALL_CHAIN) };
const FIREWALL_JUMPS: readonly Jump[] = [
  { table: 'filter', from: 'INPUT', rule: toFirewall },
  { table: 'filter', from: 'OUTPUT', rule: toFirewall },
];

export const jumpsOf = ({ localhostNodePorts }: FixedChainSettings): readonly Jump[] =>
  localhostNodePorts ? [...JUMPS, ...FIREWALL_JUMPS] : JUMPS;

export interface NodePortSettings extends NodePortAddressSettings {
  readonly localhostNodePorts: boolean;
}

/** The end of nat KUBE-SERVICES: what goes to the node itself may go to a node port. Loopback only ever works in IPv4. */
export function nodePortJumps({ ips }: ProxyNode, settings: NodePortSettings): RuleSpec[] {
  const { family, nodePortAddresses, localhostNodePorts } = settings;
  const why = comment('kubernetes service nodeports; NOTE: this must be the last rule in this chain');
  const target = jump('KUBE-NODEPORTS');
  if (servesAllAddresses(settings)) {
    const toLocal: RuleSpec = { family, matches: [why, TO_LOCAL_ADDRESS], target };
    return [localhostNodePorts ? toLocal : { ...toLocal, destination: loopbackNet(family), destinationNegated: true }];
  }
  const known = localhostNodePorts && nodePortAddresses !== 'primary' ? [LOOPBACK_IP, ...ips] : ips;
  return servedOf(known, settings).map((ip) => ({ family, destination: host(family, ip), matches: [why], target }));
}

/** Whether node ports are served on loopback in the end: not in IPv6, nor where --nodeport-addresses leaves it out. */
export function servesLoopback(settings: NodePortSettings): boolean {
  const { family, nodePortAddresses, localhostNodePorts } = settings;
  if (!localhostNodePorts || family !== 4 || nodePortAddresses === 'primary') return false;
  return servesAllAddresses(settings) || nodePortAddresses.some((range) => overlaps(range, loopbackNet(4)));
}
