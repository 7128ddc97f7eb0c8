import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  ARP_REPLY,
  ARP_REQUEST,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  Frame,
  PROTOCOL_ICMP,
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
import { type Ip, parseIp } from './ip-address.ts';
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

  test('fragmentation needed: the MTU, and the packet it is about up to its ports', () => {
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
    expect(bytes.subarray(42)).toEqual(encodeFrame(tooBig).subarray(14, 14 + 28));
  });

  test('a redirect: the better gateway', () => {
    const frame = ethernet({ protocol: PROTOCOL_ICMP, icmpType: ICMP_REDIRECT, icmpCode: 1 });
    Object.assign(frame, { icmpGateway: parseIp('10.244.0.3'), quoted: ethernet({ protocol: PROTOCOL_UDP }) });
    frame.updateSize();
    expect(hex(encodeFrame(frame).subarray(38, 42))).toBe('0a f4 00 03');
  });
});

describe('any frame', () => {
  test('is as long as it says, and its checksums verify', () => {
    fc.assert(
      fc.property(anyFrame, (frame) => {
        const bytes = encodeFrame(frame);
        expect(bytes.length).toBe(frame.sizeBytes);
        if (frame.etherType === ETHERTYPE_IPV4) expect(checksumErrors(bytes)).toEqual([]);
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
});

describe('a frame has no bytes', () => {
  test('when its size is out of date', () => {
    const frame = ethernet({ id: 12, protocol: PROTOCOL_UDP, payloadBytes: 10 });
    frame.payloadBytes = 20;
    expect(() => encodeFrame(frame)).toThrow('frame 12 has sizeBytes 52; expected 62 (see updateSize)');
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

const anyFrame: fc.Arbitrary<Frame> = fc
  .oneof(anyArp, anyUdp, anyTcp, anyEcho, anyError, otherProtocol, laterFragment)
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
  const ipPayloadBytes = view.getUint16(16) - 20;
  if (header.fragmentOffset! > 0) return { ...header, payloadBytes: ipPayloadBytes };
  switch (header.protocol) {
    case PROTOCOL_UDP:
      return {
        ...header,
        srcPort: view.getUint16(34),
        dstPort: view.getUint16(36),
        payloadBytes: view.getUint16(38) - 8,
      };
    case PROTOCOL_TCP: {
      const headerBytes = (view.getUint8(46) >> 4) * 4;
      return {
        ...header,
        srcPort: view.getUint16(34),
        dstPort: view.getUint16(36),
        sequence: view.getInt32(38),
        acknowledgment: view.getInt32(42),
        tcpFlags: view.getUint8(47),
        window: view.getUint16(48),
        ...decodeTcpOptions(bytes.subarray(54, 34 + headerBytes)),
        payloadBytes: ipPayloadBytes - headerBytes,
      };
    }
    case PROTOCOL_ICMP: {
      const icmpType = view.getUint8(34);
      const icmp = { ...header, icmpType, icmpCode: view.getUint8(35) };
      return icmpType === ICMP_ECHO_REQUEST
        ? {
            ...icmp,
            icmpIdentifier: view.getUint16(38),
            icmpSequence: view.getUint16(40),
            payloadBytes: ipPayloadBytes - 8,
          }
        : { ...icmp, icmpMtu: view.getUint16(40) };
    }
    default:
      return { ...header, payloadBytes: ipPayloadBytes };
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
