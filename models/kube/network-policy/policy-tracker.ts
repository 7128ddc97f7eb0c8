// What the agents that enforce policies have heard of: policies, pods and namespaces, and the rules that follow from them.
// One for all nodes of a cluster, as they all hear the same.

import type { IpFamily } from '../../packet/ip-address.ts';
import type { WatchEvent } from '../api-server.ts';
import { keyOf, type Namespace, type NetworkPolicy, type Pod, podIpsOf } from '../objects.ts';
import { groupBy, hasPolicies, type PolicyObjects } from './policy-objects.ts';
import { PolicyRules } from './policy-rules.ts';

export class PolicyTracker {
  readonly #policies = new Map<string, NetworkPolicy>();
  readonly #pods = new Map<string, Pod>();
  readonly #namespaces = new Map<string, Namespace>();
  #snapshot: PolicySnapshot | undefined;

  /** True if the event is one that rules may depend on. */
  apply({ type, object }: WatchEvent<NetworkPolicy | Pod | Namespace>): boolean {
    const objects: Map<string, typeof object> =
      object.kind === 'NetworkPolicy' ? this.#policies : object.kind === 'Pod' ? this.#pods : this.#namespaces;
    const before = objects.get(keyOf(object));
    if (type === 'DELETED') objects.delete(keyOf(object));
    else objects.set(keyOf(object), object);
    if (type !== 'DELETED' && before !== undefined && factsOf(before) === factsOf(object)) return false;
    this.#snapshot = undefined;
    return true;
  }

  snapshot(): PolicySnapshot {
    return (this.#snapshot ??= new PolicySnapshot({
      policies: [...this.#policies.values()],
      pods: [...this.#pods.values()],
      namespaces: [...this.#namespaces.values()],
    }));
  }
}

/** What is heard of again and again, is mostly about a pod's readiness. */
function factsOf(object: NetworkPolicy | Pod | Namespace): string {
  const { labels } = object.metadata;
  if (object.kind !== 'Pod') return JSON.stringify([labels, object.kind === 'NetworkPolicy' ? object.spec : undefined]);
  const { nodeName, containers, initContainers } = object.spec;
  const ports = [...containers, ...initContainers].map((container) => container.ports);
  return JSON.stringify([labels, nodeName, podIpsOf(object), hasPolicies(object), ports]);
}

/** How things were at one time. */
export class PolicySnapshot {
  readonly objects: PolicyObjects;
  readonly #rules = new Map<IpFamily, PolicyRules>();
  #podsByNode: ReadonlyMap<string | undefined, readonly Pod[]> | undefined;

  constructor(objects: PolicyObjects) {
    this.objects = objects;
  }

  rules(family: IpFamily): PolicyRules {
    let rules = this.#rules.get(family);
    if (rules === undefined) this.#rules.set(family, (rules = new PolicyRules(this.objects, family)));
    return rules;
  }

  /** Those that policies are about. */
  podsOn(node: string): readonly Pod[] {
    this.#podsByNode ??= groupBy(this.objects.pods.filter(hasPolicies), ({ spec }) => spec.nodeName);
    return this.#podsByNode.get(node) ?? [];
  }
}
