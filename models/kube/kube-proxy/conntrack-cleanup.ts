// Connections of UDP that go to endpoints which are no more: a client that keeps its port would be sent there for as long as it
// talks. kube-proxy deletes them after a sync. TCP closes its connections itself.

import type { ConnectionTuple } from '../../netfilter/connection-tuple.ts';
import { protocolNumber } from '../../netfilter/protocol.ts';
import type { Ip, IpFamily } from '../../packet/ip-address.ts';
import { type Endpoint, isUdp, type ServicePort, serviceOf } from './service-ports.ts';
import type { ServiceSnapshot } from './service-tracker.ts';

/**
 * Which ones a sync deletes: those of the Services and endpoints that it was about (releases up to 1.31), or all that lead
 * from a Service to what does not serve it (from 1.32 on).
 */
export const CONNTRACK_CLEANUPS = ['of changes', 'reconcile'] as const;
export type ConntrackCleanup = (typeof CONNTRACK_CLEANUPS)[number];

/** What is looked at of an entry, as `conntrack -L` lists it. */
export interface TrackedConnection {
  readonly original: ConnectionTuple;
  readonly reply: ConnectionTuple;
  readonly dstNat: boolean;
}

/** Of a node. */
export interface ConnectionTable {
  /** `conntrack -D` */
  delete(matches: (entry: TrackedConnection) => boolean): number;
}

export interface CleanupExtent {
  readonly cleanup: ConntrackCleanup;
  readonly before: ServiceSnapshot;
  readonly after: ServiceSnapshot;
}

type IsStale = (entry: TrackedConnection) => boolean;

/** By the later snapshot. All proxies of a cluster ask about the same two. */
const latestAnswers = new WeakMap<
  ServiceSnapshot,
  Pick<CleanupExtent, 'cleanup' | 'before'> & { readonly isStale: IsStale | undefined }
>();

/** Tells the entries to delete; undefined if nobody looks for any. */
export function staleConnections(extent: CleanupExtent): IsStale | undefined {
  const { cleanup, before, after } = extent;
  const latest = latestAnswers.get(after);
  if (latest?.before === before && latest.cleanup === cleanup) return latest.isStale;
  const isStale = lookForStale(extent);
  latestAnswers.delete(before); // else every snapshot there ever was would stay in memory
  latestAnswers.set(after, { cleanup, before, isStale });
  return isStale;
}

function lookForStale(extent: CleanupExtent): IsStale | undefined {
  const { cleanup, before, after } = extent;
  if (cleanup === 'of changes') return ofChanges(extent);
  return needsConntrackCleanup(before, after) ? againstEndpoints(after) : undefined;
}

const UDP = protocolNumber('udp');

// ── from 1.32 on ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** Ports without a serving endpoint are left alone: what is sent to them waits for one. */
function againstEndpoints({ ports }: ServiceSnapshot): IsStale {
  const family = familyOf(ports);
  let served: ServedPorts | undefined;
  return ({ original, reply }) => {
    if (original.protocol !== UDP || original.family !== family) return false;
    served ??= servedPorts(ports);
    const { dstIp, dstPort } = original;
    return [served.byAddress.get(`${dstIp} ${dstPort}`), served.byNodePort.get(dstPort)].some(
      (port) => port !== undefined && !servingIps(port).has(reply.srcIp),
    );
  };
}

/** UDP ports with a serving endpoint. */
interface ServedPorts {
  readonly byAddress: ReadonlyMap<string, ServicePort>;
  readonly byNodePort: ReadonlyMap<number, ServicePort>;
}

function servedPorts(ports: readonly ServicePort[]): ServedPorts {
  const byAddress = new Map<string, ServicePort>();
  const byNodePort = new Map<number, ServicePort>();
  for (const port of ports) {
    if (!isUdp(port) || !port.endpoints.some(({ serving }) => serving)) continue;
    for (const ip of addressesOf(port)) byAddress.set(`${ip} ${port.port}`, port);
    if (port.nodePort !== undefined) byNodePort.set(port.nodePort, port);
  }
  return { byAddress, byNodePort };
}

/** Of ports that entries lead to; a port is the same in all snapshots until it changes. */
const knownServingIps = new WeakMap<ServicePort, ReadonlySet<Ip>>();

function servingIps(port: ServicePort): ReadonlySet<Ip> {
  let ips = knownServingIps.get(port);
  if (ips === undefined) {
    ips = new Set(port.endpoints.filter(({ serving }) => serving).map(({ ip }) => ip));
    knownServingIps.set(port, ips);
  }
  return ips;
}

/** Some Service that has, or had, endpoints behind a UDP port has other endpoints than before, behind whatever port. */
export function needsConntrackCleanup(before: ServiceSnapshot, after: ServiceSnapshot): boolean {
  // A change of a Service or of its endpoints gives all its ports anew.
  const earlier = endpointsByService(before.ports.filter((port) => !after.has(port)));
  const later = endpointsByService(after.ports.filter((port) => !before.has(port)));
  return [...new Set([...earlier.keys(), ...later.keys()])].some((service) => {
    const [old, now] = [earlier.get(service) ?? NO_ENDPOINTS, later.get(service) ?? NO_ENDPOINTS];
    return (old.hasUdp || now.hasUdp) && old.text !== now.text;
  });
}

interface ServiceEndpoints {
  readonly text: string;
  readonly hasUdp: boolean;
}

const NO_ENDPOINTS: ServiceEndpoints = { text: '', hasUdp: false };

/** Ports without endpoints are left out: to conntrack they are no ports. */
function endpointsByService(ports: readonly ServicePort[]): Map<string, ServiceEndpoints> {
  const byService = new Map<string, ServiceEndpoints>();
  for (const port of ports) {
    if (port.endpoints.length === 0) continue;
    const { text, hasUdp } = byService.get(serviceOf(port)) ?? NO_ENDPOINTS;
    byService.set(serviceOf(port), {
      text: `${text}${port.name}/${port.protocol} ${JSON.stringify(port.endpoints)}`,
      hasUdp: hasUdp || port.protocol === 'udp',
    });
  }
  return byService;
}

// ── up to 1.31 ───────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * What is sent to a UDP port that has got its first ready endpoint, or to the cluster IP of one that is gone; and what an
 * endpoint gets by a port that it was ready behind. `conntrack -D --orig-dst …`, `--dport …`, both with `--dst-nat …`.
 */
function ofChanges({ before, after }: CleanupExtent): IsStale | undefined {
  const now = new Map(after.ports.filter(isUdp).map((port) => [port.name, port]));
  const earlier = new Map(before.ports.filter(isUdp).map((port) => [port.name, port]));
  const addresses = new Set<Ip>();
  const nodePorts = new Set<number>();
  const translations = new Set<string>();
  for (const [name, { clusterIp }] of earlier) if (!now.has(name)) addresses.add(clusterIp);
  for (const [name, port] of now) {
    const old = earlier.get(name);
    if (old === port) continue;
    if (hasReady(port) && !(old !== undefined && hasReady(old))) {
      for (const ip of addressesOf(port)) addresses.add(ip);
      if (port.nodePort !== undefined) nodePorts.add(port.nodePort);
    }
    for (const { ip: endpoint } of noLongerReady(old?.endpoints ?? [], port.endpoints)) {
      for (const ip of addressesOf(port)) translations.add(`${ip} to ${endpoint}`);
      if (port.nodePort !== undefined) translations.add(`port ${port.nodePort} to ${endpoint}`);
    }
  }
  if (addresses.size + nodePorts.size + translations.size === 0) return undefined;
  const family = familyOf([...after.ports, ...before.ports]);
  return ({ original, reply, dstNat }) => {
    if (original.protocol !== UDP || original.family !== family) return false;
    const { dstIp, dstPort } = original;
    if (addresses.has(dstIp) || nodePorts.has(dstPort)) return true;
    const isTranslated = (to: string): boolean => translations.has(`${to} to ${reply.srcIp}`);
    return dstNat && (isTranslated(`${dstIp}`) || isTranslated(`port ${dstPort}`));
  };
}

const hasReady = ({ endpoints }: ServicePort): boolean => endpoints.some(({ ready }) => ready);

const noLongerReady = (before: readonly Endpoint[], after: readonly Endpoint[]): Endpoint[] => {
  const ready = new Set(after.filter((endpoint) => endpoint.ready).map(({ address }) => address));
  return before.filter((endpoint) => endpoint.ready && !ready.has(endpoint.address));
};

// ── both ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

const addressesOf = ({ clusterIp, externalIps, loadBalancerVips }: ServicePort): Ip[] => [
  ...[clusterIp, ...externalIps],
  ...loadBalancerVips,
];

/** A proxy serves one; without ports there is nothing to tell of. */
const familyOf = ([port]: readonly ServicePort[]): IpFamily => port?.family ?? 4;
