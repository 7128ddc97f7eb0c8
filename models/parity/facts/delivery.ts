// How packets get on: bridges, routes, TTL, neighbors, filters of addresses, local senders.

import type { ParityNode, Topology } from '../case.ts';
import {
  dualStack,
  type Fact,
  fromP2,
  fromP3,
  TWO_NODES,
  TWO_NODES_WITH_STACKS,
  table,
  tcp,
  twoNodes,
  udp,
  udp6,
} from './fact.ts';

const ONE_NODE = {
  nodes: [
    {
      name: 'n1',
      podCIDR: '10.244.1.0/24',
      pods: ['p1', 'p2', 'p3'].map((name, i) => ({ name, ip: `10.244.1.${i + 2}` })),
    },
  ],
};
const service = (endpoint: string) => ({
  n1: {
    backend: 'legacy' as const,
    text: table('nat', [`PREROUTING -d 10.96.0.1/32 -j DNAT --to-destination ${endpoint}`]),
  },
});
const NO_BRIDGE_RULES = { sysctls: { 'net.bridge.bridge-nf-call-iptables': 0 } };
const synTo = { do: 'connect', in: 'p1', proto: 'tcp', ip: '10.244.2.2', sport: 40_000 } as const;
const toP2 = { ...udp, dst: '10.244.1.3' };

/** p1 says it is an address that is reached by another device; that nobody has a route to; its own. */
const SPOOFED = ['10.244.2.9', '203.0.113.9', '10.244.1.2'].map((src) => ({ ...udp, src }));

const reversePath = ({ filter, ...fact }: Omit<Fact, 'case'> & { readonly filter: number }): Fact => ({
  ...fact,
  case: { topology: twoNodes({ sysctls: { 'net.ipv4.conf.all.rp_filter': filter } }), packets: SPOOFED },
});

/** n1 calls its own node port by 127.0.0.1; the endpoint is p1. */
const localNodePort = ({
  routeLocalnet,
  masquerade,
  ...fact
}: Omit<Fact, 'case' | 'watch'> & { readonly routeLocalnet: number; readonly masquerade: boolean }): Fact => ({
  ...fact,
  case: {
    topology: {
      nodes: TWO_NODES_WITH_STACKS.nodes.map((node) => ({
        ...node,
        sysctls: { 'net.ipv4.conf.all.route_localnet': routeLocalnet },
      })),
    },
    rules: {
      n1: {
        backend: 'legacy',
        text: table('nat', [
          'OUTPUT -d 127.0.0.1/32 -p udp -m udp --dport 30053 -j DNAT --to-destination 10.244.1.2:53',
          ...(masquerade ? ['POSTROUTING -s 127.0.0.0/8 ! -o lo -j MASQUERADE'] : []),
        ]),
      },
    },
    packets: [
      { socket: { do: 'listen', in: 'p1', proto: 'udp', port: 53 } },
      { socket: { do: 'connect', in: 'n1', proto: 'udp', ip: '127.0.0.1', port: 30_053, sport: 40_000 } },
    ],
  },
  watch: { connectionsOf: 'n1' },
});

/** n1 calls a Service; if nothing else is said its endpoint is p1. */
const localService = ({
  topology,
  endpoint = '10.244.1.2',
  ...fact
}: Omit<Fact, 'case' | 'watch'> & { readonly topology: Topology; readonly endpoint?: string }): Fact => ({
  ...fact,
  case: {
    topology,
    rules: {
      n1: {
        backend: 'legacy',
        text: table('nat', [`OUTPUT -d 10.96.0.1/32 -j DNAT --to-destination ${endpoint}`]) + table('filter', []),
      },
    },
    packets: [
      { socket: { do: 'listen', in: 'p1', proto: 'tcp', port: 80 } },
      { socket: { do: 'connect', in: 'n1', proto: 'tcp', ip: '10.96.0.1', port: 80, sport: 40_000 } },
    ],
  },
  watch: { counters: { 'in nat OUTPUT': 'n1 nat OUTPUT 1', 'in filter OUTPUT': 'n1 filter OUTPUT policy' } },
});

export const DELIVERY: readonly Fact[] = [
  {
    name: 'ttl-on-every-way',
    says: 'TTL: route −1, bridge 0; cross-node pod-pod arrives with 62.',
    case: { topology: TWO_NODES, packets: [udp, toP2] },
    shows: [
      '1: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62',
      '2: p2 gets udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 64',
    ],
  },
  {
    name: 'ttl-of-bridged-dnat',
    says: 'TTL: bridged DNAT 0.',
    case: { topology: TWO_NODES, rules: service('10.244.1.3'), packets: [{ ...udp, dst: '10.96.0.1' }] },
    shows: ['1: p2 gets udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 64'],
  },
  {
    name: 'ttl-of-routed-pods',
    says: 'TTL: route −1.',
    case: { topology: twoNodes({ bridge: false }), packets: [toP2, udp] },
    shows: [
      '1: p2 gets udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 63',
      '2: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62',
    ],
  },
  {
    name: 'ttl-runs-out',
    says: 'TTL 1 → ICMP 11/0 from the gateway.',
    case: {
      topology: TWO_NODES,
      packets: [
        { ...udp, ttl: 1 },
        { ...udp, ttl: 2 },
        { ...toP2, ttl: 1 },
      ],
    },
    shows: [
      '1: p1 gets icmp 11/0 10.244.1.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 64',
      '2: p1 gets icmp 11/0 192.168.1.2 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 63',
      '3: p2 gets udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 1',
    ],
  },
  {
    name: 'no-route-for-a-service-without-rules',
    says: 'No route for an un-DNATed VIP: ICMP 3/0 from the gateway address.',
    case: {
      topology: TWO_NODES,
      packets: [
        { ...udp, dst: '10.96.0.1' },
        { ...tcp, dst: '10.96.0.1' },
      ],
    },
    shows: [
      '1: p1 gets icmp 3/0 10.244.1.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.96.0.1:53 ttl 64',
      '2: p1 gets icmp 3/0 10.244.1.1 > 10.244.1.2 about tcp [S] 10.244.1.2:40000 > 10.96.0.1:80 ttl 64',
    ],
  },
  {
    name: 'redirect-when-routed-back-to-the-bridge',
    says: 'Routing in and out of the same bridge emits ICMP redirect 5/1 (send_redirects=1).',
    case: { topology: twoNodes(NO_BRIDGE_RULES), packets: [{ ...toP2, dmac: 'n1/cbr0' }] },
    shows: [
      '1: p1 gets icmp 5/1 10.244.1.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 64',
      '1: p2 gets udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 63',
    ],
  },
  {
    name: 'copies-of-a-frame-share-their-connection',
    says: 'A bridge floods to the newest port first; the second copy meets rules as one of the translated connection.',
    case: {
      topology: ONE_NODE,
      rules: {
        n1: {
          backend: 'legacy',
          text:
            table('nat', ['POSTROUTING -j MASQUERADE']) +
            table('filter', [
              'FORWARD -m conntrack --ctstate NEW',
              'FORWARD -m conntrack --ctstate SNAT',
              'FORWARD -m physdev --physdev-out veth2 -m conntrack --ctstate SNAT',
            ]),
        },
      },
      packets: [{ ...udp, dst: '10.96.0.1', dmac: 'ff:ff:ff:ff:ff:ff' }],
    },
    watch: {
      connectionsOf: 'n1',
      counters: { NEW: 'n1 filter FORWARD 1', SNAT: 'n1 filter FORWARD 2', 'SNAT for p3': 'n1 filter FORWARD 3' },
    },
    shows: [
      '1: p2 gets udp 10.244.1.1:40000 > 10.96.0.1:53 ttl 64',
      '1: p3 gets udp 10.244.1.1:40000 > 10.96.0.1:53 ttl 64',
      'udp 10.244.1.2:40000 > 10.96.0.1:53, answers 10.96.0.1:53 > 10.244.1.1:40000, 30 s UNREPLIED',
      'counted: 2 NEW, 1 SNAT',
    ],
  },
  {
    name: 'icmpv6-redirect-is-related-if-it-does-not-know-the-neighbor',
    says: 'An ICMPv6 redirect belongs to the connection of what it is about, unless the MAC of the target comes first in it.',
    case: {
      topology: dualStack(TWO_NODES),
      rules: {
        n1: {
          backend: 'legacy',
          text: table('mangle', []),
          text6: table('mangle', [
            'POSTROUTING -p icmpv6 --icmpv6-type redirect -m conntrack --ctstate RELATED',
            'POSTROUTING -p icmpv6 --icmpv6-type redirect -m conntrack --ctstate INVALID',
          ]),
        },
      },
      packets: ['fd00:10:244:1::77', 'fd00:10:244:1::3'].flatMap((dst) => {
        const packet = { ...udp6, dst, dmac: 'n1/cbr0' };
        return [packet, { waitMs: 1100 }, packet, { waitMs: 1100 }];
      }),
    },
    watch: { counters: { RELATED: 'n1 mangle6 POSTROUTING 1', INVALID: 'n1 mangle6 POSTROUTING 2' }, steps: false },
    shows: ['counted: 1 RELATED, 3 INVALID'],
  },
  {
    name: 'no-redirect-for-a-translated-flow',
    says: 'An ICMP redirect about a translated flow is dropped: it would lead past the translation.',
    case: {
      topology: twoNodes(NO_BRIDGE_RULES),
      rules: service('10.244.1.3'),
      packets: [{ ...udp, dst: '10.96.0.1' }],
    },
    shows: ['1: p2 gets udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 63'],
  },
  {
    name: 'bridges-flood-learn-and-do-not-return',
    says: 'Unknown unicast and broadcast flooded to all ports but the ingress; learned from any frame; destination known on ingress port → dropped (hairpin off).',
    case: {
      topology: { ...ONE_NODE, cold: true },
      packets: [
        toP2,
        { ...toP2, ...fromP2, dst: '10.244.1.2' },
        toP2,
        { ...toP2, dmac: 'ff:ff:ff:ff:ff:ff' },
        { ...toP2, dmac: 'p1/eth0' },
      ],
    },
    shows: [
      '1: p2 gets udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 64',
      '1: p3 gets udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 64',
      '2: p1 gets udp 10.244.1.3:40000 > 10.244.1.2:53 ttl 64',
      '3: p2 gets udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 64',
      '4: p2 gets udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 64',
      '4: p3 gets udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 64',
      '5: nothing arrives',
    ],
  },
  {
    name: 'hairpin-mode-returns-frames',
    says: 'Flooded also back to the ingress if hairpin is on; destination known on ingress port → returned (hairpin on).',
    case: {
      topology: {
        cold: true,
        nodes: ONE_NODE.nodes.map((node) => ({ ...node, pods: node.pods.map((pod) => ({ ...pod, hairpin: true })) })),
      },
      packets: [toP2, { ...toP2, dmac: 'p1/eth0' }],
    },
    shows: [
      '1: p1 gets udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 64',
      '1: p2 gets udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 64',
      '1: p3 gets udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 64',
      '2: p1 gets udp 10.244.1.2:40000 > 10.244.1.3:53 ttl 64',
    ],
  },
  {
    name: 'neighbor-that-does-not-answer',
    says: 'INCOMPLETE, ARP at 0, 1.05, 2.08 s, FAILED and ICMP 3/1 at 3.08 s; packets queue meanwhile.',
    case: {
      topology: TWO_NODES,
      packets: [
        { ...udp, dst: '10.244.2.77' },
        { ...udp, dst: '10.244.2.77', sport: 40_001 },
        { waitMs: 2_800 },
        { waitMs: 900 },
      ],
    },
    shows: [
      '1: nothing arrives',
      '2: nothing arrives',
      '3: nothing arrives',
      '4: p1 gets icmp 3/1 192.168.1.2 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.244.2.77:53 ttl 63',
      '4: p1 gets icmp 3/1 192.168.1.2 > 10.244.1.2 about udp 10.244.1.2:40001 > 10.244.2.77:53 ttl 63',
    ],
  },
  {
    name: 'packets-wait-for-a-neighbor-that-answers',
    says: 'Packets wait while a neighbor is resolved.',
    case: { topology: { ...TWO_NODES, cold: true }, packets: [udp, { ...udp, ...fromP3, dst: '10.244.1.3' }] },
    shows: [
      '1: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62',
      '2: p2 gets udp 10.244.2.2:40000 > 10.244.1.3:53 ttl 62',
    ],
  },
  reversePath({
    name: 'rp-filter-off',
    says: 'rp_filter 0 drops nothing.',
    filter: 0,
    shows: [
      '1: p3 gets udp 10.244.2.9:40000 > 10.244.2.2:53 ttl 62',
      '2: p3 gets udp 203.0.113.9:40000 > 10.244.2.2:53 ttl 62',
      '3: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62',
    ],
  }),
  reversePath({
    name: 'rp-filter-strict',
    says: 'rp_filter 1 drops spoofed sources with another reverse device.',
    filter: 1,
    shows: ['1: nothing arrives', '2: nothing arrives', '3: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62'],
  }),
  reversePath({
    name: 'rp-filter-loose',
    says: 'rp_filter 2 drops only those without any route.',
    filter: 2,
    shows: [
      '1: p3 gets udp 10.244.2.9:40000 > 10.244.2.2:53 ttl 62',
      '2: nothing arrives',
      '3: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62',
    ],
  }),
  packetToLoopback({
    name: 'packet-to-loopback-without-route-localnet',
    says: 'External packet to 127.0.0.1: dropped with route_localnet 0.',
    routeLocalnet: 0,
    shows: ['1: nothing arrives', 'counted: nothing'],
  }),
  packetToLoopback({
    name: 'packet-to-loopback-with-route-localnet',
    says: 'External packet to 127.0.0.1: delivered with route_localnet 1.',
    routeLocalnet: 1,
    shows: [
      '1: p1 gets icmp 3/3 127.0.0.1 > 10.244.1.2 about udp 10.244.1.2:40000 > 127.0.0.1:53 ttl 64',
      'counted: 1 in INPUT',
    ],
  }),
  localNodePort({
    name: 'local-node-port-without-route-localnet',
    says: '127.0.0.1 NodePort: route_localnet=0 → EINVAL.',
    routeLocalnet: 0,
    masquerade: false,
    shows: ['2: EINVAL'],
  }),
  localNodePort({
    name: 'local-node-port-without-masquerade',
    says: '127.0.0.1 NodePort: 1 without masquerade → entry, no answer (the packet is a martian where it arrives).',
    routeLocalnet: 1,
    masquerade: false,
    shows: [
      '2: sent',
      '2: p1 gets udp 127.0.0.1:40000 > 10.244.1.2:53 ttl 64',
      'udp 127.0.0.1:40000 > 127.0.0.1:30053, answers 10.244.1.2:53 > 127.0.0.1:40000, 30 s UNREPLIED',
    ],
  }),
  localNodePort({
    name: 'local-node-port',
    says: '127.0.0.1 NodePort: 1 + masquerade → works (src 10.244.1.1).',
    routeLocalnet: 1,
    masquerade: true,
    shows: [
      '2: answered',
      '2: p1 gets udp 10.244.1.1:40000 > 10.244.1.2:53 ttl 64',
      'udp 127.0.0.1:40000 > 127.0.0.1:30053, answers 10.244.1.2:53 > 10.244.1.1:40000, 30 s',
    ],
  }),
  localService({
    name: 'local-sender-without-a-route-to-the-service',
    says: 'Local-out: without a route to the VIP, send() fails ENETUNREACH before OUTPUT.',
    topology: TWO_NODES_WITH_STACKS,
    shows: ['2: ENETUNREACH', 'counted: nothing'],
  }),
  localService({
    name: 'local-sender-keeps-the-source-of-the-first-route',
    says: 'Local-out: with a default route DNAT re-routes (goes to cbr0, nothing on eth0) but the source stays that of the first lookup (192.168.1.1).',
    topology: {
      nodes: TWO_NODES_WITH_STACKS.nodes.map((node) =>
        node.name === 'n1' ? { ...node, routes: [{ to: 'default', via: '192.168.1.2', dev: 'eth0' }] } : node,
      ),
    },
    shows: [
      '2: connected',
      '2: p1 gets tcp [S] 192.168.1.1:40000 > 10.244.1.2:80 ttl 64',
      '2: p1 gets tcp [A] 192.168.1.1:40000 > 10.244.1.2:80 ttl 64',
      'counted: 1 in nat OUTPUT, 2 in filter OUTPUT',
    ],
  }),
  localService({
    name: 'local-sender-loses-its-route-by-dnat',
    says: 'Local-out: what DNAT gives an address without a route ends there, before filter OUTPUT; connect() waits for an answer.',
    topology: {
      nodes: TWO_NODES_WITH_STACKS.nodes.map((node) =>
        node.name === 'n1' ? { ...node, routes: [{ to: '10.96.0.0/16', via: '192.168.1.2', dev: 'eth0' }] } : node,
      ),
    },
    endpoint: '203.0.113.9',
    shows: ['2: ETIMEDOUT', 'counted: 1 in nat OUTPUT'],
  }),
  {
    name: 'tcpmss-of-bridged-syns',
    says: 'TCPMSS --clamp-mss-to-pmtu goes by the MTU of the bridge for bridged SYNs, also without a route to where they go; a SYN without the option gets it (4 bytes more).',
    case: {
      topology: TWO_NODES,
      rules: {
        n1: {
          backend: 'legacy',
          text: table('mangle', ['FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu']),
        },
      },
      packets: [{ ...tcp, dst: '203.0.113.9', dmac: 'p2/eth0' }],
    },
    shows: ['1: p2 gets tcp [S] 10.244.1.2:40000 > 203.0.113.9:80 ttl 64'],
  },
  {
    name: 'a-raw-socket-passes-output',
    says: 'What a raw socket sends passes OUTPUT: it is translated, or not permitted. SCTP is translated like others, and whoever does not speak it says so.',
    case: {
      topology: twoNodes({ routes: [{ to: 'default', via: '192.168.1.2', dev: 'eth0' }] }),
      rules: {
        n1: {
          backend: 'legacy',
          text:
            table('nat', ['OUTPUT -d 10.96.0.10/32 -j DNAT --to-destination 10.244.2.2']) +
            table('filter', ['OUTPUT -d 10.96.0.11/32 -j REJECT']),
        },
      },
      packets: ['10.96.0.10', '10.96.0.11'].map((dst) => ({
        ...{
          from: 'n1',
          local: true,
          proto: 'sctp',
          src: '192.168.1.1',
          dst,
          sport: 40_000,
          dport: 80,
          autoreply: true,
        },
      })),
    },
    shows: [
      '1: p3 gets sctp 192.168.1.1:40000 > 10.244.2.2:80 ttl 63',
      '1, reply: p3 gets icmp 3/2 192.168.1.1 > 10.244.2.2 about sctp 10.244.2.2:80 > 192.168.1.1:40000 ttl 63',
      '2: EPERM',
    ],
  },
  proxyArp({
    name: 'proxy-arp-answers-where-a-route-leads-elsewhere',
    says: 'proxy_arp answers only if a route to the asked address (169.254.1.1: default route) leads elsewhere.',
    routes: [{ to: 'default', via: '192.168.1.2', dev: 'eth0' }],
    shows: [
      '2: answered',
      '2: p1 gets udp 10.244.2.2:53 > 10.244.1.2:40000 ttl 62',
      '2: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62',
    ],
  }),
  proxyArp({
    name: 'proxy-arp-is-silent-without-a-route',
    says: 'proxy_arp does not answer for an address to which no route leads.',
    routes: [],
    shows: ['2: sent'],
  }),
  {
    name: 'syn-retransmits',
    says: 'SYN retransmits (6.x, tcp_syn_linear_timeouts=4): 0, 1, 2, 3, 4, 5, 7 s.',
    case: {
      // p3 hears them and says nothing.
      topology: { nodes: [TWO_NODES_WITH_STACKS.nodes[0]!, TWO_NODES.nodes[1]!] },
      packets: [6_500, 7_500].map((timeoutMs, i) => ({
        socket: { ...synTo, port: 80 + i, timeoutMs },
      })),
    },
    shows: [
      '1: ETIMEDOUT',
      '1: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62',
      '1: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62',
      '1: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62',
      '1: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62',
      '1: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62',
      '1: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62',
      '2: ETIMEDOUT',
      '2: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:81 ttl 62',
      '2: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:81 ttl 62',
      '2: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:81 ttl 62',
      '2: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:81 ttl 62',
      '2: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:81 ttl 62',
      '2: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:81 ttl 62',
      '2: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:81 ttl 62',
    ],
  },
];

function packetToLoopback({
  routeLocalnet,
  ...fact
}: Omit<Fact, 'case' | 'watch'> & { readonly routeLocalnet: number }): Fact {
  return {
    ...fact,
    case: {
      topology: twoNodes({ sysctls: { 'net.ipv4.conf.all.route_localnet': routeLocalnet } }),
      rules: { n1: { backend: 'legacy', text: table('filter', ['INPUT -d 127.0.0.1/32']) } },
      packets: [{ ...udp, dst: '127.0.0.1' }],
    },
    watch: { counters: { 'in INPUT': 'n1 filter INPUT 1' } },
  };
}

/** p1 asks who has 169.254.1.1. */
function proxyArp({ routes, ...fact }: Omit<Fact, 'case'> & Required<Pick<ParityNode, 'routes'>>): Fact {
  const [n1, n2] = TWO_NODES_WITH_STACKS.nodes;
  return {
    ...fact,
    case: {
      topology: { cold: true, nodes: [{ ...n1!, bridge: false, routes }, n2!] },
      packets: [
        { socket: { do: 'listen', in: 'p3', proto: 'udp', port: 53 } },
        {
          socket: { do: 'connect', in: 'p1', proto: 'udp', ip: '10.244.2.2', port: 53, sport: 40_000, timeoutMs: 500 },
        },
      ],
    },
  };
}
