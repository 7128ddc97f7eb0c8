// One node of a cluster, as files about kube-proxy record it: settings, Services and EndpointSlices, and perhaps those
// of an earlier sync.

import { z } from 'zod';
import type { LocalDetector } from '../kube/kube-proxy/local-detector.ts';
import type { ServicePortSettings } from '../kube/kube-proxy/service-ports.ts';
import { type ServiceSnapshot, ServiceTracker } from '../kube/kube-proxy/service-tracker.ts';
import { describeObject, type EndpointSlice, type KubeObject, type Service } from '../kube/objects.ts';
import type { Netfilter } from '../netfilter/netfilter.ts';
import {
  type Ip,
  type IpFamily,
  isIpv4,
  isIpv6,
  isLoopback,
  LOOPBACK_IPV6,
  type Prefix,
  parseAddress,
  parseAnyPrefix,
} from '../packet/ip-address.ts';
import { recordedService, recordedSlice } from './recorded-objects.ts';

const ZONE_LABEL = 'topology.kubernetes.io/zone';

export const recordedAddress = z.string().refine((text) => isIpv4(text) || isIpv6(text), 'an IP address');
export const recordedRange = z.string('an IP range such as 10.0.0.0/8').transform((text, context): Prefix => {
  try {
    if (text.includes('/')) return parseAnyPrefix(text);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  context.addIssue({ code: 'custom', message: 'an IP range such as 10.0.0.0/8' });
  return z.NEVER;
});

/** Texts about a fact, in every row. */
export const remarks = {
  about: z.string(),
  source: z.string().optional(),
  note: z.string().optional(),
  features: z.array(z.string()).optional(),
};

/** Gates of releases that had not decided yet: on or off, by name. */
export const featureGates = z.record(z.string(), z.boolean());
type FeatureGates = z.output<typeof featureGates>;

const nfacctCounter = z.enum(['ct_state_invalid_dropped_pkts', 'localhost_nps_accepted_pkts']);
const BIT_OF_MARK = 'one bit as hexadecimal number such as 0x4000';

const config = z.strictObject({
  ipFamily: z.enum(['IPv4', 'IPv6']).transform((name): IpFamily => (name === 'IPv6' ? 6 : 4)),
  nodeName: z.string(),
  nodeIP: recordedAddress,
  nodeIPs: z.array(recordedAddress),
  /** The devices that have these addresses, for people. */
  interfaces: z.array(z.strictObject({ name: z.string(), addresses: z.array(z.string()) })).optional(),
  masqueradeAll: z.boolean(),
  masqueradeMark: z
    .string(BIT_OF_MARK)
    .refine((text) => /^0x[0-9a-f]+$/i.test(text) && Number.isInteger(Math.log2(Number(text))), BIT_OF_MARK)
    .default('0x4000'),
  localDetector: z.discriminatedUnion(
    'kind',
    [z.strictObject({ kind: z.literal('podCIDR'), cidr: recordedRange }), z.strictObject({ kind: z.literal('none') })],
    'a detector of kind podCIDR or none',
  ),
  /** null: all addresses of the node. */
  nodePortAddresses: z.array(recordedRange).nullable(),
  /** Only iptables has it. */
  localhostNodePorts: z.boolean().default(false),
  /** Only nftables has them. */
  serviceCIDRs: z.array(recordedRange).default([]),
  nodeLabels: z.record(z.string(), z.string()).default({}),
  zone: z.string().nullable().default(null),
  conntrackTCPLiberal: z.boolean().default(false),
  nfacctCounters: z.array(nfacctCounter).default([]),
  featureGates: featureGates.default({}),
  iptablesHasRandomFully: z.boolean().default(false),
});

const objects = { services: z.array(recordedService), endpointSlices: z.array(recordedSlice) };

export const recordedCase = z.strictObject({
  ...remarks,
  ...objects,
  id: z.string(),
  mode: z.enum(['iptables', 'nftables', 'ipvs']),
  config,
  /** What an earlier sync saw. */
  before: z.strictObject(objects).optional(),
});

export type RecordedCase = z.output<typeof recordedCase>;
export type RecordedConfig = RecordedCase['config'];
export type RecordedMode = RecordedCase['mode'];

/** A node whose kube-proxy has seen a recorded case. */
export interface SyncedNode {
  /** Puts the node's rules into a fresh netfilter. */
  load(netfilter: Netfilter): void;
  /** kube-proxy has made it one of the node's own addresses. Absent: none is. */
  isServiceAddress?(ip: Ip): boolean;
  /** Something is looked for by this address where Services are dispatched, whatever becomes of it then. */
  dispatches(ip: Ip): boolean;
}

/** What the recorded release takes of the objects. */
export const settingsOf = (gates: FeatureGates = {}, family: IpFamily = 4): ServicePortSettings => ({
  family,
  honoursIpMode: gates[IP_MODE] ?? true,
  honoursNodeHints: gates[NODE_HINTS] ?? true,
});

const IP_MODE = 'LoadBalancerIPMode';
const NODE_HINTS = 'PreferSameTrafficDistribution';

/** What a release with these gates may have done otherwise, in words; undefined if every gate is modelled. */
export function unmodelledGate(gates: FeatureGates = {}): string | undefined {
  const gate = Object.keys(gates).find((name) => name !== IP_MODE && name !== NODE_HINTS);
  return gate === undefined ? undefined : `feature gate ${gate}`;
}

/** Syncs to what was there before, if anything was, and then to what is recorded. */
export function replay<Report>(recorded: RecordedCase, sync: (services: ServiceSnapshot) => Report): Report {
  const { config, before } = recorded;
  const tracker = new ServiceTracker(settingsOf(config.featureGates, config.ipFamily));
  const earlier = before === undefined ? [] : objectsOf(before);
  const now = objectsOf(recorded);
  if (before !== undefined) {
    for (const object of earlier) tracker.apply({ type: 'ADDED', object });
    sync(tracker.snapshot());
  }
  const isGone = (object: KubeObject): boolean =>
    !now.some((other) => describeObject(other) === describeObject(object));
  for (const object of earlier.filter(isGone)) tracker.apply({ type: 'DELETED', object });
  for (const object of now) tracker.apply({ type: 'MODIFIED', object });
  return sync(tracker.snapshot());
}

const objectsOf = ({
  services,
  endpointSlices,
}: Pick<RecordedCase, 'services' | 'endpointSlices'>): (Service | EndpointSlice)[] => [...services, ...endpointSlices];

/** The addresses of the node's devices except loopback, of one family. */
export const nodeIpsOf = ({ nodeIPs, ipFamily }: RecordedConfig): Ip[] =>
  nodeIPs
    .map(parseAddress)
    .filter(({ family }) => family === ipFamily)
    .map(({ ip }) => ip);

/** The node's own addresses, loopback included. */
export const isNodesOwn = (config: RecordedConfig, ip: Ip): boolean =>
  nodeIpsOf(config).includes(ip) || (config.ipFamily === 6 ? ip === LOOPBACK_IPV6 : isLoopback(ip));

export const masqueradeBitOf = ({ masqueradeMark }: RecordedConfig): number => Math.log2(Number(masqueradeMark));

export const localDetectorOf = ({ localDetector: detector }: RecordedConfig): LocalDetector =>
  detector.kind === 'none' ? { mode: 'None' } : { mode: 'ClusterCIDR', cidr: detector.cidr };

export const zoneOf = ({ zone, nodeLabels }: Pick<RecordedConfig, 'zone' | 'nodeLabels'>): string | undefined =>
  zone ?? (nodeLabels[ZONE_LABEL] || undefined);
