// Between the packets of a parity case and the simulator's frames: crafts a frame from a step, and describes a frame as a
// packet socket sees it.

import {
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  type Frame,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
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

/** Fills a blank frame with the packet of a step. */
export function craft(frame: Frame, packet: PacketStep, { srcMac, dstMac }: { srcMac: Mac; dstMac: Mac }): void {
  const source = parseAddress(packet.src);
  frame.family = source.family;
  frame.etherType = source.family === 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4;
  frame.srcMac = srcMac;
  frame.dstMac = dstMac;
  frame.srcIp = source.ip;
  frame.dstIp = parseAddress(packet.dst).ip;
  frame.ttl = packet.ttl ?? 64;
  frame.typeOfService = packet.tos ?? 0;
  frame.identification = packet.ipid ?? 1;
  const fragment = packet.frag ?? (packet.df === true ? DF : 0);
  frame.dontFragment = (fragment & DF) !== 0;
  frame.moreFragments = (fragment & MF) !== 0;
  frame.payloadBytes = new TextEncoder().encode(packet.payload).length + (packet.pad ?? 0);
  craftTransport(frame, packet);
  // The transport header of a crafted later fragment is payload like any other.
  const headerBytes = frame.transportHeaderBytes();
  frame.fragmentOffset = (fragment & OFFSET_MASK) * 8;
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
export function captureOf(frame: Frame, place: { ns: string; dev: string; dir: 'in' | 'out' }): Capture {
  const macs = { dmac: formatMac(frame.dstMac), smac: formatMac(frame.srcMac) };
  if (frame.etherType === ETHERTYPE_ARP) {
    const addresses = { sender: formatIp(frame.srcIp), target: formatIp(frame.dstIp) };
    return { ...place, ...macs, arp: frame.arpOperation, ...addresses };
  }
  return { ...place, ...macs, ...describePacket(frame) };
}

function describePacket(frame: Frame): CapturedPacket {
  const { family } = frame;
  const fragment =
    (frame.dontFragment ? DF : 0) | (frame.moreFragments ? MF : 0) | ((frame.fragmentOffset / 8) & OFFSET_MASK);
  const header = {
    src: formatIp(frame.srcIp, family),
    dst: formatIp(frame.dstIp, family),
    ttl: frame.ttl,
    len: frame.ipBytes(),
    ...((fragment & ~DF) === 0 ? {} : { frag: fragment }),
  };
  return frame.fragmentOffset > 0 ? { ...header, proto: frame.protocol } : { ...header, ...describeTransport(frame) };
}

function describeTransport(frame: Frame): Pick<CapturedPacket, 'proto'> & Partial<CapturedPacket> {
  const { protocol, srcPort: sport, dstPort: dport } = frame;
  switch (protocol) {
    case PROTOCOL_UDP:
      if (frame.inner === undefined) return { proto: 'udp', sport, dport };
      return { proto: 'udp', sport, dport, vni: frame.vni, inner: describeInner(frame.inner) };
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
      return describeIcmp(frame, 'icmp');
    case PROTOCOL_ICMPV6:
      return describeIcmp(frame, 'icmpv6');
    default:
      return { proto: protocol };
  }
}

function describeInner(inner: Frame): Capture | CapturedPacket {
  const { ns: _, dev: __, dir: ___, ...described } = captureOf(inner, { ns: '', dev: '', dir: 'in' });
  return described as CapturedPacket;
}

/** Errors show what they quote, and the field that holds the MTU (for a redirect: the end of the gateway's address). */
function describeIcmp(frame: Frame, proto: 'icmp' | 'icmpv6'): Pick<CapturedPacket, 'proto'> & Partial<CapturedPacket> {
  const kind = { proto, type: frame.icmpType, code: frame.icmpCode };
  const errors = proto === 'icmp' ? ICMP_ERRORS : ICMPV6_ERRORS;
  if (!errors.has(frame.icmpType)) return { ...kind, id: frame.icmpIdentifier };
  const mtu = proto === 'icmp' && frame.icmpType === REDIRECT ? frame.icmpGateway & 0xffff : frame.icmpMtu;
  return frame.quoted === undefined ? { ...kind, mtu } : { ...kind, mtu, quoted: describePacket(frame.quoted) };
}

const REDIRECT = 5;
const ICMP_ERRORS: ReadonlySet<number> = new Set([3, REDIRECT, 11]);
const ICMPV6_ERRORS: ReadonlySet<number> = new Set([1, 2, 3, 4]);

const formatFlags = (bits: number): string => FLAGS.map(([letter, bit]) => ((bits & bit) === 0 ? '' : letter)).join('');
