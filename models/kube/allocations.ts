// Who has which address and port. One ClusterIP, node port, pod IP, node address or pod range belongs to one object at a
// time; objects get the ones that they ask for, and a free one where they leave it open.

import type { RandomStream } from '../../engine/random.ts';
import { gatewayOf } from '../host/outside-world.ts';
import {
  addressAt,
  addressCount,
  contains,
  formatIp,
  formatPrefix,
  isIpv4,
  parseIp,
  parsePrefix,
} from '../packet/ip-address.ts';
import { clusterIpBands, nodePortBands, pickOffset } from './address-bands.ts';
import { NamedDraws } from './named-draws.ts';
import { ObjectError } from './object-error.ts';
import {
  addressOfNode,
  describeObject,
  hasClusterIp,
  isFinished,
  type KubeObject,
  keyOf,
  type Node,
  type Service,
} from './objects.ts';
import { PodCidrs } from './pod-cidrs.ts';
import type { ClusterRanges } from './ranges.ts';

/** `--service-node-port-range`. */
const FIRST_NODE_PORT = 30_000;
const LAST_NODE_PORT = 32_767;

/** Something that an object asks for, and in which field. */
interface Claim {
  readonly kind: 'address' | 'port';
  readonly value: string;
  readonly field: string;
}

export class Allocations {
  readonly #ranges: ClusterRanges;
  readonly #draws: NamedDraws;
  readonly #podCidrs: PodCidrs;
  /** From what is held (`address 10.96.0.10`, `port 30080`) to its holder (`Service default/web`). */
  readonly #holders = new Map<string, string>();
  readonly #held = new Map<string, string[]>();

  constructor(ranges: ClusterRanges, random: RandomStream) {
    this.#ranges = ranges;
    this.#draws = new NamedDraws(random);
    this.#podCidrs = new PodCidrs(ranges.pod);
  }

  /** Sets aside what the object asks for. Throws an ObjectError, and holds nothing, if it cannot be had. */
  claim(object: KubeObject): void {
    const claims = claimsOf(object);
    for (const { kind, value, field } of claims) {
      this.#checkRange(object, kind, value, field);
      const holder = this.#holders.get(`${kind} ${value}`);
      if (holder === undefined || holder === describeObject(object)) continue;
      throw new ObjectError(object, `${field}: ${value} already belongs to ${holder}`);
    }
    if (object.kind === 'Node') this.#claimPodCidr(object);
    for (const { kind, value } of claims) this.#hold(object, `${kind} ${value}`);
  }

  isTaken(address: string): boolean {
    return this.#holders.has(`address ${address}`);
  }

  release(object: KubeObject): void {
    const owner = describeObject(object);
    for (const name of this.#held.get(owner) ?? []) this.#holders.delete(name);
    this.#held.delete(owner);
    if (object.kind === 'Node') this.#podCidrs.release(object.metadata.name);
  }

  /** Fills in what a Node or Service leaves open; what it asks for has been claimed. */
  complete(object: KubeObject): KubeObject {
    if (object.kind === 'Node') return this.#completeNode(object);
    if (object.kind === 'Service') return this.#completeService(object);
    return object;
  }

  #hold(object: KubeObject, name: string): void {
    const owner = describeObject(object);
    this.#holders.set(name, owner);
    const held = this.#held.get(owner);
    if (held === undefined) this.#held.set(owner, [name]);
    else held.push(name);
  }

  #checkRange(object: KubeObject, kind: Claim['kind'], value: string, field: string): void {
    if (kind === 'port') {
      if (Number(value) >= FIRST_NODE_PORT && Number(value) <= LAST_NODE_PORT) return;
      throw new ObjectError(
        object,
        `${field}: expected a port from ${FIRST_NODE_PORT} to ${LAST_NODE_PORT}, got ${value}`,
      );
    }
    if (object.kind === 'Node' && value === formatIp(gatewayOf(this.#ranges.node)))
      throw new ObjectError(object, `${field}: ${value} is the gateway's, the last address of the node range`);
    const name = object.kind === 'Service' ? 'service' : object.kind === 'Node' ? 'node' : 'pod';
    if (!isIpv4(value) || contains(this.#ranges[name], parseIp(value))) return;
    const range = `the ${name} range ${formatPrefix(this.#ranges[name])}`;
    throw new ObjectError(object, `${field}: expected an address of ${range}, got ${value}`);
  }

  // ---- pod ranges of nodes ----------------------------------------------------------------------------------------

  #claimPodCidr(node: Node): void {
    const { podCIDR } = node.spec;
    if (podCIDR === undefined) return;
    const piece = parsePrefix(podCIDR);
    const { pod } = this.#ranges;
    if (piece.length < pod.length || !contains(pod, piece.net)) {
      throw new ObjectError(
        node,
        `spec.podCIDR: expected a part of the pod range ${formatPrefix(pod)}, got ${podCIDR}`,
      );
    }
    const other = this.#podCidrs.ownerOf(piece, node.metadata.name);
    if (other !== undefined) throw new ObjectError(node, `spec.podCIDR: ${podCIDR} overlaps that of Node ${other}`);
    this.#podCidrs.take(node.metadata.name, piece);
  }

  #completeNode(node: Node): Node {
    if (node.spec.podCIDR !== undefined) return node;
    const piece = this.#podCidrs.allocate(node.metadata.name);
    if (piece !== undefined) return { ...node, spec: { ...node.spec, podCIDR: formatPrefix(piece) } };
    const range = formatPrefix(this.#ranges.pod);
    const holders = this.#podCidrs.nodes === 1 ? 'one node' : `${this.#podCidrs.nodes} nodes`;
    throw new ObjectError(node, `spec.podCIDR: the pod range ${range} is used up by ${holders}`);
  }

  // ---- services ---------------------------------------------------------------------------------------------------

  #completeService(service: Service): Service {
    const { spec } = service;
    if (spec.clusterIP === 'None') return { ...service, spec: { ...spec, clusterIPs: ['None'] } };
    if (!hasClusterIp(service)) return service;
    const clusterIP = spec.clusterIP ?? this.#allocateClusterIp(service);
    const ports = this.#withNodePorts(service);
    return { ...service, spec: { ...spec, clusterIP, clusterIPs: spec.clusterIPs ?? [clusterIP], ports } };
  }

  #allocateClusterIp(service: Service): string {
    const range = this.#ranges.service;
    if (!service.spec.ipFamilies.includes('IPv4')) {
      throw new ObjectError(service, 'spec.ipFamilies: expected IPv4 among them, got IPv6 only, which is not modelled');
    }
    const at = (offset: number) => formatIp(addressAt(range, offset + 1)); // the network's own address is not given
    const offset = pickOffset(
      clusterIpBands(addressCount(range)),
      (choices) => this.#draws.draw(`clusterIP ${keyOf(service)}`, choices),
      (candidate) => this.#holders.has(`address ${at(candidate)}`),
    );
    if (offset === undefined) {
      throw new ObjectError(service, `spec.clusterIP: the service range ${formatPrefix(range)} is used up`);
    }
    this.#hold(service, `address ${at(offset)}`);
    return at(offset);
  }

  #withNodePorts(service: Service): Service['spec']['ports'] {
    const { type, allocateLoadBalancerNodePorts, ports } = service.spec;
    if (type !== 'NodePort' && !(type === 'LoadBalancer' && allocateLoadBalancerNodePorts)) return ports;
    // A port that is served over TCP and UDP (DNS) has one node port for both.
    const byPort = new Map<number, number>();
    for (const { port, nodePort } of ports) if (nodePort !== undefined) byPort.set(port, nodePort);
    return ports.map((entry, index) => {
      const nodePort = entry.nodePort ?? byPort.get(entry.port) ?? this.#allocateNodePort(service, index);
      byPort.set(entry.port, nodePort);
      return { ...entry, nodePort };
    });
  }

  #allocateNodePort(service: Service, index: number): number {
    const offset = pickOffset(
      nodePortBands(LAST_NODE_PORT - FIRST_NODE_PORT + 1),
      (choices) => this.#draws.draw(`nodePort ${keyOf(service)} ${service.spec.ports[index]?.port}`, choices),
      (candidate) => this.#holders.has(`port ${FIRST_NODE_PORT + candidate}`),
    );
    if (offset === undefined) {
      const range = `${FIRST_NODE_PORT} to ${LAST_NODE_PORT}`;
      throw new ObjectError(service, `spec.ports[${index}].nodePort: the ports from ${range} are used up`);
    }
    this.#hold(service, `port ${FIRST_NODE_PORT + offset}`);
    return FIRST_NODE_PORT + offset;
  }
}

/** What of an object no other object may have. Node ports are claimed whatever their protocol, as the real one does. */
function claimsOf(object: KubeObject): Claim[] {
  const address = (field: string, value: string | undefined): Claim[] =>
    value === undefined || value === 'None' ? [] : [{ kind: 'address', field, value }];
  switch (object.kind) {
    case 'Service':
      return [
        ...address('spec.clusterIP', object.spec.clusterIP),
        ...object.spec.ports.flatMap(({ nodePort }, index): Claim[] =>
          nodePort === undefined
            ? []
            : [{ kind: 'port', field: `spec.ports[${index}].nodePort`, value: `${nodePort}` }],
        ),
      ];
    case 'Pod':
      // A pod on the node's network shares the node's address; a finished one has given its address back.
      return object.spec.hostNetwork || isFinished(object) ? [] : address('status.podIP', object.status.podIP);
    case 'Node':
      return address('status.addresses', addressOfNode(object));
    default:
      return [];
  }
}
