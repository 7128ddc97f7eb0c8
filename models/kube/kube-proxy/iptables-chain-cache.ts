// Rules and chains that the nodes of a cluster have in common are one object each, made once: for 5,000 nodes and 10,000
// services, separate ones would take tens of gigabytes. They are found by service port and by what a node's view of it
// depends on, so it makes no difference which node asks first.

import { Chain, RulesToCome } from '../../netfilter/chain.ts';
import { Rule, type RuleSpec } from '../../netfilter/rule.ts';
import { EndpointLists } from './endpoint-lists.ts';
import { compile, type Dispatch, dispatchOf, together } from './iptables-dispatch.ts';
import { type FixedChainSettings, type FixedChains, fixedChains } from './iptables-fixed-chains.ts';
import {
  type ChainSpec,
  clusterChains,
  externalChains,
  firewallChains,
  localChains,
  type ServiceChainOptions,
} from './iptables-service-chains.ts';
import { PortOnNode, type ProxyNode, variesByNode } from './port-on-node.ts';
import { isSamePort, type ServicePort } from './service-ports.ts';
import type { ServiceSnapshot } from './service-tracker.ts';
import { hasNodeHints } from './usable-endpoints.ts';

/** Everything that one service port adds to a node's tables. Immutable. */
export interface ServiceRules {
  readonly dispatch: Dispatch<Rule>;
  /** In nat: SVC, and SEP of its endpoints. */
  readonly clusterChains: readonly Chain[];
  /** In nat: SVL, EXT, FW, and SEP of endpoints that only policy Local uses. */
  readonly nodeChains: readonly Chain[];
  /** In all these chains together. */
  readonly ruleCount: number;
  /** Traffic from inside, or from outside, is dropped here: the endpoints are on other nodes, and its policy is Local. */
  readonly lacksLocalEndpoints: { readonly internal: boolean; readonly external: boolean };
}

/** One for all proxiers of a cluster. */
export class ServiceChainCache {
  readonly #byOptions = new Map<string, ServiceRuleCache>();
  readonly #fixed = new Map<string, FixedChains>();
  readonly #rules = new Map<string, Rule>();

  servicesWith(options: ServiceChainOptions): ServiceRuleCache {
    const key = JSON.stringify(options);
    let cache = this.#byOptions.get(key);
    if (cache === undefined) this.#byOptions.set(key, (cache = new ServiceRuleCache(options)));
    return cache;
  }

  fixedChains(settings: FixedChainSettings): FixedChains {
    const key = JSON.stringify(settings);
    let fixed = this.#fixed.get(key);
    if (fixed === undefined) this.#fixed.set(key, (fixed = fixedChains(settings)));
    return fixed;
  }

  /** For single rules outside of service and fixed chains. */
  rule(spec: RuleSpec): Rule {
    const key = JSON.stringify(spec);
    let rule = this.#rules.get(key);
    if (rule === undefined) this.#rules.set(key, (rule = new Rule(spec)));
    return rule;
  }
}

/** What a node of some zone has that hosts no endpoint: most of what every node has. */
export interface SharedRules {
  /** By index of the service port in the snapshot. */
  readonly rules: readonly ServiceRules[];
  /** The indexes of service ports for which each node has to look for itself. */
  readonly varying: readonly number[];
  /** Their rules in the chains that all share, in the order of the snapshot. */
  readonly dispatch: Dispatch<Rule>;
  /** Service chains of table nat. A node's own chains of the same name go before these. */
  readonly chains: ReadonlyMap<string, Chain>;
}

/** The rules of service ports under the same options. */
export class ServiceRuleCache {
  readonly #options: ServiceChainOptions;
  readonly #byPort = new WeakMap<ServicePort, PortRules>();
  /** The latest of each service port, for proxiers whose snapshots come from different watchers. */
  readonly #latest = new Map<string, PortRules>();
  readonly #names = new WeakMap<readonly ServicePort[], Map<string | undefined, ReadonlySet<string>>>();
  readonly #shared = new WeakMap<ServiceSnapshot, Map<string | undefined, SharedRules>>();

  constructor(options: ServiceChainOptions) {
    this.#options = options;
  }

  onNode(port: ServicePort, node: ProxyNode): ServiceRules {
    let rules = this.#byPort.get(port);
    if (rules === undefined) this.#byPort.set(port, (rules = this.#rulesOf(port)));
    return rules.on(node);
  }

  /** Names of the chains that these ports have on a node: one set for all nodes of a zone that ask about the same list. */
  chainNames(ports: readonly ServicePort[], node: ProxyNode): ReadonlySet<string> {
    if (ports.some(variesByNode)) return this.#chainNames(ports, node);
    const byZone = this.#names.get(ports) ?? new Map<string | undefined, ReadonlySet<string>>();
    this.#names.set(ports, byZone);
    let names = byZone.get(node.zone);
    if (names === undefined) byZone.set(node.zone, (names = this.#chainNames(ports, node)));
    return names;
  }

  #chainNames(ports: readonly ServicePort[], node: ProxyNode): ReadonlySet<string> {
    const rules = ports.map((port) => this.onNode(port, node));
    const chains = rules.flatMap(({ clusterChains, nodeChains }) => [...clusterChains, ...nodeChains]);
    return new Set(chains.map(({ name }) => name));
  }

  shared(services: ServiceSnapshot, zone: string | undefined): SharedRules {
    const byZone = this.#shared.get(services) ?? new Map<string | undefined, SharedRules>();
    this.#shared.set(services, byZone);
    let shared = byZone.get(zone);
    if (shared === undefined) byZone.set(zone, (shared = this.#share(services, zone)));
    return shared;
  }

  #rulesOf(port: ServicePort): PortRules {
    const key = `${port.name}/${port.protocol}`;
    const latest = this.#latest.get(key);
    if (latest !== undefined && isSamePort(latest.port, port)) return latest;
    const rules = new PortRules(port, this.#options);
    this.#latest.set(key, rules);
    return rules;
  }

  #share(services: ServiceSnapshot, zone: string | undefined): SharedRules {
    const elsewhere: ProxyNode = { name: '', zone, ips: [] };
    const rules = services.ports.map((port) => this.onNode(port, elsewhere));
    const varying: number[] = [];
    const chains = new Map<string, Chain>();
    for (const [i, port] of services.ports.entries()) {
      const ofPort = rules[i]!;
      if (variesByNode(port)) varying.push(i);
      // A node hint takes endpoints away from a node, and a shared chain cannot be taken away from one node.
      if (hasNodeHints(port)) continue;
      for (const chain of [...ofPort.clusterChains, ...ofPort.nodeChains]) chains.set(chain.name, chain);
    }
    return { rules, varying, dispatch: together(rules), chains };
  }
}

/** The rules of one service port, by what tells nodes apart. */
class PortRules {
  readonly port: ServicePort;
  readonly #options: ServiceChainOptions;
  readonly #variants = new Map<string, ServiceRules>();
  /** Where all nodes of a zone see the port alike. */
  readonly #byZone = new Map<string | undefined, ServiceRules>();
  readonly #dispatches = new Map<string, Dispatch<Rule>>();
  readonly #chains = new Map<string, readonly Chain[]>();
  readonly #lists = new EndpointLists();

  constructor(port: ServicePort, options: ServiceChainOptions) {
    this.port = port;
    this.#options = options;
  }

  /** Each change of some Service asks this of all of them: what is known is not looked for again. */
  on(node: ProxyNode): ServiceRules {
    const known = this.#byZone.get(node.zone);
    if (known !== undefined) return known;
    const rules = this.#on(node);
    if (!variesByNode(this.port)) this.#byZone.set(node.zone, rules);
    return rules;
  }

  #on(node: ProxyNode): ServiceRules {
    const on = new PortOnNode(this.port, node);
    const cluster = this.#lists.numberOf(on.usable.cluster);
    const local = this.#lists.numberOf(on.usable.local);
    const variant = `${cluster} ${local} ${on.nodeIsInSourceRanges}`;
    let rules = this.#variants.get(variant);
    if (rules === undefined) this.#variants.set(variant, (rules = this.#compile(on, { cluster, local })));
    return rules;
  }

  #compile(on: PortOnNode, { cluster, local }: { cluster: number; local: number }): ServiceRules {
    const forCluster = this.#chainsOf(`cluster ${cluster}`, () => clusterChains(on, this.#options));
    const forNode = [
      ...this.#chainsOf(`local ${cluster} ${local}`, () => localChains(on, this.#options)),
      ...this.#chainsOf(`external ${on.hasEndpoints} ${on.servesExternal}`, () => externalChains(on, this.#options)),
      ...this.#chainsOf(`firewall ${on.hasEndpoints} ${on.nodeIsInSourceRanges}`, () => firewallChains(on)),
    ];
    const ruleCount = [...forCluster, ...forNode].reduce((sum, chain) => sum + chain.ruleCount, 0);
    const lacksLocalEndpoints = {
      internal: on.hasEndpoints && !on.servesInternal,
      external: on.hasEndpoints && !on.servesExternal,
    };
    return {
      dispatch: this.#dispatch(on),
      clusterChains: forCluster,
      nodeChains: forNode,
      ruleCount,
      lacksLocalEndpoints,
    };
  }

  #dispatch(on: PortOnNode): Dispatch<Rule> {
    const key = `${on.hasEndpoints} ${on.servesInternal} ${on.servesExternal}`;
    let dispatch = this.#dispatches.get(key);
    if (dispatch === undefined) this.#dispatches.set(key, (dispatch = this.#compileDispatch(on)));
    return dispatch;
  }

  #compileDispatch(on: PortOnNode): Dispatch<Rule> {
    const { family } = this.port;
    const specs = dispatchOf(on, this.#options);
    return {
      natServices: compile(specs.natServices, family),
      natNodePorts: compile(specs.natNodePorts, family),
      filterServices: compile(specs.filterServices, family),
      filterExternalServices: compile(specs.filterExternalServices, family),
      filterNodePorts: compile(specs.filterNodePorts, family),
      filterProxyFirewall: compile(specs.filterProxyFirewall, family),
    };
  }

  #chainsOf(key: string, specs: () => readonly ChainSpec[]): readonly Chain[] {
    let chains = this.#chains.get(key);
    if (chains === undefined) {
      const { family } = this.port;
      chains = specs().map(
        ({ name, rules }) => new Chain(name, rules instanceof RulesToCome ? rules : compile(rules, family)),
      );
      this.#chains.set(key, chains);
    }
    return chains;
  }
}
