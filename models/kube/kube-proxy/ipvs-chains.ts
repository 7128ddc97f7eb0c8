// The iptables chains of kube-proxy in IPVS mode. They do not grow with Services: rules ask ipsets, and are left out where
// the set that they ask is empty. Order of kube-proxy 1.30 (writeIptablesRules).

import { Chain } from '../../netfilter/chain.ts';
import { PROTOCOL_NUMBERS } from '../../netfilter/protocol.ts';
import { type MatchSpec, Rule, type RuleSpec, type TargetSpec } from '../../netfilter/rule.ts';
import type { RuleTables, TableName } from '../../netfilter/rule-tables.ts';
import { orMark, xorMark } from '../../netfilter/targets/mark.ts';
import type { IpFamily } from '../../packet/ip-address.ts';
import { comment, host, jump, loopbackNet, ofFamily, TO_LOCAL_ADDRESS } from './iptables-dispatch.ts';
import { type Jump, jumpFrom } from './iptables-fixed-chains.ts';
import { MARK_MASQ_CHAIN } from './iptables-service-chains.ts';
import { commentOf, IPVS_SET_NAMES, type IpvsSetName, nameOfSet, type PortAt } from './ipvs-sets.ts';
import { type LocalDetector, notFromLocalPods } from './local-detector.ts';

export interface IpvsChainSettings {
  readonly family: IpFamily;
  readonly masqueradeAll: boolean;
  readonly masqueradeBit: number;
  readonly randomFully: boolean;
  readonly localDetector: LocalDetector;
}

/** What of the Services shows in the rules. */
export interface IpvsChainContent {
  readonly isEmpty: (set: IpvsSetName) => boolean;
  /** Load balancers' ports that only some sources may use, and not the node. */
  readonly closedToNode: readonly PortAt[];
}

export interface IpvsChains {
  readonly filter: readonly Chain[];
  readonly nat: readonly Chain[];
}

/** Chains by what they are made for: all nodes have nearly the same. */
export class IpvsChainCache {
  readonly #known = new Map<string, IpvsChains>();

  chainsFor(content: IpvsChainContent, settings: IpvsChainSettings): IpvsChains {
    const key = JSON.stringify([IPVS_SET_NAMES.filter((set) => !content.isEmpty(set)), content.closedToNode, settings]);
    let chains = this.#known.get(key);
    if (chains === undefined) this.#known.set(key, (chains = ipvsChains(content, settings)));
    return chains;
  }
}

function ipvsChains(content: IpvsChainContent, settings: IpvsChainSettings): IpvsChains {
  const { family } = settings;
  const chain = (name: string, specs: readonly RuleSpec[]): Chain =>
    new Chain(
      name,
      specs.map((spec) => new Rule(ofFamily(family, askingSetsOf(family, spec)))),
    );
  return {
    nat: [
      chain('KUBE-SERVICES', services(content, settings)),
      chain('KUBE-POSTROUTING', postrouting(content, settings)),
      chain('KUBE-NODE-PORT', nodePorts(content)),
      chain('KUBE-LOAD-BALANCER', [
        ...ofSet(content, 'KUBE-LOAD-BALANCER-LOCAL', RETURN),
        { target: jump(MARK_MASQ_CHAIN) },
      ]),
      chain(MARK_MASQ_CHAIN, [{ target: orMark(1 << settings.masqueradeBit) }]),
    ],
    filter: [
      chain('KUBE-FORWARD', forwarding(settings)),
      chain('KUBE-NODE-PORT', [
        { matches: asking('KUBE-HEALTH-CHECK-NODE-PORT', ['dst']), target: { target: 'ACCEPT' } },
      ]),
      chain('KUBE-PROXY-FIREWALL', ofSet(content, 'KUBE-LOAD-BALANCER-FW', jump('KUBE-SOURCE-RANGES-FIREWALL'))),
      chain('KUBE-SOURCE-RANGES-FIREWALL', [
        ...ofSet(content, 'KUBE-LOAD-BALANCER-SOURCE-CIDR', RETURN, ['dst', 'dst', 'src']),
        ...ofSet(content, 'KUBE-LOAD-BALANCER-SOURCE-IP', RETURN, ['dst', 'dst', 'src']),
        { target: { target: 'DROP' } },
      ]),
      chain('KUBE-IPVS-FILTER', accessFilter()),
      chain(
        'KUBE-IPVS-OUT-FILTER',
        content.closedToNode.map((at) => closedToNode(at, family)),
      ),
    ],
  };
}

/** Rules are made with the names that sets have in IPv4. */
const askingSetsOf = (family: IpFamily, { matches = [], ...spec }: RuleSpec): RuleSpec => ({
  ...spec,
  matches: matches.map((match) =>
    match.match === 'set' ? { ...match, set: nameOfSet(match.set as IpvsSetName, family) } : match,
  ),
});

type Sides = readonly ('src' | 'dst')[];
const RETURN: TargetSpec = { target: 'RETURN' };

/** The frame is in the set, and why that is asked. */
const asking = (set: IpvsSetName, sides: Sides): MatchSpec[] => [comment(commentOf(set)), { match: 'set', set, sides }];

/** A rule that asks a set; none for one that has no elements. */
const ofSet = (
  { isEmpty }: IpvsChainContent,
  set: IpvsSetName,
  target: TargetSpec,
  sides: Sides = ['dst', 'dst'],
): RuleSpec[] => (isEmpty(set) ? [] : [{ matches: asking(set, sides), target }]);

function services(content: IpvsChainContent, settings: IpvsChainSettings): RuleSpec[] {
  return [
    { source: loopbackNet(settings.family), target: RETURN },
    ...ofSet(content, 'KUBE-LOAD-BALANCER', jump('KUBE-LOAD-BALANCER')),
    ...(content.isEmpty('KUBE-CLUSTER-IP') ? [] : [toClusterIps(settings)]),
    ...ofSet(content, 'KUBE-EXTERNAL-IP', jump(MARK_MASQ_CHAIN)),
    ...externalTraffic(content, 'KUBE-EXTERNAL-IP'),
    ...externalTraffic(content, 'KUBE-EXTERNAL-IP-LOCAL'),
    { matches: [TO_LOCAL_ADDRESS], target: jump('KUBE-NODE-PORT') },
    // At the end, so that rules of others cannot get at what is for a virtual server.
    ...(['KUBE-CLUSTER-IP', 'KUBE-LOAD-BALANCER'] as const)
      .filter((set) => !content.isEmpty(set))
      .map((set): RuleSpec => ({ matches: [inSet(set)], target: { target: 'ACCEPT' } })),
  ];
}

const inSet = (set: IpvsSetName): MatchSpec => ({ match: 'set', set, sides: ['dst', 'dst'] });

/**
 * Masquerades what comes to a ClusterIP from outside the cluster's pods. Where that cannot be told, at least what the node
 * itself sends: it has the ClusterIP as its source, as routing finds that address on kube-ipvs0.
 */
function toClusterIps({ masqueradeAll, localDetector }: IpvsChainSettings): RuleSpec {
  const target = jump(MARK_MASQ_CHAIN);
  if (masqueradeAll) return { matches: asking('KUBE-CLUSTER-IP', ['dst', 'dst']), target };
  const foreign = notFromLocalPods(localDetector);
  if (foreign !== undefined) return { ...foreign, matches: asking('KUBE-CLUSTER-IP', ['dst', 'dst']), target };
  return { matches: asking('KUBE-CLUSTER-IP', ['src', 'dst']), target };
}

/** From another machine, and to an address that is the node's own for another reason. */
function externalTraffic({ isEmpty }: IpvsChainContent, set: IpvsSetName): RuleSpec[] {
  if (isEmpty(set)) return [];
  const target: TargetSpec = { target: 'ACCEPT' };
  const fromOtherMachines: MatchSpec[] = [
    { match: 'physdev', isIn: false },
    { match: 'addrtype', srcTypes: ['LOCAL'], srcTypesNegated: true },
  ];
  return [
    { matches: [...asking(set, ['dst', 'dst']), ...fromOtherMachines], target },
    { matches: [...asking(set, ['dst', 'dst']), TO_LOCAL_ADDRESS], target },
  ];
}

function nodePorts({ isEmpty }: IpvsChainContent): RuleSpec[] {
  return (['tcp', 'udp', 'sctp'] as const).flatMap((protocol) => {
    const suffix = protocol === 'sctp' ? 'SCTP-HASH' : protocol === 'tcp' ? 'TCP' : 'UDP';
    const sides: Sides = protocol === 'sctp' ? ['dst', 'dst'] : ['dst'];
    const rule = (set: IpvsSetName, target: TargetSpec): RuleSpec[] =>
      isEmpty(set) ? [] : [{ protocol, matches: asking(set, sides), target }];
    return [
      ...rule(`KUBE-NODE-PORT-LOCAL-${suffix}`, RETURN),
      ...rule(`KUBE-NODE-PORT-${suffix}`, jump(MARK_MASQ_CHAIN)),
    ];
  });
}

function postrouting(content: IpvsChainContent, { masqueradeBit, randomFully }: IpvsChainSettings): RuleSpec[] {
  const mark = 1 << masqueradeBit;
  return [
    // A pod that is its own server: it would not answer itself.
    ...ofSet(content, 'KUBE-LOOP-BACK', { target: 'MASQUERADE' }, ['dst', 'dst', 'src']),
    { matches: [{ match: 'mark', value: mark, mask: mark, negated: true }], target: RETURN },
    { target: xorMark(mark) },
    {
      matches: [comment('kubernetes service traffic requiring SNAT')],
      target: randomFully ? { target: 'MASQUERADE', randomFully } : { target: 'MASQUERADE' },
    },
  ];
}

/** INVALID segments pass, unlike in iptables mode: IPVS goes by its own table. */
function forwarding({ masqueradeBit }: IpvsChainSettings): RuleSpec[] {
  const mark = 1 << masqueradeBit;
  const target: TargetSpec = { target: 'ACCEPT' };
  return [
    { matches: [comment('kubernetes forwarding rules'), { match: 'mark', value: mark, mask: mark }], target },
    {
      matches: [
        comment('kubernetes forwarding conntrack rule'),
        { match: 'conntrack', states: ['RELATED', 'ESTABLISHED'] },
      ],
      target,
    },
  ];
}

/** Virtual addresses are the node's own: without this its other ports would answer there, too. */
function accessFilter(): RuleSpec[] {
  const served = (['KUBE-LOAD-BALANCER', 'KUBE-CLUSTER-IP', 'KUBE-EXTERNAL-IP', 'KUBE-EXTERNAL-IP-LOCAL'] as const).map(
    (set): RuleSpec => ({ matches: [inSet(set)], target: RETURN }),
  );
  return [
    ...served,
    { matches: [{ match: 'set', set: 'KUBE-HEALTH-CHECK-NODE-PORT', sides: ['dst'] }], target: RETURN },
    {
      matches: [
        { match: 'conntrack', states: ['NEW'] },
        { match: 'set', set: 'KUBE-IPVS-IPS', sides: ['dst'] },
      ],
      target: { target: 'REJECT' },
    },
  ];
}

/** What the node sends to the load balancer's address has that address as its source. */
const closedToNode = ({ ip, protocol, port }: PortAt, family: IpFamily): RuleSpec => ({
  source: host(family, ip),
  matches: [{ match: 'ipvs', protocol: PROTOCOL_NUMBERS[protocol], address: host(family, ip), port }],
  target: { target: 'DROP' },
});

const PORTALS = 'kubernetes service portals';
const ACCESS = 'kubernetes ipvs access filter';
const FIREWALL = 'kube-proxy firewall rules';

/** In the order of kube-proxy, which puts each before all rules that are there. */
const JUMPS: readonly Jump[] = [
  jumpFrom('nat', 'OUTPUT', 'KUBE-SERVICES', PORTALS),
  jumpFrom('nat', 'PREROUTING', 'KUBE-SERVICES', PORTALS),
  jumpFrom('nat', 'POSTROUTING', 'KUBE-POSTROUTING', 'kubernetes postrouting rules'),
  jumpFrom('filter', 'FORWARD', 'KUBE-FORWARD', 'kubernetes forwarding rules'),
  jumpFrom('filter', 'INPUT', 'KUBE-NODE-PORT', 'kubernetes health check rules'),
  jumpFrom('filter', 'INPUT', 'KUBE-PROXY-FIREWALL', FIREWALL),
  jumpFrom('filter', 'FORWARD', 'KUBE-PROXY-FIREWALL', FIREWALL),
  jumpFrom('filter', 'INPUT', 'KUBE-IPVS-FILTER', ACCESS),
  jumpFrom('filter', 'OUTPUT', 'KUBE-IPVS-OUT-FILTER', ACCESS),
];

const jumpsOf = (family: IpFamily) =>
  JUMPS.map(({ rule, ...where }) => ({ ...where, rule: new Rule(ofFamily(family, rule)) }));

const JUMP_RULES = { 4: jumpsOf(4), 6: jumpsOf(6) } as const;

/** Writes the chains, and the jumps to them where they are missing. */
export function installIpvsChains(tables: RuleTables, { nat, filter }: IpvsChains): void {
  tables.replaceChains('nat', nat);
  tables.replaceChains('filter', filter);
  for (const { table, from, rule } of JUMP_RULES[tables.family]) {
    const present = tables.chain(table as TableName, from)?.rules ?? [];
    if (!present.some(({ text }) => text === rule.text)) tables.prependRule(table, from, rule);
  }
}
