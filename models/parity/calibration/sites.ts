// What is measured: sites, each a small network with paths through it. A path's time is that of everything a packet
// passes on it; what a stage costs is the difference between two paths (formulas.ts).

import type { Lab } from './lab.ts';
import type { ProbePath } from './probe.ts';
import { kubeProxyIptables, linearNft, type ServiceRules } from './rulesets.ts';
import {
  bridged,
  CLIENT_IP,
  direct,
  MANY_SERVER_IPS,
  ROUTER_MAC,
  routed,
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
  return [SENDER, VETH, BRIDGE, BRIDGE_NETFILTER, ROUTE, VXLAN, ...HOOKS, ...CONNTRACK, ...SETS, ...rules(ruleCounts)];
}

const COUNT = 2_000;
const CONNECTS = 300;
const NEW_FLOWS = 1_000;
/** So many that a flow does not come again before its entry has timed out. */
const ENDLESS = 60_000;

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
      datagrams('veth.datagram', { client, server }, { dst: SERVER_IP }),
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
    const two = await routed(lab, 2);
    return [frames('route', client, {}), frames('route.twice', two.client, {})];
  },
};

/** Sent into the tunnel and dropped on the other side's wire; and all the way through. */
const VXLAN: Site = {
  name: 'vxlan',
  needs: ['bridge'],
  async build(lab) {
    const through = await tunnelled(lab);
    const { client, nodes } = await tunnelled(lab);
    // The outer frame goes to a MAC that nobody has, as the routed one to the sink does.
    await lab.ip(nodes[0] ?? '', [`neigh replace 10.101.0.2 lladdr ${SINK_MAC} dev o0`]);
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
    datagrams('hook.filter.newFlow', network, { dst: MANY_SERVER_IPS, flows: ENDLESS, count: NEW_FLOWS }),
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

const newFlows = (name: string, network: { client: string; server: string }, options: object = {}): MeasuredPath =>
  datagrams(`${name}.newFlow`, network, { dst: MANY_SERVER_IPS, flows: ENDLESS, count: NEW_FLOWS, ...options });

const CONNTRACK: readonly Site[] = [
  ...FLOW_COUNTS.map((flows) =>
    ruledSite(`conntrack.${flows}`, 'iptables-legacy-restore', TRACKED, (network) => [
      frames(`conntrack.${flows}`, network.client, flows === 1 ? {} : { flows, count: Math.max(flows, COUNT) }),
      ...(flows === 1 ? [newFlows('conntrack', network)] : []),
    ]),
  ),
  ruledSite(
    'dnat',
    'iptables-legacy-restore',
    nat([
      `PREROUTING -d 10.96.0.1/32 -j DNAT --to-destination ${SINK_IP}`,
      `PREROUTING -d 10.97.0.0/16 -j DNAT --to-destination ${SERVER_IP}`,
    ]),
    (network) => [
      frames('dnat', network.client, { dst: '10.96.0.1' }),
      newFlows('dnat', network, { dst: '10.97.0.1' }),
    ],
  ),
  ruledSite('masquerade', 'iptables-legacy-restore', nat(['POSTROUTING -o o0 -j MASQUERADE']), (network) => [
    newFlows('masquerade', network),
  ]),
  ruledSite(
    'masquerade.random',
    'iptables-legacy-restore',
    nat(['POSTROUTING -o o0 -j MASQUERADE --random-fully']),
    (network) => [newFlows('masquerade.random', network)],
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
      const { client, nodes } = await routed(lab);
      const [node = ''] = nodes;
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
 * The first datagram of a flow walks all services and matches none; what comes after it in its way pays for the caches
 * that the rules have swept, so that sending and receiving are counted together.
 */
const rules = (counts: readonly number[]): Site[] =>
  counts.flatMap((services) => {
    const rules: ServiceRules = { services, protocol: 'udp', endpoint: `${SERVER_IP}:9000` };
    const path = (name: string) => (network: { client: string; server: string }) => [
      newFlows(name, network, { count: services > 1_000 ? 100 : 300 }),
    ];
    return [
      ruledSite(`legacy.${services}`, 'iptables-legacy-restore', kubeProxyIptables(rules), path(`legacy.${services}`)),
      ruledSite(`nft.${services}`, 'iptables-nft-restore', kubeProxyIptables(rules), path(`nft.${services}`)),
      ruledSite(`native.${services}`, 'nft', linearNft(rules), path(`native.${services}`)),
    ];
  });

// ── building blocks ──────────────────────────────────────────────────────────────────────────────────────────────────

/** A router with these rules between client and server. */
function ruledSite(
  name: string,
  restore: 'iptables-legacy-restore' | 'iptables-nft-restore' | 'nft',
  text: string,
  paths: (network: { client: string; server: string }) => readonly MeasuredPath[],
): Site {
  return {
    name,
    needs: [restore],
    async build(lab) {
      const network = await routed(lab);
      await lab.run(network.nodes[0] ?? '', restore, restore === 'nft' ? ['-f', '-'] : [], text);
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
}

/** Crafted frames of 60 bytes; without options, to the sink behind a router. */
function frames(
  name: string,
  namespace: string,
  { device = 'v0', dmac = ROUTER_MAC, dst = SINK_IP, dport = 80, flows = 0, count = COUNT }: FrameOptions,
): MeasuredPath {
  const options = { dmac, src: CLIENT_IP, dst, sport: 10_000, dport, flows };
  return { name, kind: 'frames', namespace, peer: device, options, count };
}

function datagrams(
  name: string,
  { client, server }: { client: string; server: string },
  { dst, flows = 0, count = COUNT }: { dst: string; flows?: number; count?: number },
): MeasuredPath {
  const options = { dst, sport: 5_000, dport: 9_000, lport: 9_000, size: 18, flows };
  return { name, kind: 'datagrams', namespace: client, peer: server, options, count };
}

/** UDP round trips, TCP connections and TCP exchanges of one byte. */
export function conversations(name: string, { client, server }: { client: string; server: string }): MeasuredPath[] {
  const ends = { namespace: client, peer: server };
  const options = { src: CLIENT_IP, dst: SERVER_IP };
  return [
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
