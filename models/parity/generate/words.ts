// The addresses, ports, marks and devices of a random case. Rules and packets draw from the same few, so that packets have
// a fair chance of meeting rules.

import type { ParityNode, Topology } from '../case.ts';
import type { Draw } from './draw.ts';

export type Family = 4 | 6;

export interface Words {
  readonly family: Family;
  readonly pods: readonly string[];
  readonly nodes: readonly string[];
  readonly gateways: readonly string[];
  readonly services: readonly string[];
  /** No node has a route to it. */
  readonly outside: string;
  /** In a pod range, and nobody has it. */
  readonly absent: string;
  readonly networks: readonly string[];
  /** Where networks and ranges of addresses that rules ask for begin and end, and just beyond. Nobody has them. */
  readonly edges: readonly string[];
  readonly devices: readonly string[];
}

export const SERVICE_PORTS = [53, 80, 443] as const;
export const POD_PORTS = [53, 5353, 8080, 8443] as const;
export const SOURCE_PORTS = [40_000, 40_001, 1234, 700, 123] as const;
export const NODE_PORT = 30_080;
/** Where ranges of ports that rules ask for end and begin. */
export const EDGE_PORTS = [1023, 1024, 32_767] as const;
export const DESTINATION_PORTS: readonly number[] = [...new Set([...SERVICE_PORTS, ...POD_PORTS])];
export const PORTS: readonly number[] = [...DESTINATION_PORTS, ...SOURCE_PORTS, NODE_PORT];
export const MARKS = ['0x4000', '0x8000', '0x1', '0xff00'] as const;
export const MASKED_MARKS = ['0x4000/0x4000', '0x8000/0x8000', '0x0/0x4000', '0x1/0xff', '0x1'] as const;

export function wordsOf({ nodes, overlay }: Topology, family: Family): Words {
  const own = family === 4 ? nodes : nodes.filter(({ podCIDR6 }) => podCIDR6 !== undefined);
  const devices = ['eth0', ...new Set(own.flatMap(devicesOf)), ...tunnelsOf(overlay, family)];
  const pods = own.flatMap((node) =>
    node.pods.flatMap(({ ip, ip6 }) => (family === 4 ? [ip] : ip6 === undefined ? [] : [ip6])),
  );
  if (family === 4) {
    return {
      ...{ family, pods, devices, outside: '203.0.113.9', absent: '10.244.1.77' },
      nodes: own.flatMap(({ ip }) => ip ?? []),
      gateways: own
        .filter(({ bridge, ptp }) => bridge !== false || ptp === true)
        .map(({ podCIDR }) => podCIDR.replace(/0\/24$/, '1')),
      services: ['10.96.0.1', '10.96.0.10', '10.96.0.20'],
      networks: ['10.244.0.0/16', '10.244.1.0/24', '10.244.2.0/24', '10.96.0.0/24', '192.168.1.0/24'],
      edges: [
        '10.244.255.255',
        '10.244.1.10',
        '10.244.1.99',
        '10.244.1.255',
        '10.244.2.255',
        '10.96.0.255',
        '10.96.1.0',
      ],
    };
  }
  return {
    ...{ family, pods, devices, outside: '2001:db8::9', absent: 'fd00:10:244:1::77' },
    nodes: own.flatMap(({ ip6 }) => ip6 ?? []),
    gateways: own
      .filter(({ bridge }) => bridge !== false)
      .map(({ podCIDR6 }) => (podCIDR6 ?? '').replace('::/64', '::1')),
    services: ['fd00:10:96::1', 'fd00:10:96::10', 'fd00:10:96::20'],
    networks: ['fd00:10:244::/48', 'fd00:10:244:1::/64', 'fd00:10:244:2::/64', 'fd00:10:96::/112'],
    edges: [
      'fd00:10:244:ffff:ffff:ffff:ffff:ffff',
      'fd00:10:244:1::10',
      'fd00:10:244:1::99',
      'fd00:10:244:1:ffff:ffff:ffff:ffff',
      'fd00:10:244:2:ffff:ffff:ffff:ffff',
      'fd00:10:96::ffff',
      'fd00:10:96::1:0',
    ],
  };
}

function tunnelsOf(overlay: Topology['overlay'], family: Family): string[] {
  if (overlay === undefined || overlay === 'host-gw') return [];
  return overlay === 'vxlan-by-family' && family === 6 ? ['vx6'] : ['vx0'];
}

/** With a prefix length as iptables prints it. */
export const hostPrefix = ({ family }: Words, address: string): string => `${address}/${family === 4 ? 32 : 128}`;

export const drawAddress = (draw: Draw, { pods, nodes, gateways, services, outside }: Words): string =>
  draw.weighted<string>([
    [5, () => draw.pick(pods)],
    [5, () => draw.pick(services)],
    [nodes.length > 0 ? 1 : 0, () => draw.pick(nodes)],
    [gateways.length > 0 ? 1 : 0, () => draw.pick(gateways)],
    [0.5, () => outside],
  ]);

export const drawNetwork = (draw: Draw, words: Words): string =>
  draw.chance(0.6) ? hostPrefix(words, drawAddress(draw, words)) : draw.pick(words.networks);

const devicesOf = ({ bridge, ptp, pods }: ParityNode): string[] => [
  ...(bridge === false || ptp === true ? [] : ['cbr0']),
  ...pods.map((_, i) => `veth${i}`),
];
