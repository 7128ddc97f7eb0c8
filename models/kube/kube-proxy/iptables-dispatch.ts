// What one service port adds to the iptables chains that all service ports share: the rules that recognise its
// addresses. Order of kube-proxy 1.30, with the counters of 1.33.

import { port as singlePort } from '../../netfilter/matches/port-range.ts';
import { type MatchSpec, Rule, type RuleSpec, type TargetSpec } from '../../netfilter/rule.ts';
import {
  addressBits,
  type Ip,
  type IpFamily,
  LOOPBACK_IP,
  LOOPBACK_IPV6,
  type Prefix,
  prefix,
} from '../../packet/ip-address.ts';
import { type ServiceChainNames, serviceChainNames } from './chain-names.ts';
import type { PortOnNode } from './port-on-node.ts';
import type { ServicePort } from './service-ports.ts';

/** Rules by table and chain, in order. `R` is RuleSpec for rules as data, and Rule for the same rules compiled. */
export interface Dispatch<R> {
  readonly natServices: readonly R[];
  readonly natNodePorts: readonly R[];
  readonly filterServices: readonly R[];
  readonly filterExternalServices: readonly R[];
  readonly filterNodePorts: readonly R[];
  readonly filterProxyFirewall: readonly R[];
}

/** What the services add to the chains that they share, service by service. */
export function together(services: readonly { readonly dispatch: Dispatch<Rule> }[]): Dispatch<Rule> {
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

export interface DispatchOptions {
  /** Packets to node ports on loopback are counted: an account's name (nfacct), or undefined. */
  readonly loopbackNodePortAccount: string | undefined;
}

export function dispatchOf(on: PortOnNode, options: DispatchOptions): Dispatch<RuleSpec> {
  const names = serviceChainNames(on.port);
  return {
    natServices: [...toClusterIp(on, names), ...toExternalAddresses(on, names)],
    natNodePorts: toNodePort(on, names, options),
    filterServices: unservedClusterIp(on),
    filterExternalServices: unservedExternalAddresses(on),
    filterNodePorts: healthChecks(on),
    filterProxyFirewall: beyondSourceRanges(on, names),
  };
}

function toClusterIp({ port, servesInternal }: PortOnNode, { local, cluster }: ServiceChainNames): RuleSpec[] {
  if (!servesInternal) return [];
  return [{ ...to(port, port.clusterIp, 'cluster IP'), target: jump(port.internalPolicyLocal ? local : cluster) }];
}

function toExternalAddresses(on: PortOnNode, { external, firewall }: ServiceChainNames): RuleSpec[] {
  if (!on.entersExternally) return [];
  const { port } = on;
  const loadBalancerChain = on.checksSources ? firewall : external;
  return [
    ...port.externalIps.map((ip) => ({ ...to(port, ip, 'external IP'), target: jump(external) })),
    ...port.loadBalancerVips.map((ip) => ({ ...to(port, ip, 'loadbalancer IP'), target: jump(loadBalancerChain) })),
  ];
}

/** Whatever its source: loadBalancerSourceRanges guard the load balancer's addresses only. */
function toNodePort(
  { port, entersExternally }: PortOnNode,
  { external }: ServiceChainNames,
  { loopbackNodePortAccount: account }: DispatchOptions,
): RuleSpec[] {
  if (!entersExternally || port.nodePort === undefined) return [];
  const matches = [comment(port.name), dstPort(port.protocol, port.nodePort)];
  const serve: RuleSpec = { protocol: port.protocol, matches, target: jump(external) };
  if (account === undefined) return [serve];
  const counted: MatchSpec[] = [...matches, { match: 'nfacct', name: account }];
  return [{ ...serve, destination: loopbackNet(port.family), matches: counted }, serve];
}

/** Rules in filter see the service's address only if nat has not translated it: then nobody serves the packet. */
function unservedClusterIp(on: PortOnNode): RuleSpec[] {
  if (on.servesInternal) return [];
  return [{ ...to(on.port, on.port.clusterIp, whyUnserved(on)), target: judgement(on) }];
}

function unservedExternalAddresses(on: PortOnNode): RuleSpec[] {
  if (on.servesExternal) return [];
  const { port } = on;
  const why = whyUnserved(on);
  const target = judgement(on);
  const byAddress = [...port.externalIps, ...port.loadBalancerVips].map((ip) => ({ ...to(port, ip, why), target }));
  if (port.nodePort === undefined) return byAddress;
  const matches = [comment(`${port.name} ${why}`), TO_LOCAL_ADDRESS, dstPort(port.protocol, port.nodePort)];
  return [...byAddress, { protocol: port.protocol, matches, target }];
}

const whyUnserved = ({ hasEndpoints }: PortOnNode): string =>
  hasEndpoints ? 'has no local endpoints' : 'has no endpoints';

/** Without any endpoint a client should hear so; without a local one, a load balancer should try another node. */
const judgement = ({ hasEndpoints }: PortOnNode): TargetSpec =>
  hasEndpoints ? { target: 'DROP' } : { target: 'REJECT' };

function healthChecks({ port }: PortOnNode): RuleSpec[] {
  if (port.healthCheckNodePort === undefined) return [];
  const matches = [comment(`${port.name} health check node port`), dstPort('tcp', port.healthCheckNodePort)];
  return [{ protocol: 'tcp', matches, target: { target: 'ACCEPT' } }];
}

function beyondSourceRanges({ port, checksSources }: PortOnNode, { firewall }: ServiceChainNames): RuleSpec[] {
  if (!checksSources) return [];
  const why = `traffic not accepted by ${firewall}`;
  return port.loadBalancerVips.map((ip) => ({ ...to(port, ip, why), target: { target: 'DROP' } }));
}

/** Selects traffic to the port at one of its addresses. */
export const to = (port: ServicePort, ip: Ip, why: string): RuleSpec => ({
  destination: host(port.family, ip),
  protocol: port.protocol,
  matches: [comment(`${port.name} ${why}`), dstPort(port.protocol, port.port)],
});

/** A spec without a family is of IPv4. */
export const ofFamily = (family: IpFamily, spec: RuleSpec): RuleSpec => (family === 4 ? spec : { ...spec, family });

/** As iptables has them. Specs without a family are of this one. */
export const compile = (specs: readonly RuleSpec[], family: IpFamily): Rule[] =>
  specs.map((spec) => new Rule(ofFamily(family, spec)));

/** The address alone, as what a rule selects by. */
export const host = (family: IpFamily, ip: Ip): Prefix => prefix(ip, addressBits(family), family);

/** 127.0.0.0/8, or ::1/128. */
export const loopbackNet = (family: IpFamily): Prefix =>
  family === 6 ? prefix(LOOPBACK_IPV6, 128, 6) : prefix(LOOPBACK_IP, 8);

export const comment = (text: string): MatchSpec => ({ match: 'comment', comment: text });

export const jump = (chain: string): TargetSpec => ({ target: 'jump', chain });

export const TO_LOCAL_ADDRESS: MatchSpec = { match: 'addrtype', dstTypes: ['LOCAL'] };

const dstPort = (match: ServicePort['protocol'], number: number): MatchSpec => ({
  match,
  dstPorts: singlePort(number),
});
