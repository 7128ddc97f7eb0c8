// kube-scheduler: gives each pod without a node one. A node must accept the pod (nodeSelector, taints, cordon) and have
// room for it and its host ports; of those, the one with the fewest pods of the same owner wins, then the one with the fewest pods, then
// the first. Pods that name their node keep it.
//
// Not modelled: affinity, topology spread constraints, resource requests, preemption, priorities. The real scheduler
// scores and breaks ties at random; this one is even and repeatable.

import { addressCount, contains, parseAddress, parseAnyPrefix } from '../packet/ip-address.ts';
import type { ApiServer, Deliver, WatchEvent } from './api-server.ts';
import { matchesLabels } from './label-index.ts';
import { ObjectError } from './object-error.ts';
import {
  controllerOf,
  describeObject,
  isFinished,
  type KubeObject,
  keyOf,
  type Node,
  type Pod,
  type PodSpec,
  podCidrsOf,
} from './objects.ts';

/** Whether the node's labels and taints let a pod in; room is another matter. */
export function nodeAccepts(node: Node, { nodeSelector, tolerations }: PodSpec): boolean {
  if (!matchesLabels(nodeSelector, node.metadata.labels)) return false;
  const cordon = node.spec.unschedulable ? [CORDON] : [];
  return [...node.spec.taints, ...cordon].every(
    (taint) =>
      taint.effect === 'PreferNoSchedule' ||
      tolerations.some(
        ({ key, operator, value, effect }) =>
          (key === undefined || key === taint.key) &&
          (effect === undefined || effect === taint.effect) &&
          (operator === 'Exists' || (key !== undefined && value === taint.value)),
      ),
  );
}

/** The taint of `kubectl cordon`. */
const CORDON: Node['spec']['taints'][number] = {
  key: 'node.kubernetes.io/unschedulable',
  value: '',
  effect: 'NoSchedule',
};

interface Seat {
  readonly name: string;
  node: Node;
  /** Pods that count against status.allocatable.pods, and those of them that need an address of the node's range. */
  pods: number;
  addresses: number;
  podLimit: number;
  addressLimit: number;
  /** Ports of the node that its pods have taken, as `TCP/9100`. */
  readonly hostPorts: Set<string>;
  /** How many pods here have the owner of the pod that is being placed. */
  ofOwner: number;
}

/** What a pod takes of its seat. */
interface Bound {
  readonly seat: Seat;
  readonly owner: string;
  readonly needsAddress: boolean;
  readonly hostPorts: readonly string[];
}

export class Scheduler {
  readonly #apiServer: ApiServer;
  readonly #seats: Seat[] = [];
  /** No seat has fewer pods than these, and none before that index has so few. */
  #fewestPods = 0;
  #fullerBefore = 0;
  readonly #seatOf = new Map<string, Seat>();
  /** Pods on nodes, by key: where each was counted. */
  readonly #bound = new Map<string, Bound>();
  readonly #byOwner = new Map<string, Map<Seat, number>>();
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
      } else if (seat === undefined) {
        const hostPorts = new Set<string>();
        const added = { name, node, pods: 0, addresses: 0, hostPorts, ofOwner: 0, ...limitsOf(node) };
        this.#seats.push(added);
        this.#seatOf.set(name, added);
      } else {
        Object.assign(seat, { node, ...limitsOf(node) });
      }
    }
    this.#countAgain();
    this.#retry();
  }

  #onPods(events: readonly WatchEvent<Pod>[]): void {
    let freed = false;
    // First count those that have a node, then place the others around them.
    for (const { type, object: pod } of events) {
      if (type === 'DELETED' || isFinished(pod)) freed = this.#uncount(keyOf(pod)) || freed;
      else if (pod.spec.nodeName !== undefined) this.#count(pod, this.#seatOf.get(pod.spec.nodeName));
    }
    for (const { type, object } of events) {
      if (type !== 'DELETED' && object.spec.nodeName === undefined) this.#place(keyOf(object));
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
    this.#count(pod, seat);
    this.#apiServer.update({ ...pod, spec: { ...pod.spec, nodeName: seat.name } });
  }

  #choose(pod: Pod): Seat | undefined {
    const siblings = this.#byOwner.get(ownerOf(pod)) ?? [];
    for (const [seat, count] of siblings) seat.ofOwner = count;
    const hostPorts = hostPortsOf(pod);
    let best = this.#firstEmptiest(pod, hostPorts);
    for (const seat of best === undefined ? this.#seats : []) {
      if (best !== undefined && !isEmptier(seat, best)) continue;
      if (hasRoom(seat, pod) && hasPorts(seat, hostPorts) && nodeAccepts(seat.node, pod.spec)) best = seat;
    }
    for (const [seat] of siblings) seat.ofOwner = 0;
    return best;
  }

  /** The first of the emptiest seats, which nobody can beat, if it is good enough; without a look at the fuller ones before. */
  #firstEmptiest(pod: Pod, hostPorts: readonly string[]): Seat | undefined {
    while (this.#fullerBefore < this.#seats.length && this.#seats[this.#fullerBefore]!.pods > this.#fewestPods)
      this.#fullerBefore++;
    if (this.#fullerBefore === this.#seats.length) this.#countAgain();
    const seat = this.#seats[this.#fullerBefore];
    if (seat === undefined || seat.ofOwner > 0) return undefined;
    return hasRoom(seat, pod) && hasPorts(seat, hostPorts) && nodeAccepts(seat.node, pod.spec) ? seat : undefined;
  }

  #countAgain(): void {
    this.#fewestPods = this.#seats.reduce((fewest, { pods }) => Math.min(fewest, pods), Number.POSITIVE_INFINITY);
    this.#fullerBefore = Math.max(
      0,
      this.#seats.findIndex(({ pods }) => pods === this.#fewestPods),
    ); // 0 without seats
  }

  /** Why a pod waits. Throws if it is for want of an address: then the pod range is planned too small. */
  #whyNot(pod: Pod): string {
    const willing = this.#seats.filter(({ node }) => nodeAccepts(node, pod.spec));
    const withRoom = willing.filter((seat) => seat.pods < seat.podLimit);
    const hostPorts = hostPortsOf(pod);
    const withPorts = withRoom.filter((seat) => hasPorts(seat, hostPorts));
    if (withPorts.length > 0) throw this.#exhausted(pod, withPorts);
    if (withRoom.length > 0) return `every node that may take it has a pod with host port ${hostPorts.join(' or ')}`;
    if (willing.length > 0) return 'every node that may take it has as many pods as its status.allocatable.pods';
    if (this.#seats.length === 0) return 'there is no node';
    const { nodeSelector } = pod.spec;
    if (this.#seats.some(({ node }) => matchesLabels(nodeSelector, node.metadata.labels))) {
      return 'spec.tolerations: no node is without taints that it does not tolerate';
    }
    const selector = Object.entries(nodeSelector).map(([key, value]) => `${key}=${value}`);
    return `spec.nodeSelector: no node has ${selector.join(',')}`;
  }

  #exhausted(pod: Pod, seats: readonly Seat[]): ObjectError {
    const owner = this.#topOwner(pod);
    const field =
      owner.kind === 'Pod' ? 'status.podIP' : owner.kind === 'DaemonSet' ? 'spec.template' : 'spec.replicas';
    const full = seats
      .slice(0, 3)
      .map(({ name, node, addresses }) => `${name} has ${addresses} in ${podCidrsOf(node).join()}`);
    const others = seats.length > full.length ? `, and so on for ${seats.length - full.length} more` : '';
    const problem = `pod range exhausted, no address for Pod ${keyOf(pod)}: ${full.join(', ')}${others}`;
    return new ObjectError(owner, `${field}: ${problem}`);
  }

  /** The Deployment of the ReplicaSet of the pod: the object that somebody wrote. */
  #topOwner(object: KubeObject): KubeObject {
    const reference = controllerOf(object);
    if (reference === undefined || !('namespace' in object.metadata)) return object;
    const kind = (['ReplicaSet', 'Deployment', 'StatefulSet', 'DaemonSet'] as const).find(
      (known) => known === reference.kind,
    );
    const owner = kind && this.#apiServer.get(kind, `${object.metadata.namespace}/${reference.name}`);
    return owner === undefined ? object : this.#topOwner(owner);
  }

  #count(pod: Pod, seat: Seat | undefined): void {
    const key = keyOf(pod);
    if (seat === undefined || this.#bound.has(key)) return;
    const owner = ownerOf(pod);
    const needsAddress = takesAddressOf(pod, seat.node);
    if (needsAddress && seat.addresses >= seat.addressLimit) throw this.#exhausted(pod, [seat]);
    const hostPorts = hostPortsOf(pod).filter((port) => !seat.hostPorts.has(port));
    this.#bound.set(key, { seat, owner, needsAddress, hostPorts });
    for (const port of hostPorts) seat.hostPorts.add(port);
    seat.pods++;
    if (needsAddress) seat.addresses++;
    const siblings = this.#byOwner.get(owner) ?? new Map<Seat, number>();
    this.#byOwner.set(owner, siblings.set(seat, (siblings.get(seat) ?? 0) + 1));
  }

  /** Whether it was counted. */
  #uncount(key: string): boolean {
    const bound = this.#bound.get(key);
    if (bound === undefined) return false;
    const { seat, owner, needsAddress, hostPorts } = bound;
    this.#bound.delete(key);
    for (const port of hostPorts) seat.hostPorts.delete(port);
    seat.pods--;
    this.#fewestPods = Math.min(this.#fewestPods, seat.pods);
    this.#fullerBefore = 0;
    if (needsAddress) seat.addresses--;
    const siblings = this.#byOwner.get(owner);
    const left = (siblings?.get(seat) ?? 0) - 1;
    if (left > 0) siblings?.set(seat, left);
    else siblings?.delete(seat);
    if (siblings?.size === 0) this.#byOwner.delete(owner);
    return true;
  }
}

const isEmptier = (a: Seat, b: Seat): boolean => a.ofOwner < b.ofOwner || (a.ofOwner === b.ofOwner && a.pods < b.pods);

const hasRoom = (seat: Seat, pod: Pod): boolean =>
  seat.pods < seat.podLimit && (pod.spec.hostNetwork || seat.addresses < seat.addressLimit);

const hasPorts = (seat: Seat, hostPorts: readonly string[]): boolean =>
  hostPorts.every((port) => !seat.hostPorts.has(port));

/** On the node's network every port of a container is one of the node. */
function hostPortsOf({ spec: { hostNetwork, containers } }: Pod): string[] {
  return containers.flatMap(({ ports }) =>
    ports.flatMap(({ protocol, containerPort, hostPort = hostNetwork ? containerPort : undefined }) =>
      hostPort === undefined ? [] : [`${protocol}/${hostPort}`],
    ),
  );
}

/** Not one on the node's network, nor one of a snapshot whose plugin does not cut the pod range by nodes. */
function takesAddressOf({ spec, status: { podIP } }: Pod, node: Node): boolean {
  const ranges = podCidrsOf(node).map(parseAnyPrefix);
  if (spec.hostNetwork || ranges.length === 0) return false;
  if (podIP === undefined) return true;
  const { family, ip } = parseAddress(podIP);
  return ranges.some((range) => range.family === family && contains(range, ip));
}

function limitsOf(node: Node): { podLimit: number; addressLimit: number } {
  const { pods } = node.status.allocatable;
  // Network, broadcast (of IPv4) and the gateway (the bridge's own address) are not for pods.
  const room = podCidrsOf(node)
    .map(parseAnyPrefix)
    .map((range) => Math.max(0, addressCount(range) - (range.family === 4 ? 3 : 2)));
  const addressLimit = room.length === 0 ? 0 : Math.min(...room);
  return { podLimit: pods === undefined ? Number.POSITIVE_INFINITY : Number(pods), addressLimit };
}

/** Pods of one owner are spread; a pod without an owner is alone. */
function ownerOf(pod: Pod): string {
  const owner = controllerOf(pod);
  return owner === undefined ? describeObject(pod) : `${owner.kind} ${pod.metadata.namespace}/${owner.name}`;
}
