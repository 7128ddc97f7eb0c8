// The networks of random cases: few, so that the kernel's side can keep them all; and the same with tunnels over IPv6.

import type { ParityNode, ParityPod, Topology } from '../case.ts';
import type { Draw } from './draw.ts';
import type { Feature } from './features.ts';

export function drawTopology(draw: Draw, features: ReadonlySet<Feature>): Topology {
  const possible = TOPOLOGIES.filter(({ needs }) => needs.every((feature) => features.has(feature)));
  return draw.pick(possible).topology;
}

/**
 * Sometimes makes the nodes of a network dual stack and joins them over IPv6. The draw is a stream of its own: cases for which
 * it says no are those that there were before.
 */
export function drawTunnelsOverIpv6(draw: Draw, topology: Topology): Topology {
  const { nodes } = topology;
  if (nodes.length === 1 || nodes.some(({ ptp }) => ptp === true) || !draw.chance(0.25)) return topology;
  return { ...topology, overlay: draw.pick(['vxlan6', 'vxlan-by-family']), nodes: nodes.map(inBothFamilies) };
}

const inBothFamilies = (node: ParityNode, i: number): ParityNode => ({
  ...node,
  ip6: `fd00:192:168:1::${i + 1}`,
  podCIDR6: `fd00:10:244:${i + 1}::/64`,
  pods: node.pods.map((pod, j) => ({ ...pod, ip6: `fd00:10:244:${i + 1}::${j + 2}` })),
});

interface Choice {
  readonly topology: Topology;
  readonly needs: readonly Feature[];
}

/** As portmap sets it where it maps ports of this container. */
const LOCALNET = { 'net.ipv4.conf.veth0.route_localnet': 1 };

const BRIDGE_NF = 'net.bridge.bridge-nf-call-iptables';

function node(
  number: number,
  {
    pods = 2,
    ipv6 = false,
    pod = {},
    ...more
  }: { pods?: number; ipv6?: boolean; pod?: Partial<ParityPod> } & Partial<Omit<ParityNode, 'pods'>> = {},
): ParityNode {
  const made = Array.from({ length: pods }, (_, i) => ({
    name: `${'pqr'[number - 1]}${i + 1}`,
    ip: `10.244.${number}.${i + 2}`,
    ...(ipv6 ? { ip6: `fd00:10:244:${number}::${i + 2}` } : {}),
    ...pod,
  }));
  return {
    name: `n${number}`,
    ip: `192.168.1.${number}`,
    ...(ipv6 ? { ip6: `fd00:192:168:1::${number}` } : {}),
    podCIDR: `10.244.${number}.0/24`,
    ...(ipv6 ? { podCIDR6: `fd00:10:244:${number}::/64` } : {}),
    ...more,
    pods: made,
  };
}

const TOPOLOGIES: readonly Choice[] = [
  { needs: [], topology: { nodes: [node(1), node(2)] } },
  { needs: ['bridge'], topology: { nodes: [node(1, { pods: 3 })] } },
  { needs: ['bridge'], topology: { nodes: [node(1, { pods: 3, pod: { hairpin: true } })] } },
  { needs: ['bridge'], topology: { nodes: [node(1, { sysctls: { [BRIDGE_NF]: 0 } }), node(2, { pods: 1 })] } },
  { needs: ['routed'], topology: { nodes: [node(1, { bridge: false }), node(2, { pods: 1 })] } },
  { needs: ['ptp'], topology: { nodes: [node(1, { ptp: true, sysctls: LOCALNET }), node(2, { pods: 1 })] } },
  {
    needs: ['ptp', 'vxlan'],
    topology: { overlay: 'vxlan', nodes: [node(1, { ptp: true, pods: 3 }), node(2, { ptp: true })] },
  },
  { needs: ['sockets'], topology: { nodes: [node(1), node(2, { pod: { stack: true } })] } },
  {
    needs: ['conntrack'],
    topology: { nodes: [node(1, { sysctls: { 'net.netfilter.nf_conntrack_tcp_loose': 0 } }), node(2, { pods: 1 })] },
  },
  { needs: ['vxlan'], topology: { overlay: 'vxlan', nodes: [node(1), node(2, { pods: 1 })] } },
  { needs: ['ipv6'], topology: { nodes: [node(1, { ipv6: true }), node(2, { ipv6: true, pods: 1 })] } },
  {
    needs: ['ipv6', 'routed'],
    topology: { nodes: [node(1, { ipv6: true, bridge: false }), node(2, { ipv6: true, pods: 1 })] },
  },
  {
    needs: ['ipv6', 'vxlan'],
    topology: { overlay: 'vxlan', nodes: [node(1, { ipv6: true }), node(2, { ipv6: true, pods: 1 })] },
  },
];
