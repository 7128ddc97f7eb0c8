// Frames in one line, in the manner of tcpdump, for people: journeys, logs, messages of failed tests. Nothing parses it.

import {
  ARP_REPLY,
  ETHERTYPE_ARP,
  type Frame,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_IPIP,
  PROTOCOL_SCTP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_ACK,
} from './frame.ts';
import {
  ICMP_DEST_UNREACHABLE,
  ICMP_ECHO_REPLY,
  ICMP_ECHO_REQUEST,
  ICMP_FRAGMENTATION_NEEDED,
  ICMP_REDIRECT,
  icmpName,
} from './icmp.ts';
import {
  ICMPV6_ECHO_REPLY,
  ICMPV6_ECHO_REQUEST,
  ICMPV6_PACKET_TOO_BIG,
  ICMPV6_PARAMETER_PROBLEM,
  icmpv6Name,
} from './icmpv6.ts';
import { formatIp, formatSocketAddress, type Ip, type IpFamily } from './ip-address.ts';
import { formatMac } from './mac.ts';

/** `10.244.0.2:40000 > 10.96.0.10:80 tcp [S] seq 1 win 64240 len 0`. */
export function describeFrame(frame: Frame): string {
  if (frame.etherType === ETHERTYPE_ARP) return describeFlow(frame);
  const { protocol, tcpFlags, sequence, acknowledgment, window, payloadBytes, inner, vni } = frame;
  if (inner !== undefined) {
    const network = protocol === PROTOCOL_UDP ? ` vxlan ${vni}` : '';
    return `${describeFlow(frame)}${network}: ${describeFrame(inner)}`;
  }
  switch (protocol) {
    case PROTOCOL_TCP: {
      const ack = (tcpFlags & TCP_ACK) === 0 ? '' : ` ack ${acknowledgment >>> 0}`;
      return `${describeFlow(frame)} seq ${sequence >>> 0}${ack} win ${window} len ${payloadBytes}`;
    }
    case PROTOCOL_ICMP:
      return describeFlow(frame) + describeIcmpDetails(frame);
    case PROTOCOL_ICMPV6:
      return describeFlow(frame) + describeIcmpv6Details(frame);
    default:
      return `${describeFlow(frame)} len ${payloadBytes}`;
  }
}

/** Who talks to whom about what, the title of a journey: `10.244.0.2:40000 > 10.96.0.10:80 tcp [S]`. */
export function describeFlow(frame: Frame): string {
  if (frame.etherType === ETHERTYPE_ARP) return describeArp(frame);
  const flow = `${formatTuple(frame)} ${formatProtocol(frame.protocol)}`;
  switch (frame.protocol) {
    case PROTOCOL_TCP:
      return `${flow} [${formatTcpFlags(frame.tcpFlags)}]`;
    case PROTOCOL_ICMP:
    case PROTOCOL_ICMPV6:
      return `${flow} ${describeIcmpKind(frame)}`;
    default:
      return flow;
  }
}

/** Both ends of a packet; a Frame is one. */
export interface AddressTuple {
  /** IPv4 if absent. */
  readonly family?: IpFamily;
  readonly protocol: number;
  readonly srcIp: Ip;
  readonly srcPort: number;
  readonly dstIp: Ip;
  readonly dstPort: number;
}

/** `10.244.0.2:40000 > 10.96.0.10:80`, `[fd00::2]:40000 > [fd00::10]:80`; without ports for a protocol without any. */
export function formatTuple({ family = 4, protocol, srcIp, srcPort, dstIp, dstPort }: AddressTuple): string {
  return hasPorts(protocol)
    ? `${formatSocketAddress(srcIp, srcPort, family)} > ${formatSocketAddress(dstIp, dstPort, family)}`
    : `${formatIp(srcIp, family)} > ${formatIp(dstIp, family)}`;
}

/** `tcp`; `protocol 47` for one that is not modelled. */
export function formatProtocol(protocol: number): string {
  switch (protocol) {
    case PROTOCOL_ICMP:
      return 'icmp';
    case PROTOCOL_ICMPV6:
      return 'icmpv6';
    case PROTOCOL_IPIP:
      return 'ipip';
    case PROTOCOL_TCP:
      return 'tcp';
    case PROTOCOL_UDP:
      return 'udp';
    case PROTOCOL_SCTP:
      return 'sctp';
    default:
      return `protocol ${protocol}`;
  }
}

/** The letters of tcpdump, where a dot is ACK: `S`, `S.`, `P.`, `F.`, `R`; `none` for a segment without flags. */
export const formatTcpFlags = (flags: number): string =>
  [...'FSRP.U'].filter((_, bit) => (flags & (1 << bit)) !== 0).join('') || 'none';

const hasPorts = (protocol: number): boolean =>
  protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP || protocol === PROTOCOL_SCTP;

function describeArp({ arpOperation, srcIp, srcMac, dstIp }: Frame): string {
  return arpOperation === ARP_REPLY
    ? `arp ${formatIp(srcIp)} is-at ${formatMac(srcMac)}`
    : `arp who-has ${formatIp(dstIp)} tell ${formatIp(srcIp)}`;
}

/** Echoes by name; what is about another packet also by the numbers that rules and documents use. */
function describeIcmpKind({ protocol, icmpType, icmpCode, discovery }: Frame): string {
  const isIpv6 = protocol === PROTOCOL_ICMPV6;
  const name = isIpv6 ? icmpv6Name(icmpType, icmpCode) : icmpName(icmpType, icmpCode);
  if (discovery !== undefined) return `${name} ${formatIp(discovery.target, 6)}`;
  const speaksForItself = isIpv6 ? isIcmpv6Echo(icmpType) : isEcho(icmpType);
  return speaksForItself ? name : `${icmpType}/${icmpCode} ${name}`.trimEnd();
}

function describeIcmpDetails({
  icmpType,
  icmpCode,
  icmpIdentifier,
  icmpSequence,
  icmpGateway,
  icmpMtu,
  quoted,
  payloadBytes,
}: Frame): string {
  if (isEcho(icmpType)) return ` id ${icmpIdentifier} seq ${icmpSequence} len ${payloadBytes}`;
  const gateway = icmpType === ICMP_REDIRECT ? ` to ${formatIp(icmpGateway)}` : '';
  const mtu = icmpType === ICMP_DEST_UNREACHABLE && icmpCode === ICMP_FRAGMENTATION_NEEDED ? ` mtu ${icmpMtu}` : '';
  return gateway + mtu + (quoted === undefined ? '' : ` about ${describeFlow(quoted)}`);
}

function describeIcmpv6Details(frame: Frame): string {
  const { icmpType, icmpIdentifier, icmpSequence, icmpMtu, discovery, quoted, payloadBytes } = frame;
  if (isIcmpv6Echo(icmpType)) return ` id ${icmpIdentifier} seq ${icmpSequence} len ${payloadBytes}`;
  const at = discovery?.linkLayer === undefined ? '' : ` at ${formatMac(discovery.linkLayer)}`;
  const mtu = icmpType === ICMPV6_PACKET_TOO_BIG ? ` mtu ${icmpMtu}` : '';
  const pointer = icmpType === ICMPV6_PARAMETER_PROBLEM ? ` at byte ${icmpMtu}` : '';
  return at + mtu + pointer + (quoted === undefined ? '' : ` about ${describeFlow(quoted)}`);
}

const isIcmpv6Echo = (icmpType: number): boolean => icmpType === ICMPV6_ECHO_REQUEST || icmpType === ICMPV6_ECHO_REPLY;

const isEcho = (icmpType: number): boolean => icmpType === ICMP_ECHO_REQUEST || icmpType === ICMP_ECHO_REPLY;
