// The API objects that NetworkPolicies are about, and what the API says of each of them alone.

import type { IpFamily } from '../../packet/ip-address.ts';
import { matchesSelector } from '../label-index.ts';
import {
  isFinished,
  isOfFamily,
  type LabelSelector,
  type Labels,
  type Namespace,
  type NetworkPolicy,
  type Pod,
  podIpsOf,
} from '../objects.ts';

export type Direction = NetworkPolicy['spec']['policyTypes'][number];
export type PolicyRule = NetworkPolicy['spec']['ingress'][number] | NetworkPolicy['spec']['egress'][number];
export type PolicyPeer = NetworkPolicy['spec']['ingress'][number]['from'][number];
export type PolicyPort = NetworkPolicy['spec']['ingress'][number]['ports'][number];

export const DIRECTIONS: readonly Direction[] = ['Ingress', 'Egress'];

/** All that decides about policies, at one time. */
export interface PolicyObjects {
  readonly policies: readonly NetworkPolicy[];
  readonly pods: readonly Pod[];
  readonly namespaces: readonly Namespace[];
}

/** The label that the API server gives every namespace. */
const NAME_LABEL = 'kubernetes.io/metadata.name';

/** Of a namespace without an object, as in manifests that leave it to `kubectl create namespace`: its name alone. */
export const labelsOfNamespace = (name: string, namespace: Namespace | undefined): Labels => ({
  ...namespace?.metadata.labels,
  [NAME_LABEL]: name,
});

/**
 * Policies are about pods with a network of their own. A pod on its node's network is an address to them, as in most
 * implementations; the API leaves it open.
 */
export const hasPolicies = (pod: Pod): boolean => !pod.spec.hostNetwork && !isFinished(pod);

export const addressOfPod = (pod: Pod, family: IpFamily): string | undefined => podIpsOf(pod).find(isOfFamily(family));

/** Is the pod one of those that the policy is about? */
export const selects = ({ metadata, spec }: NetworkPolicy, pod: Pod): boolean =>
  metadata.namespace === pod.metadata.namespace &&
  hasPolicies(pod) &&
  matchesSelector(spec.podSelector, pod.metadata.labels);

/** Pods that the policy is about are refused, in that direction, what no policy admits. */
export const isolates = ({ spec }: NetworkPolicy, direction: Direction): boolean =>
  spec.policyTypes.includes(direction);

/** Rules of a direction that the policy is not about count for nothing. */
export const rulesOf = (policy: NetworkPolicy, direction: Direction): readonly PolicyRule[] =>
  isolates(policy, direction) ? (direction === 'Ingress' ? policy.spec.ingress : policy.spec.egress) : [];

export const peersOf = (rule: PolicyRule): readonly PolicyPeer[] => ('from' in rule ? rule.from : rule.to);

const EVERYTHING: LabelSelector = { matchLabels: {}, matchExpressions: [] };

/** Without a namespaceSelector a peer is about pods of the policy's own namespace. */
export function isPeer(
  { podSelector, namespaceSelector, ipBlock }: PolicyPeer,
  pod: Pod,
  {
    policyNamespace,
    namespaceLabels,
  }: { readonly policyNamespace: string; readonly namespaceLabels: (namespace: string) => Labels },
): boolean {
  const { namespace, labels } = pod.metadata;
  if (ipBlock !== undefined || !hasPolicies(pod)) return false;
  const isThere =
    namespaceSelector === undefined
      ? namespace === policyNamespace
      : matchesSelector(namespaceSelector, namespaceLabels(namespace));
  return isThere && matchesSelector(podSelector ?? EVERYTHING, labels);
}

export function groupBy<Item, Key>(items: readonly Item[], keyOfItem: (item: Item) => Key): ReadonlyMap<Key, Item[]> {
  const groups = new Map<Key, Item[]>();
  for (const item of items) {
    const group = groups.get(keyOfItem(item));
    if (group === undefined) groups.set(keyOfItem(item), [item]);
    else group.push(item);
  }
  return groups;
}
