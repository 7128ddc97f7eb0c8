// How pods' packets leave the cluster: the address that they have outside, and for some the node by which they leave.
//
// The masquerade rule of the network plugin is in cni/host-gateway.ts; here is what replaces it. ip-masq-agent's rules are
// those of its source (cmd/ip-masq-agent/ip-masq-agent.go), its periodic resync is not modelled. An egress gateway is made
// of what Linux has: rules of policy routing on the pod's node, and SNAT on the gateway.

import type { Route } from '../ip/fib.ts';
import type { SourceRule } from '../ip/source-routes.ts';
import { Chain } from '../netfilter/chain.ts';
import { Rule } from '../netfilter/rule.ts';
import type { RuleTables } from '../netfilter/rule-tables.ts';
import {
  ANY_IP,
  ANY_IPV6_PREFIX,
  ANY_PREFIX,
  addressBits,
  type Ip,
  type IpFamily,
  type Prefix,
  parseAnyPrefix,
  prefix,
} from '../packet/ip-address.ts';
import { stackOf } from './ip-setup.ts';
import type { Machine } from './machine.ts';

export interface MasqueradeAgentSettings {
  /** Where pods keep their own address. */
  readonly nonMasqueradeRanges: readonly Prefix[];
  readonly masqueradeLinkLocal: boolean;
  readonly randomFully: boolean;
  /** `--to-ports`: source ports that masqueraded flows may have; undefined: as the kernel chooses. */
  readonly ports: { readonly first: number; readonly last: number } | undefined;
}

/** NewMasqConfig and the flags of ip-masq-agent: the ranges of RFC 1918. */
export const DEFAULT_MASQUERADE_AGENT: MasqueradeAgentSettings = {
  nonMasqueradeRanges: ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16'].map(parseAnyPrefix),
  masqueradeLinkLocal: false,
  randomFully: true,
  ports: undefined,
};

const AGENT_CHAIN = 'IP-MASQ-AGENT';
const LINK_LOCAL = { 4: parseAnyPrefix('169.254.0.0/16'), 6: parseAnyPrefix('fe80::/10') } as const;

/** What ip-masq-agent writes for one family: everything is masqueraded that goes neither to this node nor to a range. */
export function masqueradeByAgent(
  machine: Machine,
  family: IpFamily,
  { nonMasqueradeRanges, masqueradeLinkLocal, randomFully, ports }: MasqueradeAgentSettings,
): void {
  const tables = tablesOf(machine, family);
  const ranges = [...(masqueradeLinkLocal ? [] : [LINK_LOCAL[family]]), ...nonMasqueradeRanges];
  const kept = ranges
    .filter((range) => range.family === family)
    .map(
      (destination) =>
        new Rule({
          family,
          destination,
          matches: [{ match: 'comment', comment: 'ip-masq-agent: local traffic is not subject to MASQUERADE' }],
          target: { target: 'RETURN' },
        }),
    );
  const comment = {
    match: 'comment',
    comment: 'ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)',
  } as const;
  const masquerade = { target: 'MASQUERADE', ...(randomFully && { randomFully }) } as const;
  const toPorts = ports && { ...masquerade, minPort: ports.first, maxPort: ports.last };
  const ofProtocols =
    toPorts === undefined
      ? []
      : (['tcp', 'udp', 'sctp'] as const).map(
          (protocol) => new Rule({ family, protocol, matches: [comment], target: toPorts }),
        );
  const last = new Rule({ family, matches: [comment], target: masquerade });
  tables.replaceChains('nat', [new Chain(AGENT_CHAIN, [...kept, ...ofProtocols, last])]);
  const why = `ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom ${AGENT_CHAIN} chain`;
  tables.appendRule(
    'nat',
    'POSTROUTING',
    new Rule({
      family,
      matches: [
        { match: 'comment', comment: why },
        { match: 'addrtype', dstTypes: ['LOCAL'], dstTypesNegated: true },
      ],
      target: { target: 'jump', chain: AGENT_CHAIN },
    }),
  );
}

const tablesOf = (machine: Machine, family: IpFamily): RuleTables => {
  const { tables, tables6 } = machine.root.enableNetfilter();
  return family === 6 ? tables6 : tables;
};

// ── egress gateways ──────────────────────────────────────────────────────────────────────────────────────────────────

/** Pods that leave for some destinations by a gateway. */
export interface EgressWay {
  readonly family: IpFamily;
  readonly pods: readonly Ip[];
  readonly destinations: readonly Prefix[];
  /** Left out of the destinations. */
  readonly excluded: readonly Prefix[];
  /** Whom packets are handed to: the gateway's node; undefined: there is none, and they are dropped. */
  readonly via: Ip | undefined;
  /** On the gateway itself: the address that packets leave with. */
  readonly leaveAs: Ip | undefined;
}

const EGRESS_CHAIN = 'EGRESS-GATEWAY';

/** These ways and no others, of one family, on one node. `nicName`: where the other nodes are. */
export function useEgressWays(machine: Machine, nicName: string, family: IpFamily, ways: readonly EgressWay[]): void {
  const own = ways.filter((way) => way.family === family);
  stackOf(machine.root, family).sourceRoutes.replace(own.flatMap((way) => sourceRulesOf(machine, nicName, way)));
  const tables = tablesOf(machine, family);
  const jump = new Rule({
    family,
    matches: [{ match: 'comment', comment: 'pods that leave by an egress gateway' }],
    target: { target: 'jump', chain: EGRESS_CHAIN },
  });
  const hadChain = tables.chain('nat', EGRESS_CHAIN) !== undefined;
  if (!hadChain && own.length === 0) return;
  tables.replaceChains('nat', [new Chain(EGRESS_CHAIN, own.flatMap(natRulesOf))]);
  // Before kube-proxy's and the masquerade of the network plugin.
  if (!hadChain) tables.prependRule('nat', 'POSTROUTING', jump);
}

/** On the gateway packets go on as any others. */
function sourceRulesOf(
  machine: Machine,
  nicName: string,
  { family, pods, destinations, excluded, via, leaveAs }: EgressWay,
): SourceRule[] {
  if (leaveAs !== undefined) return [];
  const route: Route = {
    type: via === undefined ? 'blackhole' : 'unicast',
    destination: family === 6 ? ANY_IPV6_PREFIX : ANY_PREFIX,
    device: machine.root.deviceNamed(nicName),
    gateway: via ?? ANY_IP,
    source: ANY_IP,
    metric: 0,
  };
  return pods.flatMap((source) => [
    ...excluded.map((destination) => ({ source, destination, route: undefined })),
    ...destinations.map((destination) => ({ source, destination, route })),
  ]);
}

/** The gateway gives packets their address; other nodes leave them theirs until there. */
function natRulesOf({ family, pods, destinations, excluded, leaveAs }: EgressWay): Rule[] {
  return pods.flatMap((pod) => {
    const source = prefix(pod, addressBits(family), family);
    const comment = { match: 'comment', comment: 'egress gateway' } as const;
    return [
      ...excluded.map(
        (destination) => new Rule({ family, source, destination, matches: [comment], target: { target: 'RETURN' } }),
      ),
      ...destinations.map(
        (destination) =>
          new Rule({
            ...{ family, source, destination, matches: [comment] },
            target: leaveAs === undefined ? { target: 'ACCEPT' } : { target: 'SNAT', minIp: leaveAs },
          }),
      ),
    ];
  });
}
