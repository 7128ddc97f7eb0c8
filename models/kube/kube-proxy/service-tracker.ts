// What a watcher knows of Services and EndpointSlices, as service ports, while updates come in.
//
// All proxiers that have seen the same updates can share one snapshot, and with it everything that is made of its
// service ports: a change costs the service that changed, not the number of services times the number of nodes.

import type { WatchEvent } from '../api-server.ts';
import { type EndpointSlice, keyOf, type Service } from '../objects.ts';
import {
  DEFAULT_SERVICE_PORT_SETTINGS,
  isSamePort,
  isSliceOf,
  type ServicePort,
  type ServicePortSettings,
  servicePortsOf,
} from './service-ports.ts';

/** All service ports at one moment. Immutable, but for an answer that it remembers. */
export class ServiceSnapshot {
  readonly ports: readonly ServicePort[];
  /** Endpoints listed, usable or not, summed over the service ports. */
  readonly endpointCount: number;
  readonly #members: ReadonlySet<ServicePort>;
  #changed: { readonly since: ServiceSnapshot; readonly count: number } | undefined;
  #latestMissing: { readonly before: ServiceSnapshot; readonly ports: readonly ServicePort[] } | undefined;

  constructor(ports: readonly ServicePort[]) {
    this.ports = ports;
    this.endpointCount = ports.reduce((sum, { endpoints }) => sum + endpoints.length, 0);
    this.#members = new Set(ports);
  }

  /** How many service ports an earlier snapshot does not have, new or changed. All nodes ask the same. */
  changedSince(before: ServiceSnapshot): number {
    if (this.#changed?.since !== before) {
      before.#changed = undefined; // else every snapshot there ever was would stay in memory
      this.#changed = { since: before, count: this.ports.reduce((sum, port) => sum + (before.has(port) ? 0 : 1), 0) };
    }
    return this.#changed.count;
  }

  /** Has this very service port. A service whose Service or endpoints changed since has other ones, all of them. */
  has(port: ServicePort): boolean {
    return this.#members.has(port);
  }

  /** What `before` has and this one has not. All proxiers of a cluster ask about the same two. */
  missing(before: ServiceSnapshot): readonly ServicePort[] {
    if (this.#latestMissing?.before !== before) {
      before.#latestMissing = undefined; // else every snapshot there ever was would stay in memory
      this.#latestMissing = { before, ports: before.ports.filter((port) => !this.has(port)) };
    }
    return this.#latestMissing.ports;
  }
}

export const NO_SERVICES = new ServiceSnapshot([]);

/** The label that says which Service an EndpointSlice belongs to. */
const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';

/** kube-proxy does not list, and so does not see, Services and slices with one of these labels: they are for somebody else. */
const HIDING_LABELS = ['service.kubernetes.io/service-proxy-name', 'service.kubernetes.io/headless'];
const isHidden = ({ metadata: { labels } }: Service | EndpointSlice): boolean =>
  HIDING_LABELS.some((label) => label in labels);

export class ServiceTracker {
  readonly #services = new Map<string, Service>();
  readonly #slices = new Map<string, EndpointSlice>();
  readonly #slicesByService = new Map<string, Map<string, EndpointSlice>>();
  readonly #ports = new Map<string, readonly ServicePort[]>();
  readonly #changed = new Set<string>();
  readonly #settings: ServicePortSettings;
  #snapshot = NO_SERVICES;

  constructor(settings: Partial<ServicePortSettings> = {}) {
    this.#settings = { ...DEFAULT_SERVICE_PORT_SETTINGS, ...settings };
  }

  /** False if kube-proxy would not sync because of it: an update of a slice that tells it nothing new. */
  apply({ type, object }: WatchEvent<Service | EndpointSlice>): boolean {
    const key = keyOf(object);
    const isGone = type === 'DELETED' || isHidden(object);
    if (object.kind === 'Service') {
      if (isGone && type !== 'DELETED' && !this.#services.has(key)) return false;
      if (isGone) this.#services.delete(key);
      else this.#services.set(key, object);
      this.#changed.add(key);
      return true;
    }
    const known = this.#slices.get(key);
    const slice = !isGone && isSliceOf(this.#settings, object) ? object : undefined;
    if (known === undefined ? slice === undefined : slice !== undefined && isSameSlice(known, slice)) return false;
    this.#removeSlice(key);
    if (slice !== undefined) this.#addSlice(key, slice);
    return true;
  }

  /** The service ports now. The same object again as long as updates change nothing that a proxy looks at. */
  snapshot(): ServiceSnapshot {
    let isNew = false;
    for (const key of this.#changed) {
      if (this.#rebuild(key)) isNew = true;
    }
    this.#changed.clear();
    if (isNew) this.#snapshot = new ServiceSnapshot([...this.#ports.values()].flat());
    return this.#snapshot;
  }

  #addSlice(key: string, slice: EndpointSlice): void {
    const service = serviceKeyOf(slice);
    const siblings = this.#slicesByService.get(service) ?? new Map<string, EndpointSlice>();
    this.#slices.set(key, slice);
    this.#slicesByService.set(service, siblings.set(key, slice));
    this.#changed.add(service);
  }

  #removeSlice(key: string): void {
    const slice = this.#slices.get(key);
    if (slice === undefined) return;
    const service = serviceKeyOf(slice);
    this.#slices.delete(key);
    this.#slicesByService.get(service)?.delete(key);
    this.#changed.add(service);
  }

  /** True if the service's ports are others than before. */
  #rebuild(key: string): boolean {
    const service = this.#services.get(key);
    const before = this.#ports.get(key) ?? [];
    if (service === undefined) return this.#ports.delete(key) && before.length > 0;
    const after = servicePortsOf(service, [...(this.#slicesByService.get(key)?.values() ?? [])], this.#settings);
    if (after.length === before.length && after.every((port, i) => isSamePort(port, before[i]!))) return false;
    this.#ports.set(key, after);
    return true;
  }
}

/** Tells a proxy the same: kube-proxy sorts ports and endpoints before it compares, and looks at no other metadata. */
const isSameSlice = (a: EndpointSlice, b: EndpointSlice): boolean =>
  serviceKeyOf(a) === serviceKeyOf(b) && contentOf(a) === contentOf(b);

function contentOf({ ports, endpoints }: EndpointSlice): string {
  const ofPorts = ports.map(({ name, protocol, port, appProtocol }) =>
    JSON.stringify([port, name, protocol, appProtocol]),
  );
  const ofEndpoints = endpoints.map(({ addresses, nodeName, zone, hints, conditions }) => {
    const { ready = true, serving = true, terminating = false } = conditions;
    return JSON.stringify([addresses, nodeName, zone, hints, ready, serving, terminating]);
  });
  return [...ofPorts.sort(), ...ofEndpoints.sort()].join();
}

export const serviceKeyOf = ({ metadata }: EndpointSlice): string =>
  `${metadata.namespace}/${metadata.labels[SERVICE_NAME_LABEL]}`;
