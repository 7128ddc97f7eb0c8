// All chains that kube-proxy has on one node in iptables mode, built service by service.

import { Chain, factsOfLists, RulesInOrder, RulesMadeBy } from '../../netfilter/chain.ts';
import type { Rule } from '../../netfilter/rule.ts';
import { GroupedRules, type Indexes } from '../../netfilter/rule-order.ts';
import type { EndpointComments } from './endpoint-comments.ts';
import type { ServiceChainCache, ServiceRules } from './iptables-chain-cache.ts';
import { type Dispatch, together } from './iptables-dispatch.ts';
import { type FixedChainSettings, type NodePortSettings, nodePortJumps } from './iptables-fixed-chains.ts';
import type { ServiceChainOptions } from './iptables-service-chains.ts';
import type { LocalDetector } from './local-detector.ts';
import type { ProxyNode } from './port-on-node.ts';
import type { ServiceOrder } from './service-order.ts';
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
  readonly order: ServiceOrder;
}

export function writeRules({ node, services, config, cache, comments, order }: RuleSetInput): RuleSet {
  const serviceRules = cache.servicesWith(chainOptions(config, { endpointComments: comments.usual }));
  const shared = serviceRules.shared(services, node.zone);
  const unusual = comments.unusual(services);
  const own = new Set([...shared.varying, ...unusual]);
  let byPort = shared.rules;
  if (own.size > 0) {
    const others = cache.servicesWith(chainOptions(config, { endpointComments: !comments.usual }));
    const changed = [...shared.rules];
    for (const i of shared.varying) changed[i] = serviceRules.onNode(services.ports[i]!, node);
    for (const i of unusual) changed[i] = others.onNode(services.ports[i]!, node);
    byPort = changed;
  }
  const ownServiceChains = [...own].flatMap((i) => notIn(shared.chains, byPort[i]!));
  const among = own.size === 0 ? shared.dispatch : together(byPort);
  const draw = order.next(byPort.length);
  let drawn: Indexes | undefined;
  const chain = (name: string, list: keyof Dispatch<Rule>, last: readonly Rule[] = []): Chain => {
    if (among[list].length === 0) return new Chain(name, last);
    const facts = factsOfLists([among[list], last]);
    const inOrder = (): Indexes => (drawn ??= draw());
    if (own.size === 0)
      return new Chain(name, new RulesInOrder(facts, () => grouped(byPort, list, last).ordered(inOrder())));
    // A list of its own, which nobody shares, would only come on top of its rules.
    const make = () => [...Array.from(inOrder(), (i) => byPort[i]!.dispatch[list]).flat(), ...last];
    return new Chain(name, new RulesMadeBy(facts, make));
  };
  const jumps = nodePortJumps(node, config).map((spec) => cache.rule(spec));
  const fixed = cache.fixedChains(config);
  return {
    filter: [
      chain('KUBE-SERVICES', 'filterServices'),
      chain('KUBE-EXTERNAL-SERVICES', 'filterExternalServices'),
      chain('KUBE-NODEPORTS', 'filterNodePorts'),
      chain('KUBE-PROXY-FIREWALL', 'filterProxyFirewall'),
      ...fixed.filter,
    ],
    nat: [chain('KUBE-SERVICES', 'natServices', jumps), chain('KUBE-NODEPORTS', 'natNodePorts'), ...fixed.nat],
    ownServiceChains,
    sharedServiceChains: shared.chains,
    byPort,
  };
}

type RuleLists = Map<keyof Dispatch<Rule>, { readonly list: GroupedRules; readonly last: readonly Rule[] }>;

/** By what nodes share of the service rules. */
const knownLists = new WeakMap<readonly ServiceRules[], RuleLists>();

/** The rules of a chain in the order of the service ports, one object for all nodes that share them. */
function grouped(services: readonly ServiceRules[], name: keyof Dispatch<Rule>, last: readonly Rule[]): GroupedRules {
  let lists = knownLists.get(services);
  if (lists === undefined) knownLists.set(services, (lists = new Map()));
  const known = lists.get(name);
  if (known?.last.length === last.length && last.every((rule, i) => rule === known.last[i])) return known.list;
  const list = new GroupedRules(
    services.map(({ dispatch }) => dispatch[name]),
    last,
  );
  lists.set(name, { list, last });
  return list;
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
