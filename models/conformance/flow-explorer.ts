// Where the first packet of a connection can go by a node's rules, in the words of the recorded facts.

import type { Chain } from '../netfilter/chain.ts';
import { explorePacket, type PacketOutcome } from '../netfilter/explore/explore.ts';
import type { Netfilter } from '../netfilter/netfilter.ts';
import type { NftRuleset } from '../netfilter/nft/syntax.ts';
import { RuleTables, TABLE_NAMES } from '../netfilter/rule-tables.ts';
import { PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP, TCP_SYN } from '../packet/frame.ts';
import { formatSocketAddress, type Ip, type IpFamily, parseAddress, parseIp, parseIpv6 } from '../packet/ip-address.ts';

export interface Flow {
  readonly srcIP: string;
  readonly dstIP: string;
  readonly dstPort: number;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
}

export interface FlowOutcome {
  readonly verdict: 'ACCEPT' | 'DROP' | 'REJECT';
  /** `10.244.1.5:8080`; undefined if the destination was not translated. */
  readonly endpoint: string | undefined;
  readonly masqueraded: boolean;
  /** A rule accepted it, not the policy of a builtin chain. */
  readonly byRule: boolean;
}

const PROTOCOLS = { TCP: PROTOCOL_TCP, UDP: PROTOCOL_UDP, SCTP: PROTOCOL_SCTP };
/** No node and no pod has it: a packet that has it was masqueraded. */
const MASQUERADE_IPS: Readonly<Record<IpFamily, Ip>> = { 4: parseIp('192.0.2.254'), 6: parseIpv6('2001:db8::ffff') };

/** `isLocal` tells the node's own addresses, loopback included; `rules` are those of iptables or nftables. */
export function exploreFlow(
  rules: RuleTables | NftRuleset,
  flow: Flow,
  isLocal: (ip: Ip, family: IpFamily) => boolean,
): FlowOutcome[] {
  const { ip: srcIp, family } = parseAddress(flow.srcIP);
  const { ip: dstIp } = parseAddress(flow.dstIP);
  const outcomes = explorePacket(
    {
      load: rules instanceof RuleTables ? loadTables(rules) : ({ nftables }) => (nftables.ruleset = rules),
      isLocal,
      masqueradeIp: (of) => MASQUERADE_IPS[of],
      inDevice: undefined,
      outDevice: undefined,
    },
    {
      fill: (frame) => {
        frame.family = family;
        frame.srcIp = srcIp;
        frame.srcPort = 40_000;
        frame.dstIp = dstIp;
        frame.dstPort = flow.dstPort;
        frame.protocol = PROTOCOLS[flow.protocol];
        if (flow.protocol === 'TCP') frame.tcpFlags = TCP_SYN;
        frame.updateSize();
      },
      isLocallySent: isLocal(srcIp, family),
    },
  );
  return outcomes.map((outcome) => flowOutcome(outcome, dstIp, family));
}

function loadTables(tables: RuleTables): (netfilter: Netfilter) => void {
  const chains = TABLE_NAMES.map((name) => ({ name, chains: chainsOf(tables, name) }));
  return ({ tables: fresh }) => {
    for (const { name, chains: shared } of chains) if (shared.size > 0) fresh.share(name, shared);
  };
}

const chainsOf = (tables: RuleTables, name: (typeof TABLE_NAMES)[number]): ReadonlyMap<string, Chain> =>
  new Map(tables.isLoaded(name) ? tables.chainNames(name).map((chain) => [chain, tables.chain(name, chain)!]) : []);

function flowOutcome({ verdict, packet, steps }: PacketOutcome, dstIp: Ip, family: IpFamily): FlowOutcome {
  const judgement = steps.findLast(({ table }) => table === 'filter');
  return {
    verdict: verdict === 'accepted' ? 'ACCEPT' : verdict === 'dropped' ? 'DROP' : 'REJECT',
    endpoint: packet.dstIp === dstIp ? undefined : formatSocketAddress(packet.dstIp, packet.dstPort, family),
    masqueraded: packet.srcIp === MASQUERADE_IPS[family],
    byRule: judgement?.stage === 'rule',
  };
}
