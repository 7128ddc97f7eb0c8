// What conntrack makes of segments and datagrams: states, timeouts, INVALID, stale translations.

import type { PacketStep } from '../case.ts';
import { type Fact, fromP2, fromP3, TWO_NODES, table, tcp, twoNodes, udp } from './fact.ts';

const STATES = table('filter', [
  'FORWARD -m conntrack --ctstate INVALID',
  'FORWARD -m conntrack --ctstate NEW',
  'FORWARD -m conntrack --ctstate ESTABLISHED',
  'FORWARD -m conntrack --ctstate RELATED',
]);
const COUNTERS = {
  INVALID: 'n1 filter FORWARD 1',
  NEW: 'n1 filter FORWARD 2',
  ESTABLISHED: 'n1 filter FORWARD 3',
  RELATED: 'n1 filter FORWARD 4',
};
const SERVICE = 'PREROUTING -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.2.2:8080';

const states = { n1: { backend: 'legacy', text: STATES } } as const;
const service = { n1: { backend: 'legacy', text: table('nat', [SERVICE]) + STATES } } as const;

const watch = { connectionsOf: 'n1', counters: COUNTERS };
const toService = { ...tcp, dst: '10.96.0.1' };
const fromServer = { ...tcp, ...fromP3, sport: 8080, dport: 40_000 };

/** A connection to the Service: client 1001, server 501, window 64240. */
const ESTABLISHED: readonly PacketStep[] = [
  { ...toService, seq: 1000, autoreply: true },
  { ...toService, flags: 'A', seq: 1001, ack: 501 },
];

/** The same without a Service, from this port. */
const established = (sport: number): PacketStep[] => [
  { ...tcp, sport, autoreply: true },
  { ...tcp, sport, flags: 'A', seq: 1001, ack: 501 },
];

/** What conntrack makes of these packets of an established connection to the Service. */
const inConnection = ({
  packets,
  ...fact
}: Omit<Fact, 'case' | 'watch'> & { readonly packets: readonly PacketStep[] }): Fact => ({
  ...fact,
  case: { topology: TWO_NODES, rules: service, packets: [...ESTABLISHED, ...packets] },
  watch,
});

export const TRACKING: readonly Fact[] = [
  inConnection({
    name: 'segment-above-the-window-is-invalid',
    says: 'Established DNAT flow: server segment far above the window → INVALID, forwarded un-translated if no INVALID-drop rule.',
    packets: [{ ...fromServer, flags: 'PA', seq: 501 + 1_000_000, ack: 1001, pad: 100 }],
    shows: [
      '1: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:8080 ttl 62',
      '1, reply: p1 gets tcp [SA] 10.96.0.1:80 > 10.244.1.2:40000 ttl 62',
      '2: p3 gets tcp [A] 10.244.1.2:40000 > 10.244.2.2:8080 ttl 62',
      '3: p1 gets tcp [AP] 10.244.2.2:8080 > 10.244.1.2:40000 ttl 62',
      'tcp 10.244.1.2:40000 > 10.96.0.1:80, answers 10.244.2.2:8080 > 10.244.1.2:40000, ESTABLISHED 432000 s ASSURED',
      'counted: 1 INVALID, 1 NEW, 2 ESTABLISHED',
    ],
  }),
  inConnection({
    name: 'ack-of-unsent-data-is-invalid',
    says: 'ACK of unsent data → INVALID.',
    packets: [{ ...fromServer, flags: 'A', seq: 501, ack: 900_000 }],
    shows: [
      '1: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:8080 ttl 62',
      '1, reply: p1 gets tcp [SA] 10.96.0.1:80 > 10.244.1.2:40000 ttl 62',
      '2: p3 gets tcp [A] 10.244.1.2:40000 > 10.244.2.2:8080 ttl 62',
      '3: p1 gets tcp [A] 10.244.2.2:8080 > 10.244.1.2:40000 ttl 62',
      'tcp 10.244.1.2:40000 > 10.96.0.1:80, answers 10.244.2.2:8080 > 10.244.1.2:40000, ESTABLISHED 432000 s ASSURED',
      'counted: 1 INVALID, 1 NEW, 2 ESTABLISHED',
    ],
  }),
  inConnection({
    name: 'segment-below-the-window-is-accepted',
    says: 'Segment 1 MB below the window, old ACK, retransmission → accepted as ESTABLISHED.',
    packets: [
      { ...fromServer, flags: 'PA', seq: 501, ack: 1001, pad: 100 },
      { ...fromServer, flags: 'PA', seq: 501 - 1_000_000 + 2 ** 32, ack: 1001, pad: 100 },
      { ...fromServer, flags: 'PA', seq: 501, ack: 1001, pad: 100 },
      { ...toService, flags: 'A', seq: 1001, ack: 501 },
    ],
    shows: [
      '1: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:8080 ttl 62',
      '1, reply: p1 gets tcp [SA] 10.96.0.1:80 > 10.244.1.2:40000 ttl 62',
      '2: p3 gets tcp [A] 10.244.1.2:40000 > 10.244.2.2:8080 ttl 62',
      '3: p1 gets tcp [AP] 10.96.0.1:80 > 10.244.1.2:40000 ttl 62',
      '4: p1 gets tcp [AP] 10.96.0.1:80 > 10.244.1.2:40000 ttl 62',
      '5: p1 gets tcp [AP] 10.96.0.1:80 > 10.244.1.2:40000 ttl 62',
      '6: p3 gets tcp [A] 10.244.1.2:40000 > 10.244.2.2:8080 ttl 62',
      'tcp 10.244.1.2:40000 > 10.96.0.1:80, answers 10.244.2.2:8080 > 10.244.1.2:40000, ESTABLISHED 300 s ASSURED',
      'counted: 1 NEW, 6 ESTABLISHED',
    ],
  }),
  inConnection({
    name: 'reset-with-a-wrong-number-is-invalid',
    says: 'RST with wrong seq, client side: INVALID, not DNATed → ICMP 3/0 back.',
    packets: [{ ...toService, flags: 'R', seq: 900_000, ack: 0 }],
    shows: [
      '1: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:8080 ttl 62',
      '1, reply: p1 gets tcp [SA] 10.96.0.1:80 > 10.244.1.2:40000 ttl 62',
      '2: p3 gets tcp [A] 10.244.1.2:40000 > 10.244.2.2:8080 ttl 62',
      '3: p1 gets icmp 3/0 10.244.1.1 > 10.244.1.2 about tcp [R] 10.244.1.2:40000 > 10.96.0.1:80 ttl 64',
      'tcp 10.244.1.2:40000 > 10.96.0.1:80, answers 10.244.2.2:8080 > 10.244.1.2:40000, ESTABLISHED 432000 s ASSURED',
      'counted: 1 NEW, 2 ESTABLISHED',
    ],
  }),
  inConnection({
    name: 'syn-in-established-is-forwarded',
    says: 'Unexpected SYN in ESTABLISHED → forwarded as ESTABLISHED, state unchanged.',
    packets: [{ ...toService, flags: 'S', seq: 77_000 }],
    shows: [
      '1: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:8080 ttl 62',
      '1, reply: p1 gets tcp [SA] 10.96.0.1:80 > 10.244.1.2:40000 ttl 62',
      '2: p3 gets tcp [A] 10.244.1.2:40000 > 10.244.2.2:8080 ttl 62',
      '3: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:8080 ttl 62',
      'tcp 10.244.1.2:40000 > 10.96.0.1:80, answers 10.244.2.2:8080 > 10.244.1.2:40000, ESTABLISHED 432000 s ASSURED',
      'counted: 1 NEW, 3 ESTABLISHED',
    ],
  }),
  {
    name: 'segments-that-begin-nothing-are-invalid',
    says: 'No entry: lone SYN-ACK, RST, FIN+ACK, no-flags, SYN+FIN → INVALID, no entry.',
    case: {
      topology: TWO_NODES,
      rules: states,
      packets: ['SA', 'R', 'FA', '', 'SF'].map((flags, i) => ({ ...tcp, sport: 40_000 + i, flags })),
    },
    shows: [
      '1: p3 gets tcp [SA] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62',
      '2: p3 gets tcp [R] 10.244.1.2:40001 > 10.244.2.2:80 ttl 62',
      '3: p3 gets tcp [AF] 10.244.1.2:40002 > 10.244.2.2:80 ttl 62',
      '4: p3 gets tcp [] 10.244.1.2:40003 > 10.244.2.2:80 ttl 62',
      '5: p3 gets tcp [SF] 10.244.1.2:40004 > 10.244.2.2:80 ttl 62',
      'counted: 5 INVALID',
    ],
    watch,
  },
  {
    name: 'mid-stream-ack-is-picked-up',
    says: 'Mid-stream ACK: NEW, entry ESTABLISHED with 300 s (tcp_loose=1).',
    case: { topology: TWO_NODES, rules: states, packets: [{ ...tcp, flags: 'A', seq: 5000, ack: 7000 }] },
    shows: [
      '1: p3 gets tcp [A] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62',
      'tcp 10.244.1.2:40000 > 10.244.2.2:80 ESTABLISHED 300 s UNREPLIED',
      'counted: 1 NEW',
    ],
    watch,
  },
  {
    name: 'mid-stream-ack-is-invalid-with-tcp-loose-off',
    says: 'Mid-stream ACK: INVALID with tcp_loose=0.',
    case: {
      topology: twoNodes({ sysctls: { 'net.netfilter.nf_conntrack_tcp_loose': 0 } }),
      rules: states,
      packets: [{ ...tcp, flags: 'A', seq: 5000, ack: 7000 }],
    },
    shows: ['1: p3 gets tcp [A] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62', 'counted: 1 INVALID'],
    watch,
  },
  {
    name: 'reset-in-answer-to-a-syn-ends-the-entry',
    says: 'RST+ACK reply to a SYN removes the entry at once.',
    case: {
      topology: TWO_NODES,
      rules: states,
      packets: [tcp, { ...tcp, ...fromP3, sport: 80, dport: 40_000, flags: 'RA', seq: 0, ack: 1001 }],
    },
    shows: [
      '1: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62',
      '2: p1 gets tcp [AR] 10.244.2.2:80 > 10.244.1.2:40000 ttl 62',
      'counted: 1 NEW, 1 ESTABLISHED',
    ],
    watch,
  },
  {
    name: 'syn-on-time-wait-begins-anew',
    says: 'SYN on TIME_WAIT → NEW (entry replaced).',
    case: {
      topology: TWO_NODES,
      rules: states,
      packets: [
        ...established(40_000),
        { ...tcp, flags: 'FA', seq: 1001, ack: 501 },
        { ...tcp, ...fromP3, sport: 80, dport: 40_000, flags: 'FA', seq: 501, ack: 1002 },
        { ...tcp, flags: 'A', seq: 1002, ack: 502 },
        { ...tcp, seq: 90_000 },
      ],
    },
    shows: [
      '1: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62',
      '1, reply: p1 gets tcp [SA] 10.244.2.2:80 > 10.244.1.2:40000 ttl 62',
      '2: p3 gets tcp [A] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62',
      '3: p3 gets tcp [AF] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62',
      '4: p1 gets tcp [AF] 10.244.2.2:80 > 10.244.1.2:40000 ttl 62',
      '5: p3 gets tcp [A] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62',
      '6: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62',
      'tcp 10.244.1.2:40000 > 10.244.2.2:80 SYN_SENT 120 s UNREPLIED',
      'counted: 2 NEW, 5 ESTABLISHED',
    ],
    watch,
  },
  {
    name: 'timeouts-of-tcp-states',
    says: 'Timeouts: SYN_SENT 120, SYN_RECV 60, ESTABLISHED 432000, 300 while data is unacknowledged (back to 432000 on the ACK), FIN_WAIT 120, CLOSE_WAIT 60, LAST_ACK 30, TIME_WAIT 120, CLOSE 10.',
    case: {
      topology: TWO_NODES,
      rules: states,
      packets: [
        { ...tcp, sport: 40_001 },
        { ...tcp, sport: 40_002, autoreply: true },
        ...established(40_003),
        ...established(40_004),
        { ...tcp, sport: 40_004, flags: 'PA', seq: 1001, ack: 501, pad: 10 },
        ...established(40_005),
        { ...tcp, sport: 40_005, flags: 'PA', seq: 1001, ack: 501, pad: 10, autoreply: true },
        ...established(40_006),
        { ...tcp, sport: 40_006, flags: 'FA', seq: 1001, ack: 501 },
        ...established(40_007),
        { ...tcp, sport: 40_007, flags: 'FA', seq: 1001, ack: 501, autoreply: true },
        ...established(40_008),
        { ...tcp, sport: 40_008, flags: 'FA', seq: 1001, ack: 501, autoreply: true },
        { ...tcp, ...fromP3, sport: 80, dport: 40_008, flags: 'FA', seq: 501, ack: 1002 },
        ...established(40_009),
        { ...tcp, sport: 40_009, flags: 'FA', seq: 1001, ack: 501, autoreply: true },
        { ...tcp, ...fromP3, sport: 80, dport: 40_009, flags: 'FA', seq: 501, ack: 1002 },
        { ...tcp, sport: 40_009, flags: 'A', seq: 1002, ack: 502 },
        ...established(40_010),
        { ...tcp, sport: 40_010, flags: 'R', seq: 1001 },
      ],
    },
    shows: [
      'tcp 10.244.1.2:40001 > 10.244.2.2:80 SYN_SENT 120 s UNREPLIED',
      'tcp 10.244.1.2:40002 > 10.244.2.2:80 SYN_RECV 60 s',
      'tcp 10.244.1.2:40003 > 10.244.2.2:80 ESTABLISHED 432000 s ASSURED',
      'tcp 10.244.1.2:40004 > 10.244.2.2:80 ESTABLISHED 300 s ASSURED',
      'tcp 10.244.1.2:40005 > 10.244.2.2:80 ESTABLISHED 432000 s ASSURED',
      'tcp 10.244.1.2:40006 > 10.244.2.2:80 FIN_WAIT 120 s ASSURED',
      'tcp 10.244.1.2:40007 > 10.244.2.2:80 CLOSE_WAIT 60 s ASSURED',
      'tcp 10.244.1.2:40008 > 10.244.2.2:80 LAST_ACK 30 s ASSURED',
      'tcp 10.244.1.2:40009 > 10.244.2.2:80 TIME_WAIT 120 s ASSURED',
      'tcp 10.244.1.2:40010 > 10.244.2.2:80 CLOSE 10 s ASSURED',
    ],
    watch: { connectionsOf: 'n1', steps: false },
  },
  {
    name: 'timeouts-of-udp-and-icmp',
    says: 'UDP 30; after reply still 30; one-way UDP stays 30 UNREPLIED; ICMP 30.',
    case: {
      topology: TWO_NODES,
      rules: states,
      packets: [
        { ...udp, sport: 40_001 },
        { ...udp, sport: 40_002, autoreply: true },
        { ...udp, sport: 40_003, autoreply: true },
        { ...udp, sport: 40_003, autoreply: true },
        { from: 'p1', proto: 'icmp', src: udp.src, dst: udp.dst, autoreply: true },
      ],
    },
    shows: [
      '1: p3 gets udp 10.244.1.2:40001 > 10.244.2.2:53 ttl 62',
      '2: p3 gets udp 10.244.1.2:40002 > 10.244.2.2:53 ttl 62',
      '2, reply: p1 gets udp 10.244.2.2:53 > 10.244.1.2:40002 ttl 62',
      '3: p3 gets udp 10.244.1.2:40003 > 10.244.2.2:53 ttl 62',
      '3, reply: p1 gets udp 10.244.2.2:53 > 10.244.1.2:40003 ttl 62',
      '4: p3 gets udp 10.244.1.2:40003 > 10.244.2.2:53 ttl 62',
      '4, reply: p1 gets udp 10.244.2.2:53 > 10.244.1.2:40003 ttl 62',
      '5: p3 gets icmp 8/0 10.244.1.2 > 10.244.2.2 ttl 62',
      '5, reply: p1 gets icmp 0/0 10.244.2.2 > 10.244.1.2 ttl 62',
      'icmp 10.244.1.2 > 10.244.2.2 30 s',
      'udp 10.244.1.2:40001 > 10.244.2.2:53 30 s UNREPLIED',
      'udp 10.244.1.2:40002 > 10.244.2.2:53 30 s',
      'udp 10.244.1.2:40003 > 10.244.2.2:53 30 s',
    ],
    watch: { connectionsOf: 'n1' },
  },
  {
    name: 'udp-becomes-a-stream-after-two-seconds',
    says: '120 + ASSURED only for packets ≥2 s after the first; one-way UDP stays 30 UNREPLIED.',
    case: {
      topology: TWO_NODES,
      rules: states,
      packets: [
        { ...udp, sport: 40_001, autoreply: true },
        { ...udp, sport: 40_002 },
        { ...udp, sport: 40_003, autoreply: true },
        { waitMs: 1_500 },
        { ...udp, sport: 40_003, autoreply: true },
        { waitMs: 700 },
        { ...udp, sport: 40_001, autoreply: true },
        { ...udp, sport: 40_002 },
      ],
    },
    shows: [
      '1: p3 gets udp 10.244.1.2:40001 > 10.244.2.2:53 ttl 62',
      '1, reply: p1 gets udp 10.244.2.2:53 > 10.244.1.2:40001 ttl 62',
      '2: p3 gets udp 10.244.1.2:40002 > 10.244.2.2:53 ttl 62',
      '3: p3 gets udp 10.244.1.2:40003 > 10.244.2.2:53 ttl 62',
      '3, reply: p1 gets udp 10.244.2.2:53 > 10.244.1.2:40003 ttl 62',
      '4: nothing arrives',
      '5: p3 gets udp 10.244.1.2:40003 > 10.244.2.2:53 ttl 62',
      '5, reply: p1 gets udp 10.244.2.2:53 > 10.244.1.2:40003 ttl 62',
      '6: nothing arrives',
      '7: p3 gets udp 10.244.1.2:40001 > 10.244.2.2:53 ttl 62',
      '7, reply: p1 gets udp 10.244.2.2:53 > 10.244.1.2:40001 ttl 62',
      '8: p3 gets udp 10.244.1.2:40002 > 10.244.2.2:53 ttl 62',
      'udp 10.244.1.2:40001 > 10.244.2.2:53 120 s ASSURED',
      'udp 10.244.1.2:40002 > 10.244.2.2:53 30 s UNREPLIED',
      'udp 10.244.1.2:40003 > 10.244.2.2:53 30 s',
    ],
    watch: { connectionsOf: 'n1' },
  },
  staleUdp(),
  {
    name: 'a-flow-from-before-the-rule-stays-as-it-is',
    says: 'A flow first seen before the rule existed stays un-NATed.',
    case: {
      topology: TWO_NODES,
      rules: { n1: { backend: 'legacy', text: dnsTo('10.244.2.2', '10.96.0.99') } },
      packets: [
        { ...udp, dst: '10.244.1.3', autoreply: true },
        { rules: { n1: { backend: 'legacy', text: dnsTo('10.244.2.2', '10.244.1.3') } } },
        { ...udp, dst: '10.244.1.3' },
        { ...udp, dst: '10.244.1.3', sport: 40_001 },
      ],
    },
    shows: [
      '1: p2 gets udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 64',
      '1, reply: p1 gets udp 10.244.1.3:53 > 10.244.1.2:40000 ttl 64',
      '3: p2 gets udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 64',
      '4: p3 gets udp 10.244.1.2:40001 > 10.244.2.2:53 ttl 62',
    ],
  },
  {
    name: 'fragments-are-reassembled-and-cut-again',
    says: 'Fragments: conntrack reassembles, refragments on output at the original size (1396+92).',
    case: {
      topology: twoNodes({ sysctls: { 'net.bridge.bridge-nf-call-iptables': 0 } }),
      rules: states,
      packets: [{ ...udp, pad: 1440, fragmentMtu: 1400 }],
    },
    shows: [
      '1: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 fragment of 1396 bytes ttl 62',
      '1: p3 gets 17 10.244.1.2 > 10.244.2.2 fragment of 92 bytes ttl 62',
      'udp 10.244.1.2:40000 > 10.244.2.2:53 30 s UNREPLIED',
      'counted: 1 NEW',
    ],
    watch,
  },
  {
    name: 'fragments-are-not-cut-again-after-a-bridge',
    says: 'Reassembled by br_netfilter on the way up, a datagram that fits the MTU goes on whole.',
    case: { topology: TWO_NODES, rules: states, packets: [{ ...udp, pad: 1440, fragmentMtu: 1400 }] },
    shows: [
      '1: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62',
      'udp 10.244.1.2:40000 > 10.244.2.2:53 30 s UNREPLIED',
      'counted: 1 NEW',
    ],
    watch,
  },
];

function dnsTo(endpoint: string, serviceIp = '10.96.0.10'): string {
  return table('nat', [
    `PREROUTING -d ${serviceIp}/32 -p udp -m udp --dport 53 -j DNAT --to-destination ${endpoint}:53`,
  ]);
}

function staleUdp(): Fact {
  const query = { ...udp, dst: '10.96.0.10' };
  return {
    name: 'udp-goes-on-to-a-backend-that-is-gone',
    says: 'Stale UDP: after the DNAT rule moved to a new backend the same socket keeps going to the old one; a new source port goes to the new backend; conntrack -D repairs.',
    case: {
      topology: TWO_NODES,
      rules: { n1: { backend: 'legacy', text: dnsTo('10.244.2.2') } },
      packets: [
        { ...query, autoreply: true },
        { rules: { n1: { backend: 'legacy', text: dnsTo('10.244.2.3') } } },
        query,
        { ...query, sport: 40_001 },
        { ...query, ...fromP2 },
        { flush: 'conntrack' },
        query,
      ],
    },
    shows: [
      '1: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62',
      '1, reply: p1 gets udp 10.96.0.10:53 > 10.244.1.2:40000 ttl 62',
      '3: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62',
      '4: p4 gets udp 10.244.1.2:40001 > 10.244.2.3:53 ttl 62',
      '5: p4 gets udp 10.244.1.3:40000 > 10.244.2.3:53 ttl 62',
      '7: p4 gets udp 10.244.1.2:40000 > 10.244.2.3:53 ttl 62',
    ],
  };
}
