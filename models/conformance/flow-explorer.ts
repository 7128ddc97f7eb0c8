// Where the first packet of a connection can go by a node's rules, in the words of the recorded facts.

import type { Chain } from '../netfilter/chain.ts';
import { explorePacket, type PacketOutcome } from '../netfilter/explore/explore.ts';
import { type RuleTables, TABLE_NAMES } from '../netfilter/rule-tables.ts';
import { PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP, TCP_SYN } from '../packet/frame.ts';
import { formatSocketAddress, type Ip, parseIp } from '../packet/ip-address.ts';

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
const MASQUERADE_IP = parseIp('192.0.2.254');

/** `isLocal` tells the node's own addresses, loopback included. */
export function exploreFlow(tables: RuleTables, flow: Flow, isLocal: (ip: Ip) => boolean): FlowOutcome[] {
  const chains = TABLE_NAMES.map((name) => ({ name, chains: chainsOf(tables, name) }));
  const srcIp = parseIp(flow.srcIP);
  const dstIp = parseIp(flow.dstIP);
  const outcomes = explorePacket(
    {
      load: ({ tables: fresh }) => {
        for (const { name, chains: shared } of chains) if (shared.size > 0) fresh.share(name, shared);
      },
      isLocal,
      masqueradeIp: () => MASQUERADE_IP,
      inDevice: undefined,
      outDevice: undefined,
    },
    {
      fill: (frame) => {
        frame.srcIp = srcIp;
        frame.srcPort = 40_000;
        frame.dstIp = dstIp;
        frame.dstPort = flow.dstPort;
        frame.protocol = PROTOCOLS[flow.protocol];
        if (flow.protocol === 'TCP') frame.tcpFlags = TCP_SYN;
        frame.updateSize();
      },
      isLocallySent: isLocal(srcIp),
    },
  );
  return outcomes.map((outcome) => flowOutcome(outcome, dstIp));
}

const chainsOf = (tables: RuleTables, name: (typeof TABLE_NAMES)[number]): ReadonlyMap<string, Chain> =>
  new Map(tables.isLoaded(name) ? tables.chainNames(name).map((chain) => [chain, tables.chain(name, chain)!]) : []);

function flowOutcome({ verdict, packet, steps }: PacketOutcome, dstIp: Ip): FlowOutcome {
  const judgement = steps.findLast(({ table }) => table === 'filter');
  return {
    verdict: verdict === 'accepted' ? 'ACCEPT' : verdict === 'dropped' ? 'DROP' : 'REJECT',
    endpoint: packet.dstIp === dstIp ? undefined : formatSocketAddress(packet.dstIp, packet.dstPort),
    masqueraded: packet.srcIp === MASQUERADE_IP,
    byRule: judgement?.stage === 'rule',
  };
}
