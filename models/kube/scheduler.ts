// kube-scheduler: gives each pod without a node one. A node must accept the pod (nodeSelector, taints, cordon) and have
// room for it and its host ports; of those, the one with the fewest pods of the same owner wins, then the one with the fewest pods, then
// the first. Pods that name their node keep it.
//
// Not modelled: affinity, topology spread constraints, resource requests, preemption, priorities. The real scheduler
// scores and breaks ties at random; this one is even and repeatable.

import { appended } from '../../engine/appended.ts';
import type { ApiServer, Deliver, KeyedEvent, WatchEvent } from './api-server.ts';
import { matchesLabels } from './label-index.ts';
import { controllerOf, describeObject, isFinished, type Node, type Pod, type PodSpec, withChanges } from './objects.ts';

/** Whether the node's labels and taints let a pod in; room is another matter. */
export function nodeAccepts(node: Node, { nodeSelector, tolerations }: PodSpec): boolean {
  if (!matchesLabels(nodeSelector, node.metadata.labels)) return false;
  const { taints, unschedulable } = node.spec;
  const isTolerated = (taint: Taint): boolean =>
    taint.effect === 'PreferNoSchedule' ||
    tolerations.some(
      ({ key, operator, value, effect }) =>
        (key === undefined || key === taint.key) &&
        (effect === undefined || effect === taint.effect) &&
        (operator === 'Exists' || (key !== undefined && value === taint.value)),
    );
  return taints.every(isTolerated) && (!unschedulable || isTolerated(CORDON));
}

type Taint = Node['spec']['taints'][number];

/** The taint of `kubectl cordon`. */
const CORDON: Taint = {
  key: 'node.kubernetes.io/unschedulable',
  value: '',
  effect: 'NoSchedule',
};

interface Seat {
  readonly name: string;
  node: Node;
  /** Pods that count against status.allocatable.pods. */
  pods: number;
  podLimit: number;
  /** Ports of the node that its pods have taken: `TCP/9100`, or at one of its addresses `TCP/9100 at 192.168.0.11`. */
  readonly hostPorts: Set<string>;
  /** How many pods here have the owner of the pod that is being placed. */
  ofOwner: number;
}

/** What a pod takes of its seat. */
interface Bound {
  readonly seat: Seat;
  readonly owner: Owner;
  readonly hostPorts: readonly string[];
}

interface Owner {
  readonly name: string;
  /** How many pods of its each seat has that has any. */
  readonly seats: Map<Seat, number>;
  /** How many seats have one of them, two, … */
  readonly seatsWith: number[];
}
const NO_PORTS: readonly string[] = [];

export class Scheduler {
  readonly #apiServer: ApiServer;
  readonly #seats: Seat[] = [];
  /** No seat has fewer pods than these, and none before that index has so few. */
  #fewestPods = 0;
  #fullerBefore = 0;
  readonly #seatOf = new Map<string, Seat>();
  /** A node has gone before its pods: owners count seats that are none. */
  #hasLostSeats = false;
  /** Pods on nodes, by key: where each was counted. */
  readonly #bound = new Map<string, Bound>();
  readonly #byOwner = new Map<string, Owner>();
  /** Pods that no node takes, by key: why. */
  readonly #pending = new Map<string, string>();

  /** Binds pods from now on; what waits already is bound before this returns. */
  constructor(apiServer: ApiServer, deliver?: Deliver) {
    this.#apiServer = apiServer;
    apiServer.watch('Node', (events) => this.#onNodes(events), deliver);
    apiServer.watch('Pod', (events) => this.#onPods(events), deliver);
  }

  /** `Pod default/web-x2x7k: no node has the labels disk=ssd`, one line for each pod that waits for a node. */
  get notes(): string[] {
    return [...this.#pending].map(([key, reason]) => `Pod ${key}: ${reason}`);
  }

  #onNodes(events: readonly WatchEvent<Node>[]): void {
    for (const { type, object: node } of events) {
      const { name } = node.metadata;
      const seat = this.#seatOf.get(name);
      if (type === 'DELETED') {
        if (seat !== undefined) this.#seats.splice(this.#seats.indexOf(seat), 1);
        this.#seatOf.delete(name);
        this.#hasLostSeats ||= seat !== undefined && seat.pods > 0;
      } else if (seat === undefined) {
        const hostPorts = new Set<string>();
        const added = { name, node, pods: 0, hostPorts, ofOwner: 0, podLimit: podLimitOf(node) };
        this.#seats.push(added);
        this.#seatOf.set(name, added);
      } else {
        Object.assign(seat, { node, podLimit: podLimitOf(node) });
      }
    }
    this.#countAgain();
    this.#retry();
  }

  #onPods(events: readonly KeyedEvent<Pod>[]): void {
    let freed = false;
    // First count those that have a node, then place the others around them.
    for (const { type, key, object: pod } of events) {
      if (type === 'DELETED' || isFinished(pod)) freed = this.#uncount(key) || freed;
      else if (pod.spec.nodeName !== undefined) this.#count(key, pod, this.#seatOf.get(pod.spec.nodeName));
    }
    for (const { type, key, object } of events) {
      if (type !== 'DELETED' && object.spec.nodeName === undefined) this.#place(key);
    }
    if (freed) this.#retry();
  }

  #retry(): void {
    for (const key of [...this.#pending.keys()]) this.#place(key);
  }

  #place(key: string): void {
    const pod = this.#apiServer.get('Pod', key); // as it is: the event may have been long under way
    this.#pending.delete(key);
    if (pod === undefined || pod.spec.nodeName !== undefined || isFinished(pod)) return;
    const seat = this.#choose(pod);
    if (seat === undefined) {
      this.#pending.set(key, this.#whyNot(pod));
      return;
    }
    this.#count(key, pod, seat);
    this.#apiServer.update(withChanges(pod, { spec: withChanges(pod.spec, { nodeName: seat.name }) }), key);
  }

  #choose(pod: Pod): Seat | undefined {
    const owner = this.#byOwner.get(ownerOf(pod));
    const hostPorts = hostPortsOf(pod);
    return this.#firstEmptiest(pod, owner, hostPorts) ?? this.#emptiest(pod, owner, hostPorts);
  }

  /** Looks at every seat. */
  #emptiest(pod: Pod, owner: Owner | undefined, hostPorts: readonly string[]): Seat | undefined {
    owner?.seats.forEach((count, seat) => {
      seat.ofOwner = count;
    });
    let best: Seat | undefined;
    for (const seat of this.#seats) {
      if (best !== undefined && !isEmptier(seat, best)) continue;
      if (hasRoom(seat) && hasPorts(seat, hostPorts) && nodeAccepts(seat.node, pod.spec)) best = seat;
    }
    owner?.seats.forEach((_, seat) => {
      seat.ofOwner = 0;
    });
    return best;
  }

  /**
   * The first of the emptiest seats, which nobody can beat where no other has fewer of the owner's pods, if it is good enough:
   * without a look at the others, of which there are five thousand in a large cluster.
   */
  #firstEmptiest(pod: Pod, owner: Owner | undefined, hostPorts: readonly string[]): Seat | undefined {
    while (this.#fullerBefore < this.#seats.length && this.#seats[this.#fullerBefore]!.pods > this.#fewestPods)
      this.#fullerBefore++;
    if (this.#fullerBefore === this.#seats.length) this.#countAgain();
    const seat = this.#seats[this.#fullerBefore];
    if (seat === undefined || (owner?.seats.get(seat) ?? 0) > this.#fewestOf(owner)) return undefined;
    return hasRoom(seat) && hasPorts(seat, hostPorts) && nodeAccepts(seat.node, pod.spec) ? seat : undefined;
  }

  /** No seat has fewer pods of the owner than these. */
  #fewestOf(owner: Owner | undefined): number {
    if (owner === undefined || owner.seats.size < this.#seats.length || this.#hasLostSeats) return 0;
    return 1 + owner.seatsWith.findIndex((seats) => seats > 0);
  }

  #countAgain(): void {
    this.#fewestPods = this.#seats.reduce((fewest, { pods }) => Math.min(fewest, pods), Number.POSITIVE_INFINITY);
    this.#fullerBefore = Math.max(
      0,
      this.#seats.findIndex(({ pods }) => pods === this.#fewestPods),
    ); // 0 without seats
  }

  /** Why a pod waits. Whether a node has an address left is not asked: that is its network's matter. */
  #whyNot(pod: Pod): string {
    const willing = this.#seats.filter(({ node }) => nodeAccepts(node, pod.spec));
    const withRoom = willing.filter((seat) => seat.pods < seat.podLimit);
    if (withRoom.length > 0)
      return `every node that may take it has a pod with host port ${hostPortsOf(pod).join(' or ')}`;
    if (willing.length > 0) return 'every node that may take it has as many pods as its status.allocatable.pods';
    if (this.#seats.length === 0) return 'there is no node';
    const { nodeSelector } = pod.spec;
    if (this.#seats.some(({ node }) => matchesLabels(nodeSelector, node.metadata.labels))) {
      return 'spec.tolerations: no node is without taints that it does not tolerate';
    }
    const selector = Object.entries(nodeSelector).map(([key, value]) => `${key}=${value}`);
    return `spec.nodeSelector: no node has ${selector.join(',')}`;
  }

  #count(key: string, pod: Pod, seat: Seat | undefined): void {
    if (seat === undefined || this.#bound.has(key)) return;
    const name = ownerOf(pod);
    const owner = this.#byOwner.get(name) ?? { name, seats: new Map<Seat, number>(), seatsWith: [] };
    this.#byOwner.set(name, owner);
    const asked = hostPortsOf(pod);
    const hostPorts = asked.length === 0 ? NO_PORTS : asked.filter((port) => !seat.hostPorts.has(port));
    this.#bound.set(key, { seat, owner, hostPorts });
    for (const port of hostPorts) seat.hostPorts.add(port);
    seat.pods++;
    setSiblings(owner, seat, (owner.seats.get(seat) ?? 0) + 1);
  }

  /** Whether it was counted. */
  #uncount(key: string): boolean {
    const bound = this.#bound.get(key);
    if (bound === undefined) return false;
    const { seat, owner, hostPorts } = bound;
    this.#bound.delete(key);
    for (const port of hostPorts) seat.hostPorts.delete(port);
    seat.pods--;
    this.#fewestPods = Math.min(this.#fewestPods, seat.pods);
    this.#fullerBefore = 0;
    setSiblings(owner, seat, (owner.seats.get(seat) ?? 0) - 1);
    if (owner.seats.size === 0) this.#byOwner.delete(owner.name);
    return true;
  }
}

function setSiblings({ seats, seatsWith }: Owner, seat: Seat, count: number): void {
  const before = seats.get(seat) ?? 0;
  if (before > 0) seatsWith[before - 1]!--;
  if (count > 0) {
    seats.set(seat, count);
    seatsWith[count - 1] = (seatsWith[count - 1] ?? 0) + 1;
  } else {
    seats.delete(seat);
  }
}

const isEmptier = (a: Seat, b: Seat): boolean => a.ofOwner < b.ofOwner || (a.ofOwner === b.ofOwner && a.pods < b.pods);

const hasRoom = (seat: Seat): boolean => seat.pods < seat.podLimit;

const hasPorts = (seat: Seat, hostPorts: readonly string[]): boolean =>
  seat.hostPorts.size === 0 || hostPorts.every((port) => !isTaken(seat.hostPorts, port));

/** At every address a port conflicts with itself at any (HostPortInfo.CheckConflict). */
function isTaken(taken: ReadonlySet<string>, hostPort: string): boolean {
  const [port] = hostPort.split(' at ');
  if (taken.has(hostPort) || taken.has(port!)) return true;
  return hostPort === port && [...taken].some((other) => other.startsWith(`${port} at `));
}

/** On the node's network every port of a container is one of the node. */
function hostPortsOf({ spec: { hostNetwork, containers } }: Pod): readonly string[] {
  let found: readonly string[] = NO_PORTS;
  for (const { ports } of containers) {
    for (const { protocol, containerPort, hostIP, hostPort = hostNetwork ? containerPort : undefined } of ports) {
      if (hostPort === undefined) continue;
      const isAtEvery = hostIP === undefined || hostIP === '0.0.0.0' || hostIP === '::';
      found = appended(found, `${protocol}/${hostPort}${isAtEvery ? '' : ` at ${hostIP}`}`);
    }
  }
  return found;
}

function podLimitOf(node: Node): number {
  const { pods } = node.status.allocatable;
  return pods === undefined ? Number.POSITIVE_INFINITY : Number(pods);
}

/** Pods of one owner are spread; a pod without an owner is alone. */
function ownerOf(pod: Pod): string {
  const owner = controllerOf(pod);
  return owner === undefined ? describeObject(pod) : `${owner.kind} ${pod.metadata.namespace}/${owner.name}`;
}
