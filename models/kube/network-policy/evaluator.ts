// The analytical evaluator: what NetworkPolicies say of one connection, read from the API objects alone. It is slow and
// obvious, knows nothing of rules and packets, and judges those who enforce policies.
//
// A connection is that of a client to the address that it is sent to in the end: of a Service, to an endpoint's. Answers
// belong to it.

import { contains, type IpFamily, parseAddress, parseAnyPrefix } from '../../packet/ip-address.ts';
import { containerPortNamed } from '../endpoint-slices.ts';
import { keyOf, type Labels, type NetworkPolicy, type Pod, type ServiceProtocol } from '../objects.ts';
import {
  addressOfPod,
  type Direction,
  hasPolicies,
  isolates,
  isPeer,
  labelsOfNamespace,
  type PolicyObjects,
  type PolicyPeer,
  type PolicyPort,
  type PolicyRule,
  peersOf,
  rulesOf,
  selects,
} from './policy-objects.ts';

/** A pod, or an address that is no pod's. */
export type Party = Pod | string;

export interface Connection {
  readonly from: Party;
  readonly to: Party;
  readonly family: IpFamily;
  readonly protocol: ServiceProtocol;
  readonly port: number;
}

export interface Verdict {
  readonly isAllowed: boolean;
  /** At the client's end (Egress), at the server's (Ingress), or at both. */
  readonly refusals: readonly Refusal[];
}

/** One end of the connection is isolated, and none of the policies that isolate it admits the connection. */
export interface Refusal {
  readonly direction: Direction;
  /** `namespace/name`. */
  readonly pod: string;
  readonly isolatedBy: readonly { readonly policy: string; readonly missing: readonly string[] }[];
}

export class PolicyEvaluator {
  readonly #objects: PolicyObjects;

  constructor(objects: PolicyObjects) {
    this.#objects = objects;
  }

  /** The policies that isolate the pod in that direction. */
  isolating(pod: Pod, direction: Direction): NetworkPolicy[] {
    return this.#objects.policies.filter((policy) => isolates(policy, direction) && selects(policy, pod));
  }

  judge(connection: Connection): Verdict {
    const refusals = [this.#refusal(connection, 'Egress'), this.#refusal(connection, 'Ingress')];
    const found = refusals.filter((refusal) => refusal !== undefined);
    return { isAllowed: found.length === 0, refusals: found };
  }

  #refusal(connection: Connection, direction: Direction): Refusal | undefined {
    const [pod, peer] = direction === 'Egress' ? [connection.from, connection.to] : [connection.to, connection.from];
    if (typeof pod === 'string' || isAlwaysAllowed(pod, peer)) return undefined;
    const isolating = this.isolating(pod, direction);
    if (isolating.length === 0) return undefined;
    const isolatedBy = isolating.map((policy) => {
      const rules = rulesOf(policy, direction);
      return { policy: keyOf(policy), missing: rules.map((rule) => this.#missing(policy, rule, peer, connection)) };
    });
    if (isolatedBy.some(({ missing }) => missing.includes(undefined))) return undefined;
    return {
      direction,
      pod: keyOf(pod),
      isolatedBy: isolatedBy.map(({ policy, missing }) => ({ policy, missing: inWords(missing, direction) })),
    };
  }

  /** What keeps the rule from admitting the connection; undefined if it admits it. */
  #missing(policy: NetworkPolicy, rule: PolicyRule, peer: Party, connection: Connection): string | undefined {
    const [peers, { ports }] = [peersOf(rule), rule];
    const lacks: string[] = [];
    if (peers.length > 0 && !peers.some((candidate) => this.#isPeer(candidate, policy, peer, connection.family)))
      lacks.push(`no peer is ${this.#describe(peer)}`);
    if (ports.length > 0 && !ports.some((port) => isPort(port, connection)))
      lacks.push(`no port is ${connection.port}/${connection.protocol}`);
    return lacks.length === 0 ? undefined : lacks.join(', ');
  }

  #isPeer(candidate: PolicyPeer, policy: NetworkPolicy, peer: Party, family: IpFamily): boolean {
    const { ipBlock } = candidate;
    if (ipBlock !== undefined) {
      const address = typeof peer === 'string' ? peer : addressOfPod(peer, family);
      return address !== undefined && isInBlock(address, ipBlock);
    }
    const policyNamespace = policy.metadata.namespace;
    const namespaceLabels = (name: string): Labels => this.#namespaceLabels(name);
    return typeof peer !== 'string' && isPeer(candidate, peer, { policyNamespace, namespaceLabels });
  }

  #namespaceLabels(name: string): Labels {
    return labelsOfNamespace(
      name,
      this.#objects.namespaces.find(({ metadata }) => metadata.name === name),
    );
  }

  #describe(peer: Party): string {
    if (typeof peer === 'string') return peer;
    if (!hasPolicies(peer)) return `${keyOf(peer)}, which is on its node's network`;
    const { namespace, labels } = peer.metadata;
    return `${keyOf(peer)} (labels ${formatLabels(labels)}; namespace ${formatLabels(this.#namespaceLabels(namespace))})`;
  }
}

/** A pod cannot be kept from itself, nor from its own node: kubelet probes always arrive. */
function isAlwaysAllowed(pod: Pod, peer: Party): boolean {
  if (typeof peer === 'string') return false;
  return keyOf(peer) === keyOf(pod) || (peer.spec.hostNetwork && peer.spec.nodeName === pod.spec.nodeName);
}

function isInBlock(address: string, { cidr, except }: NonNullable<PolicyPeer['ipBlock']>): boolean {
  const { family, ip } = parseAddress(address);
  const isIn = (text: string): boolean => {
    const range = parseAnyPrefix(text);
    return range.family === family && contains(range, ip);
  };
  return isIn(cidr) && !except.some(isIn);
}

/** A named port is that of the pod which is connected to, whichever end the policy is about. */
function isPort({ protocol, port, endPort }: PolicyPort, connection: Connection): boolean {
  if (protocol !== connection.protocol) return false;
  if (port === undefined) return true;
  if (typeof port === 'number') return connection.port >= port && connection.port <= (endPort ?? port);
  const { to } = connection;
  return typeof to !== 'string' && hasPolicies(to) && containerPortNamed(to, port, protocol) === connection.port;
}

function inWords(missing: readonly (string | undefined)[], direction: Direction): string[] {
  const list = direction.toLowerCase();
  if (missing.length === 0) return [`no ${list} rule`];
  return missing.map((lack, i) => `spec.${list}[${i}]: ${lack}`);
}

const formatLabels = (labels: Labels): string =>
  Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(',') || 'none';
