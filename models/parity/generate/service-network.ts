// The network around a generated cluster of Services: three nodes in two zones with four pods each, a router with clients
// outside, and the router that everything unknown goes to, which has no way on.
//
// Clients reach what is the cluster's by fixed routes, each by one node: the first node has the cluster IPs and half of the
// load balancers' addresses, the second the other half and some external IPs, the third the rest of these.

import type { ParityNode, ParityPod, Topology } from '../case.ts';

export interface ClusterNode {
  readonly name: string;
  readonly zone: string;
  readonly ip: string;
  readonly ip6: string;
  /** Addresses of the bridge, which are the node's as well. */
  readonly gateway: string;
  readonly gateway6: string;
  readonly pods: readonly DualStackPod[];
}

export type DualStackPod = ParityPod & { readonly ip6: string };

const PODS_PER_NODE = 4;

export const CLUSTER_NODES: readonly ClusterNode[] = ['a', 'b', 'a'].map((zone, i) => {
  const number = i + 1;
  return {
    ...{ name: `n${number}`, zone, ip: `192.168.1.${number}`, ip6: `fd00:1::${number}` },
    ...{ gateway: `10.244.${number}.1`, gateway6: `fd00:244:${number}::1` },
    pods: Array.from({ length: PODS_PER_NODE }, (_, j) => ({
      name: `n${number}-p${j + 1}`,
      ip: `10.244.${number}.${j + 2}`,
      ip6: `fd00:244:${number}::${j + 2}`,
      hairpin: j % 2 === 0,
    })),
  };
});

export const POD_RANGE = '10.244.0.0/16';
export const POD_RANGE6 = 'fd00:244::/32';
export const SERVICE_RANGE = '10.96.0.0/16';
export const SERVICE_RANGE6 = 'fd00:96::/108';

/** Where numbered Services have their addresses: below 250 of each. */
export const clusterIpOf = (number: number): string => `10.96.1.${number}`;
export const clusterIp6Of = (number: number): string => `fd00:96::1:${number.toString(16)}`;
export const loadBalancerIpOf = (number: number): string => `198.51.100.${number}`;
export const loadBalancerIp6Of = (number: number): string => `2001:db8:100::${number.toString(16)}`;
export const externalIpOf = (number: number): string => `192.0.2.${number}`;
export const externalIp6Of = (number: number): string => `2001:db8:2::${number.toString(16)}`;
/** Of a load balancer that sees all traffic itself: nobody has a route to it. */
export const proxyIpOf = (number: number): string => `198.18.1.${number}`;
/** In the range of Services, and of none. */
export const UNUSED_CLUSTER_IPS = { 4: '10.96.77.7', 6: 'fd00:96::77' } as const;

/** Some are in ranges that load balancers may let in. */
export const CLIENTS: readonly DualStackPod[] = [2, 3, 130, 200].map((host, i) => ({
  ...{ name: `client-${i + 1}`, ip: `203.0.113.${host}`, ip6: `2001:db8:cafe::${host.toString(16)}` },
}));
export const CLIENT_RANGES = ['203.0.113.0/30', '203.0.113.128/25', '203.0.113.200/32', POD_RANGE, '192.168.1.2/32'];
export const CLIENT_RANGES6 = ['2001:db8:cafe::/126', '2001:db8:cafe::80/121', POD_RANGE6, 'fd00:1::2/128'];

const ROUTER = { name: 'ext', ip: '192.168.1.10', ip6: 'fd00:1::a' };
/** A bridge without a port is down. */
const BEHIND_GATEWAY = { name: 'behind-gw', ip: '198.18.0.2' };
const DEFAULT_GATEWAY = { name: 'gw', ip: '192.168.1.11', ip6: 'fd00:1::b' };

export function serviceTopology(): Topology {
  const [first, second, third] = CLUSTER_NODES as readonly [ClusterNode, ClusterNode, ClusterNode];
  return {
    nodes: [
      ...CLUSTER_NODES.map(parityNodeOf),
      {
        ...ROUTER,
        ...{ podCIDR: '203.0.113.0/24', podCIDR6: '2001:db8:cafe::/64', pods: CLIENTS },
        routes: [
          ...[SERVICE_RANGE, '198.51.100.0/25'].map((to) => routeBy(first.ip, to)),
          ...['198.51.100.128/25', '192.0.2.0/25'].map((to) => routeBy(second.ip, to)),
          routeBy(third.ip, '192.0.2.128/25'),
          ...[SERVICE_RANGE6, '2001:db8:100::/64'].map((to) => routeBy(first.ip6, to)),
          routeBy(second.ip6, '2001:db8:2::/64'),
        ],
      },
      { ...DEFAULT_GATEWAY, podCIDR: '198.18.0.0/24', podCIDR6: '2001:db8:beef::/64', pods: [BEHIND_GATEWAY] },
    ],
  };
}

const parityNodeOf = ({ name, ip, ip6, pods }: ClusterNode, i: number): ParityNode => ({
  ...{ name, ip, ip6, pods, podCIDR: `10.244.${i + 1}.0/24`, podCIDR6: `fd00:244:${i + 1}::/64` },
  // kube-proxy sets it for node ports on loopback.
  sysctls: { 'net.ipv4.conf.all.route_localnet': 1 },
  routes: [routeBy(DEFAULT_GATEWAY.ip, 'default'), routeBy(DEFAULT_GATEWAY.ip6, 'default')],
});

const routeBy = (via: string, to: string) => ({ to, via, dev: 'eth0' });
