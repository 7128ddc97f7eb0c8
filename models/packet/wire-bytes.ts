// Frames as bytes: exactly what a capture would hold, checksums included. Captures and comparisons with the real kernel
// come here; models read the fields of Frame.
//
// Most messages have a size and no content, so payloads are readable filler that depends only on where a byte belongs:
// a retransmitted TCP segment has the bytes of the first one, however the stream was cut. A message with content stands as
// it is; over TCP in the segment that carries its last byte.
//
// Not modelled: content of a TCP message in earlier segments than its last, IP options, flow labels (0), the checksum of a datagram in fragments (no stack here makes any), an SCTP header (a
// Frame counts none), Ethernet padding and frame check sequence.

import {
  type Discovery,
  ETHERNET_HEADER_BYTES,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  type Frame,
  ICMP_HEADER_BYTES,
  IPV4_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  type Message,
  type MessageEnd,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_IPIP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_HEADER_BYTES,
  UDP_HEADER_BYTES,
  VXLAN_HEADER_BYTES,
} from './frame.ts';
import { ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, ICMP_REDIRECT } from './icmp.ts';
import { ICMPV6_ECHO_REPLY, ICMPV6_ECHO_REQUEST, ICMPV6_NEIGHBOR_SOLICITATION } from './icmpv6.ts';
import type { Ip, IpFamily } from './ip-address.ts';
import { ipv6Word } from './ipv6-address.ts';
import type { Mac } from './mac.ts';

/**
 * The frame from its destination MAC to its last payload byte: `frame.sizeBytes` bytes. Throws a RangeError if that size
 * is not what the headers and the payload make, or if the packet is larger than its header can say.
 */
export function encodeFrame(frame: Frame): Uint8Array {
  const packet = frame.etherType === ETHERTYPE_ARP ? encodeArp(frame) : encodePacket(frame);
  if (frame.sizeBytes !== ETHERNET_HEADER_BYTES + packet.length) {
    throw new RangeError(
      `frame ${frame.id} has sizeBytes ${frame.sizeBytes}; expected ${ETHERNET_HEADER_BYTES + packet.length} (see updateSize)`,
    );
  }
  const bytes = new Uint8Array(frame.sizeBytes);
  const view = new DataView(bytes.buffer);
  setMac(view, 0, frame.dstMac);
  setMac(view, 6, frame.srcMac);
  view.setUint16(12, frame.etherType);
  bytes.set(packet, ETHERNET_HEADER_BYTES);
  return bytes;
}

/** RFC 826, for Ethernet and IPv4. */
function encodeArp(frame: Frame): Uint8Array {
  const bytes = new Uint8Array(28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 1); // hardware type: Ethernet
  view.setUint16(2, ETHERTYPE_IPV4);
  view.setUint8(4, 6); // bytes of a hardware address
  view.setUint8(5, 4); // bytes of a protocol address
  view.setUint16(6, frame.arpOperation);
  setMac(view, 8, frame.srcMac);
  view.setInt32(14, frame.srcIp);
  setMac(view, 18, frame.arpTargetMac);
  view.setInt32(24, frame.dstIp);
  return bytes;
}

function encodePacket(frame: Frame): Uint8Array {
  const sizeBytes = frame.ipBytes();
  const mostBytes = frame.family === 6 ? IPV6_HEADER_BYTES + 0xffff : 0xffff; // IPv6 does not count its header
  if (sizeBytes > mostBytes)
    throw new RangeError(`IP packet of ${sizeBytes} bytes in frame ${frame.id}; expected at most ${mostBytes}`);
  return frame.family === 6 ? encodeIpv6Packet(frame, sizeBytes) : encodeIpv4Packet(frame, sizeBytes);
}

/** RFC 791. */
function encodeIpv4Packet(frame: Frame, sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, 0x45); // version 4, header of 5 words
  view.setUint8(1, frame.typeOfService);
  view.setUint16(2, sizeBytes);
  view.setUint16(4, frame.identification);
  view.setUint16(
    6,
    (frame.dontFragment ? 0x4000 : 0) | (frame.moreFragments ? 0x2000 : 0) | Math.floor(frame.fragmentOffset / 8),
  );
  view.setUint8(8, frame.ttl);
  view.setUint8(9, frame.protocol);
  view.setInt32(12, frame.srcIp);
  view.setInt32(16, frame.dstIp);
  view.setUint16(10, checksum(bytes.subarray(0, IPV4_HEADER_BYTES)));
  bytes.set(encodeTransport(frame), IPV4_HEADER_BYTES);
  return bytes;
}

/** RFC 8200, with a fragment header where it is a fragment. */
function encodeIpv6Packet(frame: Frame, sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, (6 << 28) | (frame.typeOfService << 20));
  view.setUint16(4, sizeBytes - IPV6_HEADER_BYTES);
  view.setUint8(6, frame.isFragment ? FRAGMENT_HEADER : frame.protocol);
  view.setUint8(7, frame.ttl);
  setIpv6(view, 8, frame.srcIp);
  setIpv6(view, 24, frame.dstIp);
  if (frame.isFragment) {
    view.setUint8(IPV6_HEADER_BYTES, frame.protocol);
    view.setUint16(IPV6_HEADER_BYTES + 2, frame.fragmentOffset | (frame.moreFragments ? 1 : 0));
    view.setUint32(IPV6_HEADER_BYTES + 4, frame.identification);
  }
  bytes.set(encodeTransport(frame), frame.ipHeaderBytes());
  return bytes;
}

/** Next header of a fragment. */
const FRAGMENT_HEADER = 44;

function encodeTransport(frame: Frame): Uint8Array {
  if (frame.isFragment && frame.whole !== undefined) {
    const end = frame.fragmentOffset + frame.transportHeaderBytes() + frame.payloadBytes;
    return encodeTransport(frame.whole).subarray(frame.fragmentOffset, end);
  }
  if (frame.fragmentOffset > 0) return new Uint8Array(frame.payloadBytes);
  switch (frame.protocol) {
    case PROTOCOL_TCP:
      return encodeTcp(frame);
    case PROTOCOL_UDP:
      return encodeUdp(frame);
    case PROTOCOL_ICMP:
      return encodeIcmp(frame);
    case PROTOCOL_ICMPV6:
      return encodeIcmpv6(frame);
    case PROTOCOL_IPIP:
      return frame.inner === undefined ? new Uint8Array(frame.payloadBytes) : encodePacket(frame.inner);
    default:
      return new Uint8Array(frame.payloadBytes);
  }
}

/** RFC 9293; options in the order of Linux: MSS, timestamps, window scale. */
function encodeTcp(frame: Frame): Uint8Array {
  const headerBytes = TCP_HEADER_BYTES + frame.tcpOptionBytes();
  const bytes = new Uint8Array(headerBytes + frame.payloadBytes);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, frame.srcPort);
  view.setUint16(2, frame.dstPort);
  view.setInt32(4, frame.sequence);
  view.setInt32(8, frame.acknowledgment);
  view.setUint8(12, (headerBytes / 4) << 4);
  view.setUint8(13, frame.tcpFlags);
  view.setUint16(14, frame.window);
  let at = TCP_HEADER_BYTES;
  if (frame.mssOption > 0) {
    view.setUint16(at, 0x0204); // maximum segment size, 4 bytes
    view.setUint16(at + 2, frame.mssOption);
    at += 4;
  }
  if (frame.timestampValue !== 0) {
    view.setUint32(at, 0x0101_080a); // no operation, no operation, timestamps, 10 bytes
    view.setUint32(at + 4, frame.timestampValue);
    view.setUint32(at + 8, frame.timestampEcho);
    at += 12;
  }
  if (frame.windowScaleOption >= 0) {
    view.setUint32(at, 0x0103_0300 | frame.windowScaleOption); // no operation, window scale, 3 bytes
  }
  fillWithStream(bytes.subarray(headerBytes), frame.sequence);
  for (const end of frame.messageEnds ?? []) putMessage(bytes.subarray(headerBytes), end);
  view.setUint16(16, checksum(bytes, pseudoHeaderSum(frame, bytes.length)));
  return bytes;
}

/** RFC 768. */
function encodeUdp(frame: Frame): Uint8Array {
  const bytes = new Uint8Array(UDP_HEADER_BYTES + frame.payloadBytes);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, frame.srcPort);
  view.setUint16(2, frame.dstPort);
  view.setUint16(4, bytes.length);
  if (frame.inner !== undefined) bytes.set(encodeVxlan(frame, frame.inner), UDP_HEADER_BYTES);
  if (frame.message !== undefined) fillWithMessage(bytes.subarray(UDP_HEADER_BYTES), frame.message);
  // On the wire 0 means "no checksum", so a computed 0 travels as its other spelling in ones' complement.
  view.setUint16(6, checksum(bytes, pseudoHeaderSum(frame, bytes.length)) || 0xffff);
  return bytes;
}

/** RFC 7348. */
function encodeVxlan({ vni }: Frame, inner: Frame): Uint8Array {
  const bytes = new Uint8Array(VXLAN_HEADER_BYTES + inner.sizeBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x0800_0000); // flags: the network is valid
  view.setUint32(4, vni * 0x100);
  bytes.set(encodeFrame(inner), VXLAN_HEADER_BYTES);
  return bytes;
}

/** RFC 792. The payload of an echo is zeros. */
function encodeIcmp(frame: Frame): Uint8Array {
  const { quoted } = frame;
  const quotedBytes = frame.quotedBytes();
  const bytes = new Uint8Array(ICMP_HEADER_BYTES + quotedBytes + frame.payloadBytes);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, frame.icmpType);
  view.setUint8(1, frame.icmpCode);
  switch (frame.icmpType) {
    case ICMP_ECHO_REQUEST:
    case ICMP_ECHO_REPLY:
      view.setUint16(4, frame.icmpIdentifier);
      view.setUint16(6, frame.icmpSequence);
      break;
    case ICMP_REDIRECT:
      view.setInt32(4, frame.icmpGateway);
      break;
    default:
      view.setUint16(6, frame.icmpMtu); // 0 in every error but "fragmentation needed" (RFC 1191)
  }
  if (quoted !== undefined) bytes.set(encodePacket(quoted).subarray(0, quotedBytes), ICMP_HEADER_BYTES);
  view.setUint16(2, checksum(bytes));
  return bytes;
}

/** RFC 4443. The payload of an echo is zeros. */
function encodeIcmpv6(frame: Frame): Uint8Array {
  const { icmpType, discovery, quoted } = frame;
  const bytes = new Uint8Array(frame.transportHeaderBytes() + frame.payloadBytes);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, icmpType);
  view.setUint8(1, frame.icmpCode);
  let quotedAt = ICMP_HEADER_BYTES;
  if (discovery !== undefined) {
    quotedAt = setDiscovery(view, frame, discovery);
  } else if (icmpType === ICMPV6_ECHO_REQUEST || icmpType === ICMPV6_ECHO_REPLY) {
    view.setUint16(4, frame.icmpIdentifier);
    view.setUint16(6, frame.icmpSequence);
  } else {
    view.setUint32(4, frame.icmpMtu); // 0 in every error but "packet too big" and "parameter problem"
  }
  if (quoted !== undefined) bytes.set(encodePacket(quoted).subarray(0, frame.quotedIpv6Bytes()), quotedAt);
  view.setUint16(2, checksum(bytes, pseudoHeaderSum(frame, bytes.length)));
  return bytes;
}

/** RFC 4861 4.3 to 4.6: flags, addresses and options, up to the packet that a redirect quotes; returns where that begins. */
function setDiscovery(view: DataView, frame: Frame, discovery: Discovery): number {
  const { target, linkLayer, isRouter, isSolicited, isOverride } = discovery;
  view.setUint8(4, (isRouter ? 0x80 : 0) | (isSolicited ? 0x40 : 0) | (isOverride ? 0x20 : 0));
  setIpv6(view, ICMP_HEADER_BYTES, target);
  let at = ICMP_HEADER_BYTES + 16;
  if (frame.quoted !== undefined) {
    setIpv6(view, at, frame.quoted.dstIp); // the destination that a redirect is about
    at += 16;
  }
  if (linkLayer !== undefined) {
    view.setUint8(at, frame.icmpType === ICMPV6_NEIGHBOR_SOLICITATION ? 1 : 2); // source or target link-layer address
    view.setUint8(at + 1, 1); // in units of 8 bytes
    setMac(view, at + 2, linkLayer);
    at += 8;
  }
  if (frame.quoted !== undefined) {
    view.setUint8(at, 4); // redirected header
    view.setUint8(at + 1, (frame.quotedIpv6Bytes() + 8) / 8);
    at += 8;
  }
  return at;
}

const STREAM_LINE_BYTES = 32;

/** Fills with the part of a TCP stream that starts at a sequence number: lines that say where they start. */
function fillWithStream(bytes: Uint8Array, sequence: number): void {
  let lineStart = sequence - (sequence & (STREAM_LINE_BYTES - 1));
  for (let at = lineStart - sequence; at < bytes.length; at += STREAM_LINE_BYTES) {
    const line = `sequence ${lineStart >>> 0} `.padEnd(STREAM_LINE_BYTES - 1, '.') + '\n';
    writeText(bytes, at, line);
    lineStart += STREAM_LINE_BYTES;
  }
}

/** The part of a message that this segment carries, if it has content. Segments before its last one keep the filler. */
function putMessage(bytes: Uint8Array, { offset, message }: MessageEnd): void {
  if (message.bytes === undefined) return;
  const start = offset - message.sizeBytes;
  bytes.set(message.bytes.subarray(Math.max(0, -start)), Math.max(0, start));
}

function fillWithMessage(bytes: Uint8Array, { id, sizeBytes, bytes: content }: Message): void {
  if (content !== undefined) return bytes.set(content.subarray(0, bytes.length));
  const line = `message ${id}, ${sizeBytes} bytes\n`;
  for (let at = 0; at < bytes.length; at += line.length) writeText(bytes, at, line);
}

/** ASCII from offset `at`, which may be negative; what lies outside is cut. */
function writeText(bytes: Uint8Array, at: number, text: string): void {
  const end = Math.min(text.length, bytes.length - at);
  for (let i = Math.max(0, -at); i < end; i++) bytes[at + i] = text.charCodeAt(i);
}

/** RFC 1071: the ones' complement of the ones' complement sum of 16-bit words. */
function checksum(bytes: Uint8Array, initialSum = 0): number {
  let sum = initialSum;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** The addresses, the protocol and the length, which checksums of transport protocols cover as well. */
function pseudoHeaderSum({ family, srcIp, dstIp, protocol }: Frame, sizeBytes: number): number {
  return addressSum(srcIp, family) + addressSum(dstIp, family) + protocol + sizeBytes;
}

/** Of the address's 16-bit words. */
function addressSum(ip: Ip, family: IpFamily): number {
  if (family === 4) return (ip >>> 16) + (ip & 0xffff);
  return IPV6_WORDS.reduce<number>((sum, word) => sum + (ipv6Word(ip, word) >>> 16) + (ipv6Word(ip, word) & 0xffff), 0);
}

const IPV6_WORDS = [0, 1, 2, 3] as const;

function setIpv6(view: DataView, at: number, ip: Ip): void {
  for (const word of IPV6_WORDS) view.setInt32(at + 4 * word, ipv6Word(ip, word));
}

function setMac(view: DataView, at: number, mac: Mac): void {
  view.setUint16(at, Math.floor(mac / 2 ** 32));
  view.setUint32(at + 2, mac % 2 ** 32);
}
