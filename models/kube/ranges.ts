// The address ranges of a cluster. They must not overlap: a packet's address says which of them it belongs to.

import { LOAD_BALANCER_RANGES, OUTSIDE_IPV6_RANGE, OUTSIDE_RANGE } from '../host/outside-world.ts';
import {
  broadcastOf,
  contains,
  formatPrefix,
  type IpFamily,
  overlaps,
  type Prefix,
  parseAnyPrefix,
  parseIpv6Prefix,
  parsePrefix,
  prefix,
} from '../packet/ip-address.ts';
import { clusterIpsOf, internalIpsOf, type KubeObject, type Pod, podCidrsOf, podIpsOf } from './objects.ts';

export interface ClusterRanges {
  /** Pods: `--cluster-cidr`; each node gets a piece. */
  readonly pod: Prefix;
  /** ClusterIPs: the first range of `--service-cluster-ip-range`. Its family is that of Services that name none. */
  readonly service: Prefix;
  /** The network between the nodes. */
  readonly node: Prefix;
  /** The second ranges of a dual-stack cluster, each of the other family. */
  readonly secondaryPod?: Prefix | undefined;
  readonly secondaryService?: Prefix | undefined;
  readonly secondaryNode?: Prefix | undefined;
}

type RangeName = 'pod' | 'service' | 'node';

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

/** Pods and Services as in clusters that kind makes; 256 nodes have room, as in IPv4. */
export const DEFAULT_IPV6_RANGES: ClusterRanges = {
  pod: parseIpv6Prefix('fd00:10:244::/56'),
  service: parseIpv6Prefix('fd00:10:96::/112'),
  node: parseIpv6Prefix('fd00:192:168::/64'),
};

const DEFAULTS = { 4: DEFAULT_RANGES, 6: DEFAULT_IPV6_RANGES } as const;

/** Which IP families nodes, pods and Services of a cluster have. In a dual-stack one IPv4 is first, unless its ranges say otherwise. */
export const CLUSTER_IP_FAMILIES = ['ipv4', 'ipv6', 'dual'] as const;
export type ClusterIpFamily = (typeof CLUSTER_IP_FAMILIES)[number];

/** Families that nodes and pods have, the first one first. */
export const familiesOf = ({ pod, secondaryPod }: ClusterRanges): readonly IpFamily[] =>
  secondaryPod === undefined ? [pod.family] : [pod.family, secondaryPod.family];

export function rangeOf(ranges: Partial<ClusterRanges>, name: RangeName, family: IpFamily): Prefix | undefined {
  const first = ranges[name];
  return first?.family === family ? first : [ranges[SECONDARY[name]]].find((range) => range?.family === family);
}

const SECONDARY = { pod: 'secondaryPod', service: 'secondaryService', node: 'secondaryNode' } as const;

/**
 * The ranges of a cluster of these families, where they are not given the default ones. Without `ipFamily` the cluster
 * has the families of the given ranges. Throws a RangesError for a range of another family.
 */
export function completeRanges(given: Partial<ClusterRanges>, ipFamily?: ClusterIpFamily): ClusterRanges {
  const families = familiesWanted(given, ipFamily);
  return rangesOfFamilies(given, families, (name, family) => DEFAULTS[family][name]);
}

function familiesWanted(given: Partial<ClusterRanges>, ipFamily: ClusterIpFamily | undefined): readonly IpFamily[] {
  if (ipFamily === 'ipv4') return [4];
  if (ipFamily === 'ipv6') return [6];
  const ofRanges = new Set(Object.values(given).flatMap((range) => (range === undefined ? [] : [range.family])));
  if (ipFamily === undefined && ofRanges.size < 2) return ofRanges.size === 0 ? [4] : [...ofRanges];
  return (given.service ?? given.pod)?.family === 6 ? [6, 4] : [4, 6];
}

function rangesOfFamilies(
  given: Partial<ClusterRanges>,
  families: readonly IpFamily[],
  rangeFor: (name: RangeName, family: IpFamily) => Prefix,
): ClusterRanges {
  for (const range of Object.values(given)) {
    if (range === undefined || families.includes(range.family)) continue;
    const problem = `range ${formatPrefix(range)} in a cluster whose family is IPv${families.join()}`;
    throw new RangesError(`${problem}; expected ranges of its family, or a dual-stack cluster`);
  }
  const [first = 4, second] = families;
  const range = (name: RangeName, family: IpFamily): Prefix => rangeOf(given, name, family) ?? rangeFor(name, family);
  const ranges = { pod: range('pod', first), service: range('service', first), node: range('node', first) };
  if (second === undefined) return ranges;
  return {
    ...ranges,
    secondaryPod: range('pod', second),
    secondaryService: range('service', second),
    secondaryNode: range('node', second),
  };
}

/** Ranges that no cluster can have. */
export class RangesError extends RangeError {
  override readonly name = 'RangesError';
}

/**
 * Throws a RangesError that names what is wrong: both ranges that overlap, or one that no API server takes. `isForced`: pods,
 * Services and nodes may overlap each other, as where nobody checks.
 */
export function checkRanges(ranges: ClusterRanges, { isForced = false }: { isForced?: boolean } = {}): void {
  const { pod, secondaryPod, service, secondaryService } = ranges;
  for (const range of [pod, secondaryPod]) if (range !== undefined) checkPodRange(range);
  for (const range of [service, secondaryService]) if (range !== undefined) checkServiceRange(range);
  const named = NAMES.flatMap((name) => {
    const second = ranges[SECONDARY[name]];
    if (second === undefined) return [[`${name} range`, ranges[name]] as const];
    if (second.family !== ranges[name].family)
      return [[`${name} range`, ranges[name]] as const, [`second ${name} range`, second] as const];
    const both = `${name} ranges ${formatPrefix(ranges[name])} and ${formatPrefix(second)}`;
    throw new RangesError(`${both}; expected one of each IP family`);
  });
  for (const family of [4, 6] as const) {
    const [pods, nodes] = [rangeOf(ranges, 'pod', family), rangeOf(ranges, 'node', family)];
    if ((pods === undefined) === (nodes === undefined)) continue;
    const [has, lacks] = pods === undefined ? ['nodes', 'pods'] : ['pods', 'nodes'];
    throw new RangesError(`a range of ${has} of IPv${family} and none of ${lacks}; expected the same IP families`);
  }
  for (const [index, [name, range]] of named.entries()) {
    for (const [otherName, other] of [...(isForced ? [] : named.slice(index + 1)), ...UNUSABLE]) {
      if (!overlaps(range, other)) continue;
      const both = `${name} ${formatPrefix(range)} overlaps ${otherName} ${formatPrefix(other)}`;
      throw new RangesError(`${both}; expected ranges with no address in common`);
    }
  }
}

const NAMES = ['pod', 'service', 'node'] as const;

/** Node IPAM of kube-controller-manager cuts a range into at most 2^16 pieces, of a /64 each in IPv6 (NewCIDRSet). */
function checkPodRange(range: Prefix): void {
  if (range.family === 6 && range.length < SHORTEST_IPV6_POD_RANGE)
    throw new RangesError(`pod range ${formatPrefix(range)}: IPv6 prefix must be /48 or longer`);
}

const SHORTEST_IPV6_POD_RANGE = 48;

/** Offsets into a range are 64-bit numbers in the allocator (NewIPAllocator). */
function checkServiceRange(range: Prefix): void {
  if (range.family === 6 && range.length < SHORTEST_IPV6_SERVICE_RANGE)
    throw new RangesError(`service range ${formatPrefix(range)}: IPv6 prefix must be /64 or longer`);
}

const SHORTEST_IPV6_SERVICE_RANGE = 64;

/** Addresses that are no host's (RFC 6890), or that of a client outside. */
const UNUSABLE = [
  ['network outside the cluster', OUTSIDE_RANGE],
  ['network outside the cluster', OUTSIDE_IPV6_RANGE],
  ["load balancers' network", LOAD_BALANCER_RANGES[4]],
  ["load balancers' network", LOAD_BALANCER_RANGES[6]],
  ['"this network"', parsePrefix('0.0.0.0/8')],
  ['loopback range', parsePrefix('127.0.0.0/8')],
  ['multicast and reserved range', parsePrefix('224.0.0.0/3')],
  ['unspecified and loopback address', parseIpv6Prefix('::/127')],
  ['link-local range', parseIpv6Prefix('fe80::/10')],
  ['multicast range', parseIpv6Prefix('ff00::/8')],
] as const;

/**
 * The ranges of a cluster with these objects. A range that is not given is the default one; if addresses of a snapshot
 * lie outside of it, the smallest range around them (no smaller than what {@link SMALLEST} says). Without `ipFamily` the
 * cluster has the families of the given ranges and of the addresses.
 */
export function rangesFor(
  objects: readonly KubeObject[],
  given: Partial<ClusterRanges> = {},
  ipFamily?: ClusterIpFamily,
): ClusterRanges {
  const used = addressesIn(objects);
  const families = ipFamily === undefined ? familiesInUse(given, used) : familiesWanted(given, ipFamily);
  return rangesOfFamilies(given, families, (name, family) => {
    const own = used[name].filter((address) => address.family === family);
    const range = around(own, DEFAULTS[family][name], SMALLEST[family][name]);
    return name === 'service' ? withRoom(range, own) : range;
  });
}

/** Prefix lengths of ranges around addresses that lie in no default range. */
const SMALLEST = { 4: { pod: 16, service: 16, node: 24 }, 6: { pod: 56, service: 112, node: 64 } } as const;

/** Addresses and pod ranges of a snapshot. */
function addressesIn(objects: readonly KubeObject[]): Readonly<Record<RangeName, readonly Prefix[]>> {
  const used = { pod: [] as Prefix[], service: [] as Prefix[], node: [] as Prefix[] };
  for (const object of objects) {
    switch (object.kind) {
      case 'Pod':
        if (!object.spec.hostNetwork) used.pod.push(...podIpsOf(object).map(parseAnyPrefix));
        used.node.push(...hostIpsOf(object).map(parseAnyPrefix));
        break;
      case 'Service':
        used.service.push(...clusterIpsOf(object).map(parseAnyPrefix));
        break;
      case 'Node':
        used.node.push(...internalIpsOf(object).map(parseAnyPrefix));
        used.pod.push(...podCidrsOf(object).map(parseAnyPrefix));
    }
  }
  return used;
}

/** IPv4, unless nothing has it; and IPv6 if pods or Services have it, as nodes may have addresses that nobody uses. */
function familiesInUse(
  given: Partial<ClusterRanges>,
  { pod, service, node }: ReturnType<typeof addressesIn>,
): readonly IpFamily[] {
  const ofGiven = familiesWanted(given, undefined);
  if (ofGiven.length === 2) return ofGiven;
  const has = (family: IpFamily, ranges: readonly Prefix[]) => ranges.some((range) => range.family === family);
  const isGiven = Object.keys(given).length > 0;
  const first = isGiven ? ofGiven[0]! : !has(4, [...pod, ...service, ...node]) && has(6, [...pod, ...node]) ? 6 : 4;
  const second = first === 4 ? 6 : 4;
  return has(second, [...pod, ...service]) ? [first, second] : [first];
}

/** A range that was guessed is wider, if an address would be one that no Service can have in it: the first or the last. */
function withRoom(range: Prefix, addresses: readonly Prefix[]): Prefix {
  if (range === DEFAULTS[range.family].service) return range;
  const isEdge = ({ net }: Prefix) => net === range.net || (range.family === 4 && net === broadcastOf(range));
  return addresses.some(isEdge) ? withRoom(prefix(range.net, range.length - 1, range.family), addresses) : range;
}

/** Of the node that the pod runs on. */
const hostIpsOf = (pod: Pod): readonly string[] => {
  const { hostIP } = pod.status;
  return hostIP !== undefined ? [hostIP] : pod.spec.hostNetwork ? podIpsOf(pod) : [];
};

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
