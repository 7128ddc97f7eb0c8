// Where the first packet of a connection can go by a node's rules, in the words of the recorded facts.

import { explorePacket, type PacketOutcome } from '../netfilter/explore/explore.ts';
import type { Netfilter } from '../netfilter/netfilter.ts';
import { PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP, TCP_SYN } from '../packet/frame.ts';
import { formatSocketAddress, type Ip, parseAddress, parseIp, parseIpv6 } from '../packet/ip-address.ts';

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
  /** A rule of table filter accepted it, not the policy of a builtin chain. */
  readonly byRule: boolean;
}

const PROTOCOLS = { TCP: PROTOCOL_TCP, UDP: PROTOCOL_UDP, SCTP: PROTOCOL_SCTP };
/** No node and no pod has one of these: a packet that has it was masqueraded. */
const MASQUERADE_IPS = { 4: parseIp('192.0.2.254'), 6: parseIpv6('100::254') };

export interface FlowNode {
  /** Puts the node's rules into a fresh netfilter. */
  readonly load: (netfilter: Netfilter) => void;
  /** Tells the node's own addresses, loopback included. */
  readonly isLocal: (ip: Ip) => boolean;
}

export function exploreFlow({ load, isLocal }: FlowNode, flow: Flow): FlowOutcome[] {
  const { family, ip: srcIp } = parseAddress(flow.srcIP);
  const { ip: dstIp } = parseAddress(flow.dstIP);
  const outcomes = explorePacket(
    {
      ...{ load, isLocal, inDevice: undefined, outDevice: undefined },
      masqueradeIp: (wanted) => MASQUERADE_IPS[wanted],
    },
    {
      fill: (frame) => {
        frame.setFamily(family);
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

function flowOutcome({ verdict, packet, steps }: PacketOutcome, dstIp: Ip): FlowOutcome {
  const judgement = steps.findLast(({ table }) => table === 'filter');
  return {
    verdict: verdict === 'accepted' ? 'ACCEPT' : verdict === 'dropped' ? 'DROP' : 'REJECT',
    endpoint: packet.dstIp === dstIp ? undefined : formatSocketAddress(packet.dstIp, packet.dstPort, packet.family),
    masqueraded: packet.srcIp === MASQUERADE_IPS[packet.family],
    byRule: judgement?.stage === 'rule',
  };
}
