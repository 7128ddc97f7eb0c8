// The API server: keeps the objects, has the open fields of new ones filled in (allocations.ts), and tells watchers what
// changed. Objects are never changed, only replaced.
//
// Not modelled: resource versions and conflicts between writers, authentication, admission webhooks.

import type { RandomStream } from '../../engine/random.ts';
import { formatInstant, type Instant, START } from '../../engine/time.ts';
import { Allocations, DEFAULT_NODE_PORTS, type PortRange } from './allocations.ts';
import { checkGateway, checkGrpcRoute, checkHttpRoute } from './http/gateway-validation.ts';
import { checkIngress } from './http/ingress-validation.ts';
import { labelsOfNamespace } from './network-policy/policy-objects.ts';
import { checkNetworkPolicy } from './network-policy/policy-validation.ts';
import { ObjectError } from './object-error.ts';
import {
  addressOfNode,
  describeObject,
  type GrpcRoute,
  type HttpRoute,
  type Ingress,
  isFinished,
  isTerminating,
  type Kind,
  type KubeObject,
  keyOf,
  type Labels,
  type Namespace,
  type Node,
  type ObjectOf,
  type Pod,
  podIpStatus,
  type Service,
  withChanges,
} from './objects.ts';
import { type ClusterRanges, checkRanges, DEFAULT_RANGES, familiesOf } from './ranges.ts';
import { withFamilies } from './service-families.ts';
import {
  checkNewService,
  checkService,
  checkServiceUpdate,
  type FeatureGates,
  withAllocatedBefore,
  withServiceDefaults,
} from './service-validation.ts';

export interface WatchEvent<T extends KubeObject> {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  /** As it is after the change; for DELETED as it was last. */
  readonly object: T;
}

/** As watchers get it: what {@link keyOf} says is one string for all who keep it. */
export interface KeyedEvent<T extends KubeObject> extends WatchEvent<T> {
  readonly key: string;
}

/** An object and its key. The key is one string as long as the object is there: there are as many as pods, and many keep it. */
interface Stored<T extends KubeObject = KubeObject> {
  readonly key: string;
  readonly object: T;
}

/** Runs a watcher's handler, at once or after the delay of a watch event. Must keep the order of its calls. */
export type Deliver = (handler: () => void) => void;

interface Watcher {
  readonly handler: (events: readonly KeyedEvent<KubeObject>[]) => void;
  readonly deliver: Deliver;
}

export class ApiServer {
  readonly ranges: ClusterRanges;
  readonly #allocations: Allocations;
  readonly #deliver: Deliver;
  readonly #now: () => Instant;
  readonly #featureGates: FeatureGates;
  readonly #objects = new Map<Kind, Map<string, Stored>>();
  readonly #watchers = new Map<Kind, Set<Watcher>>();
  /** Deliveries that wait for the one that is running, so that no handler is called inside another. */
  readonly #waiting: (() => void)[] = [];
  #delivering = false;

  /** Throws a RangeError if the ranges overlap, and are not forced to. */
  constructor(options: {
    readonly random: RandomStream;
    readonly ranges?: ClusterRanges;
    /** The ranges may overlap: nobody checks, and Services get addresses that pods have. */
    readonly isForced?: boolean;
    readonly nodePorts?: PortRange;
    readonly featureGates?: FeatureGates;
    /** For watchers that bring none of their own. By default a change is delivered before the call that made it ends. */
    readonly deliver?: Deliver;
    /** Stamps what happens to objects, to the nanosecond; a real one keeps whole seconds. */
    readonly now?: () => Instant;
  }) {
    this.ranges = options.ranges ?? DEFAULT_RANGES;
    const { nodePorts = DEFAULT_NODE_PORTS, isForced = false } = options;
    checkRanges(this.ranges, { isForced });
    this.#allocations = new Allocations({ ranges: this.ranges, nodePorts, isForced }, options.random);
    this.#deliver = options.deliver ?? ((handler) => this.deliverInTurn(handler));
    this.#now = options.now ?? (() => START);
    this.#featureGates = options.featureGates ?? {};
  }

  get now(): Instant {
    return this.#now();
  }

  /** `key` is `default/web`, or the name alone for a Node or Namespace. */
  get<K extends Kind>(kind: K, key: string): ObjectOf<K> | undefined {
    return this.#objects.get(kind)?.get(key)?.object as ObjectOf<K> | undefined;
  }

  /** In the order in which they were created. */
  list<K extends Kind>(kind: K): ObjectOf<K>[] {
    return this.#stored(kind).map(({ object }) => object);
  }

  /** {@link list} for those who may stop early. */
  *each<K extends Kind>(kind: K): Generator<ObjectOf<K>> {
    for (const { object } of this.#objects.get(kind)?.values() ?? []) yield object as ObjectOf<K>;
  }

  #stored<K extends Kind>(kind: K): Stored<ObjectOf<K>>[] {
    return [...(this.#objects.get(kind)?.values() ?? [])] as Stored<ObjectOf<K>>[];
  }

  /** Whether an object has the address, or asks for it. */
  isTaken(address: string): boolean {
    return this.#allocations.isTaken(address);
  }

  /** Calls the handler with what there is (perhaps nothing) before it returns, then with each change. Returns a stop. */
  watch<K extends Kind>(
    kind: K,
    handler: (events: readonly KeyedEvent<ObjectOf<K>>[]) => void,
    deliver: Deliver = this.#deliver,
  ): () => void {
    const watcher = { handler: handler as Watcher['handler'], deliver };
    const watchers = this.#watchers.get(kind) ?? new Set();
    this.#watchers.set(kind, watchers.add(watcher));
    const list = this.#stored(kind).map(({ key, object }) => ({ type: 'ADDED' as const, key, object }));
    if (this.#delivering) handler(list);
    else this.deliverInTurn(() => handler(list));
    return () => watchers.delete(watcher);
  }

  /** Adds an object with its open fields filled in. Throws an ObjectError and changes nothing if that cannot be done. */
  create<T extends KubeObject>(object: T): T {
    return this.createKeyed(object).object;
  }

  /** {@link create} for those who keep the key: it is the one string that all keep. */
  createKeyed<T extends KubeObject>(object: T): { readonly key: string; readonly object: T } {
    return this.#createAll([object])[0] as Stored<T>;
  }

  /**
   * Adds objects that belong together, all or none. Addresses that they ask for are set aside before any is allocated,
   * whatever their order.
   */
  createAll<T extends KubeObject>(objects: readonly T[]): T[] {
    return this.#createAll(objects).map(({ object }) => object);
  }

  #createAll<T extends KubeObject>(objects: readonly T[]): Stored<T>[] {
    const admitted: Stored<T>[] = [];
    const names = new Set<string>();
    const created: Stored<T>[] = [];
    try {
      for (const given of objects) {
        const object = this.#admitNew(given) as T;
        const key = keyOf(object);
        const name = objects.length === 1 ? '' : describeObject(object); // pods come one by one
        if (names.has(name) || this.get(object.kind, key) !== undefined) {
          throw new ObjectError(object, 'metadata.name: there is one of that name already');
        }
        names.add(name);
        this.#allocations.claim(object);
        admitted.push({ key, object });
      }
      // Nodes first: a pod on the node's network has the node's address.
      for (const stored of admitted) if (stored.object.kind === 'Node') created.push(this.#storeComplete(stored));
      for (const stored of admitted) if (stored.object.kind !== 'Node') created.push(this.#storeComplete(stored));
    } catch (error) {
      for (const { object } of admitted) this.#allocations.release(object);
      for (const { key, object } of created) this.#objects.get(object.kind)?.delete(key);
      throw error;
    }
    const inOrder =
      created.length === 1 ? created : created.toSorted((a, b) => orderOfNews(a.object) - orderOfNews(b.object));
    for (const stored of inOrder) this.#notify('ADDED', stored);
    return created;
  }

  /**
   * Replaces the object of that kind and name. What was allocated stays if the new object leaves it open. `knownKey` is its key,
   * for those who have it.
   */
  update<T extends KubeObject>(object: T, knownKey = keyOf(object)): T {
    const known = this.#objects.get(object.kind)?.get(knownKey);
    if (known === undefined) throw new ObjectError(object, 'metadata.name: there is none of that name to update');
    const { key, object: before } = known;
    const after = this.#admitUpdate(before, object);
    this.#allocations.release(before);
    let stored: Stored<T>;
    try {
      this.#allocations.claim(after);
      stored = this.#storeComplete({ key, object: after as T });
    } catch (error) {
      this.#allocations.release(after);
      this.#allocations.claim(before);
      throw error;
    }
    this.#notify('MODIFIED', stored);
    return stored.object;
  }

  /**
   * As `kubectl delete`: a pod on a node gets a deletionTimestamp, and goes when its kubelet calls `remove`. A grace period
   * of 0 is `--force`: the object goes at once, whatever still runs.
   */
  delete(kind: Kind, key: string, { gracePeriodSeconds }: { gracePeriodSeconds?: number } = {}): void {
    const object = this.get(kind, key);
    if (object?.kind !== 'Pod' || object.spec.nodeName === undefined || isFinished(object) || gracePeriodSeconds === 0)
      return this.remove(kind, key);
    if (isTerminating(object)) return;
    const deletionGracePeriodSeconds = gracePeriodSeconds ?? object.spec.terminationGracePeriodSeconds;
    const deletionTimestamp = formatInstant(this.#now());
    this.update({ ...object, metadata: { ...object.metadata, deletionTimestamp, deletionGracePeriodSeconds } });
  }

  /** Takes the object away at once, and frees its addresses. */
  remove(kind: Kind, key: string): void {
    const stored = this.#objects.get(kind)?.get(key);
    if (stored === undefined) return;
    this.#allocations.release(stored.object);
    this.#objects.get(kind)?.delete(key);
    this.#notify('DELETED', stored);
  }

  /** Runs the handler now, or after those that are running and waiting: how changes are delivered by default. */
  deliverInTurn(handler: () => void): void {
    this.#waiting.push(handler);
    if (this.#delivering) return;
    this.#delivering = true;
    try {
      for (let next = 0; next < this.#waiting.length; next++) this.#waiting[next]?.();
    } finally {
      this.#waiting.length = 0;
      this.#delivering = false;
    }
  }

  /** What of an object can be judged without the others, and defaults that depend on several of its fields. */
  #admitNew(object: KubeObject): KubeObject {
    checkAlone(object);
    if (object.kind === 'Namespace') return withNameLabel(object);
    if (isAgedKind(object)) return this.#withCreation(object);
    if (object.kind !== 'Service') return object;
    checkService(object, this.#featureGates);
    checkNewService(object);
    return this.#withCreation(withFamilies(withServiceDefaults(object), this.#allocations.serviceFamilies));
  }

  /** Of other kinds nobody asks. */
  #withCreation<T extends Aged>(object: T): T {
    const { metadata } = object;
    const creationTimestamp = metadata.creationTimestamp ?? formatInstant(this.#now());
    return withChanges<Aged>(object, { metadata: withChanges(metadata, { creationTimestamp }) }) as T;
  }

  #admitUpdate(before: KubeObject, after: KubeObject): KubeObject {
    if (after.kind === 'Node' && before.kind === 'Node')
      return { ...after, spec: { ...after.spec, ...podCidrsAfter(before, after) } };
    checkAlone(after);
    if (after.kind === 'Namespace') return withNameLabel(after);
    if (after.kind !== 'Service' || before.kind !== 'Service') return after;
    const service = withAllocatedBefore(before, after);
    checkService(service, this.#featureGates);
    checkServiceUpdate(before, service);
    return withFamilies(withServiceDefaults(service), this.#allocations.serviceFamilies, before);
  }

  #storeComplete<T extends KubeObject>({ key, object }: Stored<T>): Stored<T> {
    const stored = { key, object: this.#complete(object) as T };
    const objects = this.#objects.get(object.kind);
    if (objects === undefined) this.#objects.set(object.kind, new Map([[key, stored]]));
    else objects.set(key, stored);
    return stored;
  }

  #complete(object: KubeObject): KubeObject {
    if (object.kind === 'Node') return this.#allocations.complete(asKubeletReports(object));
    if (object.kind === 'Pod') return this.#withNodeAddress(object);
    return this.#allocations.complete(object);
  }

  /** Kubelets report their node's address for pods on the node's network. Done here, as no network plugin has a part in it. */
  #withNodeAddress(pod: Pod): Pod {
    if (!pod.spec.hostNetwork || pod.status.podIP !== undefined || pod.spec.nodeName === undefined) return pod;
    const node = this.get('Node', pod.spec.nodeName);
    if (node === undefined) return pod;
    const addresses = familiesOf(this.ranges).flatMap((family) => addressOfNode(node, family) ?? []);
    if (addresses.length === 0) return pod;
    return { ...pod, status: { ...pod.status, ...podIpStatus(addresses, addresses[0]) } };
  }

  #notify(type: WatchEvent<KubeObject>['type'], { key, object }: Stored): void {
    const watchers = this.#watchers.get(object.kind);
    const events = [{ type, key, object }];
    for (const watcher of watchers ?? []) {
      watcher.deliver(() => {
        if (watchers?.has(watcher)) watcher.handler(events);
      });
    }
  }
}

/** What is refused of an object whatever others there are, and whatever it was before. Services have more to them. */
function checkAlone(object: KubeObject): void {
  switch (object.kind) {
    case 'NetworkPolicy':
      return checkNetworkPolicy(object);
    case 'Ingress':
      return checkIngress(object);
    case 'Gateway':
      return checkGateway(object);
    case 'HTTPRoute':
      return checkHttpRoute(object);
    case 'GRPCRoute':
      return checkGrpcRoute(object);
    default:
  }
}

/** Of these somebody asks which one is older. */
type Aged = Service | Ingress | HttpRoute | GrpcRoute;

const isAgedKind = (object: KubeObject): object is Ingress | HttpRoute | GrpcRoute =>
  object.kind === 'Ingress' || object.kind === 'HTTPRoute' || object.kind === 'GRPCRoute';

/**
 * A controller looks at an object only when it has heard of what belongs to it (informers sync before a controller
 * starts): a Deployment after its ReplicaSets, those after their pods, pods to place after those that have a node, a
 * Service after its slices.
 */
function orderOfNews(object: KubeObject): number {
  switch (object.kind) {
    case 'Node':
    case 'Namespace':
      return 0;
    case 'Pod':
      return object.spec.nodeName === undefined ? 2 : 1;
    case 'ReplicaSet':
    case 'EndpointSlice':
    case 'Endpoints':
      return 3;
    default:
      return 4;
  }
}

/** A node keeps its pod ranges. */
function podCidrsAfter({ spec: before }: Node, { spec: after }: Node): Pick<Node['spec'], 'podCIDR' | 'podCIDRs'> {
  const isGiven = after.podCIDR !== undefined || after.podCIDRs !== undefined;
  const { podCIDR, podCIDRs } = isGiven ? after : before;
  return { podCIDR, podCIDRs };
}

/** Every namespace has its name as a label, whatever its manifest says. */
function withNameLabel(namespace: Namespace): Namespace {
  const { metadata } = namespace;
  return { ...namespace, metadata: { ...metadata, labels: labelsOfNamespace(metadata.name, namespace) } };
}

/** A kubelet labels its node so (charts select on them), and says how many CPUs there are for pods. */
function asKubeletReports(node: Node): Node {
  const own = {
    'kubernetes.io/hostname': node.metadata.name,
    'kubernetes.io/os': 'linux',
    'kubernetes.io/arch': 'amd64',
  };
  const { allocatable } = node.status;
  return withChanges(node, {
    metadata: withChanges(node.metadata, { labels: withChanges<Labels>(own, node.metadata.labels) }),
    status: withChanges(node.status, {
      allocatable: withChanges(allocatable, { cpu: allocatable.cpu ?? DEFAULT_CPUS }),
    }),
  });
}

/** Of nodes that no snapshot describes: as many as those of a simulated cluster have by default. */
const DEFAULT_CPUS = 2;
