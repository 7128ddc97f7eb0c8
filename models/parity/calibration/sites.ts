// What is measured: sites, each a small network with paths through it. A path's time is that of everything a packet
// passes on it; what a stage costs is the difference between two paths (formulas.ts).

import type { Lab } from './lab.ts';
import type { ProbePath } from './probe.ts';
import { kubeProxyIptables, linearNft, type ServiceRules } from './rulesets.ts';
import {
  type Between,
  bridged,
  CLIENT_IP,
  direct,
  ROUTER_MAC,
  routed,
  routedTwice,
  SERVER_IP,
  SERVER_MAC,
  SINK_IP,
  SINK_MAC,
  tunnelled,
} from './topologies.ts';

export interface MeasuredPath extends ProbePath {
  /** Packets, round trips or connections per round; 0 for a socket that only has to be there. */
  readonly count: number;
}

export interface Site {
  readonly name: string;
  /** Commands that it cannot be built without. */
  readonly needs: readonly string[];
  build(lab: Lab): Promise<readonly MeasuredPath[]>;
}

/** Numbers of services for which rules are measured. */
export const RULE_COUNTS = [1, 100, 1_000, 5_000, 10_000] as const;
export const QUICK_RULE_COUNTS = [1, 1_000, 10_000] as const;
/** Numbers of connections for which conntrack's lookup is measured. */
export const FLOW_COUNTS = [1, 100, 1_000, 10_000] as const;
/** Sizes of sets and maps. */
export const ELEMENT_COUNTS = [100, 10_000] as const;

export function calibrationSites(ruleCounts: readonly number[]): Site[] {
  return [
    SENDER,
    VETH,
    BRIDGE,
    BRIDGE_NETFILTER,
    ROUTE,
    FRAGMENTS,
    VXLAN,
    ...HOOKS,
    ...CONNTRACK,
    ...SETS,
    ...rules(ruleCounts),
  ];
}

const COUNT = 2_000;
const CONNECTS = 300;
const REQUESTS = 300;

// ── devices and sockets ──────────────────────────────────────────────────────────────────────────────────────────────

/** Into a bridge without ports, which drops: the sending alone. */
const SENDER: Site = {
  name: 'sender',
  needs: [],
  async build(lab) {
    const namespace = await lab.namespace();
    await lab.ip(namespace, ['link add br0 type bridge', 'link set br0 up']);
    return [frames('sender', namespace, { device: 'br0', dmac: SINK_MAC, dst: SERVER_IP })];
  },
};

const VETH: Site = {
  name: 'veth',
  needs: [],
  async build(lab) {
    const { client, server } = await direct(lab);
    return [
      frames('veth', client, { dmac: SINK_MAC, dst: SERVER_IP }),
      { name: 'idle', kind: 'idle', namespace: server, peer: '-', options: { lport: 9999 }, count: 0 },
      frames('veth.fullSocket', client, { dmac: SERVER_MAC, dst: SERVER_IP, dport: 9999 }),
      ...conversations('veth', { client, server }),
    ];
  },
};

const BRIDGE: Site = {
  name: 'bridge',
  needs: ['bridge'],
  async build(lab) {
    const { client } = await bridged(lab, { callIptables: false });
    return [frames('bridge', client, { dmac: SINK_MAC, dst: SERVER_IP })];
  },
};

const BRIDGE_NETFILTER: Site = {
  name: 'bridge.netfilter',
  needs: ['bridge'],
  async build(lab) {
    const { client } = await bridged(lab, { callIptables: true });
    return [frames('bridge.netfilter', client, { dmac: SINK_MAC, dst: SERVER_IP })];
  },
};

const ROUTE: Site = {
  name: 'route',
  needs: [],
  async build(lab) {
    const { client } = await routed(lab);
    const two = await routedTwice(lab);
    return [frames('route', client, {}), frames('route.twice', two.client, {})];
  },
};

/** Two fragments from one large packet: made by a router, passed on by the next one, or put together by it on the way. */
const FRAGMENTS: Site = {
  name: 'fragments',
  needs: ['iptables-legacy-restore'],
  async build(lab) {
    const whole = await routed(lab);
    const cut = await routed(lab);
    await lab.ip(cut.node, ['link set o0 mtu 800']);
    const passed = await routedTwice(lab);
    const joined = await routedTwice(lab);
    for (const [{ first, second }, rules] of [
      [passed, FILTER],
      [joined, TRACKED],
    ] as const) {
      await lab.ip(first, ['link set o0 mtu 800']);
      await lab.run(second, 'iptables-legacy-restore', [], rules);
    }
    return [
      frames('fragments.whole', whole.client, { size: LARGE }),
      frames('fragments.cut', cut.client, { size: LARGE }),
      frames('fragments.passed', passed.client, { size: LARGE }),
      frames('fragments.joined', joined.client, { size: LARGE }),
    ];
  },
};

/** Of a frame that is two at an MTU of 800. */
const LARGE = 1_400;

/** Sent into the tunnel and dropped on the other side's wire; and all the way through. */
const VXLAN: Site = {
  name: 'vxlan',
  needs: ['bridge'],
  async build(lab) {
    const through = await tunnelled(lab);
    const { client, first } = await tunnelled(lab);
    // The outer frame goes to a MAC that nobody has, as the routed one to the sink does.
    await lab.ip(first, [`neigh replace 10.101.0.2 lladdr ${SINK_MAC} dev o0`]);
    return [frames('vxlan', through.client, {}), frames('vxlan.encapsulated', client, {})];
  },
};

// ── hooks ────────────────────────────────────────────────────────────────────────────────────────────────────────────

const FILTER = '*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n';
const FIVE_TABLE_HOOKS = `*raw\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n*mangle\n:FORWARD ACCEPT [0:0]\nCOMMIT\n${FILTER}`;
const FIVE_CHAINS = [1, 2, 3, 4, 5].map((i) => `chain c${i} {\ntype filter hook forward priority ${i};\n}`).join('\n');
const TRACKED = '*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n';

const HOOKS: readonly Site[] = [
  ruledSite('hook.filter', 'iptables-legacy-restore', FILTER, (network) => [
    frames('hook.filter', network.client, {}),
    requests('hook.filter.request', network),
  ]),
  // raw at PREROUTING, mangle at PREROUTING, FORWARD and POSTROUTING, filter at FORWARD.
  ruledSite('hook.five', 'iptables-legacy-restore', FIVE_TABLE_HOOKS, (network) => [
    frames('hook.five', network.client, {}),
  ]),
  ruledSite('hook.nftFive', 'nft', `table ip t {\n${FIVE_CHAINS}\n}\n`, (network) => [
    frames('hook.nftFive', network.client, {}),
  ]),
];

// ── connection tracking ──────────────────────────────────────────────────────────────────────────────────────────────

const nat = (rules: readonly string[]): string =>
  `*nat\n:PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n${rules.map((rule) => `-A ${rule}\n`).join('')}COMMIT\n${TRACKED}`;

const CONNTRACK: readonly Site[] = [
  ...FLOW_COUNTS.map((flows) =>
    ruledSite(`conntrack.${flows}`, 'iptables-legacy-restore', TRACKED, (network) => [
      frames(`conntrack.${flows}`, network.client, flows === 1 ? {} : { flows, count: Math.max(flows, COUNT) }),
      ...(flows === 1 ? [requests('conntrack.request', network)] : []),
    ]),
  ),
  ruledSite(
    'dnat',
    'iptables-legacy-restore',
    nat([
      `PREROUTING -d 10.96.0.1/32 -j DNAT --to-destination ${SINK_IP}`,
      `PREROUTING -d 10.96.0.2/32 -j DNAT --to-destination ${SERVER_IP}`,
    ]),
    (network) => [
      frames('dnat', network.client, { dst: '10.96.0.1' }),
      requests('dnat.request', network, { dst: '10.96.0.2' }),
    ],
  ),
  ruledSite('masquerade', 'iptables-legacy-restore', nat(['POSTROUTING -o o0 -j MASQUERADE']), (network) => [
    requests('masquerade.request', network),
  ]),
  ruledSite(
    'masquerade.random',
    'iptables-legacy-restore',
    nat(['POSTROUTING -o o0 -j MASQUERADE --random-fully']),
    (network) => [requests('masquerade.random.request', network)],
  ),
];

// ── sets ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Addresses and ports that no measured packet has. */
const elements = (count: number): string[] =>
  Array.from({ length: count }, (_, i) => `10.${96 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`);

const lookupSite = (name: string, set: string, rule: string): Site =>
  ruledSite(
    name,
    'nft',
    `table ip t {\n${set}\nchain f {\ntype filter hook forward priority 0;\n${rule}\n}\n}\n`,
    (network) => [frames(name, network.client, {})],
  );

const KEY = 'ip daddr . meta l4proto . th dport';
const KEY_TYPE = 'type ipv4_addr . inet_proto . inet_service';

const SETS: readonly Site[] = [
  lookupSite('set.none', '', ''),
  ...ELEMENT_COUNTS.flatMap((count) => {
    const keys = elements(count).map((ip) => `${ip} . udp . 80`);
    return [
      lookupSite(
        `set.map${count}`,
        `map m {\n${KEY_TYPE} : verdict\nelements = { ${keys.map((key) => `${key} : drop`).join(', ')} }\n}`,
        `${KEY} vmap @m`,
      ),
      lookupSite(`set.set${count}`, `set m {\n${KEY_TYPE}\nelements = { ${keys.join(', ')} }\n}`, `${KEY} @m drop`),
      ipsetSite(count),
    ];
  }),
];

function ipsetSite(count: number): Site {
  return {
    name: `set.ipset${count}`,
    needs: ['ipset', 'iptables-legacy-restore'],
    async build(lab) {
      const { client, node } = await routed(lab);
      const members = elements(count).map((ip) => `add s ${ip},udp:80\n`);
      await lab.run(node, 'ipset', ['restore'], `create s hash:ip,port maxelem ${2 * count}\n${members.join('')}`);
      const rule = '-A FORWARD -m set --match-set s dst,dst -j DROP';
      await lab.run(node, 'iptables-legacy-restore', [], `*filter\n:FORWARD ACCEPT [0:0]\n${rule}\nCOMMIT\n`);
      return [frames(`set.ipset${count}`, client, {})];
    },
  };
}

// ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * The first datagram of a flow walks all services and matches none. The whole request counts, because all that follows
 * pays for the caches that the rules have swept; and each has a socket of its own, as a resolver's query has.
 */
const rules = (counts: readonly number[]): Site[] =>
  counts.flatMap((services) => {
    const text: ServiceRules = { services, protocol: 'udp', endpoint: `${SERVER_IP}:9000` };
    const path = (name: string) => (network: Routed) => [
      requests(name, network, { count: services > 1_000 ? 100 : REQUESTS }),
    ];
    return [
      ruledSite(`legacy.${services}`, 'iptables-legacy-restore', kubeProxyIptables(text), path(`legacy.${services}`)),
      ruledSite(`nft.${services}`, 'iptables-nft-restore', kubeProxyIptables(text), path(`nft.${services}`)),
      ruledSite(`native.${services}`, 'nft', linearNft(text), path(`native.${services}`)),
    ];
  });

// ── building blocks ──────────────────────────────────────────────────────────────────────────────────────────────────

interface Routed extends Between {
  /** The router that has the rules. */
  readonly node: string;
}

/** A router with these rules between client and server. */
function ruledSite(
  name: string,
  restore: 'iptables-legacy-restore' | 'iptables-nft-restore' | 'nft',
  text: string,
  paths: (network: Routed) => readonly MeasuredPath[],
): Site {
  return {
    name,
    needs: [restore],
    async build(lab) {
      const network = await routed(lab);
      await lab.run(network.node, restore, restore === 'nft' ? ['-f', '-'] : [], text);
      return paths(network);
    },
  };
}

interface FrameOptions {
  readonly device?: string;
  readonly dmac?: string;
  readonly dst?: string;
  readonly dport?: number;
  readonly flows?: number;
  readonly count?: number;
  readonly size?: number;
}

/** Crafted frames of 60 bytes; without options, to the sink behind a router. */
function frames(
  name: string,
  namespace: string,
  { device = 'v0', dmac = ROUTER_MAC, dst = SINK_IP, dport = 80, flows = 0, count = COUNT, size = 60 }: FrameOptions,
): MeasuredPath {
  const options = { dmac, src: CLIENT_IP, dst, sport: 10_000, dport, flows, size };
  return { name, kind: 'frames', namespace, peer: device, options, count };
}

/** Each from a socket of its own, and so a new flow, which conntrack forgets after the run. */
function requests(
  name: string,
  { client, server, node }: Routed,
  { dst = SERVER_IP, count = REQUESTS }: { dst?: string; count?: number } = {},
): MeasuredPath {
  const options = { dst, dport: 9_000, lport: 9_000, size: 18, flush: node };
  return { name, kind: 'requests', namespace: client, peer: server, options, count };
}

/** UDP one way and round trips, TCP connections and TCP exchanges of one byte. */
function conversations(name: string, { client, server }: Between): MeasuredPath[] {
  const ends = { namespace: client, peer: server };
  const options = { src: CLIENT_IP, dst: SERVER_IP };
  return [
    {
      name: `${name}.datagram`,
      kind: 'datagrams',
      ...ends,
      options: { ...options, dport: 9_000, lport: 9_000, size: 18 },
      count: COUNT,
    },
    {
      name: `${name}.roundTrip`,
      kind: 'roundtrips',
      ...ends,
      options: { ...options, dport: 9_001, lport: 9_001, size: 18 },
      count: COUNT,
    },
    {
      name: `${name}.connect`,
      kind: 'connects',
      ...ends,
      options: { ...options, dport: 9_002, lport: 9_002 },
      count: CONNECTS,
    },
    {
      name: `${name}.exchange`,
      kind: 'exchanges',
      ...ends,
      options: { ...options, dport: 9_003, lport: 9_003 },
      count: COUNT,
    },
  ];
}
