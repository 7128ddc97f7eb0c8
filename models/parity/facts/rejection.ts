// What REJECT says to whom: ICMP types, quoted headers, resets, and how often.

import type { PacketStep, Topology } from '../case.ts';
import {
  dualStack,
  type Fact,
  fromP2,
  TWO_NODES,
  TWO_NODES_WITH_STACKS,
  table,
  tcp,
  twoNodes,
  udp,
  udp6,
  withBackends,
} from './fact.ts';

const TYPES = [
  'icmp-net-unreachable',
  'icmp-host-unreachable',
  'icmp-port-unreachable',
  'icmp-proto-unreachable',
  'icmp-net-prohibited',
  'icmp-host-prohibited',
  'icmp-admin-prohibited',
] as const;

const SERVICE = table('nat', ['PREROUTING -d 10.96.0.1/32 -j DNAT --to-destination 10.244.2.2']);
const NEW = 'FORWARD -m conntrack --ctstate NEW';
const RESET = 'FORWARD -p tcp -j REJECT --reject-with tcp-reset';
const rejectAll = table('filter', ['FORWARD -p udp -j REJECT', RESET]);
const NO_BRIDGE_RULES = { sysctls: { 'net.bridge.bridge-nf-call-iptables': 0 } };

const rejected = ({
  topology,
  packet,
  ...fact
}: Omit<Fact, 'case'> & { readonly topology: Topology; readonly packet: PacketStep }): Fact => ({
  ...fact,
  case: { topology, rules: { n1: { backend: 'legacy', text: SERVICE + rejectAll } }, packets: [packet] },
});

export const REJECTION: readonly Fact[] = [
  {
    name: 'answers-know-of-nat',
    says: 'An ICMP error belongs to the connection of what it is about: for rules in OUTPUT it is RELATED, and DNAT if that was translated.',
    case: {
      topology: TWO_NODES,
      rules: {
        n1: {
          backend: 'legacy',
          text:
            table('mangle', ['OUTPUT -m conntrack --ctstate RELATED', 'OUTPUT -m conntrack --ctstate DNAT']) +
            table('nat', ['PREROUTING -d 10.96.0.1/32 -j DNAT --to-destination 10.244.2.2']) +
            table('filter', ['FORWARD -p udp -j REJECT']),
        },
      },
      packets: [
        { ...udp, dst: '10.96.0.1' },
        { ...udp, sport: 40_001 },
      ],
    },
    watch: { counters: { related: 'n1 mangle OUTPUT 1', translated: 'n1 mangle OUTPUT 2' } },
    shows: [
      '1: p1 gets icmp 3/3 10.96.0.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.96.0.1:53 ttl 64',
      '2: p1 gets icmp 3/3 10.244.1.1 > 10.244.1.2 about udp 10.244.1.2:40001 > 10.244.2.2:53 ttl 64',
      'counted: 2 related, 1 translated',
    ],
  },
  {
    name: 'answers-to-untracked-packets-are-invalid',
    says: 'An answer to a packet that is UNTRACKED is related to no connection: INVALID for rules, and a CT target leaves it as it is.',
    case: {
      topology: TWO_NODES,
      rules: {
        n1: {
          backend: 'legacy',
          text:
            table('raw', ['PREROUTING -p udp --dport 53 -j CT --notrack', 'OUTPUT -p icmp -j CT --notrack']) +
            table('mangle', [
              'OUTPUT -m conntrack --ctstate INVALID',
              'OUTPUT -m conntrack --ctstate UNTRACKED',
              'OUTPUT -m conntrack --ctstate RELATED',
            ]) +
            table('filter', ['FORWARD -p udp -j REJECT']),
        },
      },
      packets: [udp, { ...udp, dport: 80 }],
    },
    watch: {
      counters: { invalid: 'n1 mangle OUTPUT 1', untracked: 'n1 mangle OUTPUT 2', related: 'n1 mangle OUTPUT 3' },
    },
    shows: [
      '1: p1 gets icmp 3/3 10.244.1.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 64',
      '2: p1 gets icmp 3/3 10.244.1.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.244.2.2:80 ttl 64',
      'counted: 1 invalid, 1 related',
    ],
  },
  {
    name: 'icmp-errors-about-frames-for-many',
    says: 'No error is sent about a frame for a group of stations; one about a bridged packet to a broadcast address is.',
    case: {
      topology: TWO_NODES,
      rules: { n1: { backend: 'legacy', text: table('filter', ['FORWARD -p udp -j REJECT']) } },
      packets: [
        { ...udp, dst: '10.244.1.3', dmac: 'ff:ff:ff:ff:ff:ff' },
        { ...udp, dst: '10.244.1.3', dmac: '02:00:00:00:00:99' },
        { ...udp, dst: '10.244.1.255', dmac: '02:00:00:00:00:99' },
      ],
    },
    watch: { counters: { rejected: 'n1 filter FORWARD 1' } },
    shows: [
      '1: nothing arrives',
      '2: p1 gets icmp 3/3 10.244.1.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 64',
      '3: p1 gets icmp 3/3 10.244.1.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.244.1.255:53 ttl 64',
      'counted: 3 rejected',
    ],
  },
  {
    name: 'icmp-causes-no-icmp-while-it-is-sent',
    says: 'What rejects an answer to an echo request in OUTPUT says nothing: the socket of ICMP is in use.',
    case: {
      topology: dualStack(TWO_NODES),
      rules: {
        n1: {
          backend: 'legacy',
          text: table('filter', ['OUTPUT -p icmp --icmp-type echo-reply -j REJECT', 'OUTPUT -p icmp']),
          text6: table('filter', ['OUTPUT -p icmpv6 --icmpv6-type echo-reply -j REJECT', 'OUTPUT -p icmpv6']),
        },
      },
      packets: [
        { from: 'p1', proto: 'icmp', src: '10.244.1.2', dst: '10.244.1.1' },
        { from: 'p1', proto: 'icmpv6', src: 'fd00:10:244:1::2', dst: 'fd00:10:244:1::1' },
      ],
    },
    watch: {
      counters: {
        'answers rejected': 'n1 filter OUTPUT 1',
        errors: 'n1 filter OUTPUT 2',
        'answers of IPv6 rejected': 'n1 filter6 OUTPUT 1',
        'errors of IPv6': 'n1 filter6 OUTPUT 2',
      },
    },
    shows: ['1: nothing arrives', '2: nothing arrives', 'counted: 1 answers rejected, 1 answers of IPv6 rejected'],
  },
  {
    name: 'fragments-are-dropped-without-an-answer',
    says: 'REJECT of a fragment only drops it: the checksum of the whole packet looks wrong for its first part.',
    case: {
      topology: TWO_NODES,
      rules: { n1: { backend: 'legacy', text: table('filter', ['FORWARD -p udp -j REJECT']) } },
      packets: [{ ...udp, pad: 2000, fragmentMtu: 1000 }, udp],
    },
    watch: { counters: { rejected: 'n1 filter FORWARD 1' } },
    shows: [
      '1: nothing arrives',
      '2: p1 gets icmp 3/3 10.244.1.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 64',
      'counted: 4 rejected',
    ],
  },
  {
    name: 'icmpv6-errors-are-from-where-the-packet-came-in',
    says: 'ICMPv6 errors are sent from an address of the device by which the packet came in, also where they leave by another one.',
    case: {
      topology: dualStack(TWO_NODES),
      rules: {
        n2: {
          backend: 'legacy',
          text: '',
          text6: table('nat', ['PREROUTING -p udp -m udp -j DNAT --to-destination [fd00:10:244:1::2]:8080']),
        },
      },
      packets: [{ ...udp6, ttl: 3 }],
    },
    shows: [
      '1: p1 gets icmpv6 3/0 fd00:192:168:1::1 > fd00:10:244:1::2 about udp fd00:10:244:1::2:40000 > fd00:10:244:1::2:8080 ttl 64',
    ],
  },
  ...withBackends({
    name: 'reject-types-and-what-they-quote',
    says: 'REJECT types → ICMP 3/0,1,3,2,9,10,13 as named; quoted header is translated back (client sees 10.96.0.1; ICMP src also 10.96.0.1), quoted TTL 63.',
    case: {
      topology: TWO_NODES,
      rules: {
        n1: {
          backend: 'legacy',
          text:
            SERVICE +
            table(
              'filter',
              TYPES.map((type, i) => `FORWARD -p udp -m udp --dport ${5000 + i} -j REJECT --reject-with ${type}`),
            ),
        },
      },
      packets: TYPES.map((_, i) => ({ ...udp, dst: '10.96.0.1', dport: 5000 + i })),
    },
    shows: [
      '1: p1 gets icmp 3/0 10.96.0.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.96.0.1:5000 ttl 64',
      '2: p1 gets icmp 3/1 10.96.0.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.96.0.1:5001 ttl 64',
      '3: p1 gets icmp 3/3 10.96.0.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.96.0.1:5002 ttl 64',
      '4: p1 gets icmp 3/2 10.96.0.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.96.0.1:5003 ttl 64',
      '5: p1 gets icmp 3/9 10.96.0.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.96.0.1:5004 ttl 64',
      '6: p1 gets icmp 3/10 10.96.0.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.96.0.1:5005 ttl 64',
      '7: p1 gets icmp 3/13 10.96.0.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.96.0.1:5006 ttl 64',
    ],
  }),
  ...withBackends({
    name: 'connect-hears-of-rejection',
    says: 'connect(): port-unreach and RST → ECONNREFUSED at once; host-unreach/admin-prohibited → EHOSTUNREACH; net-unreach → ENETUNREACH.',
    case: {
      topology: TWO_NODES_WITH_STACKS,
      rules: {
        n1: {
          backend: 'legacy',
          text: table('filter', [
            'FORWARD -p tcp -m tcp --dport 5100 -j REJECT --reject-with tcp-reset',
            ...TYPES.map((type, i) => `FORWARD -p tcp -m tcp --dport ${5000 + i} -j REJECT --reject-with ${type}`),
          ]),
        },
      },
      packets: [5100, 5000, 5001, 5002, 5006].map((port) => ({
        socket: { do: 'connect' as const, in: 'p1', proto: 'tcp' as const, ip: '10.244.2.2', port, sport: 40_000 },
      })),
    },
    shows: [
      '1: ECONNREFUSED',
      '1: p1 gets tcp [AR] 10.244.2.2:5100 > 10.244.1.2:40000 ttl 64',
      '2: ENETUNREACH',
      '2: p1 gets icmp 3/0 10.244.1.1 > 10.244.1.2 about tcp [S] 10.244.1.2:40000 > 10.244.2.2:5000 ttl 64',
      '3: EHOSTUNREACH',
      '3: p1 gets icmp 3/1 10.244.1.1 > 10.244.1.2 about tcp [S] 10.244.1.2:40000 > 10.244.2.2:5001 ttl 64',
      '4: ECONNREFUSED',
      '4: p1 gets icmp 3/3 10.244.1.1 > 10.244.1.2 about tcp [S] 10.244.1.2:40000 > 10.244.2.2:5002 ttl 64',
      '5: EHOSTUNREACH',
      '5: p1 gets icmp 3/13 10.244.1.1 > 10.244.1.2 about tcp [S] 10.244.1.2:40000 > 10.244.2.2:5006 ttl 64',
    ],
  }),
  rejected({
    name: 'reset-of-a-translated-connection',
    says: 'tcp-reset for a DNATed flow: un-NATed properly with bridge-nf=0 (10.96.0.1:80 [RA]).',
    topology: twoNodes(NO_BRIDGE_RULES),
    packet: { ...tcp, dst: '10.96.0.1' },
    shows: ['1: p1 gets tcp [AR] 10.96.0.1:80 > 10.244.1.2:40000 ttl 64'],
  }),
  rejected({
    name: 'reset-by-a-bridge-leaves-with-the-backend-s-address',
    says: 'With bridge-nf-call-iptables=1 and a bridged ingress port the RST leaves with the backend’s address.',
    topology: TWO_NODES,
    packet: { ...tcp, dst: '10.96.0.1' },
    shows: ['1: p1 gets tcp [AR] 10.244.2.2:80 > 10.244.1.2:40000 ttl 64'],
  }),
  rejected({
    name: 'bridged-udp-is-rejected-by-the-bridge-s-address',
    says: 'Bridged (L2) REJECT works too: UDP error from 10.244.1.1.',
    topology: TWO_NODES,
    packet: { ...udp, dst: '10.244.1.3' },
    shows: ['1: p1 gets icmp 3/3 10.244.1.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 64'],
  }),
  rejected({
    name: 'a-flooded-packet-for-the-node-is-rejected-by-the-bridge-s-address',
    says: 'A packet that a bridge floods has no route of its own: the error is from the bridge, not from whom it was for.',
    topology: TWO_NODES,
    packet: { ...udp, dst: '192.168.1.1', dmac: '02:00:00:00:00:99' },
    shows: ['1: p1 gets icmp 3/3 10.244.1.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 192.168.1.1:53 ttl 64'],
  }),
  rejected({
    name: 'bridged-tcp-is-reset-by-the-peer-s-address',
    says: 'Bridged (L2) REJECT: RST from the peer address.',
    topology: TWO_NODES,
    packet: {
      ...tcp,
      dst: '10.244.1.3',
    },
    shows: ['1: p1 gets tcp [AR] 10.244.1.3:80 > 10.244.1.2:40000 ttl 64'],
  }),
  {
    name: 'a-reset-that-cannot-be-sent-closes-nothing',
    says: 'REJECT by a reset closes the connection only if there is a route by which to send it.',
    case: {
      topology: TWO_NODES,
      // The first one is from where no route of the node leads.
      rules: { n1: { backend: 'legacy', text: table('filter', [NEW]) } },
      packets: [
        { ...tcp, src: '203.0.113.9' },
        tcp,
        { rules: { n1: { backend: 'legacy', text: table('filter', [NEW, RESET]) } } },
        { ...tcp, src: '203.0.113.9' },
        tcp,
      ],
    },
    watch: { connectionsOf: 'n1' },
    shows: [
      '1: p3 gets tcp [S] 203.0.113.9:40000 > 10.244.2.2:80 ttl 62',
      '2: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62',
      '4: nothing arrives',
      '5: p1 gets tcp [AR] 10.244.2.2:80 > 10.244.1.2:40000 ttl 64',
      'tcp 10.244.1.2:40000 > 10.244.2.2:80 CLOSE 10 s UNREPLIED',
      'tcp 203.0.113.9:40000 > 10.244.2.2:80 SYN_SENT 120 s UNREPLIED',
    ],
  },
  {
    name: 'icmp-errors-are-limited-per-destination',
    says: 'Rate limit: 6 burst then 1/s per destination (20 rejects → 6 ICMPs).',
    case: {
      // Cold: what the kernel remembers of receivers ends with the network.
      topology: { ...twoNodes({ sysctls: { 'net.ipv4.icmp_ratelimit': 1000 } }), cold: true },
      rules: { n1: { backend: 'legacy', text: rejectAll } },
      packets: [...Array.from({ length: 20 }, (_, i) => ({ ...udp, dport: 5000 + i })), { ...udp, ...fromP2 }],
    },
    shows: [
      '1: p1 gets icmp 3/3 10.244.1.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.244.2.2:5000 ttl 64',
      '2: p1 gets icmp 3/3 10.244.1.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.244.2.2:5001 ttl 64',
      '3: p1 gets icmp 3/3 10.244.1.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.244.2.2:5002 ttl 64',
      '4: p1 gets icmp 3/3 10.244.1.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.244.2.2:5003 ttl 64',
      '5: p1 gets icmp 3/3 10.244.1.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.244.2.2:5004 ttl 64',
      '6: p1 gets icmp 3/3 10.244.1.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.244.2.2:5005 ttl 64',
      '7: nothing arrives',
      '8: nothing arrives',
      '9: nothing arrives',
      '10: nothing arrives',
      '11: nothing arrives',
      '12: nothing arrives',
      '13: nothing arrives',
      '14: nothing arrives',
      '15: nothing arrives',
      '16: nothing arrives',
      '17: nothing arrives',
      '18: nothing arrives',
      '19: nothing arrives',
      '20: nothing arrives',
      '21: p2 gets icmp 3/3 10.244.1.1 > 10.244.1.3 about udp 10.244.1.3:40000 > 10.244.2.2:53 ttl 64',
    ],
  },
];
