// Between the packets of a parity case and the simulator's frames: crafts a frame from a step, and describes a frame as a
// packet socket sees it.

import {
  ETHERTYPE_ARP,
  type Frame,
  IPV4_HEADER_BYTES,
  IPV6_FRAGMENT_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_SCTP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_ACK,
  TCP_FIN,
  TCP_PSH,
  TCP_RST,
  TCP_SYN,
  TCP_URG,
} from '../../packet/frame.ts';
import { formatIp, parseAddress } from '../../packet/ip-address.ts';
import { formatMac, type Mac } from '../../packet/mac.ts';
import type { Capture, CapturedPacket, PacketStep } from '../case.ts';

const DF = 0x4000;
const MF = 0x2000;
/** In units of eight bytes. */
const OFFSET_MASK = 0x1fff;
/** Header and chunk; an INIT-ACK is as long here. */
const SCTP_INIT_BYTES = 32;
const ECHO_REQUEST = 8;
const ECHO_REQUEST_V6 = 128;

/** In the order in which captures list them. */
const FLAGS: readonly (readonly [letter: string, bit: number])[] = [
  ['S', TCP_SYN],
  ['A', TCP_ACK],
  ['F', TCP_FIN],
  ['R', TCP_RST],
  ['P', TCP_PSH],
  ['U', TCP_URG],
];

/** The packet of a step in blank frames: one, or the fragments that fit `fragmentMtu`. */
export function craft(
  packet: PacketStep,
  { srcMac, dstMac }: { srcMac: Mac; dstMac: Mac },
  blank: () => Frame,
): Frame[] {
  const whole = blank();
  whole.setFamily(packet.src.includes(':') ? 6 : 4);
  whole.srcMac = srcMac;
  whole.dstMac = dstMac;
  whole.srcIp = parseAddress(packet.src).ip;
  whole.dstIp = parseAddress(packet.dst).ip;
  whole.ttl = packet.ttl ?? 64;
  whole.typeOfService = packet.tos ?? 0;
  whole.identification = packet.ipid ?? 1;
  whole.dontFragment = false;
  whole.payloadBytes = new TextEncoder().encode(packet.payload).length + (packet.pad ?? 0);
  craftTransport(whole, packet);
  whole.updateSize();
  const { fragmentMtu = Number.POSITIVE_INFINITY } = packet;
  if (fragmentHeaderBytes(whole) + dataBytes(whole) <= fragmentMtu) {
    cut(whole, packet.frag ?? (packet.df === true ? DF : 0));
    whole.isAtomicFragment = whole.family === 6 && packet.frag !== undefined && !whole.isFragment;
    whole.updateSize();
    return [whole];
  }
  return fragments(whole, fragmentMtu, blank);
}

/** The first fragment keeps the transport header; to the others it is data like any other. */
function fragments(whole: Frame, mtuBytes: number, blank: () => Frame): Frame[] {
  const endBytes = dataBytes(whole);
  const stepBytes = (mtuBytes - fragmentHeaderBytes(whole)) & ~7;
  const headerBytes = whole.transportHeaderBytes();
  const parts: Frame[] = [];
  for (let start = 0; start < endBytes; start += stepBytes) {
    const part = start === 0 ? whole : blank();
    if (part !== whole) part.copyPacketFrom(whole);
    part.payloadBytes = Math.min(stepBytes, endBytes - start) - headerBytes;
    cut(part, (start + stepBytes < endBytes ? MF : 0) | (start / 8));
    parts.push(part);
  }
  return parts;
}

const fragmentHeaderBytes = ({ family }: Frame): number =>
  family === 6 ? IPV6_HEADER_BYTES + IPV6_FRAGMENT_HEADER_BYTES : IPV4_HEADER_BYTES;

const dataBytes = (whole: Frame): number => whole.transportHeaderBytes() + whole.payloadBytes;

/** Gives the frame these 16 bits of flags and fragment offset. */
function cut(frame: Frame, bits: number): void {
  frame.dontFragment = (bits & DF) !== 0;
  frame.moreFragments = (bits & MF) !== 0;
  const headerBytes = frame.transportHeaderBytes();
  frame.fragmentOffset = (bits & OFFSET_MASK) * 8;
  if (frame.fragmentOffset > 0) frame.payloadBytes += headerBytes;
  frame.updateSize();
}

function craftTransport(frame: Frame, packet: PacketStep): void {
  switch (packet.proto) {
    case 'udp':
      frame.protocol = PROTOCOL_UDP;
      frame.srcPort = packet.sport ?? 0;
      frame.dstPort = packet.dport ?? 0;
      return;
    case 'sctp':
      frame.protocol = PROTOCOL_SCTP;
      frame.srcPort = packet.sport ?? 0;
      frame.dstPort = packet.dport ?? 0;
      frame.payloadBytes += SCTP_INIT_BYTES;
      return;
    case 'tcp':
      frame.protocol = PROTOCOL_TCP;
      frame.srcPort = packet.sport ?? 0;
      frame.dstPort = packet.dport ?? 0;
      frame.tcpFlags = tcpFlags(packet.flags ?? 'S');
      frame.sequence = (packet.seq ?? 1000) | 0;
      frame.acknowledgment = (packet.ack ?? 0) | 0;
      frame.window = packet.win ?? 64_240;
      return;
    case 'icmp':
    case 'icmpv6':
      frame.protocol = packet.proto === 'icmp' ? PROTOCOL_ICMP : PROTOCOL_ICMPV6;
      frame.icmpType = packet.type ?? (packet.proto === 'icmp' ? ECHO_REQUEST : ECHO_REQUEST_V6);
      frame.icmpCode = packet.code ?? 0;
      frame.icmpIdentifier = packet.id ?? 7;
      frame.icmpSequence = packet.seqn ?? 1;
      return;
  }
}

const tcpFlags = (letters: string): number =>
  FLAGS.reduce((bits, [letter, bit]) => (letters.includes(letter) ? bits | bit : bits), 0);

/** Copies what there is to see of a frame: the frame itself goes on and changes. */
export const captureOf = (frame: Frame, place: { ns: string; dev: string; dir: 'in' | 'out' }): Capture => ({
  ...place,
  ...describeFrame(frame),
});

function describeFrame(frame: Frame): Omit<Capture, 'ns' | 'dev' | 'dir'> {
  const macs = { dmac: formatMac(frame.dstMac), smac: formatMac(frame.srcMac) };
  if (frame.etherType !== ETHERTYPE_ARP) return { ...macs, ...describePacket(frame) };
  return { ...macs, arp: frame.arpOperation, sender: formatIp(frame.srcIp), target: formatIp(frame.dstIp) };
}

function describePacket(frame: Frame): CapturedPacket {
  const { family } = frame;
  const offset = (frame.fragmentOffset / 8) & OFFSET_MASK;
  const more = frame.moreFragments ? MF : 0;
  const header = {
    src: formatIp(frame.srcIp, family),
    dst: formatIp(frame.dstIp, family),
    ttl: frame.ttl,
    len: frame.ipBytes(),
    // An IPv6 fragment header has no bit that forbids fragments.
    ...(!frame.isFragment ? {} : { frag: offset | more | (frame.dontFragment && family === 4 ? DF : 0) }),
  };
  return offset > 0 ? { ...header, proto: frame.protocol } : { ...header, ...describeTransport(frame) };
}

function describeTransport(frame: Frame): Transport {
  const { protocol, srcPort: sport, dstPort: dport } = frame;
  switch (protocol) {
    case PROTOCOL_UDP:
      return { proto: 'udp', sport, dport, ...describeTunnelled(frame) };
    case PROTOCOL_SCTP:
      return { proto: 'sctp', sport, dport };
    case PROTOCOL_TCP:
      return {
        proto: 'tcp',
        sport,
        dport,
        flags: formatFlags(frame.tcpFlags),
        seq: frame.sequence >>> 0,
        ack: frame.acknowledgment >>> 0,
      };
    case PROTOCOL_ICMP:
      return describeIcmp(frame, { proto: 'icmp', errors: ICMP_ERRORS });
    case PROTOCOL_ICMPV6:
      return describeIcmp(frame, { proto: 'icmpv6', errors: ICMPV6_ERRORS });
    default:
      return { proto: protocol };
  }
}

/** Who looks at bytes knows a tunnel by its port, and not behind a translation; the headers are in the first fragment. */
function describeTunnelled({ dstPort, vni, inner, whole }: Frame): Pick<Capture, 'vni' | 'inner'> {
  const tunnelled = inner ?? whole?.inner;
  return tunnelled === undefined || !VXLAN_PORTS.has(dstPort) ? {} : { vni, inner: describeFrame(tunnelled) };
}

/** Errors show what they quote, and the field that holds the MTU (for a redirect: the end of the gateway's address). */
function describeIcmp(
  frame: Frame,
  { proto, errors }: { proto: 'icmp' | 'icmpv6'; errors: ReadonlySet<number> },
): Transport {
  const { icmpType: type, icmpCode: code, quoted, discovery } = frame;
  if (errors.has(type)) {
    const mtu = (proto === 'icmp' && type === REDIRECT ? frame.icmpGateway : frame.icmpMtu) & 0xffff;
    return { proto, type, code, mtu, ...(quoted === undefined ? {} : { quoted: describePacket(quoted) }) };
  }
  if (discovery !== undefined) return { proto, type, code, target: formatIp(discovery.target, 6) };
  return proto === 'icmp' || ICMPV6_ECHOES.has(type)
    ? { proto, type, code, id: frame.icmpIdentifier }
    : { proto, type, code };
}

type Transport = Pick<CapturedPacket, 'proto'> & Partial<Capture>;

const VXLAN_PORTS: ReadonlySet<number> = new Set([4789, 8472]);
const REDIRECT = 5;
const ICMP_ERRORS: ReadonlySet<number> = new Set([3, 4, REDIRECT, 11, 12]);
const ICMPV6_ERRORS: ReadonlySet<number> = new Set([1, 2, 3, 4]);
const ICMPV6_ECHOES: ReadonlySet<number> = new Set([ECHO_REQUEST_V6, 129]);

const formatFlags = (bits: number): string => FLAGS.map(([letter, bit]) => ((bits & bit) === 0 ? '' : letter)).join('');
