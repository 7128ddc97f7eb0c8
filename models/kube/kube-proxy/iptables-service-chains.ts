// The iptables chains of one service port, all in table nat: from the service's address to one endpoint's. Content and
// order of kube-proxy 1.30.
//
//   KUBE-SVC-x, KUBE-SVL-x   pick an endpoint: of the whole cluster, of this node
//   KUBE-EXT-x               traffic from outside: marks it for masquerading, or knows who may skip policy Local
//   KUBE-FW-x                lets loadBalancerSourceRanges pass to KUBE-EXT-x
//   KUBE-SEP-x               translates to one endpoint

import { type RuleFacts, RulesMadeBy, RulesToCome } from '../../netfilter/chain.ts';
import type { MatchSpec, Rule, RuleSpec, TargetSpec } from '../../netfilter/rule.ts';
import { endpointChainName, serviceChainNames } from './chain-names.ts';
import { comment, compile, type DispatchOptions, host, jump, to } from './iptables-dispatch.ts';
import { fromLocalPods, type LocalDetector, notFromLocalPods } from './local-detector.ts';
import type { PortOnNode } from './port-on-node.ts';
import type { Endpoint, ServicePort } from './service-ports.ts';

/** Settings of kube-proxy that change a service port's chains. */
export interface ServiceChainOptions extends DispatchOptions {
  /** Masquerade all traffic to cluster IPs, as if it could have come from anywhere. */
  readonly masqueradeAll: boolean;
  readonly localDetector: LocalDetector;
  /** Comments on the rules that lead to endpoints; kube-proxy saves them in large clusters. */
  readonly endpointComments: boolean;
}

export interface ChainSpec {
  readonly name: string;
  readonly rules: readonly RuleSpec[] | RulesToCome;
}

export const MARK_MASQ_CHAIN = 'KUBE-MARK-MASQ';

/** The chains for traffic under policy Cluster: SVC, and SEP of its endpoints. The same on all nodes without hints. */
export function clusterChains({ port, usable }: PortOnNode, options: ServiceChainOptions): ChainSpec[] {
  if (usable.cluster.length === 0) return [];
  const { cluster } = serviceChainNames(port);
  const masquerade = port.internalPolicyLocal ? [] : masqueradeToClusterIp(port, options);
  return [
    balancingChain(port, { name: cluster, masquerade, endpoints: usable.cluster }, options),
    ...usable.cluster.map((endpoint) => endpointChain(port, endpoint, options)),
  ];
}

/** The chains for traffic under policy Local: SVL, and SEP of endpoints that policy Cluster does not use. */
export function localChains({ port, usable }: PortOnNode, options: ServiceChainOptions): ChainSpec[] {
  if (usable.local.length === 0) return [];
  const { local } = serviceChainNames(port);
  const masquerade = port.internalPolicyLocal ? masqueradeToClusterIp(port, options) : [];
  const onlyLocal = usable.local.filter((endpoint) => !usable.cluster.includes(endpoint));
  return [
    balancingChain(port, { name: local, masquerade, endpoints: usable.local }, options),
    ...onlyLocal.map((endpoint) => endpointChain(port, endpoint, options)),
  ];
}

/** EXT, where traffic from outside enters. Depends on the node by whether it has an endpoint. */
export function externalChains(
  { port, usable, entersExternally }: PortOnNode,
  options: ServiceChainOptions,
): ChainSpec[] {
  if (!entersExternally) return [];
  const { external, cluster, local } = serviceChainNames(port);
  if (!port.externalPolicyLocal)
    return [{ name: external, rules: [...masqueradeAll(port), { target: jump(cluster) }] }];
  // Without an endpoint here, outside traffic falls out of the chain untranslated, and filter drops it.
  const toLocal: RuleSpec[] = usable.local.length > 0 ? [{ target: jump(local) }] : [];
  return [{ name: external, rules: [...skipPolicyLocal(port, jump(cluster), options), ...toLocal] }];
}

/** FW, in front of EXT. Depends on the node by whether the ranges let it in. */
export function firewallChains({ port, checksSources, nodeIsInSourceRanges }: PortOnNode): ChainSpec[] {
  if (!checksSources) return [];
  const { firewall, external } = serviceChainNames(port);
  // A node that calls the load balancer's address may have that very address as its source: its traffic loops back.
  const ownAddresses = nodeIsInSourceRanges ? port.loadBalancerVips.map((ip) => host(port.family, ip)) : [];
  const letIn = [...port.loadBalancerSourceRanges, ...ownAddresses].map((source) => ({
    source,
    matches: [comment(`${port.name} loadbalancer IP`)],
    target: jump(external),
  }));
  const rest = { matches: [comment(`other traffic to ${port.name} will be dropped by KUBE-PROXY-FIREWALL`)] };
  return [{ name: firewall, rules: [...letIn, rest] }];
}

/** Who reaches a cluster IP from elsewhere would not recognise an answer that comes straight from a pod. */
function masqueradeToClusterIp(port: ServicePort, { masqueradeAll, localDetector }: ServiceChainOptions): RuleSpec[] {
  const from = masqueradeAll ? {} : notFromLocalPods(localDetector);
  return from === undefined
    ? []
    : [{ ...to(port, port.clusterIp, 'cluster IP'), ...from, target: MARK_FOR_MASQUERADE }];
}

const MARK_FOR_MASQUERADE = jump(MARK_MASQ_CHAIN);

/** Like those of endpoints, its rules are made late: there is one for each endpoint. */
function balancingChain(
  port: ServicePort,
  {
    name,
    masquerade,
    endpoints,
  }: { readonly name: string; readonly masquerade: readonly RuleSpec[]; readonly endpoints: readonly Endpoint[] },
  options: ServiceChainOptions,
): ChainSpec {
  const specs = (): RuleSpec[] => [...masquerade, ...balance(port, endpoints, options)];
  if (port.affinityTimeoutSeconds !== undefined) return { name, rules: specs() }; // it remembers each endpoint
  const facts = { ruleCount: masquerade.length + endpoints.length, needsConntrack: false, memories: [] };
  return { name, rules: new RulesMadeBy(facts, () => compile(specs(), port.family)) };
}

function balance(port: ServicePort, endpoints: readonly Endpoint[], options: ServiceChainOptions): RuleSpec[] {
  const rules: RuleSpec[] = [];
  const toEndpoint = (endpoint: Endpoint, ...how: MatchSpec[]): RuleSpec => ({
    matches: endpointComment(`${port.name} -> ${endpoint.address}`, options).concat(how),
    target: jump(endpointChainName(port, endpoint.address)),
  });
  const seconds = port.affinityTimeoutSeconds;
  if (seconds !== undefined) {
    for (const endpoint of endpoints) {
      const name = endpointChainName(port, endpoint.address);
      rules.push(toEndpoint(endpoint, { match: 'recent', name, operation: 'rcheck', seconds, reap: true }));
    }
  }
  for (const [i, endpoint] of endpoints.entries()) {
    const left = endpoints.length - i;
    const chance: MatchSpec = { match: 'statistic', mode: 'random', probability: shareOf(left) };
    rules.push(left === 1 ? toEndpoint(endpoint) : toEndpoint(endpoint, chance));
  }
  return rules;
}

/** The chance of the first of `count` endpoints, with the ten decimals that kube-proxy writes. */
export const shareOf = (count: number): number => Number((1 / count).toFixed(10));

/** Policy Cluster: the endpoint may be on another node, so the answer has to come back through this one. */
const masqueradeAll = ({ name }: ServicePort): RuleSpec[] => [
  { matches: [comment(`masquerade traffic for ${name} external destinations`)], target: MARK_FOR_MASQUERADE },
];

/** Pods and processes of this node do not depend on which node a load balancer would have picked. */
function skipPolicyLocal(
  { name }: ServicePort,
  target: TargetSpec,
  { localDetector }: ServiceChainOptions,
): RuleSpec[] {
  const about = `${name} external destinations`;
  const fromPods = fromLocalPods(localDetector);
  const fromNode: MatchSpec = { match: 'addrtype', srcTypes: ['LOCAL'] };
  const pods = fromPods && { ...fromPods, matches: [comment(`pod traffic for ${about}`)], target };
  return [
    ...(pods === undefined ? [] : [pods]),
    { matches: [comment(`masquerade LOCAL traffic for ${about}`), fromNode], target: MARK_FOR_MASQUERADE },
    { matches: [comment(`route LOCAL traffic for ${about}`), fromNode], target },
  ];
}

function endpointChain(port: ServicePort, endpoint: Endpoint, options: ServiceChainOptions): ChainSpec {
  const name = endpointChainName(port, endpoint.address);
  if (port.affinityTimeoutSeconds !== undefined) return { name, rules: endpointRules(port, endpoint, options) };
  return { name, rules: new EndpointRules(port, endpoint, options) };
}

/** Without affinity: one rule that marks, one that translates. */
const ENDPOINT_FACTS: RuleFacts = { ruleCount: 2, needsConntrack: true, memories: [] };

/** A class, because a function of each endpoint takes three times the memory. */
class EndpointRules extends RulesToCome {
  readonly #port: ServicePort;
  readonly #endpoint: Endpoint;
  readonly #options: ServiceChainOptions;

  constructor(port: ServicePort, endpoint: Endpoint, options: ServiceChainOptions) {
    super();
    this.#port = port;
    this.#endpoint = endpoint;
    this.#options = options;
  }

  get facts(): RuleFacts {
    return ENDPOINT_FACTS;
  }

  make(): readonly Rule[] {
    return compile(endpointRules(this.#port, this.#endpoint, this.#options), this.#port.family);
  }
}

function endpointRules(
  port: ServicePort,
  { ip, port: number, address }: Endpoint,
  options: ServiceChainOptions,
): RuleSpec[] {
  const about = endpointComment(port.name, options);
  const remember: MatchSpec[] =
    port.affinityTimeoutSeconds === undefined
      ? []
      : [{ match: 'recent', name: endpointChainName(port, address), operation: 'set' }];
  return [
    // A pod that reaches itself through the service has to see another source, or it would answer itself directly.
    { source: host(port.family, ip), matches: about, target: MARK_FOR_MASQUERADE },
    {
      protocol: port.protocol,
      matches: about.concat(remember, { match: port.protocol }),
      target: { target: 'DNAT', minIp: ip, minPort: number },
    },
  ];
}

const endpointComment = (text: string, { endpointComments }: ServiceChainOptions): MatchSpec[] =>
  endpointComments ? [comment(text)] : [];
