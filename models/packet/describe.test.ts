import { describe, expect, test } from 'vitest';
import { describeFlow, describeFrame, formatProtocol, formatTcpFlags, formatTuple } from './describe.ts';
import {
  ARP_REPLY,
  ARP_REQUEST,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV6,
  Frame,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_IPIP,
  PROTOCOL_SCTP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_ACK,
  TCP_FIN,
  TCP_PSH,
  TCP_RST,
  TCP_SYN,
  TCP_URG,
} from './frame.ts';
import { parseIp, parseIpv6 } from './ip-address.ts';
import { localMac } from './mac.ts';

const client = { srcIp: parseIp('10.244.0.2'), srcPort: 40000, dstIp: parseIp('10.96.0.10'), dstPort: 80 };
const frame = (fields: Partial<Frame>): Frame => Object.assign(new Frame(), client, fields);
const icmp = (fields: Partial<Frame>): Frame => frame({ protocol: PROTOCOL_ICMP, srcPort: 0, dstPort: 0, ...fields });
const datagram = frame({ protocol: PROTOCOL_UDP, payloadBytes: 33 });

const overIpv6 = (fields: Partial<Frame>): Frame =>
  frame({ family: 6, etherType: ETHERTYPE_IPV6, srcIp: parseIpv6('fd00::2'), dstIp: parseIpv6('fd00::a'), ...fields });
const icmpv6 = (fields: Partial<Frame>): Frame =>
  overIpv6({ protocol: PROTOCOL_ICMPV6, srcPort: 0, dstPort: 0, ...fields });
const overIpv6Datagram = overIpv6({ protocol: PROTOCOL_UDP, payloadBytes: 33 });
const about = { target: parseIpv6('fd00::a'), isRouter: false, isSolicited: false, isOverride: false };

describe('an IPv6 frame in one line', () => {
  test.each<[string, Frame]>([
    [
      '[fd00::2]:40000 > [fd00::a]:80 tcp [S] seq 1 win 64240 len 0',
      overIpv6({ protocol: PROTOCOL_TCP, tcpFlags: TCP_SYN, sequence: 1, window: 64240 }),
    ],
    [
      'fd00::2 > fd00::a icmpv6 echo request id 9 seq 1 len 56',
      icmpv6({ icmpType: 128, icmpIdentifier: 9, icmpSequence: 1, payloadBytes: 56 }),
    ],
    [
      'fd00::2 > fd00::a icmpv6 1/4 port unreachable about [fd00::2]:40000 > [fd00::a]:80 udp',
      icmpv6({ icmpType: 1, icmpCode: 4, quoted: overIpv6Datagram }),
    ],
    [
      'fd00::2 > fd00::a icmpv6 2/0 packet too big mtu 1450 about [fd00::2]:40000 > [fd00::a]:80 udp',
      icmpv6({ icmpType: 2, icmpMtu: 1450, quoted: overIpv6Datagram }),
    ],
    [
      'fd00::2 > fd00::a icmpv6 4/1 unknown header type at byte 6 about [fd00::2]:40000 > [fd00::a]:80 udp',
      icmpv6({ icmpType: 4, icmpCode: 1, icmpMtu: 6, quoted: overIpv6Datagram }),
    ],
    [
      'fd00::2 > fd00::a icmpv6 neighbor solicitation fd00::a at 02:00:00:00:00:01',
      icmpv6({ icmpType: 135, discovery: { ...about, linkLayer: localMac(1) } }),
    ],
    [
      'fd00::2 > fd00::a icmpv6 redirect fd00::a about [fd00::2]:40000 > [fd00::a]:80 udp',
      icmpv6({ icmpType: 137, discovery: { ...about, linkLayer: undefined }, quoted: overIpv6Datagram }),
    ],
  ])('%s', (line, described) => {
    expect(describeFrame(described)).toBe(line);
  });
});

describe('a frame in one line', () => {
  test.each<[string, Frame]>([
    [
      '10.244.0.2:40000 > 10.96.0.10:80 tcp [S] seq 1 win 64240 len 0',
      frame({ protocol: PROTOCOL_TCP, tcpFlags: TCP_SYN, sequence: 1, window: 64240 }),
    ],
    [
      // Sequence numbers are signed in the record and unsigned on paper: 2^32 - 1.
      '10.244.0.2:40000 > 10.96.0.10:80 tcp [P.] seq 4294967295 ack 7 win 502 len 120',
      frame({
        protocol: PROTOCOL_TCP,
        tcpFlags: TCP_PSH | TCP_ACK,
        sequence: -1,
        acknowledgment: 7,
        window: 502,
        payloadBytes: 120,
      }),
    ],
    ['10.244.0.2:40000 > 10.96.0.10:80 udp len 33', datagram],
    ['10.244.0.2:40000 > 10.96.0.10:80 sctp len 0', frame({ protocol: PROTOCOL_SCTP })],
    ['10.244.0.2 > 10.96.0.10 protocol 47 len 90', frame({ protocol: 47, payloadBytes: 90 })],
    [
      '10.244.0.2 > 10.96.0.10 icmp echo request id 9 seq 1 len 56',
      icmp({ icmpType: 8, icmpIdentifier: 9, icmpSequence: 1, payloadBytes: 56 }),
    ],
    ['10.244.0.2 > 10.96.0.10 icmp echo reply id 9 seq 1 len 0', icmp({ icmpIdentifier: 9, icmpSequence: 1 })],
    [
      '10.244.0.2 > 10.96.0.10 icmp 3/3 port unreachable about 10.244.0.2:40000 > 10.96.0.10:80 udp',
      icmp({ icmpType: 3, icmpCode: 3, quoted: datagram }),
    ],
    [
      '10.244.0.2 > 10.96.0.10 icmp 3/4 fragmentation needed mtu 1450 about 10.244.0.2:40000 > 10.96.0.10:80 udp',
      icmp({ icmpType: 3, icmpCode: 4, icmpMtu: 1450, quoted: datagram }),
    ],
    [
      '10.244.0.2 > 10.96.0.10 icmp 5/1 host redirect to 10.244.0.3 about 10.244.0.2:40000 > 10.96.0.10:80 udp',
      icmp({ icmpType: 5, icmpCode: 1, icmpGateway: parseIp('10.244.0.3'), quoted: datagram }),
    ],
    [
      '10.244.0.2 > 10.96.0.10 ipip: 10.244.0.2:40000 > 10.96.0.10:80 udp len 33',
      frame({ protocol: PROTOCOL_IPIP, inner: datagram }),
    ],
    ['10.244.0.2 > 10.96.0.10 icmp 11/0 ttl exceeded in transit', icmp({ icmpType: 11 })],
    ['10.244.0.2 > 10.96.0.10 icmp 3/99 destination unreachable', icmp({ icmpType: 3, icmpCode: 99 })],
    ['10.244.0.2 > 10.96.0.10 icmp 42/0', icmp({ icmpType: 42 })],
    ['arp who-has 10.96.0.10 tell 10.244.0.2', frame({ etherType: ETHERTYPE_ARP, arpOperation: ARP_REQUEST })],
    [
      'arp 10.244.0.2 is-at 02:00:00:00:00:07',
      frame({ etherType: ETHERTYPE_ARP, arpOperation: ARP_REPLY, srcMac: localMac(7) }),
    ],
  ])('%s', (line, described) => {
    expect(describeFrame(described)).toBe(line);
  });
});

test('a flow is what the frames of one exchange have in common', () => {
  expect(describeFlow(frame({ protocol: PROTOCOL_TCP, tcpFlags: TCP_SYN, sequence: 5 }))).toBe(
    '10.244.0.2:40000 > 10.96.0.10:80 tcp [S]',
  );
  expect(describeFlow(icmp({ icmpType: 8, icmpSequence: 5 }))).toBe('10.244.0.2 > 10.96.0.10 icmp echo request');
});

test('TCP flags are written as tcpdump writes them', () => {
  const sets = [
    TCP_SYN,
    TCP_SYN | TCP_ACK,
    TCP_ACK,
    TCP_FIN | TCP_ACK,
    TCP_RST,
    TCP_RST | TCP_ACK,
    TCP_URG | TCP_PSH,
    0,
  ];
  expect(sets.map(formatTcpFlags)).toEqual(['S', 'S.', '.', 'F.', 'R', 'R.', 'PU', 'none']);
});

test('only protocols with ports show ports', () => {
  expect(formatTuple({ protocol: PROTOCOL_UDP, ...client })).toBe('10.244.0.2:40000 > 10.96.0.10:80');
  expect(formatTuple({ protocol: PROTOCOL_ICMP, ...client })).toBe('10.244.0.2 > 10.96.0.10');
  expect([1, 6, 17, 132, 47].map(formatProtocol)).toEqual(['icmp', 'tcp', 'udp', 'sctp', 'protocol 47']);
});
