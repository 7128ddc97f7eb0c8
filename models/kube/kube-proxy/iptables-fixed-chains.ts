// The iptables rules of kube-proxy that do not depend on Services: how the builtin chains lead into its chains,
// masquerading of marked traffic, forwarding of service traffic, and the guard of loopback addresses.

import { Chain } from '../../netfilter/chain.ts';
import { type MatchSpec, Rule, type RuleSpec } from '../../netfilter/rule.ts';
import type { BuiltinChain, TableName } from '../../netfilter/rule-tables.ts';
import { orMark, xorMark } from '../../netfilter/targets/mark.ts';
import { contains, LOOPBACK_IP, type Prefix, prefix } from '../../packet/ip-address.ts';
import { comment, jump, TO_LOCAL_ADDRESS } from './iptables-dispatch.ts';
import { MARK_MASQ_CHAIN } from './iptables-service-chains.ts';
import type { ProxyNode } from './port-on-node.ts';

export interface FixedChainSettings {
  /** --iptables-masquerade-bit: the bit of the mark that asks for masquerading. */
  readonly masqueradeBit: number;
  /** iptables 1.6.2 and later understand `MASQUERADE --random-fully`, and kube-proxy then uses it. */
  readonly randomFully: boolean;
  /** --iptables-localhost-nodeports: node ports answer on loopback too. */
  readonly localhostNodePorts: boolean;
  /** Sysctl nf_conntrack_tcp_be_liberal: conntrack accepts segments outside the window, so nothing INVALID needs dropping. */
  readonly tcpBeLiberal: boolean;
}

export interface FixedChains {
  readonly filter: readonly Chain[];
  readonly nat: readonly Chain[];
}

export function fixedChains(settings: FixedChainSettings): FixedChains {
  const mark = 1 << settings.masqueradeBit;
  return {
    filter: [
      chain('KUBE-FORWARD', forwardRules(mark, settings)),
      ...(settings.localhostNodePorts ? [chain(FIREWALL_CHAIN, [dropToLoopback])] : []),
    ],
    nat: [
      chain('KUBE-POSTROUTING', postroutingRules(mark, settings)),
      chain(MARK_MASQ_CHAIN, [{ target: orMark(mark) }]),
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

function forwardRules(mark: number, { tcpBeLiberal }: FixedChainSettings): RuleSpec[] {
  // An INVALID segment would go out untranslated, and the client would answer it with a reset of its connection.
  const dropInvalid: RuleSpec = {
    matches: [{ match: 'conntrack', states: ['INVALID'] }],
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

const LOOPBACK_NET: Prefix = prefix(LOOPBACK_IP, 8);

/** CVE-2020-8558: with route_localnet on, as localhost node ports need it, neighbours could reach loopback addresses. */
const dropToLoopback: RuleSpec = {
  source: LOOPBACK_NET,
  sourceNegated: true,
  destination: LOOPBACK_NET,
  matches: [
    comment('block incoming localnet connections'),
    { match: 'conntrack', states: ['RELATED', 'ESTABLISHED', 'DNAT'], negated: true },
  ],
  target: { target: 'DROP' },
};

const FIREWALL_CHAIN = 'KUBE-FIREWALL';
const chain = (name: string, specs: readonly RuleSpec[]): Chain =>
  new Chain(
    name,
    specs.map((spec) => new Rule(spec)),
  );

/** A rule of a builtin chain that leads into one of kube-proxy's. */
export interface Jump {
  readonly table: TableName;
  readonly from: BuiltinChain;
  readonly rule: Rule;
}

const newOnly: readonly MatchSpec[] = [{ match: 'conntrack', states: ['NEW'] }];

const jumpFrom = (
  table: TableName,
  from: BuiltinChain,
  toChain: string,
  why: string,
  matches: readonly MatchSpec[] = [],
): Jump => ({ table, from, rule: new Rule({ matches: [...matches, comment(why)], target: jump(toChain) }) });

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

const toFirewall = new Rule({ target: jump(FIREWALL_CHAIN) });
const FIREWALL_JUMPS: readonly Jump[] = [
  { table: 'filter', from: 'INPUT', rule: toFirewall },
  { table: 'filter', from: 'OUTPUT', rule: toFirewall },
];

export const jumpsOf = ({ localhostNodePorts }: FixedChainSettings): readonly Jump[] =>
  localhostNodePorts ? [...JUMPS, ...FIREWALL_JUMPS] : JUMPS;

/** The end of nat KUBE-SERVICES: what goes to the node itself may go to a node port. */
export function nodePortJumps(
  { ips }: ProxyNode,
  { addresses, localhost }: { readonly addresses: readonly Prefix[]; readonly localhost: boolean },
): RuleSpec[] {
  const why = comment('kubernetes service nodeports; NOTE: this must be the last rule in this chain');
  const target = jump('KUBE-NODEPORTS');
  if (addresses.length === 0 || addresses.some(({ length }) => length === 0)) {
    const toLocal = { matches: [why, TO_LOCAL_ADDRESS], target };
    return [localhost ? toLocal : { ...toLocal, destination: LOOPBACK_NET, destinationNegated: true }];
  }
  return [...(localhost ? [LOOPBACK_IP] : []), ...ips]
    .filter((ip) => addresses.some((range) => contains(range, ip)))
    .map((ip) => ({ destination: prefix(ip, 32), matches: [why], target }));
}
