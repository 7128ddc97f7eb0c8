// What kube-proxy makes of Services and EndpointSlices before it writes any rule: service ports, endpoints, which updates
// count, and what it says of a node's own endpoints.

import { z } from 'zod';
import { RandomStream } from '../../engine/random.ts';
import { START } from '../../engine/time.ts';
import { needsConntrackCleanup } from '../kube/kube-proxy/conntrack-cleanup.ts';
import { DEFAULT_IPTABLES_CONFIG, IptablesProxier } from '../kube/kube-proxy/iptables.ts';
import { ServiceChainCache } from '../kube/kube-proxy/iptables-chain-cache.ts';
import { readyEndpointsOn } from '../kube/kube-proxy/service-health.ts';
import { type ServicePort, servicePortsOf } from '../kube/kube-proxy/service-ports.ts';
import { type ServiceSnapshot, ServiceTracker } from '../kube/kube-proxy/service-tracker.ts';
import { describeObject, type EndpointSlice, type Service } from '../kube/objects.ts';
import { RuleTables } from '../netfilter/rule-tables.ts';
import { formatIp, formatPrefix, type IpFamily, parseAddress } from '../packet/ip-address.ts';
import { featureGates, recordedAddress, recordedRange, remarks, settingsOf, unmodelledGate } from './recorded-case.ts';
import { recordedService, recordedSlice, serviceWithPorts } from './recorded-objects.ts';
import { compareExactly, compareText, type Difference, defineSuite } from './suite.ts';

const family = z
  .enum(['IPv4', 'IPv6'])
  .default('IPv4')
  .transform((name): IpFamily => (name === 'IPv6' ? 6 : 4));
const slices = z.array(recordedSlice);

/** By `namespace/name:port/PROTOCOL`. Conditions may be left out, and are then not compared. */
const endpointsByPort = z.record(
  z.string().regex(/^[^/]+\/[^/]+\/(TCP|UDP|SCTP)$/, 'namespace/name:port/PROTOCOL'),
  z.array(
    z.strictObject({
      endpoint: z.string(),
      local: z.boolean(),
      ready: z.boolean().optional(),
      serving: z.boolean().optional(),
      terminating: z.boolean().optional(),
    }),
  ),
);
type EndpointsByPort = z.output<typeof endpointsByPort>;
type RecordedEndpoint = EndpointsByPort[string][number];

const row = { ...remarks, id: z.string().optional(), ipFamily: family, nodeName: z.string().default('') };

const endpointsFromSlices = z.strictObject({
  ...row,
  /** `namespace/name` */
  service: z.string(),
  endpointSlices: slices,
  expect: endpointsByPort,
});

const endpointUpdate = z.strictObject({
  ...row,
  before: slices,
  after: slices,
  expectBefore: endpointsByPort,
  expectAfter: endpointsByPort,
  conntrackCleanupRequired: z.boolean(),
  /** By `namespace/name`, after the update. */
  localReadyEndpoints: z.record(z.string(), z.int()),
});

const sliceChange = z.strictObject({ ...row, before: recordedSlice, after: recordedSlice, changed: z.boolean() });

const nodeFact = { ...row, services: z.array(recordedService), endpointSlices: slices };
const localReady = z.strictObject({ ...nodeFact, servicesWithLocalReadyEndpoints: z.int() });
const noLocalEndpoints = z.strictObject({
  ...nodeFact,
  metric: z.literal('sync_proxy_rules_no_local_endpoints_total'),
  expect: z.strictObject({ internal: z.int(), external: z.int() }),
});

const portExpectation = z.strictObject({
  clusterIP: recordedAddress,
  port: z.int(),
  protocol: z.string(),
  /** 0 is none. */
  healthCheckNodePort: z.int(),
  externalIPs: z.array(recordedAddress),
  loadBalancerSourceRanges: z.array(recordedRange),
  loadBalancerVIPs: z.array(recordedAddress),
});
const serviceToPorts = z.strictObject({
  ...row,
  featureGates: featureGates.optional(),
  service: recordedService,
  expect: z.record(z.string(), portExpectation),
});

const SECTIONS = {
  endpointsFromSlices: z.array(endpointsFromSlices).default([]),
  endpointUpdates: z.array(endpointUpdate).default([]),
  sliceChangeDetection: z.array(sliceChange).default([]),
  localReady: z.array(localReady).default([]),
  servicesToPorts: z.array(serviceToPorts).default([]),
  noLocalEndpointsMetric: z.array(noLocalEndpoints).default([]),
};

export const endpointSlices = defineSuite({
  name: 'endpoint-slices',
  unit: 'facts',
  content: `an object with ${Object.keys(SECTIONS).join(', ')}`,
  schema: z.strictObject({
    ...SECTIONS,
    about: z.string().optional(),
    endpointOrder: z.string().optional(),
    conditionsWhenAbsent: z.string().optional(),
  }),
  recognises: (value) => value instanceof Object && Object.keys(SECTIONS).some((section) => section in value),
  check: (content, tally) => {
    const fact = (recorded: { id?: string | undefined; about: string }, differences: Difference[]): void =>
      tally.fact(recorded.id === undefined ? recorded.about : `${recorded.id}: ${recorded.about}`, differences);
    for (const recorded of content.endpointsFromSlices) fact(recorded, compareEndpoints(recorded));
    for (const recorded of content.endpointUpdates) fact(recorded, compareUpdate(recorded));
    for (const recorded of content.sliceChangeDetection) fact(recorded, compareChange(recorded));
    for (const recorded of content.localReady) fact(recorded, compareLocalReady(recorded));
    for (const recorded of content.servicesToPorts) {
      const gate = unmodelledGate(recorded.featureGates);
      if (gate === undefined) fact(recorded, comparePorts(recorded));
      else tally.notModelled(gate);
    }
    for (const recorded of content.noLocalEndpointsMetric) fact(recorded, compareNoLocalEndpoints(recorded));
  },
});

// ── endpoints ────────────────────────────────────────────────────────────────────────────────────────────────────────

function compareEndpoints(recorded: z.output<typeof endpointsFromSlices>): Difference[] {
  const { service, endpointSlices, nodeName, ipFamily, expect } = recorded;
  const ofService = (port: ServicePort): boolean => port.name === service || port.name.startsWith(`${service}:`);
  const { ports } = trackerOf(servicesBehind(endpointSlices), endpointSlices, ipFamily).snapshot();
  return compareByPort(expect, ports.filter(ofService), nodeName);
}

function compareUpdate(recorded: z.output<typeof endpointUpdate>): Difference[] {
  const { before, after, nodeName, ipFamily } = recorded;
  const tracker = trackerOf(servicesBehind([...before, ...after]), before, ipFamily);
  const earlier = tracker.snapshot();
  const isGone = (slice: EndpointSlice): boolean =>
    !after.some((other) => describeObject(other) === describeObject(slice));
  for (const object of before.filter(isGone)) tracker.apply({ type: 'DELETED', object });
  for (const object of after) tracker.apply({ type: 'MODIFIED', object });
  const later = tracker.snapshot();
  const needsCleanup = needsConntrackCleanup(earlier, later);
  return [
    ...compareByPort(recorded.expectBefore, earlier.ports, nodeName).map(within('before')),
    ...compareByPort(recorded.expectAfter, later.ports, nodeName).map(within('after')),
    ...compareText(`${recorded.conntrackCleanupRequired}`, `${needsCleanup}`, 'conntrack cleanup required'),
    ...compareExactly(recorded.localReadyEndpoints, localReadyEndpoints(nodeName, later)).map(
      within('local ready endpoints of'),
    ),
  ];
}

const within =
  (where: string) =>
  ({ part, ...difference }: Difference): Difference => ({ ...difference, part: `${where} ${part}` });

/** An unnamed port may be written `ns/svc:/TCP`. */
const canonicalKey = (key: string): string => key.replace(':/', '/');

/** Of a node without a name, nothing is local. */
const localReadyEndpoints = (nodeName: string, services: ServiceSnapshot): Record<string, number> =>
  nodeName === '' ? {} : Object.fromEntries(readyEndpointsOn(nodeName, services));

/** Ports that have endpoints, or should have. */
function compareByPort(recorded: EndpointsByPort, ports: readonly ServicePort[], nodeName: string): Difference[] {
  const expected = Object.fromEntries(Object.entries(recorded).map(([key, value]) => [canonicalKey(key), value]));
  const wanted = Object.entries(expected).map(([key, endpoints]) => [key, endpoints.map(endpointText)]);
  const got = ports
    .filter(({ endpoints }) => endpoints.length > 0)
    .map((port) => [keyOf(port), endpointTexts(port, expected[keyOf(port)] ?? [], nodeName)]);
  return compareExactly(Object.fromEntries(wanted), Object.fromEntries(got));
}

/** As the records name a service port: `ns/name:port/TCP`. */
const keyOf = ({ name, protocol }: ServicePort): string => `${name}/${protocol.toUpperCase()}`;

const endpointText = ({ endpoint, ...rest }: RecordedEndpoint): string => [endpoint, ...words(rest)].join(' ');

/** `local`, `not ready` */
const words = (properties: Readonly<Record<string, boolean | undefined>>): string[] =>
  Object.entries(properties)
    .filter(([, value]) => value !== undefined)
    .sort()
    .map(([name, value]) => (value === true ? name : `not ${name}`));

/** Says of each endpoint what is recorded of it. */
function endpointTexts(port: ServicePort, recorded: readonly RecordedEndpoint[], nodeName: string): string[] {
  return port.endpoints.map(({ address, nodeName: host, ready, serving, terminating }) => {
    const ours = { local: host === nodeName, ready, serving, terminating };
    const like = recorded.find(({ endpoint }) => endpoint === address) ?? ours;
    const asked = Object.entries(ours).filter(([name]) => Reflect.get(like, name) !== undefined);
    return [address, ...words(Object.fromEntries(asked))].join(' ');
  });
}

/** The records tell slices only: these are Services with all the ports that the slices have. */
function servicesBehind(endpointSlices: readonly EndpointSlice[]): Service[] {
  const services = new Map<string, { readonly namespace: string; readonly name: string; readonly ports: SlicePorts }>();
  for (const { metadata, ports } of endpointSlices) {
    const { namespace, labels } = metadata;
    const name = labels['kubernetes.io/service-name'];
    if (name === undefined) continue;
    const service = services.get(`${namespace}/${name}`) ?? { namespace, name, ports: new Map() };
    services.set(`${namespace}/${name}`, service);
    for (const port of ports) service.ports.set(`${port.name}/${port.protocol}`, port);
  }
  return [...services.values()].map((service) => serviceWithPorts(service, [...service.ports.values()]));
}

type SlicePorts = Map<string, Pick<EndpointSlice['ports'][number], 'name' | 'protocol'>>;

function trackerOf(
  services: readonly Service[],
  endpointSlices: readonly EndpointSlice[],
  family: IpFamily = 4,
): ServiceTracker {
  const tracker = new ServiceTracker({ family });
  for (const object of [...services, ...endpointSlices]) tracker.apply({ type: 'MODIFIED', object });
  return tracker;
}

// ── updates and nodes ────────────────────────────────────────────────────────────────────────────────────────────────

function compareChange({ before, after, changed, ipFamily }: z.output<typeof sliceChange>): Difference[] {
  const calls = trackerOf([], [before], ipFamily).apply({ type: 'MODIFIED', object: after });
  return compareText(changed ? 'a change' : 'no change', calls ? 'a change' : 'no change');
}

function compareLocalReady(recorded: z.output<typeof localReady>): Difference[] {
  const { services, endpointSlices, nodeName, ipFamily } = recorded;
  const ready = localReadyEndpoints(nodeName, trackerOf(services, endpointSlices, ipFamily).snapshot());
  return compareText(`${recorded.servicesWithLocalReadyEndpoints} services`, `${Object.keys(ready).length} services`);
}

function compareNoLocalEndpoints(recorded: z.output<typeof noLocalEndpoints>): Difference[] {
  const { services, endpointSlices, nodeName, ipFamily: family } = recorded;
  const proxier = new IptablesProxier({
    node: { name: nodeName, zone: undefined, ips: [] },
    config: { ...DEFAULT_IPTABLES_CONFIG, family },
    cache: new ServiceChainCache(),
    random: new RandomStream('metric'),
  });
  const snapshot = trackerOf(services, endpointSlices, family).snapshot();
  return compareExactly(recorded.expect, proxier.sync(new RuleTables(family), snapshot, START).noLocalEndpoints);
}

// ── service ports ────────────────────────────────────────────────────────────────────────────────────────────────────

function comparePorts(recorded: z.output<typeof serviceToPorts>): Difference[] {
  const { service, expect, ipFamily, featureGates } = recorded;
  const got = servicePortsOf(service, [], settingsOf(featureGates, ipFamily)).map((port) => [
    keyOf(port),
    {
      clusterIP: formatIp(port.clusterIp, ipFamily),
      port: port.port,
      protocol: port.protocol.toUpperCase(),
      healthCheckNodePort: port.healthCheckNodePort ?? 0,
      externalIPs: port.externalIps.map((ip) => formatIp(ip, ipFamily)),
      loadBalancerSourceRanges: port.loadBalancerSourceRanges.map(formatPrefix),
      loadBalancerVIPs: port.loadBalancerVips.map((ip) => formatIp(ip, ipFamily)),
    },
  ]);
  const wanted = Object.entries(expect).map(([key, port]) => [
    canonicalKey(key),
    {
      ...port,
      clusterIP: canonicalAddress(port.clusterIP),
      externalIPs: port.externalIPs.map(canonicalAddress),
      loadBalancerSourceRanges: port.loadBalancerSourceRanges.map(formatPrefix),
      loadBalancerVIPs: port.loadBalancerVIPs.map(canonicalAddress),
    },
  ]);
  return compareExactly(Object.fromEntries(wanted), Object.fromEntries(got));
}

function canonicalAddress(text: string): string {
  const { ip, family } = parseAddress(text);
  return formatIp(ip, family);
}
