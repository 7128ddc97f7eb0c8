// Egress gateways: pods that leave the cluster by one node, with one address, so that those outside know them by it. They
// are asked for by CiliumEgressGatewayPolicies (cilium.io/v2), whose meaning is that of Cilium's documentation: the first
// node in the alphabet that the selector fits is the gateway, its own address is used where the policy names none, and
// without a gateway the packets are dropped. How it is done is Linux's policy routing (host/egress.ts), not Cilium's
// programs: what comes out is the same.
//
// Destinations within the cluster (pods, nodes, Services) are never meant. Not modelled: interfaces by name, nodeSelectors
// of pods, the time that an agent takes after it has heard.

import type { EgressWay } from '../host/egress.ts';
import { type IpAddress, type IpFamily, type Prefix, parseAddress, parseAnyPrefix } from '../packet/ip-address.ts';
import type { ApiServer, WatchEvent } from './api-server.ts';
import { matchesSelector } from './label-index.ts';
import { labelsOfNamespace } from './network-policy/policy-objects.ts';
import {
  addressOfNode,
  type EgressGatewayPolicy,
  isFinished,
  isNodeReady,
  isOfFamily,
  type KubeObject,
  keyOf,
  type Node,
  type Pod,
  podIpsOf,
} from './objects.ts';
import { familiesOf, rangeOf } from './ranges.ts';

export interface EgressGatewayOptions {
  /** Runs an action when all that happens at this instant has happened. */
  readonly soon: (action: () => void) => void;
  /** Sets the ways of a node. `addresses`: those that it has to have as a gateway. */
  readonly use: (node: string, ways: readonly EgressWay[], addresses: readonly IpAddress[]) => void;
}

/** Cilium has the namespace of a pod among its labels. */
const NAMESPACE_LABEL = 'io.kubernetes.pod.namespace';

export class EgressGatewayController {
  readonly #apiServer: ApiServer;
  readonly #options: EgressGatewayOptions;
  #watchesSelected = false;
  #isDirty = false;

  constructor(apiServer: ApiServer, options: EgressGatewayOptions) {
    this.#apiServer = apiServer;
    this.#options = options;
    apiServer.watch('CiliumEgressGatewayPolicy', (events) => {
      if (events.length === 0) return;
      this.#watchSelected();
      this.#markDirty();
    });
  }

  /** A cluster without policies need not hear of each pod once more. */
  #watchSelected(): void {
    if (this.#watchesSelected) return;
    this.#watchesSelected = true;
    const mark = (events: readonly WatchEvent<KubeObject>[]): void => {
      if (events.length > 0) this.#markDirty();
    };
    for (const kind of ['Pod', 'Node', 'Namespace'] as const) this.#apiServer.watch(kind, mark);
  }

  #markDirty(): void {
    if (this.#isDirty) return;
    this.#isDirty = true;
    this.#options.soon(() => {
      this.#isDirty = false;
      this.#refresh();
    });
  }

  #refresh(): void {
    const nodes = this.#apiServer.list('Node');
    const ways = new Map<string, EgressWay[]>(nodes.map(({ metadata }) => [metadata.name, []]));
    const addresses = new Map<string, IpAddress[]>(nodes.map(({ metadata }) => [metadata.name, []]));
    for (const policy of this.#apiServer.list('CiliumEgressGatewayPolicy'))
      for (const family of familiesOf(this.#apiServer.ranges)) this.#add(policy, family, { ways, addresses });
    for (const [node, ofNode] of ways) this.#options.use(node, ofNode, addresses.get(node)!);
  }

  #add(
    policy: EgressGatewayPolicy,
    family: IpFamily,
    { ways, addresses }: { readonly ways: Map<string, EgressWay[]>; readonly addresses: Map<string, IpAddress[]> },
  ): void {
    const { destinationCIDRs, excludedCIDRs, egressGateway } = policy.spec;
    const destinations = ofFamily(destinationCIDRs, family);
    if (destinations.length === 0) return;
    const pods = this.#podsOf(policy).flatMap((pod) => {
      const ip = podIpsOf(pod).find(isOfFamily(family));
      return ip === undefined ? [] : [{ node: pod.spec.nodeName!, ip: parseAddress(ip).ip }];
    });
    const gateway = this.#gatewayOf(policy, family);
    const { egressIP } = egressGateway;
    const own = gateway && parseAddress(addressOfNode(gateway, family)!);
    const leaveAs = egressIP !== undefined && isOfFamily(family)(egressIP) ? parseAddress(egressIP) : own;
    const excluded = [...this.#clusterRanges(family), ...ofFamily(excludedCIDRs, family)];
    for (const [node, ofNode] of ways) {
      const isGateway = node === gateway?.metadata.name;
      const concerned = pods.filter((pod) => isGateway || pod.node === node).map(({ ip }) => ip);
      if (isGateway && leaveAs !== undefined) addresses.get(node)!.push(leaveAs);
      const common = { family, pods: concerned, destinations, excluded };
      ofNode.push({ ...common, via: own?.ip, leaveAs: isGateway ? leaveAs?.ip : undefined });
    }
  }

  #podsOf({ spec: { selectors } }: EgressGatewayPolicy): Pod[] {
    return this.#apiServer.list('Pod').filter((pod) => {
      const { namespace, labels } = pod.metadata;
      if (pod.spec.hostNetwork || pod.spec.nodeName === undefined || isFinished(pod)) return false;
      const ofPod = { ...labels, [NAMESPACE_LABEL]: namespace };
      return selectors.some(
        ({ podSelector, namespaceSelector }) =>
          (podSelector !== undefined || namespaceSelector !== undefined) &&
          (podSelector === undefined || matchesSelector(podSelector, ofPod)) &&
          (namespaceSelector === undefined ||
            matchesSelector(
              namespaceSelector,
              labelsOfNamespace(namespace, this.#apiServer.get('Namespace', namespace)),
            )),
      );
    });
  }

  #gatewayOf({ spec: { egressGateway } }: EgressGatewayPolicy, family: IpFamily): Node | undefined {
    return this.#apiServer
      .list('Node')
      .filter((node) => matchesSelector(egressGateway.nodeSelector, node.metadata.labels))
      .filter((node) => isNodeReady(node) && addressOfNode(node, family) !== undefined)
      .toSorted((a, b) => Number(keyOf(a) > keyOf(b)) - Number(keyOf(a) < keyOf(b)))[0];
  }

  #clusterRanges(family: IpFamily): Prefix[] {
    const { ranges } = this.#apiServer;
    return (['pod', 'node', 'service'] as const).flatMap((name) => rangeOf(ranges, name, family) ?? []);
  }
}

const ofFamily = (cidrs: readonly string[], family: IpFamily): Prefix[] =>
  cidrs.map(parseAnyPrefix).filter((range) => range.family === family);
