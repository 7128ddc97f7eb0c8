// Node objects for clusters whose manifests have none, or not all of those that the pods of a snapshot run on.

import { gatewayOf } from '../host/outside-world.ts';
import {
  addressAt,
  addressCount,
  formatIp,
  formatPrefix,
  isIpv4,
  type Prefix,
  parseIp,
  prefix,
} from '../packet/ip-address.ts';
import { ManifestError } from './manifest-error.ts';
import { addressOfNode, type KubeObject, keyOf, type Labels, type Node, objectFrom, type Pod } from './objects.ts';
import type { ClusterRanges } from './ranges.ts';

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
 * The nodes that a cluster with these objects still needs: the Nodes among them, given an address if they have none, and
 * those that their pods run on. If that is none and there are none, `node-1` to `node-<count>`. Throws a ManifestError if
 * the node range is too small.
 */
export function nodesFor(
  objects: readonly KubeObject[],
  { ranges, count, existing = [] }: { ranges: ClusterRanges; count: number; existing?: readonly Node[] },
): { readonly nodes: Node[]; readonly notes: string[] } {
  const given = objects.filter((object) => object.kind === 'Node');
  const hosts = hostsOf(objects.filter((object) => object.kind === 'Pod'));
  const taken = new Set([...existing, ...given].map(addressOfNode));
  for (const { address } of hosts.values()) taken.add(address);
  const nextAddress = addressesOf(ranges.node, taken);

  const nodes = given.map((node) => withHostFields(node, hosts.get(node.metadata.name), nextAddress));
  const known = new Set([...existing, ...given].map(({ metadata }) => metadata.name));
  const notes: string[] = [];
  for (const [name, { address, podCIDR, pod }] of hosts) {
    if (known.has(name)) continue;
    nodes.push(makeNode({ name, address: address ?? nextAddress(), podCIDR }));
    notes.push(`Node ${name} is in no manifest; made, as Pod ${keyOf(pod)} runs on it`);
  }
  if (nodes.length + existing.length > 0) return { nodes, notes };
  for (let i = 1; i <= count; i++) nodes.push(makeNode({ name: `node-${i}`, address: nextAddress() }));
  return { nodes, notes };
}

/** What the pods of a snapshot say about the nodes they run on. */
interface Host {
  /** A pod that runs there. */
  readonly pod: Pod;
  address: string | undefined;
  /** The /24 of its pods, if they are in one and no other node's pods are. */
  podCIDR: string | undefined;
}

function hostsOf(pods: readonly Pod[]): Map<string, Host> {
  const hosts = new Map<string, Host>();
  const nodesOfPiece = new Map<string, Set<string>>();
  const piecesOfNode = new Map<string, Set<string>>();
  for (const pod of pods) {
    const { nodeName, hostNetwork } = pod.spec;
    if (nodeName === undefined) continue;
    const host = hosts.get(nodeName) ?? { pod, address: undefined, podCIDR: undefined };
    hosts.set(nodeName, host);
    const { hostIP, podIP } = pod.status;
    host.address ??= hostIP ?? (hostNetwork ? podIP : undefined);
    if (hostNetwork || podIP === undefined || !isIpv4(podIP)) continue;
    const piece = formatPrefix(prefix(parseIp(podIP), 24));
    nodesOfPiece.set(piece, (nodesOfPiece.get(piece) ?? new Set()).add(nodeName));
    piecesOfNode.set(nodeName, (piecesOfNode.get(nodeName) ?? new Set()).add(piece));
  }
  for (const [name, pieces] of piecesOfNode) {
    const [piece = ''] = pieces;
    const host = hosts.get(name);
    if (host !== undefined && pieces.size === 1 && nodesOfPiece.get(piece)?.size === 1) host.podCIDR = piece;
  }
  return hosts;
}

/** Addresses of the range, one after the other and before the gateway's, without those that are taken. */
function addressesOf(range: Prefix, taken: ReadonlySet<string | undefined>): () => string {
  const gatewayIp = gatewayOf(range);
  let index = FIRST_NODE_INDEX;
  return () => {
    for (; index < addressCount(range) && addressAt(range, index) !== gatewayIp; index++) {
      const address = formatIp(addressAt(range, index));
      if (taken.has(address)) continue;
      index++;
      return address;
    }
    throw new ManifestError(`the node range ${formatPrefix(range)} is used up; expected room for every node`);
  };
}

/** A Node that leaves its address or its pod range open gets what its pods say. */
function withHostFields(node: Node, host: Host | undefined, nextAddress: () => string): Node {
  const spec = { ...node.spec, podCIDR: node.spec.podCIDR ?? host?.podCIDR };
  if (addressOfNode(node) !== undefined) return { ...node, spec };
  const address = { type: 'InternalIP', address: host?.address ?? nextAddress() };
  return { ...node, spec, status: { ...node.status, addresses: [...node.status.addresses, address] } };
}
