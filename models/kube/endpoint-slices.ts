// The EndpointSlice controller: for each Service with a selector, slices with the addresses of the pods that it selects;
// and its mirroring twin: slices for Endpoints objects of Services without a selector. Slices that somebody else made
// are left alone.
//
// Not modelled: topology hints, IPv6 slices, the batching of updates. The real controller orders endpoints at random,
// this one by the age of their pods.

import type { RandomStream } from '../../engine/random.ts';
import { isIpv4 } from '../packet/ip-address.ts';
import type { ApiServer, Deliver, WatchEvent } from './api-server.ts';
import { LabelIndex, matchesLabels } from './label-index.ts';
import { NamedDraws } from './named-draws.ts';
import {
  type Endpoint,
  type EndpointPort,
  type EndpointSlice,
  type Endpoints,
  isFinished,
  isHeadless,
  isReady,
  isTerminating,
  keyOf,
  type Labels,
  type Pod,
  type Service,
  type ServicePort,
} from './objects.ts';

export const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';
export const MANAGED_BY_LABEL = 'endpointslice.kubernetes.io/managed-by';
const CONTROLLER = 'endpointslice-controller.k8s.io';
const MIRRORING_CONTROLLER = 'endpointslicemirroring-controller.k8s.io';
/** `--max-endpoints-per-slice`. */
const ENDPOINTS_PER_SLICE = 100;

/** The entry of a pod in the slices of a Service; undefined if it has no place there. */
export function endpointOf(pod: Pod, service: Service, zone: string | undefined): Endpoint | undefined {
  const address = [pod.status.podIP, ...(pod.status.podIPs ?? []).map(({ ip }) => ip)].find((ip) => ip && isIpv4(ip));
  if (address === undefined || isFinished(pod)) return undefined;
  const serving = isReady(pod);
  const terminating = isTerminating(pod);
  const { hostname, subdomain, nodeName } = pod.spec;
  const { name, namespace, uid } = pod.metadata;
  return {
    addresses: [address],
    conditions: { ready: service.spec.publishNotReadyAddresses || (serving && !terminating), serving, terminating },
    hostname: subdomain === service.metadata.name ? hostname : undefined,
    nodeName,
    zone,
    targetRef: { kind: 'Pod', namespace, name, uid },
  };
}

/** Where a pod serves the ports of a Service. A port whose name no container of the pod has is left out. */
export function endpointPortsOf(pod: Pod, service: Service): EndpointPort[] {
  const ports: EndpointPort[] = [];
  for (const { name, protocol, appProtocol, targetPort } of service.spec.ports) {
    const port = typeof targetPort === 'number' ? targetPort : containerPortNamed(pod, targetPort, protocol);
    if (port !== undefined) ports.push({ name, protocol, port, appProtocol });
  }
  return ports;
}

function containerPortNamed(pod: Pod, name: string, protocol: ServicePort['protocol']): number | undefined {
  const sidecars = pod.spec.initContainers.filter(({ restartPolicy }) => restartPolicy === 'Always');
  for (const { ports } of [...pod.spec.containers, ...sidecars]) {
    const found = ports.find((port) => port.name === name && port.protocol === protocol);
    if (found !== undefined) return found.containerPort;
  }
  return undefined;
}

export class EndpointSliceController {
  readonly #apiServer: ApiServer;
  readonly #draws: NamedDraws;
  /** Keys of pods, and the labels that they were last seen with. */
  readonly #pods = new LabelIndex<string>();
  readonly #labelsOfPod = new Map<string, Labels>();
  /** Keys of Services by the first label of their selector, and the selectors that they were last seen with. */
  readonly #servicesByLabel = new Map<string, Set<string>>();
  readonly #selectorOfService = new Map<string, Labels>();
  /** Keys of slices by the key of their Service. */
  readonly #slicesOfService = new Map<string, Set<string>>();
  /** Services whose slices may be out of date, in the order in which that became known. */
  readonly #dirty = new Set<string>();
  /** What the last look at each Service found. */
  readonly #lastLook = new Map<string, { readonly service: Service; readonly byPod: ReadonlyMap<string, PodEntry> }>();
  /** How many names each Service has used up. */
  readonly #named = new Map<string, number>();

  /** Keeps slices from now on; those of what there is are made before this returns. */
  constructor(apiServer: ApiServer, random: RandomStream, deliver?: Deliver) {
    this.#apiServer = apiServer;
    this.#draws = new NamedDraws(random);
    apiServer.watch('EndpointSlice', (events) => this.#onSlices(events), deliver);
    apiServer.watch('Pod', (events) => this.#onPods(events), deliver);
    apiServer.watch('Endpoints', (events) => this.#onEndpoints(events), deliver);
    apiServer.watch('Service', (events) => this.#onServices(events), deliver);
  }

  #onSlices(events: readonly WatchEvent<EndpointSlice>[]): void {
    for (const { type, object } of events) this.#recordSlice(type, object);
  }

  #recordSlice(type: WatchEvent<EndpointSlice>['type'], { metadata }: EndpointSlice): void {
    const service = `${metadata.namespace}/${metadata.labels[SERVICE_NAME_LABEL]}`;
    const slices = this.#slicesOfService.get(service) ?? new Set<string>();
    if (type === 'DELETED') slices.delete(`${metadata.namespace}/${metadata.name}`);
    else slices.add(`${metadata.namespace}/${metadata.name}`);
    this.#slicesOfService.set(service, slices);
  }

  #onPods(events: readonly WatchEvent<Pod>[]): void {
    for (const { type, object } of events) {
      const key = keyOf(object);
      const { namespace, labels } = object.metadata;
      const before = this.#labelsOfPod.get(key);
      if (before !== undefined && (before !== labels || type === 'DELETED')) {
        this.#markServicesOf(namespace, before);
        this.#pods.delete(namespace, before, key);
        this.#labelsOfPod.delete(key);
      }
      if (type !== 'DELETED') {
        if (before !== labels) this.#pods.add(namespace, labels, key);
        this.#labelsOfPod.set(key, labels);
        this.#markServicesOf(namespace, labels);
      }
    }
  }

  #onEndpoints(events: readonly WatchEvent<Endpoints>[]): void {
    for (const { object } of events) this.#markDirty(keyOf(object));
  }

  #onServices(events: readonly WatchEvent<Service>[]): void {
    for (const { type, object } of events) {
      const key = keyOf(object);
      const { namespace } = object.metadata;
      const before = firstLabel(namespace, this.#selectorOfService.get(key) ?? {});
      this.#servicesByLabel.get(before)?.delete(key);
      this.#selectorOfService.delete(key);
      if (type !== 'DELETED') {
        const label = firstLabel(namespace, object.spec.selector);
        this.#servicesByLabel.set(label, (this.#servicesByLabel.get(label) ?? new Set<string>()).add(key));
        this.#selectorOfService.set(key, object.spec.selector);
      }
      this.#markDirty(key);
    }
  }

  #markServicesOf(namespace: string, labels: Labels): void {
    for (const name in labels) {
      for (const service of this.#servicesByLabel.get(`${namespace}/${name}=${labels[name]}`) ?? []) {
        if (matchesLabels(this.#selectorOfService.get(service) ?? {}, labels)) this.#markDirty(service);
      }
    }
  }

  /** A burst of changes (a Deployment of a hundred pods) is one look at the Service. */
  #markDirty(service: string): void {
    const isFirst = this.#dirty.size === 0;
    this.#dirty.add(service);
    if (isFirst) this.#apiServer.deliverInTurn(() => this.#reconcileDirty());
  }

  #reconcileDirty(): void {
    const services = [...this.#dirty];
    this.#dirty.clear();
    for (const service of services) this.#reconcile(service);
  }

  #reconcile(key: string): void {
    const service = this.#apiServer.get('Service', key);
    if (service === undefined || service.spec.type === 'ExternalName') {
      this.#lastLook.delete(key);
      this.#keepSlices(key, CONTROLLER, []);
      this.#keepSlices(key, MIRRORING_CONTROLLER, []);
    } else if (Object.keys(service.spec.selector).length > 0) {
      this.#keepSlices(key, CONTROLLER, this.#groupsOfPods(service), service);
    } else {
      this.#keepSlices(key, MIRRORING_CONTROLLER, groupsOf(this.#apiServer.get('Endpoints', key)), service);
    }
  }

  #groupsOfPods(service: Service): EndpointGroup[] {
    const groups = new Map<string, EndpointGroup>();
    for (const { endpoint, ports, portsText } of this.#entriesOf(service)) {
      if (endpoint === undefined) continue;
      const group = groups.get(portsText) ?? { ports, endpoints: [] };
      group.endpoints.push(endpoint);
      groups.set(portsText, group);
    }
    // A Service without endpoints has one empty slice, so that watchers know that it has been looked at.
    return groups.size > 0 ? [...groups.values()] : [{ ports: [], endpoints: [] }];
  }

  /**
   * One trick for Services with thousands of pods, which come and go one by one: an entry that is still right is the same
   * object as at the last look, so that what has not changed is neither computed nor compared again.
   */
  #entriesOf(service: Service): PodEntry[] {
    const key = keyOf(service);
    const last = this.#lastLook.get(key);
    const entries: PodEntry[] = [];
    const byPod = new Map<string, PodEntry>();
    for (const podKey of this.#pods.select(service.metadata.namespace, service.spec.selector)) {
      const pod = this.#apiServer.get('Pod', podKey);
      if (pod === undefined) continue;
      const before = last?.service === service ? last.byPod.get(podKey) : undefined;
      const entry = before?.pod === pod ? before : this.#entryOf(pod, service, before?.endpoint);
      entries.push(entry);
      byPod.set(podKey, entry);
    }
    this.#lastLook.set(key, { service, byPod });
    return entries;
  }

  #entryOf(pod: Pod, service: Service, before: Endpoint | undefined): PodEntry {
    const node = this.#apiServer.get('Node', pod.spec.nodeName ?? '');
    const endpoint = endpointOf(pod, service, node?.metadata.labels['topology.kubernetes.io/zone']);
    const ports = endpointPortsOf(pod, service);
    const isSame = JSON.stringify(endpoint) === JSON.stringify(before);
    return { pod, endpoint: isSame ? before : endpoint, ports, portsText: JSON.stringify(ports) };
  }

  /** Brings the slices of one controller for a Service to these groups, with as few changes as it can. */
  #keepSlices(serviceKey: string, managedBy: string, groups: readonly EndpointGroup[], service?: Service): void {
    const slices = [...(this.#slicesOfService.get(serviceKey) ?? [])]
      .map((key) => this.#apiServer.get('EndpointSlice', key))
      .filter((slice) => slice !== undefined)
      .filter(({ metadata }) => metadata.labels[MANAGED_BY_LABEL] === managedBy);
    const unused = new Set(slices);
    for (const { ports, endpoints } of groups) {
      const ofGroup = slices.filter((slice) => JSON.stringify(slice.ports) === JSON.stringify(ports));
      for (const slice of ofGroup) unused.delete(slice);
      const contents = distribute(
        ofGroup.map((slice) => slice.endpoints),
        endpoints,
      );
      for (const [index, content] of contents.entries()) {
        const slice = ofGroup[index];
        if (slice === undefined) this.#createSlice(service, managedBy, ports, content);
        else if (content.length === 0 && endpoints.length > 0) unused.add(slice);
        else if (!isSameList(content, slice.endpoints)) {
          this.#apiServer.update<EndpointSlice>({ ...slice, endpoints: content });
        }
      }
    }
    for (const slice of unused) this.#apiServer.remove('EndpointSlice', keyOf(slice));
  }

  #createSlice(
    service: Service | undefined,
    managedBy: string,
    ports: readonly EndpointPort[],
    endpoints: readonly Endpoint[],
  ): void {
    if (service === undefined) return;
    const { name, namespace, labels } = service.metadata;
    const headless: Labels = isHeadless(service) ? { 'service.kubernetes.io/headless': '' } : {};
    const slice = this.#apiServer.create<EndpointSlice>({
      kind: 'EndpointSlice',
      metadata: {
        name: this.#newName(service),
        namespace,
        labels: { ...labels, ...headless, [SERVICE_NAME_LABEL]: name, [MANAGED_BY_LABEL]: managedBy },
        annotations: {},
        ownerReferences: [{ kind: 'Service', name, uid: service.metadata.uid, controller: true }],
      },
      addressType: 'IPv4',
      ports,
      endpoints,
    });
    this.#recordSlice('ADDED', slice); // the watch event may come later than the next look at this Service
  }

  /** `web-x2x7k`. */
  #newName({ metadata: { name, namespace } }: Service): string {
    const service = `${namespace}/${name}`;
    for (;;) {
      const number = this.#named.get(service) ?? 0;
      this.#named.set(service, number + 1);
      const sliceName = `${name}-${this.#draws.suffix(`${service} ${number}`)}`;
      if (this.#apiServer.get('EndpointSlice', `${namespace}/${sliceName}`) === undefined) return sliceName;
    }
  }
}

/** What one pod contributes to one Service. */
interface PodEntry {
  readonly pod: Pod;
  readonly endpoint: Endpoint | undefined;
  readonly ports: readonly EndpointPort[];
  readonly portsText: string;
}

/** Endpoints that are served on the same port numbers, so that they can share slices. */
interface EndpointGroup {
  readonly ports: readonly EndpointPort[];
  readonly endpoints: Endpoint[];
}

/**
 * What goes into which slice: an endpoint stays in the slice that it is in; a new one goes to a slice that changes
 * anyway, then to one that has room, then to a new one. Slices are not evened out.
 */
function distribute(slices: readonly (readonly Endpoint[])[], endpoints: readonly Endpoint[]): Endpoint[][] {
  const missing = new Set(endpoints);
  for (const endpoint of slices.flat()) missing.delete(endpoint);
  const changed = new Map([...missing].map((endpoint) => [identityOf(endpoint), endpoint]));
  const wanted = new Set(endpoints);
  const contents = slices.map((slice) =>
    slice.flatMap((endpoint) => {
      if (wanted.has(endpoint)) return [endpoint];
      const current = changed.get(identityOf(endpoint));
      if (current === undefined || !missing.delete(current)) return [];
      return [current];
    }),
  );
  const isChanged = contents.map((content, index) => !isSameList(content, slices[index] as readonly Endpoint[]));
  const targets = [
    ...contents.filter((_, index) => isChanged[index]),
    ...contents.filter((_, index) => !isChanged[index]),
  ];
  for (const endpoint of missing) {
    let target = targets.find((content) => content.length < ENDPOINTS_PER_SLICE);
    if (target === undefined) {
      target = [];
      targets.push(target);
      contents.push(target);
    }
    target.push(endpoint);
  }
  if (contents.length === 0) contents.push([]);
  return contents;
}

/** The entries of {@link PodEntry} are compared by identity first: most are the same objects as before. */
const isSameList = (a: readonly Endpoint[], b: readonly Endpoint[]): boolean =>
  a.length === b.length &&
  a.every((endpoint, index) => endpoint === b[index] || JSON.stringify(endpoint) === JSON.stringify(b[index]));

const identityOf = ({ addresses, targetRef }: Endpoint): string =>
  `${addresses.join()} ${targetRef?.namespace}/${targetRef?.name}`;

/** The endpoints of an Endpoints object that is to be mirrored. */
function groupsOf(object: Endpoints | undefined): EndpointGroup[] {
  if (object === undefined || object.metadata.labels['endpointslice.kubernetes.io/skip-mirror'] === 'true') return [];
  return object.subsets.map(({ addresses, notReadyAddresses, ports }) => ({
    ports,
    endpoints: [
      ...addresses.map((address) => ({ address, ready: true })),
      ...notReadyAddresses.map((address) => ({ address, ready: false })),
    ].map(({ address: { ip, hostname, nodeName, targetRef }, ready }) => ({
      addresses: [ip],
      conditions: { ready },
      hostname,
      nodeName,
      targetRef,
    })),
  }));
}

function firstLabel(namespace: string, selector: Labels): string {
  const [label] = Object.entries(selector);
  return label === undefined ? '' : `${namespace}/${label[0]}=${label[1]}`;
}
