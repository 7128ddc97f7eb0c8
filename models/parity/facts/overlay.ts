// Frames between nodes by VXLAN.

import type { NodeRules } from '../case.ts';
import { dualStack, type Fact, TWO_NODES, TWO_NODES_WITH_STACKS, table, tcp, udp, udp6 } from './fact.ts';

const OVERLAY = { ...TWO_NODES, overlay: 'vxlan' } as const;
/** The same in both families; bridges do not call iptables. */
const DUAL_STACK_OVERLAY = dualStack({
  overlay: 'vxlan',
  nodes: TWO_NODES.nodes.map((node) => ({ ...node, sysctls: { 'net.bridge.bridge-nf-call-iptables': 0 } })),
});

/** The same, whose pods answer. */
const OVERLAY_OF_IPV6 = dualStack({ ...TWO_NODES_WITH_STACKS, overlay: 'vxlan' });
const to6 = { from: 'p1', src: 'fd00:10:244:1::2', dst: 'fd00:10:244:2::2', sport: 40_000, dport: 80 } as const;
const from6 = { ...to6, from: 'p3', src: to6.dst, dst: to6.src, sport: 80, dport: 40_000 } as const;

const OVER_IPV6 = dualStack({ ...TWO_NODES, overlay: 'vxlan6' });

const NODE_3 = { name: 'n3', ip: '192.168.1.3', podCIDR: '10.244.3.0/24' } as const;

const ping = { from: 'p1', proto: 'icmp', src: '10.244.1.2', dst: '10.244.2.2' } as const;

/** Datagrams of the tunnel come back to a port where nobody listens, and answers to them are counted. */
const REDIRECTED: NodeRules = {
  backend: 'legacy',
  text:
    table('mangle', ['OUTPUT -p udp -m udp --dport 8472', 'OUTPUT -p icmp']) +
    table('nat', ['OUTPUT -p udp -m udp --dport 8472 -j REDIRECT --to-ports 9999']),
};

/** Datagrams of the tunnel are counted in OUTPUT, and this is done to the first of every flow. */
const whenSent = (nat: string): NodeRules => ({
  backend: 'legacy',
  text: table('mangle', ['OUTPUT -p udp -m udp --dport 8472']) + table('nat', [nat]),
});
/** The same where the datagrams are of IPv6. */
const whenSentOverIpv6 = (...nat: string[]): NodeRules => ({
  ...{ backend: 'legacy', text: '' },
  text6:
    table('mangle', [
      'OUTPUT -p udp -m udp --dport 8472',
      'INPUT -p ipv6-icmp -m icmp6 --icmpv6-type packet-too-big -m conntrack --ctstate RELATED',
    ]) + table('nat', nat),
});
const inBothFamilies = (text: string): NodeRules => ({ backend: 'legacy', text, text6: text });
const SENT = { sent: 'n1 mangle OUTPUT 1', 'to begin a flow': 'n1 nat OUTPUT 1' };

export const OVERLAYS: readonly Fact[] = [
  {
    name: 'vxlan-carries-frames',
    says: 'VXLAN: +50 bytes, outer sport hashed per flow, outer TTL 64, inner TTL −1 before encap.',
    case: {
      topology: OVERLAY,
      packets: [
        { ...udp, autoreply: true },
        { ...udp, sport: 40_001 },
        { ...udp, ttl: 2 },
      ],
    },
    shows: [
      '1: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62',
      '1, reply: p1 gets udp 10.244.2.2:53 > 10.244.1.2:40000 ttl 62',
      '2: p3 gets udp 10.244.1.2:40001 > 10.244.2.2:53 ttl 62',
      '3: p1 gets icmp 11/0 10.244.2.0 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 63',
    ],
  },
  {
    name: 'vxlan-leaves-room-for-its-headers',
    says: 'VXLAN: MTU 1450, DF too big → ICMP 3/4 mtu 1450 from the gateway.',
    case: {
      topology: OVERLAY,
      packets: [
        { ...udp, df: true, pad: 1422 },
        { ...udp, df: true, pad: 1423 },
        { ...udp, pad: 1423 },
      ],
    },
    shows: [
      '1: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62',
      '2: p1 gets icmp 3/4 10.244.1.1 > 10.244.1.2 mtu 1450 about udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 64',
      '3: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 fragment of 1444 bytes ttl 62',
      '3: p3 gets 17 10.244.1.2 > 10.244.2.2 fragment of 27 bytes ttl 62',
    ],
  },
  {
    name: 'nat-spoils-the-checksum-of-a-tunnel-around-a-socket-s-packet',
    says: 'NAT of a datagram around what a socket has sent (step 2, and not a raw one in step 1) leaves a wrong checksum: lo finishes the inner one, and who gets the datagram drops it without a word.',
    case: {
      topology: { ...TWO_NODES_WITH_STACKS, overlay: 'vxlan' },
      rules: { n1: REDIRECTED },
      packets: [
        udp,
        {
          socket: { do: 'connect', in: 'p1', proto: 'udp', ip: '10.244.2.2', port: 53, sport: 40_001, timeoutMs: 300 },
        },
      ],
    },
    watch: { counters: { sent: 'n1 mangle OUTPUT 1', answered: 'n1 mangle OUTPUT 2' } },
    shows: ['1: nothing arrives', '2: sent', 'counted: 2 sent, 1 answered'],
  },
  {
    name: 'a-reset-of-ipv6-has-its-checksum-open',
    says: 'TCP computes the checksum of a reset without a connection in IPv4 (step 1) and leaves it open in IPv6 (step 2), so that NAT of a datagram around it spoils that.',
    case: {
      topology: OVERLAY_OF_IPV6,
      rules: { n2: REDIRECTED },
      packets: [tcp, { ...to6, proto: 'tcp' }],
    },
    watch: { counters: { sent: 'n2 mangle OUTPUT 1', answered: 'n2 mangle OUTPUT 2' } },
    shows: [
      '1: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62',
      '2: p3 gets tcp [S] fd00:10:244:1::2:40000 > fd00:10:244:2::2:80 ttl 62',
      'counted: 2 sent, 1 answered',
    ],
  },
  {
    name: 'a-bridge-finishes-the-checksum-in-a-tunnel-s-datagram',
    says: 'A bridge, unlike a veth pair, finishes the checksum inside a datagram that is sent through it: a pod answers the one around a raw packet, and drops the one that NAT has spoilt.',
    case: {
      topology: { ...TWO_NODES_WITH_STACKS, overlay: 'vxlan' },
      rules: {
        n1: {
          backend: 'legacy',
          text:
            table('mangle', ['PREROUTING -p icmp']) +
            table('nat', ['OUTPUT -p udp -m udp --dport 8472 -j DNAT --to-destination 10.244.1.3:9999']),
        },
      },
      packets: [
        udp,
        {
          socket: { do: 'connect', in: 'p1', proto: 'udp', ip: '10.244.2.2', port: 53, sport: 40_001, timeoutMs: 300 },
        },
      ],
    },
    watch: { counters: { answered: 'n1 mangle PREROUTING 1' } },
    shows: [
      '1: p2 gets udp 192.168.1.1:port 1 of 1024-65535 > 10.244.1.3:9999 ttl 64',
      '2: sent',
      '2: p2 gets udp 192.168.1.1:port 2 of 1024-65535 > 10.244.1.3:9999 ttl 64',
      'counted: 1 answered',
    ],
  },
  {
    name: 'a-spoilt-checksum-is-invalid-where-it-is-looked-at',
    says: 'A tunnel finishes the checksum inside a datagram that NAT sends into it again; of a datagram that NAT has spoilt conntrack at the other end makes INVALID.',
    case: {
      topology: {
        overlay: 'vxlan',
        nodes: [...TWO_NODES_WITH_STACKS.nodes, { ...NODE_3, pods: [{ name: 'p9', ip: '10.244.3.2' }] }],
      },
      rules: {
        n1: {
          backend: 'legacy',
          text: table('nat', ['OUTPUT -d 192.168.1.2 -p udp -m udp --dport 8472 -j DNAT --to-destination 10.244.3.2']),
        },
        n3: {
          backend: 'legacy',
          text: table('mangle', [
            'PREROUTING -d 10.244.3.2 -m conntrack --ctstate NEW',
            'PREROUTING -d 10.244.3.2 -m conntrack --ctstate INVALID',
          ]),
        },
      },
      packets: [
        udp,
        {
          socket: { do: 'connect', in: 'p1', proto: 'udp', ip: '10.244.2.2', port: 53, sport: 40_001, timeoutMs: 300 },
        },
      ],
    },
    watch: { counters: { NEW: 'n3 mangle PREROUTING 1', INVALID: 'n3 mangle PREROUTING 2' } },
    shows: [
      '1: p9 gets udp 192.168.1.1:port 1 of 1024-65535 > 10.244.3.2:8472 ttl 63',
      '2: sent',
      '2: p9 gets udp 192.168.1.1:port 2 of 1024-65535 > 10.244.3.2:8472 ttl 63',
      'counted: 1 NEW, 1 INVALID',
    ],
  },
  {
    name: 'vxlan-and-a-service-that-is-too-big',
    says: 'DNATed flow: ICMP 3/4 from the VIP, quoting the VIP.',
    case: {
      topology: OVERLAY,
      rules: {
        n1: {
          backend: 'legacy',
          text: table('nat', ['PREROUTING -d 10.96.0.1/32 -j DNAT --to-destination 10.244.2.2']),
        },
      },
      packets: [{ ...udp, dst: '10.96.0.1', df: true, pad: 1423 }],
    },
    shows: ['1: p1 gets icmp 3/4 10.96.0.1 > 10.244.1.2 mtu 1450 about udp 10.244.1.2:40000 > 10.96.0.1:53 ttl 64'],
  },
  {
    name: 'vxlan-cuts-tracked-ipv6-fragments-anew',
    says: 'Tracked IPv6 fragments have no room for the headers of VXLAN: they are cut anew, at 1280 bytes if they were smaller; what fits into one is an atomic fragment, what is no longer than their largest leaves whole.',
    case: {
      topology: DUAL_STACK_OVERLAY,
      rules: { n1: { backend: 'legacy', text: '', text6: table('filter', ['FORWARD -m conntrack --ctstate NEW']) } },
      packets: [1600, 700, 9].map((pad) => ({ ...udp6, pad, fragmentMtu: pad === 9 ? 64 : 576 })),
    },
    shows: [
      '1: p3 gets udp fd00:10:244:1::2:40000 > fd00:10:244:2::2:53 fragment of 1280 bytes ttl 62',
      '1: p3 gets 17 fd00:10:244:1::2 > fd00:10:244:2::2 fragment of 424 bytes ttl 62',
      '2: p3 gets udp fd00:10:244:1::2:40000 > fd00:10:244:2::2:53 fragment of 756 bytes ttl 62',
      '3: p3 gets udp fd00:10:244:1::2:40000 > fd00:10:244:2::2:53 ttl 62',
    ],
  },
  {
    name: 'vxlan-ports-of-one-machine',
    says: 'All namespaces of a machine hash with one secret: tunnels give an answer the source port of what it answers.',
    case: {
      topology: OVERLAY,
      rules: { n1: { backend: 'legacy', text: table('filter', ['FORWARD -m conntrack --ctstate NEW']) } },
      packets: [{ ...udp, autoreply: true }],
    },
    watch: { connectionsOf: 'n1', steps: false },
    shows: [
      'udp 10.244.1.2:40000 > 10.244.2.2:53 30 s',
      'udp 192.168.1.1:port 1 of 1024-65535 > 192.168.1.2:8472 30 s UNREPLIED',
      'udp 192.168.1.2:port 1 of 1024-65535 > 192.168.1.1:8472 30 s UNREPLIED',
    ],
  },
  {
    name: 'vxlan-into-itself',
    says: 'A tunnel into itself: three times, with the source port of the first (skb->hash stays), also of fragments.',
    case: {
      topology: OVERLAY,
      rules: { n1: whenSent('OUTPUT -p udp -m udp --dport 8472 -j DNAT --to-destination 10.244.2.2') },
      packets: [udp, { ...udp, pad: 1400 }],
    },
    watch: { connectionsOf: 'n1', counters: SENT, steps: false },
    shows: [
      'udp 10.244.1.2:40000 > 10.244.2.2:53 30 s UNREPLIED',
      'udp 192.168.1.1:port 1 of 1024-65535 > 192.168.1.2:8472, answers 10.244.2.2:8472 > 192.168.1.1:port 1 of 1024-65535, 30 s UNREPLIED',
      'counted: 9 sent, 1 to begin a flow',
    ],
  },
  {
    name: 'vxlan-into-itself-without-ports',
    says: 'The hash of an ICMP message does not stay, that of the datagram around it does.',
    case: {
      topology: OVERLAY,
      rules: { n1: whenSent('OUTPUT -p udp -m udp --dport 8472 -j DNAT --to-destination 10.244.2.2') },
      packets: [ping],
    },
    watch: { counters: SENT, steps: false },
    shows: ['counted: 3 sent, 2 to begin a flow'],
  },
  {
    name: 'vxlan-and-sockets',
    says: 'What connected sockets send has a hash of the socket, and so another source port than others of the flow.',
    case: {
      topology: { ...TWO_NODES_WITH_STACKS, overlay: 'vxlan' },
      rules: { n1: whenSent('OUTPUT -p udp -m udp --dport 8472 -j DNAT --to-destination 192.168.1.2') },
      packets: [
        { socket: { do: 'connect', in: 'p1', proto: 'udp', ip: '10.244.2.2', port: 53, sport: 40_000 } },
        { socket: { do: 'close', in: 'p1' } },
        { socket: { do: 'connect', in: 'p1', proto: 'udp', ip: '10.244.2.2', port: 53, sport: 40_000 } },
        udp,
        { socket: { do: 'listen', in: 'p3', proto: 'tcp', port: 80 } },
        { socket: { do: 'connect', in: 'p1', proto: 'tcp', ip: '10.244.2.2', port: 80, sport: 40_000 } }, // SYN, ACK
        { ...tcp, flags: 'A', seq: 5, ack: 7 },
      ],
    },
    watch: { counters: SENT, steps: false },
    shows: ['counted: 6 sent, 5 to begin a flow'],
  },
  {
    name: 'vxlan-and-repeated-syns',
    says: 'A socket draws another hash whenever it has waited in vain (net.core.txrehash).',
    case: {
      topology: OVERLAY,
      rules: { n1: whenSent('OUTPUT -p udp -m udp --dport 8472 -j DNAT --to-destination 192.168.1.2') },
      packets: [
        {
          socket: { do: 'connect', in: 'n1', proto: 'tcp', ip: '10.244.2.2', port: 80, sport: 40_000, timeoutMs: 2500 },
        },
      ],
    },
    watch: { counters: SENT },
    shows: [
      '1: ETIMEDOUT',
      '1: p3 gets tcp [S] 10.244.1.0:40000 > 10.244.2.2:80 ttl 63',
      '1: p3 gets tcp [S] 10.244.1.0:40000 > 10.244.2.2:80 ttl 63',
      '1: p3 gets tcp [S] 10.244.1.0:40000 > 10.244.2.2:80 ttl 63',
      'counted: 3 sent, 3 to begin a flow',
    ],
  },
  {
    name: 'vxlan-and-flow-labels',
    says: 'What a stack sends over IPv6 is hashed for its label, with type and code of ICMPv6, and unlike what passes by.',
    case: {
      topology: OVERLAY_OF_IPV6,
      rules: {
        n2: whenSent('OUTPUT -p udp -m udp --dport 8472 -j DNAT --to-destination 192.168.1.1'),
      },
      packets: [
        { ...to6, proto: 'udp' }, // port unreachable
        { ...to6, proto: 'icmpv6' }, // echo reply
        { ...from6, proto: 'icmpv6', type: 129 }, // without ports: by address alone
        { ...to6, proto: 'tcp' }, // reset
        { ...from6, proto: 'tcp', flags: 'RA' },
        { socket: { do: 'listen', in: 'p3', proto: 'udp', ip: '::', port: 80 } },
        { socket: { do: 'connect', in: 'p1', proto: 'udp', ip: to6.dst, port: 80, sport: 40_000 } }, // an answer
        { ...from6, proto: 'udp' },
      ],
    },
    watch: { counters: { sent: 'n2 mangle OUTPUT 1', 'to begin a flow': 'n2 nat OUTPUT 1' }, steps: false },
    shows: ['counted: 7 sent, 7 to begin a flow'],
  },
  {
    name: 'vxlan-and-icmp-in-it',
    says: 'A tunnel whose datagram is rejected causes an ICMP error, but not if there is one of the same family in it.',
    case: {
      topology: OVERLAY,
      rules: {
        n2: {
          backend: 'legacy',
          text: table('filter', ['OUTPUT -p udp -m udp --dport 8472 -j REJECT', 'OUTPUT -p icmp', 'INPUT -p icmp']),
        },
      },
      packets: [
        { ...udp, ttl: 2 },
        { from: 'p3', proto: 'udp', src: '10.244.2.2', dst: '10.244.1.2', sport: 40_000, dport: 53 },
      ],
    },
    watch: {
      counters: {
        'tunnels rejected': 'n2 filter OUTPUT 1',
        'errors sent': 'n2 filter OUTPUT 2',
        'errors received': 'n2 filter INPUT 1',
      },
    },
    shows: [
      '1: nothing arrives',
      '2: nothing arrives',
      'counted: 2 tunnels rejected, 2 errors sent, 1 errors received',
    ],
  },
  {
    name: 'vxlan-to-and-fro',
    says: 'Between two nodes the TTL decides, and the source port stays that of the first node, whatever NAT does.',
    case: {
      topology: OVERLAY,
      rules: {
        n1: whenSent('PREROUTING -i vx0 -d 10.244.1.2 -j DNAT --to-destination 10.244.2.2'),
        n2: whenSent('PREROUTING -i vx0 -d 10.244.2.2 -j DNAT --to-destination 10.244.1.2'),
      },
      packets: [{ ...udp, ttl: 12 }],
    },
    watch: { counters: { 'sent by n1': 'n1 mangle OUTPUT 1', 'by n2': 'n2 mangle OUTPUT 1' } },
    shows: [
      '1: p1 gets icmp 11/0 10.244.1.2 > 10.244.1.2 about udp 10.244.1.2:port 1 of 1024-65535 > 10.244.1.2:53 ttl 63',
      'counted: 6 sent by n1, 6 by n2',
    ],
  },
  {
    name: 'what-leaves-a-tunnel-together-is-a-list',
    says: 'Packets that leave a tunnel in one go are a list: two of a new connection are both NEW, and become one entry.',
    case: {
      topology: OVERLAY,
      rules: {
        // The two datagrams of a packet that had to be cut are sent back, in the tunnel.
        n1: {
          backend: 'legacy',
          text: table('nat', [
            'PREROUTING -i eth0 -p udp -j DNAT --to-destination 10.244.2.2',
            'POSTROUTING -o vx0 -p udp -j MASQUERADE',
          ]),
        },
        n2: { backend: 'legacy', text: table('mangle', ['PREROUTING -i vx0 -p udp -m conntrack --ctstate NEW']) },
      },
      packets: [{ ...tcp, from: 'p3', src: '10.244.2.2', dst: '10.244.1.2', pad: 1_460 }],
    },
    watch: { counters: { NEW: 'n2 mangle PREROUTING 1' }, steps: false },
    shows: ['counted: 2 NEW'],
  },
  {
    name: 'vxlan-over-ipv6-carries-frames',
    says: 'VXLAN over IPv6: the datagrams are of ip6tables and of IPv6 connections, with hop limit 64 and source ports hashed per flow; in them are packets of both families.',
    case: {
      topology: OVER_IPV6,
      rules: { n1: whenSentOverIpv6() },
      packets: [
        { ...udp, autoreply: true },
        { ...udp6, autoreply: true },
        { ...udp, ttl: 2 },
      ],
    },
    watch: { connectionsOf: 'n1', counters: { sent: 'n1 mangle OUTPUT 1' } },
    shows: [
      '1: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62',
      '1, reply: p1 gets udp 10.244.2.2:53 > 10.244.1.2:40000 ttl 62',
      '2: p3 gets udp fd00:10:244:1::2:40000 > fd00:10:244:2::2:53 ttl 62',
      '2, reply: p1 gets udp fd00:10:244:2::2:53 > fd00:10:244:1::2:40000 ttl 62',
      '3: p1 gets icmp 11/0 10.244.2.0 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 63',
      'udp fd00:10:244:1::2:40000 > fd00:10:244:2::2:53 30 s',
      'udp fd00:192:168:1::1:port 1 of 1024-65535 > fd00:192:168:1::2:8472 30 s UNREPLIED',
      'udp fd00:192:168:1::1:port 2 of 1024-65535 > fd00:192:168:1::2:8472 30 s UNREPLIED',
      'udp fd00:192:168:1::2:port 1 of 1024-65535 > fd00:192:168:1::1:8472 30 s UNREPLIED',
      'udp fd00:192:168:1::2:port 2 of 1024-65535 > fd00:192:168:1::1:8472 30 s UNREPLIED',
      'udp fd00:192:168:1::2:port 3 of 1024-65535 > fd00:192:168:1::1:8472 30 s UNREPLIED',
      'counted: 3 sent',
    ],
  },
  {
    name: 'vxlan-over-ipv6-beside-ipv4',
    says: 'A tunnel over IPv4 and one over IPv6 have one network and one port, and do not meet.',
    case: {
      topology: dualStack({ ...TWO_NODES, overlay: 'vxlan-by-family' }),
      rules: {
        n2: {
          backend: 'legacy',
          text: table('filter', ['INPUT -p udp -m udp --dport 8472', 'FORWARD -i vx0', 'FORWARD -i vx6']),
          text6: table('filter', ['INPUT -p udp -m udp --dport 8472', 'FORWARD -i vx0', 'FORWARD -i vx6']),
        },
      },
      packets: [udp, udp6],
    },
    watch: {
      counters: {
        'over IPv4': 'n2 filter INPUT 1',
        'IPv4 out of vx0': 'n2 filter FORWARD 1',
        'IPv4 out of vx6': 'n2 filter FORWARD 2',
        'over IPv6': 'n2 filter6 INPUT 1',
        'IPv6 out of vx0': 'n2 filter6 FORWARD 1',
        'IPv6 out of vx6': 'n2 filter6 FORWARD 2',
      },
    },
    shows: [
      '1: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62',
      '2: p3 gets udp fd00:10:244:1::2:40000 > fd00:10:244:2::2:53 ttl 62',
      'counted: 1 over IPv4, 1 IPv4 out of vx0, 1 over IPv6, 1 IPv6 out of vx6',
    ],
  },
  {
    name: 'vxlan-over-ipv6-leaves-room-for-its-headers',
    says: 'VXLAN over IPv6: MTU 1430, which senders of both families hear of from the gateway.',
    case: {
      topology: OVER_IPV6,
      packets: [
        { ...udp, df: true, pad: 1402 },
        { ...udp, df: true, pad: 1403 },
        { ...udp6, pad: 1382 },
        { ...udp6, pad: 1383 },
        { ...udp, pad: 1403 },
      ],
    },
    shows: [
      '1: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62',
      '2: p1 gets icmp 3/4 10.244.1.1 > 10.244.1.2 mtu 1430 about udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 64',
      '3: p3 gets udp fd00:10:244:1::2:40000 > fd00:10:244:2::2:53 ttl 62',
      '4: p1 gets icmpv6 2/0 fd00:10:244:1::1 > fd00:10:244:1::2 about udp fd00:10:244:1::2:40000 > fd00:10:244:2::2:53 ttl 64',
      '5: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 fragment of 1428 bytes ttl 62',
      '5: p3 gets 17 10.244.1.2 > 10.244.2.2 fragment of 23 bytes ttl 62',
    ],
  },
  {
    name: 'vxlan-over-ipv6-is-not-cut',
    says: 'A datagram of IPv6 that is too large for its way (here into the tunnel again) is not cut where it is sent: the node says so to itself, and the next one of its flow makes a way of 1430 - 70 bytes known, which forwarded packets hear of when they leave.',
    case: {
      topology: OVER_IPV6,
      rules: { n1: whenSentOverIpv6('OUTPUT -p udp -m udp --dport 8472 -j DNAT --to-destination fd00:10:244:2::2') },
      packets: [
        { ...udp6, pad: 1320 },
        { ...udp6, pad: 1320 },
        { ...udp6, pad: 1320 },
      ],
    },
    watch: { counters: { sent: 'n1 mangle OUTPUT 1', 'too big': 'n1 mangle INPUT 1' } },
    shows: [
      '1: nothing arrives',
      '2: nothing arrives',
      '3: p1 gets icmpv6 2/0 fd00:10:244:1::1 > fd00:10:244:1::2 about udp fd00:10:244:1::2:40000 > fd00:10:244:2::2:53 ttl 64',
      'counted: 2 sent, 2 too big',
    ],
  },
  {
    name: 'vxlan-over-ipv6-into-itself-without-ports',
    says: 'A tunnel over IPv6 keeps the hash of an ICMP message, unlike one over IPv4.',
    case: {
      topology: OVER_IPV6,
      rules: { n1: whenSentOverIpv6('OUTPUT -p udp -m udp --dport 8472 -j DNAT --to-destination fd00:10:244:2::2') },
      packets: [ping],
    },
    watch: { counters: SENT, steps: false },
    shows: ['counted: 3 sent, 1 to begin a flow'],
  },
  {
    name: 'nat-spoils-the-checksum-of-a-tunnel-over-ipv6',
    says: 'In IPv6, too, NAT of a datagram around what a socket has sent spoils its checksum: conntrack at the other end of a tunnel that it is sent into makes INVALID of it.',
    case: {
      topology: dualStack({
        overlay: 'vxlan6',
        nodes: [...TWO_NODES_WITH_STACKS.nodes, { ...NODE_3, pods: [{ name: 'p9', ip: '10.244.3.2' }] }],
      }),
      rules: {
        n1: {
          ...{ backend: 'legacy', text: '' },
          text6: table('nat', [
            'OUTPUT -d fd00:192:168:1::2 -p udp -m udp --dport 8472 -j DNAT --to-destination fd00:10:244:3::2',
          ]),
        },
        n3: {
          ...{ backend: 'legacy', text: '' },
          text6: table('mangle', [
            'PREROUTING -d fd00:10:244:3::2 -m conntrack --ctstate NEW',
            'PREROUTING -d fd00:10:244:3::2 -m conntrack --ctstate INVALID',
          ]),
        },
      },
      packets: [
        udp6,
        { socket: { do: 'connect', in: 'p1', proto: 'udp', ip: udp6.dst, port: 53, sport: 40_001, timeoutMs: 300 } },
      ],
    },
    watch: { counters: { NEW: 'n3 mangle PREROUTING 1', INVALID: 'n3 mangle PREROUTING 2' } },
    shows: [
      '1: p9 gets udp fd00:192:168:1::1:port 1 of 1024-65535 > fd00:10:244:3::2:8472 ttl 63',
      '2: sent',
      '2: p9 gets udp fd00:192:168:1::1:port 2 of 1024-65535 > fd00:10:244:3::2:8472 ttl 63',
      'counted: 1 NEW, 1 INVALID',
    ],
  },
  {
    name: 'vxlan-over-ipv6-and-icmp-in-it',
    says: 'A tunnel over IPv6 whose datagram is rejected causes an ICMPv6 error, but not if there is one of ICMPv6 in it; one of IPv4 in it is none.',
    case: {
      topology: OVER_IPV6,
      rules: {
        n2: {
          ...{ backend: 'legacy', text: '' },
          text6: table('filter', ['OUTPUT -p udp -m udp --dport 8472 -j REJECT', 'INPUT -p ipv6-icmp']),
        },
      },
      packets: [
        { ...udp6, ttl: 2 },
        { ...udp, ttl: 2 },
      ],
    },
    watch: { counters: { 'tunnels rejected': 'n2 filter OUTPUT 1', 'errors received': 'n2 filter INPUT 1' } },
    shows: ['1: nothing arrives', '2: nothing arrives', 'counted: 2 tunnels rejected, 1 errors received'],
  },
  {
    name: 'vxlan-tells-of-congestion',
    says: 'Congestion that a datagram has met is told to the packet in it; one that knows no ECN is dropped.',
    case: {
      topology: dualStack({ ...TWO_NODES, overlay: 'vxlan-by-family' }),
      rules: {
        n1: inBothFamilies(table('mangle', ['OUTPUT -p udp -m udp --dport 8472 -j TOS --set-tos 0x03/0x03'])),
        n2: inBothFamilies(table('mangle', ['FORWARD -m tos --tos 0x03/0x03'])),
      },
      packets: [udp, udp6].flatMap((packet) => [packet, { ...packet, tos: 2 }]),
    },
    watch: { counters: { 'of IPv4': 'n2 mangle FORWARD 1', 'of IPv6': 'n2 mangle6 FORWARD 1' } },
    shows: [
      '1: nothing arrives',
      '2: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62',
      '3: nothing arrives',
      '4: p3 gets udp fd00:10:244:1::2:40000 > fd00:10:244:2::2:53 ttl 62',
      'counted: 1 of IPv4, 1 of IPv6',
    ],
  },
];
