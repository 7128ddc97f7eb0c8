// What kube-proxy makes of Services and EndpointSlices, in every mode: one service port per port of a Service, with the
// endpoints that back it. Immutable, and the same on every node: which endpoints a node may use is decided elsewhere
// (usable-endpoints.ts).
//
// Dual stack is two proxies, one per family: each ignores the addresses, ranges and slices of the other.

import {
  formatSocketAddress,
  type Ip,
  type IpFamily,
  isIpv4,
  isIpv6,
  type Prefix,
  parseAddress,
  parseAnyPrefix,
} from '../../packet/ip-address.ts';
import {
  clusterIpOf,
  type EndpointSlice,
  type Service,
  type ServicePort as ServicePortSpec,
  type Endpoint as SliceEndpoint,
} from '../objects.ts';

export type ServiceProtocol = 'tcp' | 'udp' | 'sctp';

/** What a proxy takes of the objects. */
export interface ServicePortSettings {
  readonly family: IpFamily;
  /** Feature gate LoadBalancerIPMode, on from 1.30: before, nodes answer for every address of a load balancer. */
  readonly honoursIpMode: boolean;
  /** Feature gate PreferSameTrafficDistribution, on from 1.34: before, only zones are hints. */
  readonly honoursNodeHints: boolean;
}

export const DEFAULT_SERVICE_PORT_SETTINGS: ServicePortSettings = {
  family: 4,
  honoursIpMode: true,
  honoursNodeHints: true,
};

export interface ServicePort {
  /** `namespace/name:port`, or `namespace/name` if the port has no name. With the protocol it names the port's chains. */
  readonly name: string;
  readonly protocol: ServiceProtocol;
  /** Of all addresses here. */
  readonly family: IpFamily;
  readonly clusterIp: Ip;
  readonly port: number;
  readonly nodePort: number | undefined;
  readonly externalIps: readonly Ip[];
  /** Addresses of the load balancer that nodes answer for; those of ipMode Proxy are not among them. */
  readonly loadBalancerVips: readonly Ip[];
  readonly loadBalancerSourceRanges: readonly Prefix[];
  readonly internalPolicyLocal: boolean;
  readonly externalPolicyLocal: boolean;
  /** How long a client sticks to its endpoint after its last new connection; undefined without session affinity. */
  readonly affinityTimeoutSeconds: number | undefined;
  readonly healthCheckNodePort: number | undefined;
  /** By `address:port` as text, so 10.0.0.10:80 stands before 10.0.0.2:80: kube-proxy's order. */
  readonly endpoints: readonly Endpoint[];
}

export interface Endpoint {
  readonly ip: Ip;
  readonly port: number;
  /** `10.244.1.5:8080`, `[fd00::5]:8080` */
  readonly address: string;
  readonly nodeName: string | undefined;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  /** Zones and nodes that should use this endpoint, as the EndpointSlice controller hints. */
  readonly zoneHints: readonly string[];
  readonly nodeHints: readonly string[];
}

/** Can be reached under an address that is not the cluster's own. */
export const isExternallyAccessible = (port: ServicePort): boolean =>
  port.nodePort !== undefined || port.loadBalancerVips.length > 0 || port.externalIps.length > 0;

export const isUdp = ({ protocol }: ServicePort): boolean => protocol === 'udp';

/** `namespace/name` of the Service that it is a port of. */
export const serviceOf = ({ name }: ServicePort): string => name.split(':', 1)[0]!;

/** Tells a proxy nothing new: every field agrees, endpoints included. */
export const isSamePort = (a: ServicePort, b: ServicePort): boolean => JSON.stringify(a) === JSON.stringify(b);

/** The service ports of one Service; `slices` are those that carry its name. None for headless and ExternalName Services. */
export function servicePortsOf(
  service: Service,
  slices: readonly EndpointSlice[],
  settings = DEFAULT_SERVICE_PORT_SETTINGS,
): ServicePort[] {
  const { spec } = service;
  const { family } = settings;
  const clusterIp = clusterIpOf(service, family);
  if (clusterIp === undefined) return [];
  const shared = {
    family,
    clusterIp: parseAddress(clusterIp).ip,
    externalIps: addressesOf(family, spec.externalIPs),
    loadBalancerVips: addressesOf(family, loadBalancerVips(service, settings)),
    loadBalancerSourceRanges: rangesOf(family, spec.loadBalancerSourceRanges),
    internalPolicyLocal: spec.internalTrafficPolicy === 'Local',
    externalPolicyLocal: spec.externalTrafficPolicy === 'Local',
    affinityTimeoutSeconds: affinityTimeoutSeconds(service),
    healthCheckNodePort: healthCheckNodePort(service),
  };
  return spec.ports.map((port) => ({
    name: servicePortName(service, port),
    protocol: PROTOCOLS[port.protocol],
    port: port.port,
    nodePort: port.nodePort,
    ...shared,
    endpoints: endpointsOf(port, slices, settings),
  }));
}

function servicePortName({ metadata }: Service, { name }: ServicePortSpec): string {
  const service = `${metadata.namespace}/${metadata.name}`;
  return name === undefined ? service : `${service}:${name}`;
}

const PROTOCOLS = { TCP: 'tcp', UDP: 'udp', SCTP: 'sctp' } as const;

const addressesOf = (family: IpFamily, addresses: readonly string[]): Ip[] =>
  addresses.filter(family === 6 ? isIpv6 : isIpv4).map((address) => parseAddress(address).ip);

/** The API server lets blanks around a range pass; kube-proxy trims them. */
const rangesOf = (family: IpFamily, ranges: readonly string[]): Prefix[] =>
  ranges.map((range) => parseAnyPrefix(range.trim())).filter((range) => range.family === family);

/** A load balancer of ipMode Proxy wants to see all traffic itself, also that from inside the cluster. */
function loadBalancerVips({ status }: Service, { honoursIpMode }: ServicePortSettings): string[] {
  const vips: string[] = [];
  for (const { ip, ipMode } of status.loadBalancer.ingress) {
    if (ip !== undefined && !(honoursIpMode && ipMode === 'Proxy')) vips.push(ip);
  }
  return vips;
}

const affinityTimeoutSeconds = ({ spec }: Service): number | undefined =>
  spec.sessionAffinity === 'ClientIP' ? spec.sessionAffinityConfig?.clientIP.timeoutSeconds : undefined;

/** Only a load balancer that must find nodes with endpoints needs one; other Services may carry a stale number. */
function healthCheckNodePort({ spec }: Service): number | undefined {
  const needed = spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local';
  return (needed && spec.healthCheckNodePort) || undefined;
}

function endpointsOf(
  port: ServicePortSpec,
  slices: readonly EndpointSlice[],
  settings: ServicePortSettings,
): Endpoint[] {
  const byAddress = new Map<string, Endpoint>();
  for (const slice of slices) {
    const number = isSliceOf(settings, slice) ? backingPort(slice, port) : undefined;
    if (number === undefined) continue;
    for (const entry of slice.endpoints) {
      const ip = entry.addresses[0];
      if (ip === undefined) continue;
      const endpoint = endpointAt(ip, number, entry, settings);
      // An endpoint that moves between slices is in both for a moment; the entry that knows its node counts.
      const known = byAddress.get(endpoint.address);
      if (known?.nodeName === undefined) byAddress.set(endpoint.address, endpoint);
    }
  }
  return [...byAddress.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
}

/** Whether the proxy looks at the slice at all. */
export const isSliceOf = ({ family }: Pick<ServicePortSettings, 'family'>, { addressType }: EndpointSlice): boolean =>
  addressType === `IPv${family}`;

/** A slice port backs a service port of the same name and protocol, whatever the numbers. */
function backingPort(slice: EndpointSlice, port: ServicePortSpec): number | undefined {
  return slice.ports.find(({ name, protocol }) => name === port.name && protocol === port.protocol)?.port;
}

function endpointAt(
  text: string,
  port: number,
  entry: SliceEndpoint,
  { family, honoursNodeHints }: ServicePortSettings,
): Endpoint {
  const { conditions, hints } = entry;
  const { ip } = parseAddress(text);
  return {
    ip,
    port,
    address: formatSocketAddress(ip, port, family),
    nodeName: entry.nodeName,
    ready: conditions.ready ?? true,
    serving: conditions.serving ?? true,
    terminating: conditions.terminating ?? false,
    zoneHints: namesOf(hints?.forZones),
    nodeHints: honoursNodeHints ? namesOf(hints?.forNodes) : NO_NAMES,
  };
}

const NO_NAMES: readonly string[] = [];

const namesOf = (hints: readonly { readonly name: string }[] = []): readonly string[] =>
  hints.length === 0 ? NO_NAMES : hints.map(({ name }) => name);
