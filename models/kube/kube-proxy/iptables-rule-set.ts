// All chains that kube-proxy has on one node in iptables mode, built service by service.

import type { RandomStream } from '../../../engine/random.ts';
import { Chain } from '../../netfilter/chain.ts';
import type { Rule } from '../../netfilter/rule.ts';
import type { EndpointComments } from './endpoint-comments.ts';
import type { ServiceChainCache, ServiceRules } from './iptables-chain-cache.ts';
import type { Dispatch } from './iptables-dispatch.ts';
import { type FixedChainSettings, type NodePortSettings, nodePortJumps } from './iptables-fixed-chains.ts';
import type { ServiceChainOptions } from './iptables-service-chains.ts';
import type { LocalDetector } from './local-detector.ts';
import type { ProxyNode } from './port-on-node.ts';
import type { ServiceSnapshot } from './service-tracker.ts';

/** Of one family. Addresses and ranges of the other have no place here. */
export interface IptablesConfig extends FixedChainSettings, NodePortSettings {
  /** --masquerade-all: masquerade all traffic to cluster IPs, whatever its source. */
  readonly masqueradeAll: boolean;
  readonly localDetector: LocalDetector;
}

export interface RuleSet {
  readonly filter: readonly Chain[];
  /** Fixed chains, KUBE-SERVICES and KUBE-NODEPORTS: written by every sync. */
  readonly nat: readonly Chain[];
  /** In nat, chains of single services and endpoints that other nodes do not have, or have otherwise. */
  readonly ownServiceChains: readonly Chain[];
  /** In nat, chains of single services and endpoints; those of `ownServiceChains` go before them. */
  readonly sharedServiceChains: ReadonlyMap<string, Chain>;
  /** By index of the service port in the snapshot. */
  readonly byPort: readonly ServiceRules[];
}

export interface RuleSetInput {
  readonly node: ProxyNode;
  readonly services: ServiceSnapshot;
  readonly config: IptablesConfig;
  readonly cache: ServiceChainCache;
  readonly comments: EndpointComments;
  /** Draws the order of services in the chains that they share: kube-proxy iterates over a Go map. */
  readonly random: RandomStream;
}

export function writeRules({ node, services, config, cache, comments, random }: RuleSetInput): RuleSet {
  const serviceRules = cache.servicesWith(chainOptions(config, { endpointComments: comments.usual }));
  const shared = serviceRules.shared(services, node.zone);
  const byPort = [...shared.rules];
  for (const i of shared.varying) byPort[i] = serviceRules.onNode(services.ports[i]!, node);
  const unusual = comments.unusual(services);
  if (unusual.length > 0) {
    const others = cache.servicesWith(chainOptions(config, { endpointComments: !comments.usual }));
    for (const i of unusual) byPort[i] = others.onNode(services.ports[i]!, node);
  }
  const own = new Set([...shared.varying, ...unusual]);
  const ownServiceChains = [...own].flatMap((i) => notIn(shared.chains, byPort[i]!));
  const dispatch = inOrder(random.shuffle(byPort));
  const jumps = nodePortJumps(node, config);
  const fixed = cache.fixedChains(config);
  return {
    filter: [
      new Chain('KUBE-SERVICES', dispatch.filterServices),
      new Chain('KUBE-EXTERNAL-SERVICES', dispatch.filterExternalServices),
      new Chain('KUBE-NODEPORTS', dispatch.filterNodePorts),
      new Chain('KUBE-PROXY-FIREWALL', dispatch.filterProxyFirewall),
      ...fixed.filter,
    ],
    nat: [
      new Chain('KUBE-SERVICES', [...dispatch.natServices, ...jumps.map((spec) => cache.rule(spec))]),
      new Chain('KUBE-NODEPORTS', dispatch.natNodePorts),
      ...fixed.nat,
    ],
    ownServiceChains,
    sharedServiceChains: shared.chains,
    byPort,
  };
}

export const chainOptions = (
  { masqueradeAll, localDetector, localhostNodePorts, accounts }: IptablesConfig,
  { endpointComments }: { readonly endpointComments: boolean },
): ServiceChainOptions => ({
  masqueradeAll,
  localDetector,
  loopbackNodePortAccount: localhostNodePorts
    ? accounts.find((name) => name === 'localhost_nps_accepted_pkts')
    : undefined,
  endpointComments,
});

function notIn(shared: ReadonlyMap<string, Chain>, { clusterChains, nodeChains }: ServiceRules): Chain[] {
  // The first is KUBE-SVC, which is the same object only if the endpoint chains after it are the same as well.
  const [balancing] = clusterChains;
  const own = nodeChains.filter((chain) => shared.get(chain.name) !== chain);
  return balancing === undefined || shared.get(balancing.name) === balancing ? own : [...clusterChains, ...own];
}

function inOrder(services: readonly ServiceRules[]): Dispatch<Rule> {
  const all = {
    natServices: [] as Rule[],
    natNodePorts: [] as Rule[],
    filterServices: [] as Rule[],
    filterExternalServices: [] as Rule[],
    filterNodePorts: [] as Rule[],
    filterProxyFirewall: [] as Rule[],
  };
  // Loops, not `push(...rules)`: most of these are empty, and there are tens of thousands per sync of a large cluster.
  for (const { dispatch } of services) {
    for (const rule of dispatch.natServices) all.natServices.push(rule);
    for (const rule of dispatch.natNodePorts) all.natNodePorts.push(rule);
    for (const rule of dispatch.filterServices) all.filterServices.push(rule);
    for (const rule of dispatch.filterExternalServices) all.filterExternalServices.push(rule);
    for (const rule of dispatch.filterNodePorts) all.filterNodePorts.push(rule);
    for (const rule of dispatch.filterProxyFirewall) all.filterProxyFirewall.push(rule);
  }
  return all;
}
