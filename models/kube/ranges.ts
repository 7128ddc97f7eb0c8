// The address ranges of a cluster. They must not overlap: a packet's address says which of them it belongs to.

import { OUTSIDE_RANGE } from '../host/outside-world.ts';
import {
  broadcastOf,
  contains,
  formatPrefix,
  isIpv4,
  isIpv6,
  overlaps,
  type Prefix,
  parseAnyPrefix,
  parseIpv6Prefix,
  parsePrefix,
  prefix,
} from '../packet/ip-address.ts';
import { addressOfNode, clusterIpsOf, type KubeObject, type Pod } from './objects.ts';

export interface ClusterRanges {
  /** Pods: `--cluster-cidr`; each node gets a piece. */
  readonly pod: Prefix;
  /** ClusterIPs: the first range of `--service-cluster-ip-range`. Its family is that of Services that name none. */
  readonly service: Prefix;
  /** The second range of a cluster with dual-stack Services, of the other family. */
  readonly secondaryService?: Prefix | undefined;
  /** The network between the nodes. */
  readonly node: Prefix;
}

/** Ranges as text: an IPv6 address is a handle, which means nothing to another worker. */
export type RangeTexts = { readonly [Name in keyof ClusterRanges]?: string };

export const formatRanges = (ranges: Partial<ClusterRanges>): RangeTexts =>
  Object.fromEntries(
    Object.entries(ranges).flatMap(([name, range]) => (range === undefined ? [] : [[name, formatPrefix(range)]])),
  );

export const parseRanges = (texts: RangeTexts): Partial<ClusterRanges> =>
  Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, parseAnyPrefix(text)]));

/** What kubeadm and flannel take, and a home network. */
export const DEFAULT_RANGES: ClusterRanges = {
  pod: parsePrefix('10.244.0.0/16'),
  service: parsePrefix('10.96.0.0/12'),
  node: parsePrefix('192.168.0.0/16'),
};

/** Ranges that no cluster can have. */
export class RangesError extends RangeError {
  override readonly name = 'RangesError';
}

/** Throws a RangesError that names what is wrong: both ranges that overlap, or one that no API server takes. */
export function checkRanges({ pod, service, secondaryService, node }: ClusterRanges): void {
  const named: [name: string, range: Prefix][] = [
    ['pod range', pod],
    ['service range', service],
    ['node range', node],
  ];
  checkServiceRange(service);
  if (secondaryService !== undefined) {
    checkServiceRange(secondaryService);
    if (secondaryService.family === service.family) {
      const both = `${formatPrefix(service)} and ${formatPrefix(secondaryService)}`;
      throw new RangesError(`service ranges ${both}; expected one of each IP family`);
    }
    named.push(['second service range', secondaryService]);
  }
  for (const [index, [name, range]] of named.entries()) {
    for (const [otherName, other] of [...named.slice(index + 1), ...UNUSABLE]) {
      if (!overlaps(range, other)) continue;
      const both = `${name} ${formatPrefix(range)} overlaps ${otherName} ${formatPrefix(other)}`;
      throw new RangesError(`${both}; expected ranges with no address in common`);
    }
  }
}

/** Offsets into a range are 64-bit numbers in the allocator (NewIPAllocator). */
function checkServiceRange(range: Prefix): void {
  if (range.family === 6 && range.length < SHORTEST_IPV6_SERVICE_RANGE)
    throw new RangesError(`service range ${formatPrefix(range)}: IPv6 prefix must be /64 or longer`);
}

const SHORTEST_IPV6_SERVICE_RANGE = 64;

/** Addresses that are no host's (RFC 6890), or that of a client outside. */
const UNUSABLE = [
  ['network outside the cluster', OUTSIDE_RANGE],
  ['"this network"', parsePrefix('0.0.0.0/8')],
  ['loopback range', parsePrefix('127.0.0.0/8')],
  ['multicast and reserved range', parsePrefix('224.0.0.0/3')],
  ['unspecified and loopback address', parseIpv6Prefix('::/127')],
  ['link-local range', parseIpv6Prefix('fe80::/10')],
  ['multicast range', parseIpv6Prefix('ff00::/8')],
] as const;

/**
 * The ranges of a cluster with these objects. A range that is not given is the default one; if addresses of a snapshot
 * lie outside of it, the smallest range around them (no smaller than a /16, or a /24 between nodes). IPv6 ClusterIPs make
 * the second service range, no smaller than a /112.
 */
export function rangesFor(objects: readonly KubeObject[], given: Partial<ClusterRanges> = {}): ClusterRanges {
  const pods: Prefix[] = [];
  const services: Prefix[] = [];
  const ipv6Services: Prefix[] = [];
  const nodes: Prefix[] = [];
  for (const object of objects) {
    if (object.kind === 'Pod' && !object.spec.hostNetwork) pods.push(...addressesOf(object.status.podIP));
    if (object.kind === 'Pod') nodes.push(...addressesOf(hostAddress(object)));
    if (object.kind === 'Service') {
      for (const address of clusterIpsOf(object)) {
        services.push(...addressesOf(address));
        if (isIpv6(address)) ipv6Services.push(parseIpv6Prefix(address));
      }
    }
    if (object.kind === 'Node') nodes.push(...addressesOf(addressOfNode(object)));
    if (object.kind === 'Node' && object.spec.podCIDR !== undefined) pods.push(parsePrefix(object.spec.podCIDR));
  }
  const [first] = ipv6Services;
  const ofIpv6 = first && withRoom(around(ipv6Services, prefix(first.net, 112, 6), 112), ipv6Services);
  return {
    pod: given.pod ?? around(pods, DEFAULT_RANGES.pod, 16),
    service: given.service ?? withRoom(around(services, DEFAULT_RANGES.service, 16), services),
    secondaryService: given.secondaryService ?? (given.service?.family === 6 ? undefined : ofIpv6),
    node: given.node ?? around(nodes, DEFAULT_RANGES.node, 24),
  };
}

/** A range that was guessed is wider, if an address would be one that no Service can have in it: the first or the last. */
function withRoom(range: Prefix, addresses: readonly Prefix[]): Prefix {
  if (range === DEFAULT_RANGES.service) return range;
  const isEdge = ({ net }: Prefix) => net === range.net || (range.family === 4 && net === broadcastOf(range));
  return addresses.some(isEdge) ? withRoom(prefix(range.net, range.length - 1, range.family), addresses) : range;
}

const hostAddress = ({ spec, status }: Pod): string | undefined =>
  status.hostIP ?? (spec.hostNetwork ? status.podIP : undefined);

const addressesOf = (text: string | undefined): Prefix[] =>
  text !== undefined && isIpv4(text) ? [parsePrefix(text)] : [];

function around(prefixes: readonly Prefix[], usual: Prefix, longest: number): Prefix {
  if (prefixes.every(({ net, length }) => length >= usual.length && contains(usual, net))) return usual;
  const { net: first, family } = prefixes[0] as Prefix;
  return prefixes.reduce(
    (range, { net, length }) => {
      let covering = prefix(range.net, Math.min(range.length, length), family);
      while (!contains(covering, net)) covering = prefix(range.net, covering.length - 1, family);
      return covering;
    },
    prefix(first, longest, family),
  );
}
