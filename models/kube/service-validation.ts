// What the API server refuses of a Service by itself, that is without looking at addresses and ports of others:
// ValidateService and ValidateServiceUpdate of pkg/apis/core/validation. The shape of each field is the schema's matter,
// addresses are those of allocations.ts, and families have service-families.ts.
//
// Not modelled: annotations with a meaning, the syntax of labels and selectors.

import { isIpv4, isIpv6 } from '../packet/ip-address.ts';
import { ObjectError } from './object-error.ts';
import {
  isExternal,
  mayHaveNodePorts,
  needsHealthCheck,
  type Service,
  type ServicePort,
  withChanges,
} from './objects.ts';

/** Of the API server, by their names. */
export interface FeatureGates {
  /** Names of Services may begin with a digit (KEP-5311; alpha in 1.34, off by default). */
  readonly RelaxedServiceNameValidation?: boolean;
}

/** Throws an ObjectError about the first wrong field. The Service is as it was written, before anything is filled in. */
export function checkService(service: Service, gates: FeatureGates): void {
  const refuse: Refuse = (field, problem) => {
    throw new ObjectError(service, `${field}: ${problem}`);
  };
  checkName(service.metadata.name, gates, refuse);
  checkType(service, refuse);
  checkPorts(service, refuse);
  checkAddresses(service, refuse);
  checkTrafficFields(service, refuse);
}

/**
 * Throws an ObjectError for a node port that two ports of a new Service ask for. An update may put a TCP and a UDP port on
 * one number; in a new Service only entries of the same `port` share theirs (initNodePorts).
 */
export function checkNewService(service: Service): void {
  const holders = new Map<number, number>();
  for (const [index, { port, nodePort }] of service.spec.ports.entries()) {
    if (nodePort === undefined) continue;
    const holder = holders.get(nodePort) ?? port;
    holders.set(nodePort, holder);
    if (holder === port) continue;
    throw new ObjectError(service, `spec.ports[${index}].nodePort: ${nodePort} is already that of port ${holder}`);
  }
}

/** Throws an ObjectError about what an update may not change. `after` has what was allocated for `before`. */
export function checkServiceUpdate(before: Service, after: Service): void {
  const refuse: Refuse = (field, problem) => {
    throw new ObjectError(after, `${field}: ${problem}`);
  };
  const hadAddress = before.spec.type !== 'ExternalName';
  if (hadAddress && after.spec.type !== 'ExternalName' && before.spec.clusterIP !== after.spec.clusterIP)
    refuse('spec.clusterIP', `expected ${before.spec.clusterIP}, which may not change, got ${after.spec.clusterIP}`);
  const { type, loadBalancerClass } = before.spec;
  if (type === 'LoadBalancer' && after.spec.type === type && loadBalancerClass !== after.spec.loadBalancerClass) {
    const got = after.spec.loadBalancerClass ?? 'nothing';
    refuse('spec.loadBalancerClass', `expected ${loadBalancerClass ?? 'nothing'}, which may not change, got ${got}`);
  }
}

type Refuse = (field: string, problem: string) => void;

function checkName(
  name: string,
  { RelaxedServiceNameValidation: isRelaxed = false }: FeatureGates,
  refuse: Refuse,
): void {
  if ((isRelaxed ? DNS_LABEL_1123 : DNS_LABEL_1035).test(name)) return;
  const ends = isRelaxed ? 'neither the first nor the last a "-"' : 'the first a letter, the last no "-"';
  refuse('metadata.name', `expected at most 63 lower-case letters, digits and "-", ${ends}, got "${name}"`);
}

/** A name in DNS (RFC 1035 2.3.1). */
const DNS_LABEL_1035 = /^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/;
/** RFC 1123: may begin with a digit. */
const DNS_LABEL_1123 = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const DNS_SUBDOMAIN = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
/** `example.com/name` or `name`. */
const QUALIFIED_NAME = /^([a-z0-9.-]{1,253}\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;

function checkType({ spec }: Service, refuse: Refuse): void {
  const { type, clusterIP, externalName } = spec;
  if (type === 'ExternalName') {
    for (const field of ['clusterIP', 'clusterIPs', 'ipFamilies', 'ipFamilyPolicy'] as const)
      if (spec[field] !== undefined) refuse(`spec.${field}`, 'expected none, as type is ExternalName');
    if (externalName === undefined || !DNS_SUBDOMAIN.test(externalName.replace(/\.$/, '')))
      refuse('spec.externalName', `expected a DNS name, as type is ExternalName, got ${externalName ?? 'nothing'}`);
  }
  if ((type === 'NodePort' || type === 'LoadBalancer') && clusterIP === 'None')
    refuse('spec.clusterIP', `expected an address, as type is ${type}, got None`);
}

function checkPorts({ spec: { type, ports } }: Service, refuse: Refuse): void {
  const seen = new Set<string>();
  for (const [index, { name, port, nodePort, protocol, appProtocol }] of ports.entries()) {
    const field = `spec.ports[${index}]`;
    if (name !== undefined && !DNS_LABEL_1123.test(name))
      refuse(`${field}.name`, `expected at most 63 lower-case letters, digits and "-", got "${name}"`);
    if (appProtocol !== undefined && !QUALIFIED_NAME.test(appProtocol))
      refuse(`${field}.appProtocol`, `expected a name such as http or example.com/protocol, got "${appProtocol}"`);
    if (type === 'LoadBalancer' && port === KUBELET_PORT)
      refuse(`${field}.port`, `${port} may not be exposed by a load balancer, as kubelets listen there`);
    if (nodePort === undefined) continue;
    if (type === 'ClusterIP' || type === 'ExternalName')
      refuse(`${field}.nodePort`, `expected none, as type is ${type}, got ${nodePort}`);
    if (seen.has(`${protocol} ${nodePort}`))
      refuse(`${field}.nodePort`, `expected a ${protocol} port that no other entry has, got ${nodePort}`);
    seen.add(`${protocol} ${nodePort}`);
  }
}

const KUBELET_PORT = 10_250;

/** ValidateServiceClusterIPsRelatedFields, and the externalIPs. */
function checkAddresses({ spec }: Service, refuse: Refuse): void {
  const { clusterIP, clusterIPs, ipFamilies = [], externalIPs } = spec;
  if (clusterIPs !== undefined && clusterIP === undefined)
    refuse('spec.clusterIPs', 'expected none, as there is no clusterIP');
  if (clusterIPs !== undefined && clusterIPs[0] !== clusterIP)
    refuse('spec.clusterIPs[0]', `expected the clusterIP ${clusterIP}, got ${clusterIPs[0]}`);
  for (const [index, family] of ipFamilies.entries())
    if (ipFamilies.indexOf(family) !== index) refuse(`spec.ipFamilies[${index}]`, `${family} stands there already`);
  if (clusterIPs !== undefined) checkClusterIps(clusterIPs, refuse);
  for (const [index, address] of [clusterIPs ?? clusterIP ?? []].flat().entries()) {
    const family = ipFamilies[index];
    if (family === undefined || address === 'None' || familyOfAddress(address) === family) continue;
    refuse(`spec.clusterIPs[${index}]`, `expected an ${family} address as in ipFamilies[${index}], got ${address}`);
  }
  for (const [index, address] of externalIPs.entries()) {
    const special = specialUse(address);
    if (special !== undefined) refuse(`spec.externalIPs[${index}]`, `${address} is ${special}`);
  }
}

function checkClusterIps(clusterIPs: readonly string[], refuse: Refuse): void {
  if (clusterIPs.length === 1) return;
  if (clusterIPs.includes('None')) refuse('spec.clusterIPs', 'expected None to be the only entry');
  if (clusterIPs.length > 2) refuse('spec.clusterIPs', `expected at most two, got ${clusterIPs.length}`);
  const [first = '', second = ''] = clusterIPs;
  if (familyOfAddress(first) === familyOfAddress(second))
    refuse('spec.clusterIPs', `expected one address of each IP family, got ${first} and ${second}`);
}

export const familyOfAddress = (address: string): 'IPv4' | 'IPv6' => (address.includes(':') ? 'IPv6' : 'IPv4');

/** ValidateNonSpecialIP: what no client can send to from another machine. */
function specialUse(address: string): string | undefined {
  if (address === '0.0.0.0' || (isIpv6(address) && /^[0:]+$/.test(address))) return 'the unspecified address';
  if (isIpv4(address) ? address.startsWith('127.') : /^[0:]+:0*1$/.test(address)) return 'a loopback address';
  if (isIpv4(address) ? address.startsWith('169.254.') : /^fe[89ab].:/i.test(address)) return 'a link-local address';
  if (isIpv4(address) ? address.startsWith('224.0.0.') : /^ff.2:/i.test(address)) return 'a link-local group';
  return undefined;
}

function checkTrafficFields(service: Service, refuse: Refuse): void {
  const { type, sessionAffinity, sessionAffinityConfig, loadBalancerSourceRanges, loadBalancerClass } = service.spec;
  const { externalTrafficPolicy, healthCheckNodePort, allocateLoadBalancerNodePorts } = service.spec;
  if (sessionAffinity === 'None' && sessionAffinityConfig !== undefined)
    refuse('spec.sessionAffinityConfig', 'expected none, as sessionAffinity is None');
  if (externalTrafficPolicy !== undefined && !isExternal(service)) {
    const expected = `expected none, as a Service of type ${type} without externalIPs is not reached from outside`;
    refuse('spec.externalTrafficPolicy', `${expected}, got ${externalTrafficPolicy}`);
  }
  if (healthCheckNodePort !== undefined && !needsHealthCheck(service)) {
    const expected = 'expected none, unless type is LoadBalancer and externalTrafficPolicy Local';
    refuse('spec.healthCheckNodePort', `${expected}, got ${healthCheckNodePort}`);
  }
  if (type === 'LoadBalancer') return;
  const forLoadBalancers = { loadBalancerClass, allocateLoadBalancerNodePorts };
  for (const [field, value] of Object.entries(forLoadBalancers))
    if (value !== undefined) refuse(`spec.${field}`, `expected none, unless type is LoadBalancer, got ${value}`);
  if (loadBalancerSourceRanges.length > 0)
    refuse('spec.loadBalancerSourceRanges', 'expected none, unless type is LoadBalancer');
}

// ---- what is filled in or dropped without a word -------------------------------------------------------------------

/** Defaults that depend on other fields (SetDefaults_Service). */
export function withServiceDefaults(service: Service): Service {
  const { spec } = service;
  const clusterIPs = spec.clusterIPs ?? (spec.clusterIP === undefined ? undefined : [spec.clusterIP]);
  const externalTrafficPolicy = spec.externalTrafficPolicy ?? (isExternal(service) ? 'Cluster' : undefined);
  const allocateLoadBalancerNodePorts =
    spec.allocateLoadBalancerNodePorts ?? (spec.type === 'LoadBalancer' ? true : undefined);
  // The status of another type is emptied: there is no load balancer any more.
  const status = spec.type === 'LoadBalancer' ? service.status : { loadBalancer: { ingress: [] } };
  const defaults = { clusterIPs, externalTrafficPolicy, allocateLoadBalancerNodePorts };
  return withChanges(service, { spec: withChanges(spec, defaults), status });
}

/**
 * An update that says nothing about what was allocated does not give it back (patchAllocatedValues), and one that changes
 * the type does not have to clear by hand what only the old type had (dropTypeDependentFields).
 */
export function withAllocatedBefore(before: Service, after: Service): Service {
  let spec = after.spec;
  if (before.spec.type !== 'ExternalName' && spec.type !== 'ExternalName') {
    const clusterIP = spec.clusterIP ?? before.spec.clusterIP;
    const clusterIPs = spec.clusterIPs ?? (clusterIP === before.spec.clusterIP ? before.spec.clusterIPs : undefined);
    spec = { ...spec, clusterIP, clusterIPs };
  } else if (spec.type === 'ExternalName' && isSame(spec.clusterIPs, before.spec.clusterIPs)) {
    spec = { ...spec, clusterIP: undefined, clusterIPs: undefined, ipFamilies: undefined, ipFamilyPolicy: undefined };
  }
  if (mayHaveNodePorts(before) && mayHaveNodePorts(after))
    spec = { ...spec, ports: withNodePortsBefore(before, after) };
  else if (mayHaveNodePorts(before) && isSame(nodePortsOf(before), nodePortsOf(after)))
    spec = { ...spec, ports: spec.ports.map((port) => ({ ...port, nodePort: undefined })) };
  if (needsHealthCheck(before)) {
    const { healthCheckNodePort } = before.spec;
    if (needsHealthCheck(after))
      spec = { ...spec, healthCheckNodePort: spec.healthCheckNodePort ?? healthCheckNodePort };
    else if (spec.healthCheckNodePort === healthCheckNodePort) spec = { ...spec, healthCheckNodePort: undefined };
  }
  if (before.spec.type === 'LoadBalancer' && spec.type !== 'LoadBalancer') {
    const { loadBalancerClass, allocateLoadBalancerNodePorts } = before.spec;
    if (spec.loadBalancerClass === loadBalancerClass) spec = { ...spec, loadBalancerClass: undefined };
    if (spec.allocateLoadBalancerNodePorts === allocateLoadBalancerNodePorts)
      spec = { ...spec, allocateLoadBalancerNodePorts: undefined };
  }
  if (isExternal(before) && !isExternal(after) && spec.externalTrafficPolicy === before.spec.externalTrafficPolicy)
    spec = { ...spec, externalTrafficPolicy: undefined };
  return { ...after, spec };
}

/** By name, as patchAllocatedValues does; a number that the update gives to another port is not given twice. */
function withNodePortsBefore(before: Service, after: Service): ServicePort[] {
  const byName = new Map(before.spec.ports.map(({ name, nodePort }) => [name, nodePort]));
  const used = new Set(nodePortsOf(after));
  return after.spec.ports.map((port) => {
    const kept = byName.get(port.name);
    if (port.nodePort !== undefined || kept === undefined || used.has(kept)) return port;
    used.add(kept);
    return { ...port, nodePort: kept };
  });
}

const nodePortsOf = ({ spec }: Service): (number | undefined)[] => spec.ports.map(({ nodePort }) => nodePort);

const isSame = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
