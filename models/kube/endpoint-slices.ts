// The EndpointSlice controller: for each Service with a selector, slices with the addresses of the pods that it selects;
// and its mirroring twin: slices for Endpoints objects of Services without a selector. Slices that somebody else made
// are left alone.
//
// Not modelled: the batching of updates (`--endpointslice-updates-batch-period` is 0 by default). The real controller
// orders endpoints at random, this one by the age of their pods.

import type { RandomStream } from '../../engine/random.ts';
import { formatInstant, type Instant, parseInstant } from '../../engine/time.ts';
import { isIpv4, isIpv6 } from '../packet/ip-address.ts';
import type { ApiServer, Deliver, KeyedEvent, WatchEvent } from './api-server.ts';
import { LabelIndex, labelNames, matchesLabels } from './label-index.ts';
import { NamedDraws } from './named-draws.ts';
import {
  type Endpoint,
  type EndpointPort,
  type EndpointSlice,
  type Endpoints,
  type IpFamilyName,
  isFinished,
  isHeadless,
  isNodeReady,
  isReady,
  isTerminating,
  keyOf,
  type Labels,
  type Node,
  type Pod,
  type PodSpec,
  readinessChangeOf,
  type Service,
  type ServicePort,
} from './objects.ts';
import { packSlices, type SliceDraft } from './slice-packing.ts';
import { hintClose, hintModeOf, removeHints, TopologyCache, ZONE_LABEL } from './topology-hints.ts';

export const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';
/** When what a slice says began to be true: kube-proxy tells by it how long programming it has taken. */
export const TRIGGER_TIME_ANNOTATION = 'endpoints.kubernetes.io/last-change-trigger-time';
export const MANAGED_BY_LABEL = 'endpointslice.kubernetes.io/managed-by';
const CONTROLLER = 'endpointslice-controller.k8s.io';
const MIRRORING_CONTROLLER = 'endpointslicemirroring-controller.k8s.io';

/** The entry of a pod in the slices of a Service; undefined if it has no address of that family, or has ended. */
export function endpointOf(
  pod: Pod,
  service: Service,
  { zone, family }: { zone: string | undefined; family: IpFamilyName },
): Endpoint | undefined {
  const isOfFamily = family === 'IPv4' ? isIpv4 : isIpv6;
  const own = [pod.status.podIP, ...(pod.status.podIPs ?? []).map(({ ip }) => ip)];
  const address = own.find((ip) => ip !== undefined && isOfFamily(ip));
  if (address === undefined || isFinished(pod)) return undefined;
  const serving = isReady(pod);
  const terminating = isTerminating(pod);
  const { hostname, subdomain, nodeName } = pod.spec;
  const { name, namespace, uid } = pod.metadata;
  return {
    addresses: [address],
    conditions: conditionsOf({
      ready: service.spec.publishNotReadyAddresses || (serving && !terminating),
      serving,
      terminating,
    }),
    hostname: subdomain === service.metadata.name ? hostname : undefined,
    nodeName,
    zone,
    targetRef: { kind: 'Pod', namespace, name, uid },
  };
}

/** One object for all endpoints that are in the same: there are as many as pods. */
function conditionsOf(conditions: Endpoint['conditions']): Endpoint['conditions'] {
  const same = KNOWN_CONDITIONS.find(
    ({ ready, serving, terminating }) =>
      ready === conditions.ready && serving === conditions.serving && terminating === conditions.terminating,
  );
  return same ?? conditions;
}

const KNOWN_CONDITIONS: readonly Endpoint['conditions'][] = [true, false].flatMap((ready) =>
  [true, false].flatMap((serving) => [true, false].map((terminating) => ({ ready, serving, terminating }))),
);

/** Where a pod serves the ports of a Service. A port whose name no container of the pod has is left out. */
export function endpointPortsOf(pod: Pod, service: Service): EndpointPort[] {
  const ports: EndpointPort[] = [];
  for (const { name, protocol, appProtocol, targetPort } of service.spec.ports) {
    const port = typeof targetPort === 'number' ? targetPort : containerPortNamed(pod, targetPort, protocol);
    if (port !== undefined) ports.push({ name, protocol, port, appProtocol });
  }
  return ports;
}

/** FindPort: of the containers and sidecars, the first port of that name and protocol. */
export function containerPortNamed(pod: Pod, name: string, protocol: ServicePort['protocol']): number | undefined {
  const sidecars = pod.spec.initContainers.filter(({ restartPolicy }) => restartPolicy === 'Always');
  for (const { ports } of [...pod.spec.containers, ...sidecars]) {
    const found = ports.find((port) => port.name === name && port.protocol === protocol);
    if (found !== undefined) return found.containerPort;
  }
  return undefined;
}

/** Where pods serve the ports of a Service, as one object for all that do so alike; pods of one template have the same containers. */
function portsOfPods(service: Service): (pod: Pod) => PodPorts {
  const byText = new Map<string, PodPorts>();
  let latest: { readonly spec: PodSpec; readonly ports: PodPorts } | undefined;
  return (pod) => {
    const { spec } = pod;
    if (latest?.spec.containers === spec.containers && latest.spec.initContainers === spec.initContainers)
      return latest.ports;
    const ports = endpointPortsOf(pod, service);
    const text = JSON.stringify(ports);
    const same = byText.get(text) ?? { ports, text };
    byText.set(text, same);
    latest = { spec, ports: same };
    return same;
  };
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
  /** What the last look at each Service found, by IP family and key. */
  readonly #lastLook = new Map<string, { readonly service: Service; readonly byPod: ReadonlyMap<string, PodEntry> }>();
  /** How many names each Service has used up. */
  readonly #named = new Map<string, number>();
  readonly #topology = new TopologyCache();
  /** What of each node matters to the topology, as it was last seen. */
  readonly #placeOfNode = new Map<string, string>();
  /** Slices that it has deleted, and has not heard of yet. */
  readonly #ownDeletions = new Set<string>();
  #topologyIsStale = false;
  /** Services that left out pods of a node which is not there yet, by its name. */
  readonly #waitingForNode = new Map<string, Set<string>>();
  /** From an endpoint with hints to the one without that the last look at its pod made. */
  readonly #plain = new WeakMap<Endpoint, Endpoint>();

  /** Keeps slices from now on; those of what there is are made before this returns. */
  constructor(apiServer: ApiServer, random: RandomStream, deliver?: Deliver) {
    this.#apiServer = apiServer;
    this.#draws = new NamedDraws(random);
    apiServer.watch('EndpointSlice', (events) => this.#onSlices(events), deliver);
    apiServer.watch('Node', (events) => this.#onNodes(events), deliver);
    apiServer.watch('Pod', (events) => this.#onPods(events), deliver);
    apiServer.watch('Endpoints', (events) => this.#onEndpoints(events), deliver);
    apiServer.watch('Service', (events) => this.#onServices(events), deliver);
  }

  #onSlices(events: readonly WatchEvent<EndpointSlice>[]): void {
    for (const { type, object } of events) {
      this.#recordSlice(type, object);
      if (type === 'DELETED' && !this.#ownDeletions.delete(keyOf(object)) && isManaged(object))
        this.#markDirty(`${object.metadata.namespace}/${object.metadata.labels[SERVICE_NAME_LABEL]}`);
    }
  }

  #recordSlice(type: WatchEvent<EndpointSlice>['type'], { metadata }: EndpointSlice): void {
    const service = `${metadata.namespace}/${metadata.labels[SERVICE_NAME_LABEL]}`;
    const slices = this.#slicesOfService.get(service) ?? new Set<string>();
    if (type === 'DELETED') slices.delete(`${metadata.namespace}/${metadata.name}`);
    else slices.add(`${metadata.namespace}/${metadata.name}`);
    this.#slicesOfService.set(service, slices);
  }

  #onNodes(events: readonly WatchEvent<Node>[]): void {
    for (const { type, object } of events) {
      const { name, labels } = object.metadata;
      const place = `${isNodeReady(object)} ${labels[ZONE_LABEL]}`;
      if (type !== 'DELETED' && this.#placeOfNode.get(name) === place) continue;
      if (type === 'DELETED') this.#placeOfNode.delete(name);
      else this.#placeOfNode.set(name, place);
      if (!this.#topologyIsStale) this.#apiServer.deliverInTurn(() => this.#checkTopology());
      this.#topologyIsStale = true;
      for (const service of this.#waitingForNode.get(name) ?? []) this.#markDirty(service);
      this.#waitingForNode.delete(name);
    }
  }

  /** Once for any number of nodes. Services whose hints are still good enough are not looked at. */
  #checkTopology(): void {
    this.#topologyIsStale = false;
    this.#topology.setNodes(this.#apiServer.each('Node'));
    for (const service of this.#topology.overloaded()) this.#markDirty(service.split(' ')[1] as string);
  }

  #onPods(events: readonly KeyedEvent<Pod>[]): void {
    for (const { type, key, object } of events) {
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

  #onEndpoints(events: readonly KeyedEvent<Endpoints>[]): void {
    for (const { key } of events) this.#markDirty(key);
  }

  #onServices(events: readonly KeyedEvent<Service>[]): void {
    for (const { type, key, object } of events) {
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
    for (const name of labelNames(namespace, labels)) {
      for (const service of this.#servicesByLabel.get(name) ?? []) {
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
      for (const slice of this.#slicesOf(key, CONTROLLER)) this.#delete(slice);
      for (const slice of this.#slicesOf(key, MIRRORING_CONTROLLER)) this.#delete(slice);
      for (const family of FAMILIES) {
        this.#lastLook.delete(`${family} ${key}`);
        this.#topology.forget(`${family} ${key}`);
      }
      return;
    }
    const hasSelector = Object.keys(service.spec.selector).length > 0;
    const managedBy = hasSelector ? CONTROLLER : MIRRORING_CONTROLLER;
    const slices = this.#slicesOf(key, managedBy);
    const families = service.spec.ipFamilies ?? ['IPv4'];
    for (const slice of slices) if (!families.some((family) => family === slice.addressType)) this.#delete(slice);
    for (const family of families) {
      const ofFamily = slices.filter(({ addressType }) => addressType === family);
      const { groups, triggeredAt } = hasSelector
        ? this.#groupsOfPods(service, family)
        : { groups: mirrored(this.#apiServer.get('Endpoints', key), family), triggeredAt: undefined };
      const drafts = this.#pack(service, ofFamily, groups);
      if (hasSelector)
        this.#hint(
          service,
          family,
          drafts.flatMap(({ drafts }) => drafts),
        );
      this.#finalize(service, { managedBy, family, slices: ofFamily, drafts, triggeredAt });
    }
  }

  #slicesOf(service: string, managedBy: string): EndpointSlice[] {
    return [...(this.#slicesOfService.get(service) ?? [])]
      .map((key) => this.#apiServer.get('EndpointSlice', key))
      .filter((slice) => slice !== undefined)
      .filter(({ metadata }) => metadata.labels[MANAGED_BY_LABEL] === managedBy);
  }

  #groupsOfPods(
    service: Service,
    family: IpFamilyName,
  ): { readonly groups: readonly EndpointGroup[]; readonly triggeredAt: Instant | undefined } {
    const groups = new Map<string, EndpointGroup>();
    const { entries, triggeredAt } = this.#entriesOf(service, family);
    for (const { endpoint, ports } of entries) {
      if (endpoint === undefined) continue;
      const group = groups.get(ports.text) ?? { ports: ports.ports, endpoints: [] };
      group.endpoints.push(endpoint);
      groups.set(ports.text, group);
    }
    // A Service without endpoints has one empty slice, so that watchers know that it has been looked at.
    return { groups: groups.size > 0 ? [...groups.values()] : [{ ports: [], endpoints: [] }], triggeredAt };
  }

  /**
   * One trick for Services with thousands of pods, which come and go one by one: an entry that is still right is the same
   * object as at the last look, so that what has not changed is neither computed nor compared again.
   */
  #entriesOf(
    service: Service,
    family: IpFamilyName,
  ): { readonly entries: readonly PodEntry[]; readonly triggeredAt: Instant | undefined } {
    const key = `${family} ${keyOf(service)}`;
    const last = this.#lastLook.get(key);
    const entries: PodEntry[] = [];
    const portsOf = portsOfPods(service);
    const byPod = new Map<string, PodEntry>();
    for (const podKey of this.#pods.select(service.metadata.namespace, service.spec.selector)) {
      const pod = this.#apiServer.get('Pod', podKey);
      if (pod === undefined || this.#lacksNode(pod, service)) continue;
      const before = last?.service === service ? last.byPod.get(podKey) : undefined;
      const entry = before?.pod === pod ? before : this.#entryOf(pod, service, { family, before, portsOf });
      entries.push(entry);
      byPod.set(podKey, entry);
    }
    this.#lastLook.set(key, { service, byPod });
    return { entries, triggeredAt: triggerOf(service, byPod, last?.byPod) };
  }

  /** The real controller leaves out a pod whose node is not there, and tries again later. */
  #lacksNode({ spec: { nodeName } }: Pod, service: Service): boolean {
    if (nodeName === undefined || service.spec.publishNotReadyAddresses) return false;
    if (this.#apiServer.get('Node', nodeName) !== undefined) return false;
    const waiting = this.#waitingForNode.get(nodeName) ?? new Set<string>();
    this.#waitingForNode.set(nodeName, waiting.add(keyOf(service)));
    return true;
  }

  #entryOf(
    pod: Pod,
    service: Service,
    {
      family,
      before,
      portsOf,
    }: { family: IpFamilyName; before: PodEntry | undefined; portsOf: (pod: Pod) => PodPorts },
  ): PodEntry {
    const node = this.#apiServer.get('Node', pod.spec.nodeName ?? '');
    const zone = node?.metadata.labels[ZONE_LABEL] || undefined;
    const endpoint = endpointOf(pod, service, { zone, family });
    const isSame = before !== undefined && JSON.stringify(endpoint) === JSON.stringify(before.endpoint);
    const changedAt = readinessChangeOf(pod);
    return { pod, endpoint: isSame ? before.endpoint : endpoint, ports: portsOf(pod), changedAt };
  }

  /** Each group's endpoints in slices of its ports; a slice whose ports no group has is in none of the drafts. */
  #pack(service: Service, slices: readonly EndpointSlice[], groups: readonly EndpointGroup[]): GroupDrafts[] {
    return groups.map(({ ports, endpoints }) => {
      const portsText = JSON.stringify(ports);
      const ofGroup = slices.filter((slice) => JSON.stringify(slice.ports) === portsText);
      const drafts = packSlices(ofGroup, endpoints, (endpoint) => this.#plain.get(endpoint) ?? endpoint);
      // A placeholder, if there is none yet.
      if (endpoints.length === 0 && drafts.length === 0)
        drafts.push({ slice: undefined, endpoints: [], isChanged: true });
      for (const draft of drafts) {
        const labels = draft.slice?.metadata.labels;
        if (labels !== undefined && !isSameLabels(labels, labelsFor(service, labels[MANAGED_BY_LABEL] ?? '')))
          draft.isChanged = true;
      }
      return { ports, drafts, isPlaceholder: endpoints.length === 0 };
    });
  }

  #hint(service: Service, family: IpFamilyName, drafts: readonly SliceDraft[]): void {
    const key = `${family} ${keyOf(service)}`;
    const mode = hintModeOf(service);
    const give = (endpoint: Endpoint, hints: Endpoint['hints']): Endpoint => {
      const plain = this.#plain.get(endpoint) ?? endpoint;
      if (hints === undefined) return plain.hints === undefined ? plain : { ...plain, hints };
      const hinted = { ...plain, hints };
      this.#plain.set(hinted, plain);
      return hinted;
    };
    if (mode === 'Auto') return this.#topology.addHints(key, drafts, give);
    this.#topology.forget(key);
    if (mode === undefined) removeHints(drafts, give);
    else hintClose(drafts, mode, give);
  }

  /** Writes what has changed; a slice to be deleted is made into one to be created, if there is one (finalize). */
  #finalize(
    service: Service,
    {
      managedBy,
      family,
      slices,
      drafts: groups,
      triggeredAt,
    }: {
      managedBy: string;
      family: IpFamilyName;
      slices: readonly EndpointSlice[];
      drafts: readonly GroupDrafts[];
      triggeredAt: Instant | undefined;
    },
  ): void {
    const unused = new Set(slices);
    const created: { ports: readonly EndpointPort[]; endpoints: readonly Endpoint[] }[] = [];
    for (const { ports, drafts, isPlaceholder } of groups) {
      for (const { slice, endpoints, isChanged } of drafts) {
        if (slice === undefined) created.push({ ports, endpoints });
        else if (endpoints.length > 0 || (isPlaceholder && !isChanged)) {
          unused.delete(slice);
          if (isChanged) this.#update(slice, service, { ports, endpoints, triggeredAt });
        }
      }
    }
    // A placeholder that lost its last endpoint under its own ports is written anew as well.
    if (unused.size === slices.length && created.length === 0 && managedBy === CONTROLLER)
      created.push({ ports: [], endpoints: [] });
    for (const contents of created) {
      const [reused] = unused;
      if (reused === undefined) this.#createSlice(service, { managedBy, family, ...contents, triggeredAt });
      else {
        unused.delete(reused);
        this.#update(reused, service, { ...contents, triggeredAt });
      }
    }
    for (const slice of unused) this.#delete(slice);
  }

  #update(slice: EndpointSlice, service: Service, { ports, endpoints, triggeredAt }: SliceContents): void {
    const labels = labelsFor(service, slice.metadata.labels[MANAGED_BY_LABEL] ?? '');
    const annotations = withTrigger(slice.metadata.annotations, triggeredAt);
    const metadata = { ...slice.metadata, labels, annotations };
    this.#apiServer.update<EndpointSlice>({ ...slice, ports, endpoints, metadata });
  }

  #delete(slice: EndpointSlice): void {
    this.#ownDeletions.add(keyOf(slice));
    this.#apiServer.remove('EndpointSlice', keyOf(slice));
  }

  #createSlice(
    service: Service,
    {
      managedBy,
      family,
      ports,
      endpoints,
      triggeredAt,
    }: SliceContents & { readonly managedBy: string; readonly family: IpFamilyName },
  ): void {
    const { name, namespace, uid } = service.metadata;
    const slice = this.#apiServer.create<EndpointSlice>({
      kind: 'EndpointSlice',
      metadata: {
        name: this.#newName(service),
        namespace,
        labels: labelsFor(service, managedBy),
        annotations: withTrigger({}, triggeredAt),
        ownerReferences: [{ kind: 'Service', name, uid, controller: true }],
      },
      addressType: family,
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

/** One of its own that somebody else deletes is made again. */
const isManaged = ({ metadata: { labels } }: EndpointSlice): boolean =>
  labels[MANAGED_BY_LABEL] === CONTROLLER || labels[MANAGED_BY_LABEL] === MIRRORING_CONTROLLER;

/** Where a pod serves the ports of a Service: as a rule all pods do at the same, and share this. */
interface PodPorts {
  readonly ports: readonly EndpointPort[];
  readonly text: string;
}

/** What one pod contributes to one Service. */
interface PodEntry {
  readonly pod: Pod;
  readonly endpoint: Endpoint | undefined;
  readonly ports: PodPorts;
  /** When the pod became ready or unready. */
  readonly changedAt: Instant | undefined;
}

interface SliceContents {
  readonly ports: readonly EndpointPort[];
  readonly endpoints: readonly Endpoint[];
  /** The change that they are the answer to. */
  readonly triggeredAt: Instant | undefined;
}

/** Endpoints that are served on the same port numbers, so that they can share slices. */
interface EndpointGroup {
  readonly ports: readonly EndpointPort[];
  readonly endpoints: Endpoint[];
}

interface GroupDrafts {
  readonly ports: readonly EndpointPort[];
  readonly drafts: SliceDraft[];
  /** Nothing is in the group, and one slice says so. */
  readonly isPlaceholder: boolean;
}

const FAMILIES = ['IPv4', 'IPv6'] as const;

/**
 * The first of the changes since the last look, if they are such as leave a time: pods that became ready or unready, a
 * new Service (TriggerTimeTracker). The end of a pod and a change of its labels are none of them.
 */
function triggerOf(
  { metadata }: Service,
  pods: ReadonlyMap<string, PodEntry>,
  before: ReadonlyMap<string, PodEntry> | undefined,
): Instant | undefined {
  if (before === undefined) return parseInstant(metadata.creationTimestamp ?? '');
  let first: Instant | undefined;
  for (const [key, entry] of pods) {
    const { changedAt } = entry;
    const known = before.get(key);
    if (changedAt === undefined || known === entry || changedAt <= (known?.changedAt ?? Number.NEGATIVE_INFINITY))
      continue;
    if (first === undefined || changedAt < first) first = changedAt;
  }
  return first;
}

/** A slice that changes for another reason loses the annotation (addTriggerTimeAnnotation). */
function withTrigger(annotations: Labels, triggeredAt: Instant | undefined): Labels {
  const { [TRIGGER_TIME_ANNOTATION]: _before, ...others } = annotations;
  return triggeredAt === undefined ? others : { ...others, [TRIGGER_TIME_ANNOTATION]: formatInstant(triggeredAt) };
}

/** Those of the Service, and what marks a slice as its own (setEndpointSliceLabels). */
function labelsFor(service: Service, managedBy: string): Labels {
  const { name, labels } = service.metadata;
  const headless: Labels = isHeadless(service) ? { 'service.kubernetes.io/headless': '' } : {};
  return { ...labels, ...headless, [SERVICE_NAME_LABEL]: name, [MANAGED_BY_LABEL]: managedBy };
}

const isSameLabels = (a: Labels, b: Labels): boolean =>
  Object.keys(a).length === Object.keys(b).length && Object.entries(a).every(([key, value]) => b[key] === value);

/** The endpoints of an Endpoints object that is to be mirrored. */
function mirrored(object: Endpoints | undefined, family: IpFamilyName): EndpointGroup[] {
  if (object === undefined || object.metadata.labels['endpointslice.kubernetes.io/skip-mirror'] === 'true') return [];
  const isOfFamily = family === 'IPv4' ? isIpv4 : isIpv6;
  const groups = object.subsets.map(({ addresses, notReadyAddresses, ports }) => ({
    ports,
    endpoints: [
      ...addresses.map((address) => ({ address, ready: true })),
      ...notReadyAddresses.map((address) => ({ address, ready: false })),
    ]
      .filter(({ address: { ip } }) => isOfFamily(ip))
      .map(({ address: { ip, hostname, nodeName, targetRef }, ready }) => ({
        addresses: [ip],
        conditions: { ready },
        hostname,
        nodeName,
        targetRef,
      })),
  }));
  return groups.filter(({ endpoints }) => endpoints.length > 0);
}

function firstLabel(namespace: string, selector: Labels): string {
  const [label] = Object.entries(selector);
  return label === undefined ? '' : `${namespace}/${label[0]}=${label[1]}`;
}
