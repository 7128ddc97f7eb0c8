// The three address ranges of a cluster. They must not overlap: a packet's address says which of the three it belongs to.

import { OUTSIDE_RANGE } from '../host/outside-world.ts';
import { contains, formatPrefix, isIpv4, overlaps, type Prefix, parsePrefix, prefix } from '../packet/ip-address.ts';
import { addressOfNode, type KubeObject, type Pod } from './objects.ts';

export interface ClusterRanges {
  /** Pods: `--cluster-cidr`; each node gets a piece. */
  readonly pod: Prefix;
  /** ClusterIPs: `--service-cluster-ip-range`. */
  readonly service: Prefix;
  /** The network between the nodes. */
  readonly node: Prefix;
}

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

/** Throws a RangesError that names both ranges. */
export function checkRanges({ pod, service, node }: ClusterRanges): void {
  const named = [
    ['pod range', pod],
    ['service range', service],
    ['node range', node],
  ] as const;
  for (const [index, [name, range]] of named.entries()) {
    for (const [otherName, other] of [...named.slice(index + 1), ...UNUSABLE]) {
      if (!overlaps(range, other)) continue;
      const both = `${name} ${formatPrefix(range)} overlaps ${otherName} ${formatPrefix(other)}`;
      throw new RangesError(`${both}; expected ranges with no address in common`);
    }
  }
}

/** Addresses that are no host's (RFC 6890), or that of a client outside. */
const UNUSABLE = [
  ['network outside the cluster', OUTSIDE_RANGE],
  ['"this network"', parsePrefix('0.0.0.0/8')],
  ['loopback range', parsePrefix('127.0.0.0/8')],
  ['multicast and reserved range', parsePrefix('224.0.0.0/3')],
] as const;

/**
 * The ranges of a cluster with these objects. A range that is not given is the default one; if addresses of a snapshot
 * lie outside of it, the smallest range around them (no smaller than a /16, or a /24 between nodes).
 */
export function rangesFor(objects: readonly KubeObject[], given: Partial<ClusterRanges> = {}): ClusterRanges {
  const pods: Prefix[] = [];
  const services: Prefix[] = [];
  const nodes: Prefix[] = [];
  for (const object of objects) {
    if (object.kind === 'Pod' && !object.spec.hostNetwork) pods.push(...addressesOf(object.status.podIP));
    if (object.kind === 'Pod') nodes.push(...addressesOf(hostAddress(object)));
    if (object.kind === 'Service') services.push(...addressesOf(object.spec.clusterIP));
    if (object.kind === 'Node') nodes.push(...addressesOf(addressOfNode(object)));
    if (object.kind === 'Node' && object.spec.podCIDR !== undefined) pods.push(parsePrefix(object.spec.podCIDR));
  }
  return {
    pod: given.pod ?? around(pods, DEFAULT_RANGES.pod, 16),
    service: given.service ?? around(services, DEFAULT_RANGES.service, 16),
    node: given.node ?? around(nodes, DEFAULT_RANGES.node, 24),
  };
}

const hostAddress = ({ spec, status }: Pod): string | undefined =>
  status.hostIP ?? (spec.hostNetwork ? status.podIP : undefined);

const addressesOf = (text: string | undefined): Prefix[] =>
  text !== undefined && isIpv4(text) ? [parsePrefix(text)] : [];

function around(prefixes: readonly Prefix[], usual: Prefix, longest: number): Prefix {
  if (prefixes.every(({ net, length }) => length >= usual.length && contains(usual, net))) return usual;
  return prefixes.reduce(
    (range, { net, length }) => {
      let covering = prefix(range.net, Math.min(range.length, length));
      while (!contains(covering, net)) covering = prefix(range.net, covering.length - 1);
      return covering;
    },
    prefix((prefixes[0] as Prefix).net, longest),
  );
}
