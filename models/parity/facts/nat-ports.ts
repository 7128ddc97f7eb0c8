// Which source port a connection gets when its address is translated, and which address.

import type { ParityCase, RuleBackend } from '../case.ts';
import { type Fact, fromP2, fromP3, TWO_NODES, table, tcp, twoNodes, udp, withBackends } from './fact.ts';

const MASQUERADE = table('nat', ['POSTROUTING -s 10.244.1.0/24 -d 10.244.2.0/24 -j MASQUERADE']);
const masquerade = { n1: { backend: 'legacy', text: MASQUERADE } } as const;

const legacy = (...rules: string[]) => ({ n1: { backend: 'legacy', text: table('nat', rules) } }) as const;

/** A flow to a Service, one to its backend while no nat table is in use, and the first again. */
function withoutNatTable(backend: RuleBackend): ParityCase {
  const nat = table('nat', [
    'PREROUTING -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.2.2',
  ]);
  const tracking = table('filter', ['FORWARD -m conntrack --ctstate INVALID -j DROP']);
  const toService = { ...tcp, dst: '10.96.0.10' };
  return {
    topology: TWO_NODES,
    rules: { n1: { backend, text: nat } },
    packets: [toService, { rules: { n1: { backend, text: tracking } } }, tcp, toService],
  };
}

export const NAT_PORTS: readonly Fact[] = [
  ...withBackends({
    name: 'snat-keeps-a-free-port',
    says: 'Free port is kept (also 53, 600).',
    case: {
      topology: TWO_NODES,
      rules: masquerade,
      packets: [udp, { ...udp, sport: 53 }, { ...udp, sport: 600 }],
    },
    shows: [
      '1: p3 gets udp 192.168.1.1:40000 > 10.244.2.2:53 ttl 62',
      '2: p3 gets udp 192.168.1.1:53 > 10.244.2.2:53 ttl 62',
      '3: p3 gets udp 192.168.1.1:600 > 10.244.2.2:53 ttl 62',
    ],
  }),
  ...withBackends({
    name: 'snat-clash-stays-in-the-class-of-the-port',
    says: 'Clash (same proto, dst, dport): random free port in the class of the original: <512 → 1-511; 512-1023 → 600-1023; ≥1024 → 1024-65535.',
    case: {
      topology: TWO_NODES,
      rules: masquerade,
      packets: [53, 511, 600, 1023, 1024, 40_000].flatMap((sport) => [
        { ...udp, dport: 80, sport },
        { ...udp, ...fromP2, dport: 80, sport },
      ]),
    },
    shows: [
      '1: p3 gets udp 192.168.1.1:53 > 10.244.2.2:80 ttl 62',
      '2: p3 gets udp 192.168.1.1:port 1 of 1-511 > 10.244.2.2:80 ttl 62',
      '3: p3 gets udp 192.168.1.1:511 > 10.244.2.2:80 ttl 62',
      '4: p3 gets udp 192.168.1.1:port 2 of 1-511 > 10.244.2.2:80 ttl 62',
      '5: p3 gets udp 192.168.1.1:600 > 10.244.2.2:80 ttl 62',
      '6: p3 gets udp 192.168.1.1:port 3 of 600-1023 > 10.244.2.2:80 ttl 62',
      '7: p3 gets udp 192.168.1.1:1023 > 10.244.2.2:80 ttl 62',
      '8: p3 gets udp 192.168.1.1:port 4 of 600-1023 > 10.244.2.2:80 ttl 62',
      '9: p3 gets udp 192.168.1.1:1024 > 10.244.2.2:80 ttl 62',
      '10: p3 gets udp 192.168.1.1:port 5 of 1024-65535 > 10.244.2.2:80 ttl 62',
      '11: p3 gets udp 192.168.1.1:40000 > 10.244.2.2:80 ttl 62',
      '12: p3 gets udp 192.168.1.1:port 6 of 1024-65535 > 10.244.2.2:80 ttl 62',
    ],
  }),
  ...withBackends({
    name: 'snat-reuses-what-it-chose-for-the-source',
    says: 'Once p2:40000 was remapped for :80, its later flows from the same source port to :81, :82 reuse that port though 40000 would be free (by-source table).',
    case: {
      topology: TWO_NODES,
      rules: masquerade,
      packets: [
        { ...udp, dport: 80 },
        { ...udp, ...fromP2, dport: 80, autoreply: true },
        { ...udp, ...fromP2, dport: 81, autoreply: true },
        { ...udp, ...fromP2, dport: 82 },
      ],
    },
    shows: [
      '1: p3 gets udp 192.168.1.1:40000 > 10.244.2.2:80 ttl 62',
      '2: p3 gets udp 192.168.1.1:port 1 of 1024-65535 > 10.244.2.2:80 ttl 62',
      '2, reply: p2 gets udp 10.244.2.2:80 > 10.244.1.3:40000 ttl 62',
      '3: p3 gets udp 192.168.1.1:port 1 of 1024-65535 > 10.244.2.2:81 ttl 62',
      '3, reply: p2 gets udp 10.244.2.2:81 > 10.244.1.3:40000 ttl 62',
      '4: p3 gets udp 192.168.1.1:port 1 of 1024-65535 > 10.244.2.2:82 ttl 62',
    ],
  }),
  ...['--random', '--random-fully'].flatMap((option) =>
    withBackends({
      name: `snat${option.slice(1)}-chooses-anew-for-every-flow`,
      says: '--random-fully never tries to keep, new random port per flow; from 53 → 1-511. Plain --random likewise per flow. No reuse by source.',
      case: {
        topology: TWO_NODES,
        rules: legacy(`POSTROUTING -s 10.244.1.0/24 -d 10.244.2.0/24 -j MASQUERADE ${option}`),
        packets: [80, 81, 82].flatMap((dport) => [
          { ...udp, dport },
          { ...udp, sport: 53, dport },
        ]),
      },
      shows: [
        '1: p3 gets udp 192.168.1.1:port 1 of 1024-65535 > 10.244.2.2:80 ttl 62',
        '2: p3 gets udp 192.168.1.1:port 2 of 1-511 > 10.244.2.2:80 ttl 62',
        '3: p3 gets udp 192.168.1.1:port 3 of 1024-65535 > 10.244.2.2:81 ttl 62',
        '4: p3 gets udp 192.168.1.1:port 4 of 1-511 > 10.244.2.2:81 ttl 62',
        '5: p3 gets udp 192.168.1.1:port 5 of 1024-65535 > 10.244.2.2:82 ttl 62',
        '6: p3 gets udp 192.168.1.1:port 6 of 1-511 > 10.244.2.2:82 ttl 62',
      ],
    }),
  ),
  ...withBackends({
    name: 'snat-range-of-ports-runs-out',
    says: 'Explicit range 5000-5003 with 6 flows to one dst: 4 get distinct ports in random start order, 5th and 6th packet are dropped silently.',
    case: {
      topology: TWO_NODES,
      rules: legacy('POSTROUTING -s 10.244.1.0/24 -p udp -j SNAT --to-source 192.168.1.1:5000-5003'),
      packets: [1, 2, 3, 4, 5, 6].map((n) => ({ ...udp, sport: 40_000 + n })),
    },
    shows: [
      '1: p3 gets udp 192.168.1.1:port 1 of 5000-5003 > 10.244.2.2:53 ttl 62',
      '2: p3 gets udp 192.168.1.1:port 2 of 5000-5003 > 10.244.2.2:53 ttl 62',
      '3: p3 gets udp 192.168.1.1:port 3 of 5000-5003 > 10.244.2.2:53 ttl 62',
      '4: p3 gets udp 192.168.1.1:port 4 of 5000-5003 > 10.244.2.2:53 ttl 62',
      '5: nothing arrives',
      '6: nothing arrives',
    ],
  }),
  ...withBackends({
    name: 'snat-range-keeps-a-port-in-it',
    says: 'A port already in range is kept.',
    case: {
      topology: TWO_NODES,
      rules: legacy('POSTROUTING -s 10.244.1.0/24 -p udp -j SNAT --to-source 192.168.1.1:5000-5003'),
      packets: [
        { ...udp, sport: 5002 },
        { ...udp, ...fromP2, sport: 5002, dport: 54 },
      ],
    },
    shows: [
      '1: p3 gets udp 192.168.1.1:5002 > 10.244.2.2:53 ttl 62',
      '2: p3 gets udp 192.168.1.1:5002 > 10.244.2.2:54 ttl 62',
    ],
  }),
  ...withBackends({
    name: 'dnat-without-port-keeps-it',
    says: 'DNAT rule without port keeps dport.',
    case: {
      topology: TWO_NODES,
      rules: legacy('PREROUTING -d 10.96.0.10/32 -p udp -j DNAT --to-destination 10.244.2.2'),
      packets: [{ ...udp, dst: '10.96.0.10', dport: 5353, autoreply: true }],
    },
    shows: [
      '1: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:5353 ttl 62',
      '1, reply: p1 gets udp 10.96.0.10:5353 > 10.244.1.2:40000 ttl 62',
    ],
  }),
  ...withBackends({
    name: 'dnat-to-a-range-is-a-hash-of-the-client',
    says: 'DNAT to an address range: fixed hash of (src,dst): one client always the same backend.',
    case: {
      topology: TWO_NODES,
      rules: legacy('PREROUTING -d 10.96.0.0/24 -p udp -j DNAT --to-destination 10.244.2.2-10.244.2.3'),
      packets: [
        { ...udp, dst: '10.96.0.10', sport: 40_001 },
        { ...udp, dst: '10.96.0.10', sport: 40_002 },
        { ...udp, dst: '10.96.0.10', sport: 40_003, dport: 54 },
        { ...udp, ...fromP2, dst: '10.96.0.10' },
        { ...udp, dst: '10.96.0.11' },
        { ...udp, dst: '10.96.0.12' },
        { ...udp, dst: '10.96.0.13' },
      ],
    },
    shows: [
      '1: p4 gets udp 10.244.1.2:40001 > 10.244.2.3:53 ttl 62',
      '2: p4 gets udp 10.244.1.2:40002 > 10.244.2.3:53 ttl 62',
      '3: p4 gets udp 10.244.1.2:40003 > 10.244.2.3:54 ttl 62',
      '4: p3 gets udp 10.244.1.3:40000 > 10.244.2.2:53 ttl 62',
      '5: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62',
      '6: p3 gets udp 10.244.1.2:port 1 of 1024-65535 > 10.244.2.2:53 ttl 62',
      '7: p3 gets udp 10.244.1.2:port 2 of 1024-65535 > 10.244.2.2:53 ttl 62',
    ],
  }),
  {
    name: 'time-wait-blocks-its-port',
    says: 'A TIME_WAIT entry still blocks its port: the next client with the same sport got a new one.',
    case: {
      topology: TWO_NODES,
      rules: masquerade,
      packets: [
        { ...tcp, autoreply: true },
        { ...tcp, flags: 'A', seq: 1001, ack: 501 },
        { ...tcp, flags: 'FA', seq: 1001, ack: 501 },
        { ...tcp, ...fromP3, dst: '192.168.1.1', sport: 80, dport: 40_000, flags: 'FA', seq: 501, ack: 1002 },
        { ...tcp, flags: 'A', seq: 1002, ack: 502 },
        { ...tcp, ...fromP2 },
      ],
    },
    shows: [
      '1: p3 gets tcp [S] 192.168.1.1:40000 > 10.244.2.2:80 ttl 62',
      '1, reply: p1 gets tcp [SA] 10.244.2.2:80 > 10.244.1.2:40000 ttl 62',
      '2: p3 gets tcp [A] 192.168.1.1:40000 > 10.244.2.2:80 ttl 62',
      '3: p3 gets tcp [AF] 192.168.1.1:40000 > 10.244.2.2:80 ttl 62',
      '4: p1 gets tcp [AF] 10.244.2.2:80 > 10.244.1.2:40000 ttl 62',
      '5: p3 gets tcp [A] 192.168.1.1:40000 > 10.244.2.2:80 ttl 62',
      '6: p3 gets tcp [S] 192.168.1.1:port 1 of 1024-65535 > 10.244.2.2:80 ttl 62',
      'tcp 10.244.1.2:40000 > 10.244.2.2:80, answers 10.244.2.2:80 > 192.168.1.1:40000, TIME_WAIT 120 s ASSURED',
      'tcp 10.244.1.3:40000 > 10.244.2.2:80, answers 10.244.2.2:80 > 192.168.1.1:port 1 of 1024-65535, SYN_SENT 120 s UNREPLIED',
    ],
    watch: { connectionsOf: 'n1' },
  },
  {
    name: 'masquerade-takes-the-address-of-the-next-hop-s-subnet',
    says: 'MASQUERADE address: address on the out device in the next hop’s subnet (even if not first).',
    case: {
      topology: twoNodes({
        addresses: [{ address: '172.21.0.1/24', dev: 'eth0' }],
        routes: [{ to: '203.0.113.0/24', via: '192.168.1.2', dev: 'eth0' }],
      }),
      rules: legacy('POSTROUTING -o eth0 -j MASQUERADE'),
      packets: [udp, { ...udp, ...fromP2, dst: '10.244.2.3' }],
    },
    shows: [
      '1: p3 gets udp 192.168.1.1:40000 > 10.244.2.2:53 ttl 62',
      '2: p4 gets udp 192.168.1.1:40000 > 10.244.2.3:53 ttl 62',
    ],
  },
  {
    name: 'masquerade-takes-the-first-address-if-none-fits',
    says: 'If none is in the next hop’s subnet, the first one (172.21.0.1 of two).',
    case: {
      topology: {
        fabric: true,
        nodes: [
          {
            name: 'n1',
            ip: '172.21.0.1',
            podCIDR: '10.244.1.0/24',
            addresses: [{ address: '172.22.0.1/24', dev: 'eth0' }],
            routes: [{ to: '10.244.2.0/24', dev: 'eth0' }],
            pods: [{ name: 'p1', ip: '10.244.1.2' }],
          },
          {
            name: 'n2',
            ip: '172.21.0.2',
            podCIDR: '10.244.3.0/24',
            addresses: [{ address: '10.244.2.2/32', dev: 'eth0' }],
            pods: [{ name: 'p3', ip: '10.244.3.2' }],
          },
        ],
      },
      rules: legacy('POSTROUTING -o eth0 -j MASQUERADE'),
      packets: [udp],
    },
    shows: [
      '1: p1 gets icmp 3/3 10.244.2.2 > 10.244.1.2 about udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 63',
      'udp 10.244.1.2:40000 > 10.244.2.2:53, answers 10.244.2.2:53 > 172.21.0.1:40000, 30 s UNREPLIED',
    ],
    watch: { connectionsOf: 'n1' },
  },
  {
    name: 'masquerade-borrows-the-address-of-another-device',
    says: 'If the device has no address, one of another device.',
    case: {
      topology: twoNodes({ bridge: false }),
      rules: legacy('POSTROUTING -j MASQUERADE'),
      packets: [{ ...udp, dst: '10.244.1.3', autoreply: true }],
    },
    shows: [
      '1: p2 gets udp 192.168.1.1:40000 > 10.244.1.3:53 ttl 63',
      '1, reply: p1 gets udp 10.244.1.3:53 > 10.244.1.2:40000 ttl 63',
    ],
  },
  ...withBackends({
    name: 'implicit-snat-keeps-replies-apart',
    says: 'p1:40000 → backend:53 direct and then p1:40000 → VIP:53 (same backend): the second flow’s source port is changed to keep reply tuples unique, with no SNAT rule.',
    case: {
      topology: TWO_NODES,
      rules: legacy('PREROUTING -d 10.96.0.10/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.244.2.2:53'),
      packets: [
        { ...udp, autoreply: true },
        { ...udp, dst: '10.96.0.10', autoreply: true },
      ],
    },
    shows: [
      '1: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62',
      '1, reply: p1 gets udp 10.244.2.2:53 > 10.244.1.2:40000 ttl 62',
      '2: p3 gets udp 10.244.1.2:port 1 of 1024-65535 > 10.244.2.2:53 ttl 62',
      '2, reply: p1 gets udp 10.96.0.10:53 > 10.244.1.2:40000 ttl 62',
      'udp 10.244.1.2:40000 > 10.244.2.2:53 30 s',
      'udp 10.244.1.2:40000 > 10.96.0.10:53, answers 10.244.2.2:53 > 10.244.1.2:port 1 of 1024-65535, 30 s',
    ],
    watch: { connectionsOf: 'n1' },
  }),
  {
    name: 'an-emptied-nat-table-keeps-replies-apart',
    says: 'A nat table of iptables-legacy stays registered when it is emptied: what begins then still gets a source port that keeps reply tuples unique, and older flows stay translated.',
    case: withoutNatTable('legacy'),
    shows: [
      '1: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62',
      '3: p3 gets tcp [S] 10.244.1.2:port 1 of 1024-65535 > 10.244.2.2:80 ttl 62',
      '4: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62',
      'tcp 10.244.1.2:40000 > 10.244.2.2:80, answers 10.244.2.2:80 > 10.244.1.2:port 1 of 1024-65535, SYN_SENT 120 s UNREPLIED',
      'tcp 10.244.1.2:40000 > 10.96.0.10:80, answers 10.244.2.2:80 > 10.244.1.2:40000, SYN_SENT 120 s UNREPLIED',
    ],
    watch: { connectionsOf: 'n1' },
  },
  {
    name: 'a-deleted-nat-table-keeps-nothing-apart',
    says: 'The nat table of iptables-nft is gone when it is deleted: what clashes with the answers of an older flow is dropped as it is confirmed, and older flows are no longer translated.',
    case: withoutNatTable('nft'),
    shows: [
      '1: p3 gets tcp [S] 10.244.1.2:40000 > 10.244.2.2:80 ttl 62',
      '3: nothing arrives',
      '4: p1 gets icmp 3/0 10.244.1.1 > 10.244.1.2 about tcp [S] 10.244.1.2:40000 > 10.96.0.10:80 ttl 64',
      'tcp 10.244.1.2:40000 > 10.96.0.10:80, answers 10.244.2.2:80 > 10.244.1.2:40000, SYN_SENT 120 s UNREPLIED',
    ],
    watch: { connectionsOf: 'n1' },
  },
  ...withBackends({
    name: 'no-tracking-for-an-empty-nat-table',
    says: 'A loaded but empty nat table, or no rule that uses ct, creates no conntrack entries at all.',
    case: {
      topology: TWO_NODES,
      rules: { n1: { backend: 'legacy', text: table('nat', []) + table('filter', ['FORWARD -p udp -j ACCEPT']) } },
      packets: [{ ...udp, autoreply: true }],
    },
    shows: [
      '1: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62',
      '1, reply: p1 gets udp 10.244.2.2:53 > 10.244.1.2:40000 ttl 62',
      'counted: 2 in FORWARD',
    ],
    watch: { connectionsOf: 'n1', counters: { 'in FORWARD': 'n1 filter FORWARD 1' } },
  }),
  ...withBackends({
    name: 'one-rule-that-asks-turns-tracking-on',
    says: 'The first -m conntrack or NAT rule turns tracking on for the whole netns.',
    case: {
      topology: TWO_NODES,
      rules: {
        n1: { backend: 'legacy', text: table('filter', ['OUTPUT -m conntrack --ctstate INVALID -j DROP']) },
      },
      packets: [{ ...udp, autoreply: true }],
    },
    shows: [
      '1: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62',
      '1, reply: p1 gets udp 10.244.2.2:53 > 10.244.1.2:40000 ttl 62',
      'udp 10.244.1.2:40000 > 10.244.2.2:53 30 s',
    ],
    watch: { connectionsOf: 'n1' },
  }),
];
