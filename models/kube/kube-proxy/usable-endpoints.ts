// Which endpoints of a service port a node may send traffic to, in every mode of kube-proxy: traffic policies, topology
// hints, and draining endpoints as a last resort.

import { type Endpoint, isExternallyAccessible, type ServicePort } from './service-ports.ts';

/** What endpoint selection knows of the node that it selects for. */
export interface NodeTopology {
  readonly name: string;
  /** Label topology.kubernetes.io/zone; undefined if the node has none or an empty one. */
  readonly zone: string | undefined;
}

export interface UsableEndpoints {
  /** For traffic under policy Cluster; empty also if no traffic of the port is under it. */
  readonly cluster: readonly Endpoint[];
  /** For traffic under policy Local; empty also if no traffic of the port is under it. */
  readonly local: readonly Endpoint[];
  /** Those of `cluster` and `local` together. */
  readonly reachable: readonly Endpoint[];
  /** Some node could serve this port: what cannot be served here is then dropped instead of refused. */
  readonly hasAny: boolean;
}

export function usableEndpoints(port: ServicePort, node: NodeTopology): UsableEndpoints {
  const cluster = usesClusterEndpoints(port) ? readyOrDraining(hintedFor(node, port.endpoints)) : [];
  if (!usesLocalEndpoints(port)) return { cluster, local: [], reachable: cluster, hasAny: cluster.length > 0 };
  const local = readyOrDraining(port.endpoints.filter(({ nodeName }) => nodeName === node.name));
  const reachable = new Set([...cluster, ...local]);
  return {
    cluster,
    local,
    reachable: port.endpoints.filter((endpoint) => reachable.has(endpoint)),
    hasAny: port.endpoints.some((endpoint) => endpoint.ready || isDraining(endpoint)),
  };
}

/** False if {@link usableEndpoints} is the same on all nodes of a zone, so that they can share what is made of it. */
export const dependsOnNode = (port: ServicePort): boolean => usesLocalEndpoints(port) || hasNodeHints(port);

export const hasNodeHints = (port: ServicePort): boolean =>
  port.endpoints.some(({ nodeHints }) => nodeHints.length > 0);

/** External traffic under policy Local needs them too: a node's own pods take the short way to any endpoint. */
const usesClusterEndpoints = (port: ServicePort): boolean => !port.internalPolicyLocal || isExternallyAccessible(port);

const usesLocalEndpoints = (port: ServicePort): boolean =>
  port.internalPolicyLocal || (port.externalPolicyLocal && isExternallyAccessible(port));

/** KEP-1669: with nothing ready, endpoints that still serve while they terminate are better than none. */
function readyOrDraining(endpoints: readonly Endpoint[]): readonly Endpoint[] {
  const ready = endpoints.filter((endpoint) => endpoint.ready);
  return ready.length > 0 ? ready : endpoints.filter(isDraining);
}

const isDraining = ({ ready, serving, terminating }: Endpoint): boolean => !ready && serving && terminating;

/** Hints count only if every ready endpoint has one and one names us; a node hint (KEP-3015) goes before a zone hint. */
function hintedFor({ name, zone }: NodeTopology, endpoints: readonly Endpoint[]): readonly Endpoint[] {
  return (
    hinted(endpoints, ({ nodeHints }) => nodeHints, name) ??
    (zone === undefined ? undefined : hinted(endpoints, ({ zoneHints }) => zoneHints, zone)) ??
    endpoints
  );
}

function hinted(
  endpoints: readonly Endpoint[],
  hintsOf: (endpoint: Endpoint) => readonly string[],
  wanted: string,
): readonly Endpoint[] | undefined {
  const ready = endpoints.filter((endpoint) => endpoint.ready);
  if (ready.some((endpoint) => hintsOf(endpoint).length === 0)) return undefined;
  const ours = ready.filter((endpoint) => hintsOf(endpoint).includes(wanted));
  return ours.length > 0 ? ours : undefined;
}
