// The API objects, spelled as in YAML, with the API server's defaults filled in. Whoever holds one does not change it:
// an update is a new object.

import { formatInstant, type Instant, parseInstant } from '../../engine/time.ts';
import { type IpFamily, isIpv4, isIpv6 } from '../packet/ip-address.ts';
import type { Kind, ManifestInputs, ParsedManifests } from './schema.ts';
import { parseManifest } from './schema.ts';

type Immutable<T> = T extends readonly (infer Element)[]
  ? readonly Immutable<Element>[]
  : T extends object
    ? { readonly [Key in keyof T]: Immutable<T[Key]> }
    : T;

export type { Kind } from './schema.ts';

type Objects = { [K in Kind]: Immutable<ParsedManifests[K]> };
export type ObjectOf<K extends Kind> = Objects[K];
export type KubeObject = Objects[Kind];

export type Node = ObjectOf<'Node'>;
export type Namespace = ObjectOf<'Namespace'>;
export type Pod = ObjectOf<'Pod'>;
export type Deployment = ObjectOf<'Deployment'>;
export type ReplicaSet = ObjectOf<'ReplicaSet'>;
export type StatefulSet = ObjectOf<'StatefulSet'>;
export type DaemonSet = ObjectOf<'DaemonSet'>;
export type Service = ObjectOf<'Service'>;
export type EndpointSlice = ObjectOf<'EndpointSlice'>;
export type Endpoints = ObjectOf<'Endpoints'>;
export type NetworkPolicy = ObjectOf<'NetworkPolicy'>;
export type EgressGatewayPolicy = ObjectOf<'CiliumEgressGatewayPolicy'>;
export type IngressClass = ObjectOf<'IngressClass'>;
export type Ingress = ObjectOf<'Ingress'>;
export type GatewayClass = ObjectOf<'GatewayClass'>;
export type Gateway = ObjectOf<'Gateway'>;
export type HttpRoute = ObjectOf<'HTTPRoute'>;
export type GrpcRoute = ObjectOf<'GRPCRoute'>;
export type ReferenceGrant = ObjectOf<'ReferenceGrant'>;

/** What makes pods from a template. */
export type Workload = Deployment | ReplicaSet | StatefulSet | DaemonSet;

export type PodSpec = Pod['spec'];
export type PodTemplate = Workload['spec']['template'];
export type ServicePort = Service['spec']['ports'][number];
/** One entry of an EndpointSlice: the addresses of one pod. */
export type Endpoint = EndpointSlice['endpoints'][number];
export type EndpointPort = EndpointSlice['ports'][number];
export type OwnerReference = Pod['metadata']['ownerReferences'][number];
/** `IPv4` or `IPv6`. */
export type IpFamilyName = NonNullable<Service['spec']['ipFamilies']>[number];
/** `TCP`, `UDP` or `SCTP`. */
export type ServiceProtocol = ServicePort['protocol'];
export type Labels = Readonly<Record<string, string>>;
export type LabelSelector = Workload['spec']['selector'];

/** A manifest as one writes it: fields that have a default may be left out. */
export type Manifest<K extends Kind> = Immutable<ManifestInputs[K]>;

/** The object that a manifest written in code describes. Throws a RangeError that names the wrong field. */
export function objectFrom<K extends Kind>(kind: K, manifest: Omit<Manifest<K>, 'kind'>): ObjectOf<K> {
  const parsed = parseManifest(kind, { ...manifest, kind });
  if ('object' in parsed) return parsed.object as ObjectOf<K>;
  const { field, expected, got } = parsed.problem;
  throw new RangeError(`manifest of a ${kind}: ${field}: expected ${expected}, got ${got}`);
}

/**
 * `default/web`, or the bare name of a Node or Namespace. Joined: a template makes a text of V8 that refers to its parts, which
 * takes twice as long to be found in a Map, and more memory.
 */
export function keyOf({ metadata }: KubeObject): string {
  return 'namespace' in metadata ? [metadata.namespace, metadata.name].join('/') : metadata.name;
}

/**
 * `{ ...object, ...changes }`, for objects of which there are many: V8 (Node 20) gives each object that such an expression makes
 * a hidden class of its own, which takes more memory than the object, and whoever reads many of them finds none in its caches.
 */
export const withChanges = <T extends object>(object: T, changes: Partial<T>): T => Object.assign({}, object, changes);

/** `Service default/web`, as messages name an object. */
export const describeObject = (object: KubeObject): string => [object.kind, keyOf(object)].join(' ');

/** A Service of a manifest that has no address of its own: clients get the addresses of its pods from DNS. */
export const isHeadless = (service: Service): boolean => service.spec.clusterIP === 'None';

/** The virtual addresses of a Service, at most one of each family, the primary one first. */
export function clusterIpsOf({ spec }: Service): readonly string[] {
  if (spec.type === 'ExternalName') return [];
  return (spec.clusterIPs ?? [spec.clusterIP ?? 'None']).filter((address) => address !== 'None');
}

/** The virtual address of a family that kube-proxy serves. */
export const clusterIpOf = (service: Service, family: IpFamily = 4): string | undefined =>
  clusterIpsOf(service).find(family === 6 ? isIpv6 : isIpv4);

/** Whether the API server gives the Service a virtual address. */
export const hasClusterIp = ({ spec }: Service): boolean => spec.type !== 'ExternalName' && spec.clusterIP !== 'None';

/** Of a type that has node ports; a load balancer may do without. */
export const mayHaveNodePorts = ({ spec }: Service): boolean =>
  spec.type === 'NodePort' || spec.type === 'LoadBalancer';

/** Reached under addresses that are not the cluster's own. */
export const isExternal = (service: Service): boolean =>
  mayHaveNodePorts(service) || (service.spec.type === 'ClusterIP' && service.spec.externalIPs.length > 0);

/** A load balancer that must find the nodes with endpoints asks each of them. */
export const needsHealthCheck = ({ spec }: Service): boolean =>
  spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local';

/** The Ready condition; a pod whose status does not say (one from a manifest, not from a snapshot) counts as ready. */
export function isReady(pod: Pod): boolean {
  const condition = pod.status.conditions?.find(({ type }) => type === 'Ready');
  return condition === undefined || condition.status === 'True';
}

type Conditions = NonNullable<Pod['status']['conditions']>;

/** The pod's conditions, among them `Ready` with this status: since `now`, unless it had that status before. */
export function withReadiness(
  { status: { conditions = [] } }: Pod,
  status: 'True' | 'False',
  now: Instant,
): Conditions {
  const before = conditions.find(({ type }) => type === 'Ready');
  const others = conditions.filter(({ type }) => type !== 'Ready');
  if (before?.status === status) return others.concat(before);
  return others.length === 0 ? onlyReadiness(status, now) : [...others, ...onlyReadiness(status, now)];
}

const latest = { status: 'True', now: undefined as Instant | undefined, conditions: [] as Conditions };

/** All pods that become ready at one instant say so in one list. */
function onlyReadiness(status: 'True' | 'False', now: Instant): Conditions {
  if (latest.status !== status || latest.now !== now) {
    const conditions = [{ type: 'Ready', status, lastTransitionTime: formatInstant(now) }];
    Object.assign(latest, { status, now, conditions });
  }
  return latest.conditions;
}

/** When the pod became ready, or unready; undefined if its status does not say, or names a date of the real world. */
export function readinessChangeOf({ status: { conditions } }: Pod): Instant | undefined {
  const time = conditions?.find(({ type }) => type === 'Ready')?.lastTransitionTime;
  return time === undefined ? undefined : parseInstant(time);
}

/** Deleted, and within its grace period. */
export const isTerminating = (pod: Pod): boolean => pod.metadata.deletionTimestamp !== undefined;

/** Its containers have ended for good: it holds no address any more, even if its status still shows one. */
export const isFinished = ({ status }: Pod): boolean => status.phase === 'Succeeded' || status.phase === 'Failed';

/** The Ready condition; a node that does not say (one from a manifest, not from a snapshot) counts as ready. */
export function isNodeReady(node: Node): boolean {
  const condition = node.status.conditions?.find(({ type }) => type === 'Ready');
  return condition === undefined || condition.status === 'True';
}

/** The owner that manages the object: the ReplicaSet of a pod, the Deployment of a ReplicaSet. */
export function controllerOf({ metadata }: KubeObject): OwnerReference | undefined {
  return metadata.ownerReferences.find(({ controller }) => controller) ?? metadata.ownerReferences[0];
}

/** The node's InternalIPs, the first of each family, in the order of its status. */
export function internalIpsOf(node: Node): readonly string[] {
  const own = node.status.addresses.flatMap(({ type, address }) => (type === 'InternalIP' ? [address] : []));
  return firstOfEachFamily(own);
}

/** The node's InternalIP of a family. */
export const addressOfNode = (node: Node, family: IpFamily = 4): string | undefined =>
  internalIpsOf(node).find(isOfFamily(family));

/** Where the node's pods are: a range, or one of each family. */
export const podCidrsOf = ({ spec: { podCIDR, podCIDRs } }: Node): readonly string[] =>
  podCIDRs ?? (podCIDR === undefined ? [] : [podCIDR]);

/** The pod's addresses, at most one of each family, the primary one first. */
export function podIpsOf({ status: { podIP, podIPs } }: Pod): readonly string[] {
  const first = podIP === undefined ? [] : [podIP];
  return podIPs === undefined ? first : firstOfEachFamily([...first, ...podIPs.map(({ ip }) => ip)]);
}

/** What a pod's status says of its addresses. `podIPs` is left out where it would say the same as `podIP`. */
export const podIpStatus = (
  addresses: readonly string[],
  hostIP: string | undefined,
): Pick<Pod['status'], 'podIP' | 'podIPs' | 'hostIP'> =>
  addresses.length < 2
    ? { podIP: addresses[0], hostIP }
    : { podIP: addresses[0], podIPs: addresses.map((ip) => ({ ip })), hostIP };

const firstOfEachFamily = (addresses: readonly string[]): readonly string[] =>
  addresses.filter((address, i) => addresses.findIndex((other) => isIpv4(other) === isIpv4(address)) === i);

/** Tells addresses, and ranges, of a family. */
export const isOfFamily =
  (family: IpFamily) =>
  (text: string): boolean =>
    text.includes(':') === (family === 6);
