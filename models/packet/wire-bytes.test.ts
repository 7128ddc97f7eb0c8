import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  ARP_REPLY,
  ARP_REQUEST,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  Frame,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_SCTP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_SYN,
} from './frame.ts';
import {
  ICMP_DEST_UNREACHABLE,
  ICMP_ECHO_REQUEST,
  ICMP_FRAGMENTATION_NEEDED,
  ICMP_REDIRECT,
  ICMP_TIME_EXCEEDED,
} from './icmp.ts';
import {
  ICMPV6_ECHO_REQUEST,
  ICMPV6_NEIGHBOR_ADVERTISEMENT,
  ICMPV6_NEIGHBOR_SOLICITATION,
  ICMPV6_PACKET_TOO_BIG,
} from './icmpv6.ts';
import { type Ip, ipv6OfBytes, parseIp, parseIpv6 } from './ip-address.ts';
import { internIpv6 } from './ipv6-address.ts';
import { BROADCAST_MAC, localMac, type Mac, ZERO_MAC } from './mac.ts';
import { encodeFrame } from './wire-bytes.ts';

describe('the bytes of', () => {
  test('an ARP request', () => {
    const frame = ethernet({ etherType: ETHERTYPE_ARP, arpOperation: ARP_REQUEST, dstMac: BROADCAST_MAC });
    Object.assign(frame, { arpTargetMac: ZERO_MAC, srcIp: parseIp('10.244.0.1'), dstIp: parseIp('10.244.0.3') });
    expect(hex(encodeFrame(frame))).toEqual(
      [
        'ff ff ff ff ff ff 02 00 00 00 00 01 08 06', // to everybody, from node-1, ARP
        '00 01 08 00 06 04 00 01', //                   Ethernet, IPv4, request
        '02 00 00 00 00 01 0a f4 00 01', //             sender
        '00 00 00 00 00 00 0a f4 00 03', //             target
      ].join(' '),
    );
  });

  test('an IPv4 header, with its checksum', () => {
    // The sum of the other nine words: 4500 + 0073 + 4000 + 4011 + c0a8 + 0001 + c0a8 + 00c7 = 2479c; 479c + 2 = 479e;
    // its complement is b861.
    const frame = ethernet({ protocol: PROTOCOL_UDP, payloadBytes: 0x73 - 28 });
    Object.assign(frame, { srcIp: parseIp('192.168.0.1'), dstIp: parseIp('192.168.0.199') });
    expect(hex(encodeFrame(frame).subarray(14, 34))).toBe(
      '45 00 00 73 00 00 40 00 40 11 b8 61 c0 a8 00 01 c0 a8 00 c7',
    );
  });

  test('a SYN with the options of Linux', () => {
    const frame = ethernet({
      protocol: PROTOCOL_TCP,
      tcpFlags: TCP_SYN,
      srcPort: 40000,
      dstPort: 80,
      sequence: 1,
      window: 64240,
    });
    Object.assign(frame, { mssOption: 1460, windowScaleOption: 7, timestampValue: 0x01020304 });
    frame.updateSize();
    const tcp = hex(encodeFrame(frame).subarray(34)).split(' ');
    tcp.splice(16, 2, '__', '__'); // the checksum has its own test
    expect(tcp.join(' ')).toBe(
      [
        '9c 40 00 50 00 00 00 01 00 00 00 00', // ports, sequence, no acknowledgment
        'a0 02 fa f0 __ __ 00 00', //             10 words, SYN, window
        '02 04 05 b4', //                         MSS 1460
        '01 01 08 0a 01 02 03 04 00 00 00 00', // timestamps
        '01 03 03 07', //                         window scale 7
      ].join(' '),
    );
  });

  test('fragmentation needed: the MTU, and 548 bytes of the packet it is about', () => {
    const tooBig = ethernet({ protocol: PROTOCOL_UDP, srcPort: 4000, dstPort: 53, payloadBytes: 1472, ttl: 63 });
    Object.assign(tooBig, { message: { id: 1, sizeBytes: 1472 } });
    const frame = ethernet({
      protocol: PROTOCOL_ICMP,
      icmpType: ICMP_DEST_UNREACHABLE,
      icmpCode: ICMP_FRAGMENTATION_NEEDED,
    });
    Object.assign(frame, { icmpMtu: 1450, quoted: tooBig });
    frame.updateSize();
    const bytes = encodeFrame(frame);
    expect(hex(bytes.subarray(34, 36))).toBe('03 04');
    expect(hex(bytes.subarray(38, 42))).toBe('00 00 05 aa'); // unused, 1450
    expect(bytes.subarray(42)).toEqual(encodeFrame(tooBig).subarray(14, 14 + 548));
  });

  test('a redirect: the better gateway', () => {
    const frame = ethernet({ protocol: PROTOCOL_ICMP, icmpType: ICMP_REDIRECT, icmpCode: 1 });
    Object.assign(frame, { icmpGateway: parseIp('10.244.0.3'), quoted: ethernet({ protocol: PROTOCOL_UDP }) });
    frame.updateSize();
    expect(hex(encodeFrame(frame).subarray(38, 42))).toBe('0a f4 00 03');
  });
});

describe('the bytes of IPv6', () => {
  const addresses = { srcIp: parseIpv6('fd00:10:244::2'), dstIp: parseIpv6('fd00:10:96::a') };

  test('the header: traffic class, payload length, next header and hop limit', () => {
    const frame = ipv6({ ...addresses, protocol: PROTOCOL_UDP, payloadBytes: 10, typeOfService: 0xb8, ttl: 63 });
    expect(hex(encodeFrame(frame).subarray(12, 14 + 40))).toBe(
      [
        '86 dd 6b 80 00 00 00 12 11 3f', // version 6, class b8, no flow label; 18 bytes of UDP, 63 hops
        'fd 00 00 10 02 44 00 00 00 00 00 00 00 00 00 02',
        'fd 00 00 10 00 96 00 00 00 00 00 00 00 00 00 0a',
      ].join(' '),
    );
  });

  test('a later fragment: a header of its own between IPv6 and the rest', () => {
    const frame = ipv6({ ...addresses, protocol: PROTOCOL_UDP, fragmentOffset: 1448, payloadBytes: 8 });
    Object.assign(frame, { identification: 0xc0ffee });
    // The offset counts bytes here, because its unit of 8 leaves the lowest three bits to flags: 1448 = 0x5a8.
    expect(hex(encodeFrame(frame).subarray(54, 62))).toBe('11 00 05 a8 00 c0 ff ee');
    expect(frame.sizeBytes).toBe(14 + 40 + 8 + 8);
    const atomic = ipv6({ ...addresses, protocol: PROTOCOL_UDP, isAtomicFragment: true, identification: 7 });
    expect(hex(encodeFrame(atomic).subarray(54, 62))).toBe('11 00 00 00 00 00 00 07');
  });

  test('a neighbor solicitation and its answer', () => {
    const common = { target: addresses.dstIp, isRouter: false };
    const solicitation = ipv6({
      ...addresses,
      protocol: PROTOCOL_ICMPV6,
      icmpType: ICMPV6_NEIGHBOR_SOLICITATION,
      discovery: { ...common, linkLayer: localMac(1), isSolicited: false, isOverride: false },
    });
    const advertisement = ipv6({
      ...addresses,
      protocol: PROTOCOL_ICMPV6,
      icmpType: ICMPV6_NEIGHBOR_ADVERTISEMENT,
      discovery: { ...common, linkLayer: localMac(2), isSolicited: true, isOverride: true },
    });
    const target = 'fd 00 00 10 00 96 00 00 00 00 00 00 00 00 00 0a';
    const message = (frame: Frame): string => hex(encodeFrame(frame).subarray(58)); // after the checksum
    expect(message(solicitation)).toBe(`00 00 00 00 ${target} 01 01 02 00 00 00 00 01`);
    expect(message(advertisement)).toBe(`60 00 00 00 ${target} 02 01 02 00 00 00 00 02`);
  });

  test('an error quotes as much as 1280 bytes have room for', () => {
    const about = ipv6({ ...addresses, protocol: PROTOCOL_UDP, payloadBytes: 1452 });
    const error = ipv6({ ...addresses, protocol: PROTOCOL_ICMPV6, icmpType: ICMPV6_PACKET_TOO_BIG, icmpMtu: 1450 });
    Object.assign(error, { quoted: about });
    error.updateSize();
    const bytes = encodeFrame(error);
    expect(bytes.length).toBe(14 + 1280);
    expect(hex(bytes.subarray(58, 62))).toBe('00 00 05 aa');
    expect(bytes.subarray(62)).toEqual(encodeFrame(about).subarray(14, 14 + 1280 - 48));
  });
});

describe('any frame', () => {
  test('is as long as it says, and its checksums verify', () => {
    fc.assert(
      fc.property(anyFrame, (frame) => {
        const bytes = encodeFrame(frame);
        expect(bytes.length).toBe(frame.sizeBytes);
        if (frame.etherType === ETHERTYPE_IPV4) expect(checksumErrors(bytes)).toEqual([]);
        if (frame.etherType === ETHERTYPE_IPV6) expect(ipv6ChecksumErrors(bytes)).toEqual([]);
      }),
    );
  });

  test('can be read back from its bytes', () => {
    fc.assert(
      fc.property(anyFrame, (frame) => {
        const fields = decodeFrame(encodeFrame(frame));
        expect(frame).toMatchObject(fields);
      }),
    );
  });

  test('shows when a byte of its IP header was changed on the way', () => {
    fc.assert(
      fc.property(anyFrame.filter(isChecksummed), fc.nat(), fc.integer({ min: 1, max: 255 }), (frame, where, flip) => {
        const bytes = encodeFrame(frame);
        const inHeader = 14 + 8 + (where % 12); // from the TTL to the destination address
        bytes[inHeader]! ^= flip;
        expect(checksumErrors(bytes)).not.toEqual([]);
      }),
    );
  });
});

describe('payload bytes', () => {
  test('of a retransmission are those of the first transmission, however the stream was cut', () => {
    const cut = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(anyInt32, cut, cut, (start, first, second) => {
        const [a, b] = [streamBytes(start, first), streamBytes(start, second)];
        const common = Math.min(a.length, b.length);
        expect(a.slice(0, common)).toEqual(b.slice(0, common));
      }),
    );
  });

  test('of a stream say where they stand in it', () => {
    // Lines of 32 bytes; 62 is two bytes before the end of one, and sequence numbers go round after 2^32.
    expect(text(streamBytes(62, [40]))).toBe('.\nsequence 64 ...................\nsequen');
    expect(text(streamBytes(-32, [42]))).toBe('sequence 4294967264 ...........\nsequence 0');
  });

  test('of a datagram name its message', () => {
    const frame = ethernet({ protocol: PROTOCOL_UDP, payloadBytes: 30 });
    frame.message = { id: 7, sizeBytes: 30 };
    expect(text([...encodeFrame(frame).subarray(42)])).toBe('message 7, 30 bytes\nmessage 7,');
  });

  test('are those of a message with content', () => {
    const hello = { id: 1, sizeBytes: 5, bytes: new TextEncoder().encode('hello') };
    const datagram = ethernet({ protocol: PROTOCOL_UDP, payloadBytes: 5 });
    datagram.message = hello;
    expect(text([...encodeFrame(datagram).subarray(42)])).toBe('hello');

    // A segment with the last two bytes of one message, a whole one, and what has no content.
    const segment = ethernet({ protocol: PROTOCOL_TCP, payloadBytes: 12, sequence: 64 });
    segment.messageEnds = [
      { offset: 2, message: hello },
      { offset: 7, message: hello },
    ];
    expect(text([...encodeFrame(segment).subarray(54)])).toBe('lohelloe 64 ');
  });
});

describe('a frame has no bytes', () => {
  test('when its size is out of date', () => {
    const frame = ethernet({ id: 12, protocol: PROTOCOL_UDP, payloadBytes: 10 });
    frame.payloadBytes = 20;
    expect(() => encodeFrame(frame)).toThrow('frame 12 has sizeBytes 52; expected 62 (see updateSize)');
  });

  test('when its packet is larger than the length field of IPv6, which leaves out the header', () => {
    expect(encodeFrame(ipv6({ protocol: PROTOCOL_UDP, payloadBytes: 65_527 })).length).toBe(14 + 40 + 65_535);
    const frame = ipv6({ id: 12, protocol: PROTOCOL_UDP, payloadBytes: 65_528 });
    expect(() => encodeFrame(frame)).toThrow('IP packet of 65576 bytes in frame 12; expected at most 65575');
  });

  test('when its packet is larger than the length field of IPv4', () => {
    const frame = ethernet({ id: 12, protocol: PROTOCOL_UDP, payloadBytes: 65_508 });
    expect(() => encodeFrame(frame)).toThrow('IP packet of 65536 bytes in frame 12; expected at most 65535');
  });
});

function ethernet(fields: Partial<Frame>): Frame {
  const frame = Object.assign(new Frame(), { srcMac: localMac(1), dstMac: localMac(2), ...fields });
  frame.updateSize();
  return frame;
}

function ipv6(fields: Partial<Frame>): Frame {
  return ethernet({ family: 6, etherType: ETHERTYPE_IPV6, ...fields });
}

const hex = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
const text = (bytes: readonly number[]): string => String.fromCharCode(...bytes);

/** The payloads of consecutive segments from a sequence number on. */
function streamBytes(start: number, segmentBytes: readonly number[]): number[] {
  let sequence = start;
  return segmentBytes.flatMap((payloadBytes) => {
    const bytes = encodeFrame(ethernet({ protocol: PROTOCOL_TCP, sequence, payloadBytes }));
    sequence = (sequence + payloadBytes) | 0;
    return [...bytes.subarray(54)];
  });
}

const uint = (bits: number) => fc.integer({ min: 0, max: 2 ** bits - 1 });
const anyInt32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const anyIp = anyInt32.map((value) => value as Ip);
const anyMac = uint(48).map((value) => value as Mac);

const macs = { srcMac: anyMac, dstMac: anyMac };
const ipHeader = {
  ...macs,
  srcIp: anyIp,
  dstIp: anyIp,
  ttl: uint(8),
  typeOfService: uint(8),
  identification: uint(16),
  dontFragment: fc.boolean(),
};
const ports = { srcPort: uint(16), dstPort: uint(16) };
const payloadBytes = fc.integer({ min: 0, max: 1500 });
const anyMessage = fc.option(fc.record({ id: fc.nat(), sizeBytes: payloadBytes }), { nil: undefined });

const anyArp = fc.record({
  ...macs,
  etherType: fc.constant(ETHERTYPE_ARP),
  srcIp: anyIp,
  dstIp: anyIp,
  arpOperation: fc.constantFrom(ARP_REQUEST, ARP_REPLY),
  arpTargetMac: anyMac,
});
const anyUdp = fc.record({
  ...ipHeader,
  ...ports,
  protocol: fc.constant(PROTOCOL_UDP),
  payloadBytes,
  message: anyMessage,
});
const anyTcp = fc.record({
  ...ipHeader,
  ...ports,
  protocol: fc.constant(PROTOCOL_TCP),
  payloadBytes,
  sequence: anyInt32,
  acknowledgment: anyInt32,
  tcpFlags: uint(6),
  window: uint(16),
  mssOption: fc.oneof(fc.constant(0), uint(16)),
  windowScaleOption: fc.integer({ min: -1, max: 14 }),
  timestampValue: fc.oneof(fc.constant(0), uint(32)),
  timestampEcho: uint(32),
});
const anyEcho = fc.record({
  ...ipHeader,
  protocol: fc.constant(PROTOCOL_ICMP),
  icmpType: fc.constant(ICMP_ECHO_REQUEST),
  icmpIdentifier: uint(16),
  icmpSequence: uint(16),
  payloadBytes,
});
const otherProtocol = fc.record({ ...ipHeader, protocol: fc.constant(PROTOCOL_SCTP), payloadBytes });
const laterFragment = fc.record({
  ...ipHeader,
  protocol: fc.constant(PROTOCOL_UDP),
  fragmentOffset: fc.integer({ min: 1, max: 8191 }).map((eights) => eights * 8),
  moreFragments: fc.boolean(),
  payloadBytes,
});
const anyError = fc.record({
  ...ipHeader,
  protocol: fc.constant(PROTOCOL_ICMP),
  icmpType: fc.constantFrom(ICMP_DEST_UNREACHABLE, ICMP_TIME_EXCEEDED),
  icmpCode: uint(4),
  icmpMtu: uint(16),
  quoted: fc.oneof(anyUdp, anyTcp, anyEcho, otherProtocol, laterFragment).map(ethernet),
});

const anyIpv6 = fc.tuple(anyInt32, anyInt32, anyInt32, anyInt32).map((words) => internIpv6(...words));
/** The same over IPv6, where a fragment header alone identifies, and nothing says "don't fragment". */
const overIpv6 = (fields: Partial<Frame>): fc.Arbitrary<Partial<Frame>> =>
  fc.record({ srcIp: anyIpv6, dstIp: anyIpv6 }).map((addresses) => ({
    ...fields,
    ...addresses,
    family: 6,
    etherType: ETHERTYPE_IPV6,
    identification: (fields.fragmentOffset ?? 0) > 0 ? fields.identification! : 0,
    dontFragment: true,
  }));
const anyTransport = fc.oneof(anyUdp, anyTcp, otherProtocol, laterFragment);
const overAnyIpv6 = anyTransport.chain(overIpv6);
const icmpv6 = (fields: Partial<Frame>): Partial<Frame> => ({ ...fields, protocol: PROTOCOL_ICMPV6 });
const anyIcmpv6 = fc
  .oneof(
    anyEcho.map((echo) => icmpv6({ ...echo, icmpType: ICMPV6_ECHO_REQUEST })),
    fc
      .record({ ...ipHeader, icmpMtu: uint(16), quoted: overAnyIpv6.map(ethernet) })
      .map((error) => icmpv6({ ...error, icmpType: ICMPV6_PACKET_TOO_BIG })),
    fc
      .record({
        target: anyIpv6,
        linkLayer: fc.option(anyMac, { nil: undefined }),
        isRouter: fc.boolean(),
        isSolicited: fc.boolean(),
        isOverride: fc.boolean(),
      })
      .map((discovery) => icmpv6({ icmpType: ICMPV6_NEIGHBOR_ADVERTISEMENT, ttl: 255, discovery })),
  )
  .chain(overIpv6);

const anyFrame: fc.Arbitrary<Frame> = fc
  .oneof(anyArp, anyUdp, anyTcp, anyEcho, anyError, otherProtocol, laterFragment, overAnyIpv6, anyIcmpv6)
  .map((fields: Partial<Frame>) => ethernet(fields));

const isChecksummed = (frame: Frame): boolean => frame.etherType === ETHERTYPE_IPV4;

/** The slow twin: sums the words with the checksum in place, which must give all ones. */
function checksumErrors(bytes: Uint8Array): string[] {
  const ip = bytes.subarray(14);
  const view = new DataView(ip.buffer, ip.byteOffset);
  const payload = ip.subarray(20);
  const isLaterFragment = (view.getUint16(6) & 0x1fff) > 0;
  const pseudoHeader = [...ip.subarray(12, 20), 0, ip[9]!, payload.length >> 8, payload.length & 0xff];
  const summed: [string, readonly number[]][] = [['ip', [...ip.subarray(0, 20)]]];
  if (!isLaterFragment && ip[9] === PROTOCOL_ICMP) summed.push(['icmp', [...payload]]);
  if (!isLaterFragment && (ip[9] === PROTOCOL_TCP || ip[9] === PROTOCOL_UDP))
    summed.push(['transport', [...pseudoHeader, ...payload]]);
  return summed.filter(([, covered]) => onesComplementSum(covered) !== 0xffff).map(([layer]) => layer);
}

/** IPv6 has no checksum of its own; every transport's covers the pseudo header (RFC 8200 8.1). */
function ipv6ChecksumErrors(bytes: Uint8Array): string[] {
  const ip = bytes.subarray(14);
  const protocol = ip[6]!;
  const payload = ip.subarray(40);
  if (protocol !== PROTOCOL_TCP && protocol !== PROTOCOL_UDP && protocol !== PROTOCOL_ICMPV6) return [];
  const pseudoHeader = [...ip.subarray(8, 40), 0, 0, payload.length >> 8, payload.length & 0xff, 0, 0, 0, protocol];
  return onesComplementSum([...pseudoHeader, ...payload]) === 0xffff ? [] : ['transport'];
}

function onesComplementSum(bytes: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += bytes[i]! * 256 + (bytes[i + 1] ?? 0);
    if (sum > 0xffff) sum -= 0xffff; // the carry comes back in at the right
  }
  return sum;
}

/** The header fields that the bytes say. */
function decodeFrame(bytes: Uint8Array): Partial<Frame> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const mac = (at: number): Mac => (view.getUint16(at) * 2 ** 32 + view.getUint32(at + 2)) as Mac;
  const ip = (at: number): Ip => view.getInt32(at) as Ip;
  const etherType = view.getUint16(12);
  const outer: Partial<Frame> = { dstMac: mac(0), srcMac: mac(6), etherType };
  if (etherType === ETHERTYPE_ARP) {
    return {
      ...outer,
      arpOperation: view.getUint16(20),
      srcMac: mac(22),
      srcIp: ip(28),
      arpTargetMac: mac(32),
      dstIp: ip(38),
    };
  }
  if (etherType === ETHERTYPE_IPV6) return { ...outer, ...decodeIpv6Packet(view, bytes) };
  const fragment = view.getUint16(20);
  const header: Partial<Frame> = {
    ...outer,
    typeOfService: view.getUint8(15),
    identification: view.getUint16(18),
    dontFragment: (fragment & 0x4000) !== 0,
    moreFragments: (fragment & 0x2000) !== 0,
    fragmentOffset: (fragment & 0x1fff) * 8,
    ttl: view.getUint8(22),
    protocol: view.getUint8(23),
    srcIp: ip(26),
    dstIp: ip(30),
  };
  return { ...header, ...decodeTransport(header, bytes.subarray(34, 14 + view.getUint16(16))) };
}

function decodeIpv6Packet(view: DataView, bytes: Uint8Array): Partial<Frame> {
  const hasFragmentHeader = view.getUint8(20) === 44;
  const fragment = hasFragmentHeader ? view.getUint16(56) : 0;
  const header: Partial<Frame> = {
    family: 6,
    typeOfService: (view.getUint16(14) >> 4) & 0xff,
    ttl: view.getUint8(21),
    srcIp: ipv6OfBytes(bytes, 22),
    dstIp: ipv6OfBytes(bytes, 38),
    protocol: view.getUint8(hasFragmentHeader ? 54 : 20),
    fragmentOffset: fragment & ~7,
    moreFragments: (fragment & 1) !== 0,
    identification: hasFragmentHeader ? view.getInt32(58) : 0,
  };
  const payload = bytes.subarray(hasFragmentHeader ? 62 : 54, 54 + view.getUint16(18));
  return { ...header, ...decodeTransport(header, payload) };
}

/** What follows the IP header. */
function decodeTransport({ fragmentOffset, protocol }: Partial<Frame>, bytes: Uint8Array): Partial<Frame> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (fragmentOffset! > 0) return { payloadBytes: bytes.length };
  switch (protocol) {
    case PROTOCOL_UDP:
      return { srcPort: view.getUint16(0), dstPort: view.getUint16(2), payloadBytes: view.getUint16(4) - 8 };
    case PROTOCOL_TCP: {
      const headerBytes = (view.getUint8(12) >> 4) * 4;
      return {
        srcPort: view.getUint16(0),
        dstPort: view.getUint16(2),
        sequence: view.getInt32(4),
        acknowledgment: view.getInt32(8),
        tcpFlags: view.getUint8(13),
        window: view.getUint16(14),
        ...decodeTcpOptions(bytes.subarray(20, headerBytes)),
        payloadBytes: bytes.length - headerBytes,
      };
    }
    case PROTOCOL_ICMP:
    case PROTOCOL_ICMPV6: {
      const icmpType = view.getUint8(0);
      const icmp = { icmpType, icmpCode: view.getUint8(1) };
      switch (icmpType) {
        case ICMP_ECHO_REQUEST:
        case ICMPV6_ECHO_REQUEST: {
          const echo = { icmpIdentifier: view.getUint16(4), icmpSequence: view.getUint16(6) };
          return { ...icmp, ...echo, payloadBytes: bytes.length - 8 };
        }
        case ICMPV6_NEIGHBOR_ADVERTISEMENT: {
          const flags = { isRouter: 0x80, isSolicited: 0x40, isOverride: 0x20 };
          const isSet = (flag: number): boolean => (bytes[4]! & flag) !== 0;
          const linkLayer =
            bytes.length > 24 ? ((view.getUint16(26) * 2 ** 32 + view.getUint32(28)) as Mac) : undefined;
          const discovery = {
            target: ipv6OfBytes(bytes, 8),
            linkLayer,
            isRouter: isSet(flags.isRouter),
            isSolicited: isSet(flags.isSolicited),
            isOverride: isSet(flags.isOverride),
          };
          return { ...icmp, discovery };
        }
        default:
          return { ...icmp, icmpMtu: view.getUint16(6) };
      }
    }
    default:
      return { payloadBytes: bytes.length };
  }
}

/** Walks the list of options as a receiver does, by kind and length. */
function decodeTcpOptions(bytes: Uint8Array): Partial<Frame> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const options: Partial<Frame> = { mssOption: 0, windowScaleOption: -1, timestampValue: 0 };
  for (let at = 0; at < bytes.length; at += bytes[at] === 1 ? 1 : bytes[at + 1]!) {
    if (bytes[at] === 2) options.mssOption = view.getUint16(at + 2);
    if (bytes[at] === 3) options.windowScaleOption = view.getUint8(at + 2);
    if (bytes[at] === 8)
      Object.assign(options, { timestampValue: view.getUint32(at + 2), timestampEcho: view.getUint32(at + 6) });
  }
  return options;
}
