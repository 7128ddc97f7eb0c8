// What the agents that enforce policies have heard of: policies, pods and namespaces, and the rules that follow from them.
// One for all nodes of a cluster, as they all hear the same.

import type { IpFamily } from '../../packet/ip-address.ts';
import { keyOf, type Namespace, type NetworkPolicy, type Pod, podIpsOf } from '../objects.ts';
import { groupBy, hasPolicies, type PolicyObjects } from './policy-objects.ts';
import { PolicyRules } from './policy-rules.ts';

export type PolicyObject = NetworkPolicy | Pod | Namespace;

export class PolicyTracker {
  readonly #policies = new Map<string, NetworkPolicy>();
  readonly #pods = new Map<string, Pod>();
  readonly #namespaces = new Map<string, Namespace>();
  #snapshot: PolicySnapshot | undefined;

  /** How the object is now that something is heard of it; true if rules may depend on what has changed. */
  update(heardOf: PolicyObject, now: PolicyObject | undefined): boolean {
    const objects = this.#objectsLike(heardOf);
    const key = keyOf(heardOf);
    const before = objects.get(key);
    if (now === undefined) objects.delete(key);
    else objects.set(key, now);
    if (before === now || factsOf(before) === factsOf(now)) return false;
    this.#snapshot = undefined;
    return true;
  }

  #objectsLike({ kind }: PolicyObject): Map<string, PolicyObject> {
    return kind === 'NetworkPolicy' ? this.#policies : kind === 'Pod' ? this.#pods : this.#namespaces;
  }

  snapshot(): PolicySnapshot {
    return (this.#snapshot ??= new PolicySnapshot({
      policies: [...this.#policies.values()],
      pods: [...this.#pods.values()],
      namespaces: [...this.#namespaces.values()],
    }));
  }
}

/**
 * What rules depend on. Most news of a pod is about its readiness, and until it has an address, rules have nothing to say of
 * it.
 */
function factsOf(object: PolicyObject | undefined): string {
  if (object === undefined) return 'nothing';
  const { labels } = object.metadata;
  if (object.kind !== 'Pod') return JSON.stringify([labels, object.kind === 'NetworkPolicy' ? object.spec : undefined]);
  const addresses = podIpsOf(object);
  if (addresses.length === 0 || !hasPolicies(object)) return 'nothing';
  const { nodeName, containers, initContainers } = object.spec;
  const ports = [...containers, ...initContainers].map((container) => container.ports);
  return JSON.stringify([labels, nodeName, addresses, ports]);
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
