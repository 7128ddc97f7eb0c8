import { execFileSync, type StdioOptions, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Instant } from '../../engine/time.ts';
import {
  ARP_REQUEST,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV6,
  Frame,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_ACK,
  TCP_PSH,
  TCP_SYN,
} from './frame.ts';
import { ICMP_DEST_UNREACHABLE, ICMP_ECHO_REQUEST, ICMP_FRAGMENTATION_NEEDED, ICMP_REDIRECT } from './icmp.ts';
import {
  ICMPV6_DEST_UNREACHABLE,
  ICMPV6_ECHO_REQUEST,
  ICMPV6_NEIGHBOR_ADVERTISEMENT,
  ICMPV6_NEIGHBOR_SOLICITATION,
  ICMPV6_PACKET_TOO_BIG,
  ICMPV6_PORT_UNREACHABLE,
  ICMPV6_REDIRECT,
} from './icmpv6.ts';
import { parseIp, parseIpv6 } from './ip-address.ts';
import { localMac, ZERO_MAC } from './mac.ts';
import { type CapturedDevice, PcapngWriter } from './pcapng.ts';
import { encodeFrame } from './wire-bytes.ts';

const nodeEth0: CapturedDevice = { name: 'eth0', namespace: 'node-1', index: 2, mac: localMac(1) };
const podEth0: CapturedDevice = { name: 'eth0', namespace: 'default/web-0', index: 3, mac: localMac(2) };

let lastId = 0;
function frame(fields: Partial<Frame>): Frame {
  const made = Object.assign(new Frame(), {
    id: ++lastId,
    srcMac: localMac(1),
    dstMac: localMac(2),
    srcIp: parseIp('10.244.0.2'),
    dstIp: parseIp('10.244.1.3'),
    ...fields,
  });
  made.updateSize();
  return made;
}

describe('a capture', () => {
  test('is a section, an interface per device, then packets in the order of their instants', () => {
    const capture = new PcapngWriter();
    const node = capture.addTap(nodeEth0);
    const pod = capture.addTap(podEth0);
    const [first, second, third] = [40, 50, 60].map((payloadBytes) => frame({ protocol: PROTOCOL_UDP, payloadBytes }));
    // A visit on one CPU stamps ahead of the clock; the next visit, on another CPU, may be earlier.
    node(third!, 'out', nodeEth0, 9_000 as Instant);
    pod(first!, 'in', podEth0, 5_000 as Instant);
    node(second!, 'out', nodeEth0, 5_000 as Instant);

    const blocks = readBlocks(capture.bytes());
    expect(blocks.map(({ type }) => type)).toEqual([0x0a0d0d0a, 1, 1, 6, 6, 6]);
    const packets = blocks.slice(3).map(({ body }) => ({
      interfaceId: body.getUint32(0, true),
      ns: body.getUint32(4, true) * 2 ** 32 + body.getUint32(8, true),
      sizeBytes: body.getUint32(12, true),
    }));
    expect(packets).toEqual([
      { interfaceId: 1, ns: 5_000, sizeBytes: first!.sizeBytes },
      { interfaceId: 0, ns: 5_000, sizeBytes: second!.sizeBytes }, // same instant: as seen
      { interfaceId: 0, ns: 9_000, sizeBytes: third!.sizeBytes },
    ]);
  });

  test('holds the frame as it was when it passed', () => {
    const capture = new PcapngWriter();
    const tap = capture.addTap(nodeEth0);
    const routed = frame({ protocol: PROTOCOL_UDP, ttl: 64 });
    const asSent = encodeFrame(routed);
    tap(routed, 'out', nodeEth0, 0 as Instant);
    routed.ttl = 63;

    const { body } = readBlocks(capture.bytes()).at(-1)!;
    expect(new Uint8Array(body.buffer, body.byteOffset + 20, asSent.length)).toEqual(asSent);
  });

  test('has timestamps to the nanosecond after a hundred days', () => {
    const capture = new PcapngWriter();
    const at = (100 * 86_400e9 + 1) as Instant;
    capture.addTap(nodeEth0)(frame({ protocol: PROTOCOL_UDP }), 'in', nodeEth0, at);
    const { body } = readBlocks(capture.bytes()).at(-1)!;
    expect(body.getUint32(4, true) * 2 ** 32 + body.getUint32(8, true)).toBe(at);
  });
});

const tshark = spawnSync('tshark', ['--version']).status === 0;

describe.skipIf(!tshark)(`tshark${tshark ? '' : ' (skipped: not installed)'}`, () => {
  test('reads every kind of frame and finds no wrong checksum', () => {
    const tcp = {
      protocol: PROTOCOL_TCP,
      srcPort: 40_000,
      dstPort: 8_080,
      sequence: 1,
      window: 64_240,
      timestampValue: 77,
    };
    const data = { ...tcp, tcpFlags: TCP_PSH | TCP_ACK, payloadBytes: 1_001 }; // odd: the checksum needs padding
    const datagram = frame({
      protocol: PROTOCOL_UDP,
      srcPort: 4_000,
      dstPort: 9_999,
      message: { id: 1, sizeBytes: 333 },
      payloadBytes: 333,
    });
    const icmp = { protocol: PROTOCOL_ICMP, icmpType: ICMP_DEST_UNREACHABLE, quoted: datagram };
    const frames = [
      frame({ etherType: ETHERTYPE_ARP, arpOperation: ARP_REQUEST, arpTargetMac: ZERO_MAC }),
      frame({ ...tcp, tcpFlags: TCP_SYN, mssOption: 1460, windowScaleOption: 7 }),
      frame(data),
      datagram,
      frame({ protocol: PROTOCOL_ICMP, icmpType: ICMP_ECHO_REQUEST, icmpIdentifier: 5, payloadBytes: 56 }),
      frame({ ...icmp, icmpCode: 3 }),
      frame({ ...icmp, icmpCode: ICMP_FRAGMENTATION_NEEDED, icmpMtu: 1450 }),
      frame({ ...icmp, icmpType: ICMP_REDIRECT, icmpCode: 1, icmpGateway: parseIp('10.244.0.3') }),
    ];
    const capture = new PcapngWriter();
    const tap = capture.addTap(nodeEth0);
    for (const sent of frames) tap(sent, 'out', nodeEth0, 0 as Instant);

    const bad = '0'; // 1 is good, 2 is "cannot tell" (the quoted first 8 bytes of a datagram)
    const status = ['ip', 'tcp', 'udp', 'icmp'].map((layer) => `${layer}.checksum.status`);
    const verdicts = readWithTshark(capture, status);
    expect(verdicts).toHaveLength(frames.length);
    expect(verdicts.flat().flatMap((verdict) => verdict.split(','))).not.toContain(bad);
    expect(verdicts.map(([ip]) => ip).join(' ')).toBe(' 1 1 1 1 1,1 1,1 1,1'); // ARP has none; errors quote one

    const decoded = readWithTshark(capture, [
      'frame.protocols',
      '_ws.malformed',
      'tcp.options.mss_val',
      'tcp.options.wscale.shift',
      'tcp.options.timestamp.tsval',
      'tcp.len',
      'icmp.mtu',
      'icmp.redir_gw',
    ]);
    expect(decoded.map((fields) => fields.join('|'))).toEqual([
      'eth:ethertype:arp|||||||',
      'eth:ethertype:ip:tcp||1460|7|77|0||',
      'eth:ethertype:ip:tcp||||77|1001||',
      'eth:ethertype:ip:udp:data|||||||',
      'eth:ethertype:ip:icmp:data|||||||',
      'eth:ethertype:ip:icmp:ip:udp:data|||||||',
      'eth:ethertype:ip:icmp:ip:udp:data||||||1450|',
      'eth:ethertype:ip:icmp:ip:udp|||||||10.244.0.3',
    ]);
  });

  test('reads every kind of IPv6 frame and finds no wrong checksum', () => {
    const ipv6 = {
      family: 6 as const,
      etherType: ETHERTYPE_IPV6,
      srcIp: parseIpv6('fd00:10:244::2'),
      dstIp: parseIpv6('fd00:10:244:1::3'),
    };
    const tcp = { ...ipv6, protocol: PROTOCOL_TCP, srcPort: 40_000, dstPort: 8_080, sequence: 1, window: 64_240 };
    const datagram = frame({
      ...ipv6,
      protocol: PROTOCOL_UDP,
      srcPort: 4_000,
      dstPort: 9_999,
      message: { id: 1, sizeBytes: 1_333 },
      payloadBytes: 1_333,
    });
    const icmpv6 = { ...ipv6, protocol: PROTOCOL_ICMPV6 };
    const silent = { target: ipv6.dstIp, isRouter: false, isSolicited: false, isOverride: false };
    const frames = [
      frame({ ...tcp, tcpFlags: TCP_SYN, mssOption: 1440, windowScaleOption: 7 }),
      datagram,
      frame({ ...icmpv6, icmpType: ICMPV6_ECHO_REQUEST, icmpIdentifier: 5, payloadBytes: 57 }),
      frame({ ...icmpv6, icmpType: ICMPV6_DEST_UNREACHABLE, icmpCode: ICMPV6_PORT_UNREACHABLE, quoted: datagram }),
      frame({ ...icmpv6, icmpType: ICMPV6_PACKET_TOO_BIG, icmpMtu: 1450, quoted: datagram }),
      frame({
        ...icmpv6,
        ttl: 255,
        icmpType: ICMPV6_NEIGHBOR_SOLICITATION,
        discovery: { ...silent, linkLayer: localMac(1) },
      }),
      frame({
        ...icmpv6,
        ttl: 255,
        icmpType: ICMPV6_NEIGHBOR_ADVERTISEMENT,
        discovery: { ...silent, linkLayer: localMac(2), isSolicited: true, isOverride: true },
      }),
      frame({
        ...icmpv6,
        ttl: 255,
        icmpType: ICMPV6_REDIRECT,
        discovery: { ...silent, linkLayer: localMac(3) },
        quoted: datagram,
      }),
    ];
    const capture = new PcapngWriter();
    const tap = capture.addTap(nodeEth0);
    for (const sent of frames) tap(sent, 'out', nodeEth0, 0 as Instant);

    const status = ['tcp', 'udp', 'icmpv6'].map((layer) => `${layer}.checksum.status`);
    const verdicts = readWithTshark(capture, status).map((row) => row.join(' ').trim());
    expect(verdicts).toEqual(['1', '1', '1', '2 1', '2 1', '1', '1', '2 1']); // 2: quoted in part, cannot tell

    const decoded = readWithTshark(capture, [
      'frame.protocols',
      '_ws.malformed',
      'tcp.options.mss_val',
      'icmpv6.mtu',
      'icmpv6.nd.ns.target_address',
      'icmpv6.nd.na.target_address',
      'icmpv6.nd.rd.target_address',
      'icmpv6.rd.na.destination_address',
      'icmpv6.opt.linkaddr',
    ]);
    expect(decoded.map((fields) => fields.join('|'))).toEqual([
      'eth:ethertype:ipv6:tcp||1440||||||',
      'eth:ethertype:ipv6:udp:data||||||||',
      'eth:ethertype:ipv6:icmpv6:data||||||||',
      'eth:ethertype:ipv6:icmpv6:ipv6:udp:data||||||||',
      'eth:ethertype:ipv6:icmpv6:ipv6:udp:data|||1450|||||',
      'eth:ethertype:ipv6:icmpv6||||fd00:10:244:1::3||||02:00:00:00:00:01',
      'eth:ethertype:ipv6:icmpv6|||||fd00:10:244:1::3|||02:00:00:00:00:02',
      'eth:ethertype:ipv6:icmpv6:ipv6:udp:data||||||fd00:10:244:1::3|fd00:10:244:1::3|02:00:00:00:00:03',
    ]);
  });

  test('shows the devices by name, the directions and the id of the frame', () => {
    const capture = new PcapngWriter();
    const node = capture.addTap(nodeEth0);
    const pod = capture.addTap(podEth0);
    const sent = frame({ id: 41, protocol: PROTOCOL_UDP, payloadBytes: 10 });
    node(sent, 'out', nodeEth0, 1_500_000_000 as Instant);
    pod(sent, 'in', podEth0, 1_500_000_700 as Instant);

    const fields = ['frame.time_epoch', 'frame.interface_name', 'frame.packet_flags_direction', 'frame.packet_id'];
    expect(readWithTshark(capture, fields)).toEqual([
      ['1.500000000', 'node-1/eth0', '0x00000002', '41'],
      ['1.500000700', 'default/web-0/eth0', '0x00000001', '41'],
    ]);
  });
});

/** The values of some fields, for each packet. */
function readWithTshark(capture: PcapngWriter, fields: readonly string[]): string[][] {
  const directory = mkdtempSync(join(tmpdir(), 'podwire-'));
  const file = join(directory, 'capture.pcapng');
  try {
    writeFileSync(file, capture.bytes());
    const verify = ['ip', 'tcp', 'udp'].flatMap((layer) => ['-o', `${layer}.check_checksum:TRUE`]);
    const columns = ['-T', 'fields', '-E', 'separator=|', ...fields.flatMap((field) => ['-e', field])];
    const stdio: StdioOptions = ['ignore', 'pipe', 'ignore']; // it warns about running as root
    const output = execFileSync('tshark', ['-n', '-r', file, ...verify, ...columns], { encoding: 'utf8', stdio });
    return output
      .trimEnd()
      .split('\n')
      .map((row) => row.split('|'));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function readBlocks(bytes: Uint8Array): { type: number; body: DataView }[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const blocks = [];
  for (let at = 0; at < bytes.length; at += view.getUint32(at + 4, true)) {
    const length = view.getUint32(at + 4, true);
    expect(length % 4).toBe(0);
    expect(view.getUint32(at + length - 4, true)).toBe(length);
    blocks.push({
      type: view.getUint32(at, true),
      body: new DataView(bytes.buffer, bytes.byteOffset + at + 8, length - 12),
    });
  }
  return blocks;
}
