// Node objects for clusters whose manifests have none, or not all of those that the pods of a snapshot run on.

import { gatewayOf } from '../host/outside-world.ts';
import {
  addressAt,
  addressCount,
  formatIp,
  formatPrefix,
  type IpFamily,
  type Prefix,
  parseAddress,
  parseAnyPrefix,
  prefix,
} from '../packet/ip-address.ts';
import { ManifestError } from './manifest-error.ts';
import {
  addressOfNode,
  internalIpsOf,
  isOfFamily,
  type KubeObject,
  keyOf,
  type Labels,
  type Node,
  objectFrom,
  type Pod,
  podCidrsOf,
  podIpsOf,
} from './objects.ts';
import { NODE_MASK_SIZE } from './pod-cidrs.ts';
import { type ClusterRanges, familiesOf, rangeOf } from './ranges.ts';

/** The first addresses of the node range are left to routers and to machines outside of the cluster. */
const FIRST_NODE_INDEX = 11;

export interface NewNode {
  readonly name: string;
  /** The InternalIP. */
  readonly address: string;
  /** By default the API server cuts one from the pod range. */
  readonly podCIDR?: string | undefined;
  readonly labels?: Labels;
  readonly taints?: Node['spec']['taints'];
}

export function makeNode({ name, address, podCIDR, labels = {}, taints = [] }: NewNode): Node {
  return objectFrom('Node', {
    metadata: { name, labels },
    spec: { podCIDR, taints },
    status: {
      addresses: [
        { type: 'InternalIP', address },
        { type: 'Hostname', address: name },
      ],
    },
  });
}

/**
 * The nodes that a cluster with these objects still needs: the Nodes among them, given an address of each of the cluster's
 * families if they have none, and those that their pods run on. If that is none and there are none, `node-1` to
 * `node-<count>`. Throws a ManifestError if the node range is too small.
 */
export function nodesFor(
  objects: readonly KubeObject[],
  { ranges, count, existing = [] }: { ranges: ClusterRanges; count: number; existing?: readonly Node[] },
): { readonly nodes: Node[]; readonly notes: string[] } {
  const given = objects.filter((object) => object.kind === 'Node');
  const hosts = hostsOf(objects.filter((object) => object.kind === 'Pod'));
  const taken = new Set([...existing, ...given].flatMap(internalIpsOf));
  for (const { addresses } of hosts.values()) for (const address of addresses) taken.add(address);
  const free = familiesOf(ranges).map((family): FreeAddresses => {
    return { family, next: addressesOf(rangeOf(ranges, 'node', family) as Prefix, taken) };
  });

  const nodes = given.map((node) => withHostFields(node, hosts.get(node.metadata.name), free));
  const known = new Set([...existing, ...given].map(({ metadata }) => metadata.name));
  const notes: string[] = [];
  for (const [name, host] of hosts) {
    if (known.has(name)) continue;
    nodes.push(withHostFields(bareNode(name), host, free));
    notes.push(`Node ${name} is in no manifest; made, as Pod ${keyOf(host.pod)} runs on it`);
  }
  if (nodes.length + existing.length > 0) return { nodes, notes };
  for (let i = 1; i <= count; i++) nodes.push(withHostFields(bareNode(`node-${i}`), undefined, free));
  return { nodes, notes };
}

/** Addresses of the node range of one family, one at a time. */
interface FreeAddresses {
  readonly family: IpFamily;
  readonly next: () => string;
}

const bareNode = (name: string): Node =>
  objectFrom('Node', { metadata: { name }, status: { addresses: [{ type: 'Hostname', address: name }] } });

/** What the pods of a snapshot say about the nodes they run on. */
interface Host {
  /** A pod that runs there. */
  readonly pod: Pod;
  /** At most one of each family. */
  readonly addresses: string[];
  /** Of each family, the piece of the usual size that its pods are in, if they are in one and no other node's pods are. */
  readonly podCIDRs: string[];
}

function hostsOf(pods: readonly Pod[]): Map<string, Host> {
  const hosts = new Map<string, Host>();
  const nodesOfPiece = new Map<string, Set<string>>();
  const piecesOfNode = new Map<string, Set<string>>();
  for (const pod of pods) {
    const { nodeName, hostNetwork } = pod.spec;
    if (nodeName === undefined) continue;
    const host = hosts.get(nodeName) ?? { pod, addresses: [], podCIDRs: [] };
    hosts.set(nodeName, host);
    const { hostIP } = pod.status;
    for (const address of [...(hostIP === undefined ? [] : [hostIP]), ...(hostNetwork ? podIpsOf(pod) : [])])
      if (!host.addresses.some(isOfFamily(parseAddress(address).family))) host.addresses.push(address);
    if (hostNetwork) continue;
    for (const piece of podIpsOf(pod).map(pieceOf)) {
      nodesOfPiece.set(piece, (nodesOfPiece.get(piece) ?? new Set()).add(nodeName));
      piecesOfNode.set(nodeName, (piecesOfNode.get(nodeName) ?? new Set()).add(piece));
    }
  }
  for (const [name, pieces] of piecesOfNode) {
    for (const family of [4, 6] as const) {
      const [piece, ...others] = [...pieces].filter(isOfFamily(family));
      if (piece !== undefined && others.length === 0 && nodesOfPiece.get(piece)?.size === 1)
        hosts.get(name)?.podCIDRs.push(piece);
    }
  }
  return hosts;
}

function pieceOf(address: string): string {
  const { family, ip } = parseAddress(address);
  return formatPrefix(prefix(ip, NODE_MASK_SIZE[family], family));
}

/** Addresses of the range, one after the other and before the gateway's, without those that are taken. */
function addressesOf(range: Prefix, taken: ReadonlySet<string>): () => string {
  const gatewayIp = gatewayOf(range);
  let index = FIRST_NODE_INDEX;
  return () => {
    for (; index < addressCount(range) && addressAt(range, index) !== gatewayIp; index++) {
      const address = formatIp(addressAt(range, index), range.family);
      if (taken.has(address)) continue;
      index++;
      return address;
    }
    throw new ManifestError(`the node range ${formatPrefix(range)} is used up; expected room for every node`);
  };
}

/** A Node that leaves its addresses or its pod ranges open gets what its pods say. */
function withHostFields(node: Node, host: Host | undefined, free: readonly FreeAddresses[]): Node {
  const given = podCidrsOf(node);
  const ofPods = host?.podCIDRs.filter((range) => !given.some(isOfFamily(parseAnyPrefix(range).family))) ?? [];
  const podCIDRs = [...given, ...ofPods];
  const spec = ofPods.length === 0 ? node.spec : { ...node.spec, podCIDR: podCIDRs[0], podCIDRs };
  const missing = free.filter(({ family }) => addressOfNode(node, family) === undefined);
  if (missing.length === 0) return { ...node, spec };
  const addresses = missing.map(({ family, next }) => ({
    type: 'InternalIP',
    address: host?.addresses.find(isOfFamily(family)) ?? next(),
  }));
  return { ...node, spec, status: { ...node.status, addresses: [...addresses, ...node.status.addresses] } };
}
