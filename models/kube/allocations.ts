// Who has which address and port. One ClusterIP, node port, pod IP, node address or pod range belongs to one object at a
// time; objects get the ones that they ask for, and a free one where they leave it open.

import type { RandomStream } from '../../engine/random.ts';
import { gatewayOf } from '../host/outside-world.ts';
import {
  contains,
  formatIp,
  formatPrefix,
  type IpFamily,
  type Prefix,
  parseAddress,
  parseAnyPrefix,
} from '../packet/ip-address.ts';
import { clusterIpAt, clusterIpBands, kubernetesClusterIp, nodePortBands, pickOffset } from './address-bands.ts';
import { NamedDraws } from './named-draws.ts';
import { ObjectError } from './object-error.ts';
import {
  clusterIpsOf,
  describeObject,
  hasClusterIp,
  type IpFamilyName,
  internalIpsOf,
  isFinished,
  isOfFamily,
  type KubeObject,
  keyOf,
  type Node,
  needsHealthCheck,
  type Pod,
  podCidrsOf,
  podIpsOf,
  type Service,
  withChanges,
} from './objects.ts';
import { PodCidrs } from './pod-cidrs.ts';
import { type ClusterRanges, familiesOf, rangeOf } from './ranges.ts';

export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** `--service-node-port-range`. */
export const DEFAULT_NODE_PORTS: PortRange = { first: 30_000, last: 32_767 };

/** Something that an object asks for, and in which field. */
interface Claim {
  readonly kind: 'address' | 'port';
  readonly value: string;
  readonly field: string;
}

export class Allocations {
  readonly #ranges: ClusterRanges;
  readonly #nodePorts: PortRange;
  readonly #draws: NamedDraws;
  /** By the families of the pod ranges, the first one first. */
  readonly #podCidrs: ReadonlyMap<IpFamily, PodCidrs>;
  /** From what is held (`address 10.96.0.10`, `port 30080`) to its holder (`Service default/web`). */
  readonly #holders = new Map<string, string>();
  /** The other way round, but for pods: what they hold is what they claim. */
  readonly #held = new Map<string, string[]>();
  /** In which names Services' addresses are held: with those of pods and nodes, unless ranges were forced to overlap. */
  readonly #clusterIpKind: string;

  constructor(
    { ranges, nodePorts, isForced = false }: { ranges: ClusterRanges; nodePorts: PortRange; isForced?: boolean },
    random: RandomStream,
  ) {
    this.#ranges = ranges;
    this.#clusterIpKind = isForced ? 'service address' : 'address';
    this.#nodePorts = nodePorts;
    this.#draws = new NamedDraws(random);
    this.#podCidrs = new Map(
      familiesOf(ranges).map((family) => [family, new PodCidrs(rangeOf(ranges, 'pod', family) as Prefix)]),
    );
  }

  /** Sets aside what the object asks for. Throws an ObjectError, and holds nothing, if it cannot be had. */
  claim(object: KubeObject): void {
    const claims = claimsOf(object);
    const names: string[] = [];
    for (const claim of claims) {
      const { value, field } = claim;
      this.#checkRange(object, claim);
      const name = this.#nameOf(object, claim);
      const holder = this.#holders.get(name);
      if (holder !== undefined && holder !== describeObject(object))
        throw new ObjectError(object, `${field}: ${value} already belongs to ${holder}`);
      names.push(name);
    }
    if (object.kind === 'Node') this.#claimPodCidr(object);
    for (const name of names) this.#hold(object, name);
  }

  /** Families of the service ranges, that of Services that name none first. */
  get serviceFamilies(): IpFamilyName[] {
    const { service, secondaryService } = this.#ranges;
    return [service, ...(secondaryService === undefined ? [] : [secondaryService])].map(familyNameOf);
  }

  /** Under which it is held. */
  #nameOf(object: KubeObject, { kind, value }: Claim): string {
    const nameOfKind = object.kind === 'Service' && kind === 'address' ? this.#clusterIpKind : kind;
    return [nameOfKind, value].join(' ');
  }

  /** Of a pod or a node, or, where ranges do not overlap, of a Service. */
  isTaken(address: string): boolean {
    return this.#holders.has(`address ${address}`);
  }

  release(object: KubeObject): void {
    if (object.kind === 'Pod') return this.#releasePod(object);
    const owner = describeObject(object);
    for (const name of this.#held.get(owner) ?? []) this.#holders.delete(name);
    this.#held.delete(owner);
    if (object.kind === 'Node') for (const cidrs of this.#podCidrs.values()) cidrs.release(object.metadata.name);
  }

  #releasePod(pod: Pod): void {
    const claims = claimsOf(pod);
    if (claims.length === 0) return; // so it is while it waits for a node
    const owner = describeObject(pod);
    for (const name of claims.map((claim) => this.#nameOf(pod, claim)))
      if (this.#holders.get(name) === owner) this.#holders.delete(name);
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
    if (object.kind === 'Pod') return;
    const held = this.#held.get(owner);
    if (held === undefined) this.#held.set(owner, [name]);
    else held.push(name);
  }

  #checkRange(object: KubeObject, { kind, value, field }: Claim): void {
    if (kind === 'port') return this.#checkNodePort(object, { value, field });
    if (object.kind === 'Service') return this.#checkClusterIp(object, { value, field });
    const { family, ip } = parseAddress(value);
    const name = object.kind === 'Node' ? 'node' : 'pod';
    const range = rangeOf(this.#ranges, name, family);
    if (range === undefined) return; // of a family that nobody here has
    if (object.kind === 'Node' && ip === gatewayOf(range)) {
      const which = family === 4 ? 'last' : 'first';
      throw new ObjectError(object, `${field}: ${value} is the gateway's, the ${which} address of the node range`);
    }
    if (contains(range, ip)) return;
    const expected = `expected an address of the ${name} range ${formatPrefix(range)}`;
    throw new ObjectError(object, `${field}: ${expected}, got ${value}`);
  }

  #checkNodePort(object: KubeObject, { value, field }: { value: string; field: string }): void {
    const { first, last } = this.#nodePorts;
    if (Number(value) >= first && Number(value) <= last) return;
    throw new ObjectError(object, `${field}: expected a port from ${first} to ${last}, got ${value}`);
  }

  #checkClusterIp(service: Service, { value, field }: { value: string; field: string }): void {
    const { ip, family } = parseAddress(value);
    const range = this.#serviceRange(family === 4 ? 'IPv4' : 'IPv6');
    if (range === undefined) {
      const problem = `IPv${family} is not configured on this cluster; expected ${this.serviceFamilies.join()}`;
      throw new ObjectError(service, `${field}: ${problem}, got ${value}`);
    }
    const { size } = clusterIpBands(range);
    const isGiven = contains(range, ip) && ip !== range.net && (family === 6 || ip !== clusterIpAt(range, size));
    if (isGiven) return;
    const problem = `expected an address of the service range ${formatPrefix(range)}, got ${value}`;
    const unusable = contains(range, ip) ? ', the first or the last of it, which no Service can have' : '';
    throw new ObjectError(service, `${field}: ${problem}${unusable}`);
  }

  #serviceRange(family: IpFamilyName): Prefix | undefined {
    return rangeOf(this.#ranges, 'service', family === 'IPv4' ? 4 : 6);
  }

  // ---- pod ranges of nodes ----------------------------------------------------------------------------------------

  #claimPodCidr(node: Node): void {
    const { name } = node.metadata;
    for (const [index, podCIDR] of podCidrsOf(node).entries()) {
      const piece = parseAnyPrefix(podCIDR);
      const range = rangeOf(this.#ranges, 'pod', piece.family);
      const cidrs = this.#podCidrs.get(piece.family);
      if (range === undefined || cidrs === undefined) continue; // of a family that no pod here has
      const field = index === 0 ? 'spec.podCIDR' : `spec.podCIDRs[${index}]`;
      if (piece.length < range.length || !contains(range, piece.net)) {
        const expected = `expected a part of the pod range ${formatPrefix(range)}`;
        throw new ObjectError(node, `${field}: ${expected}, got ${podCIDR}`);
      }
      const other = cidrs.ownerOf(piece, name);
      if (other !== undefined) throw new ObjectError(node, `${field}: ${podCIDR} overlaps that of Node ${other}`);
      cidrs.take(name, piece);
    }
  }

  #completeNode(node: Node): Node {
    const given = podCidrsOf(node);
    const podCIDRs = [...this.#podCidrs].map(
      ([family, cidrs]) => given.find(isOfFamily(family)) ?? this.#allocatePodCidr(node, family, cidrs),
    );
    return withChanges(node, { spec: withChanges(node.spec, { podCIDR: podCIDRs[0], podCIDRs }) });
  }

  #allocatePodCidr(node: Node, family: IpFamily, cidrs: PodCidrs): string {
    const piece = cidrs.allocate(node.metadata.name);
    if (piece !== undefined) return formatPrefix(piece);
    const range = formatPrefix(rangeOf(this.#ranges, 'pod', family) as Prefix);
    const holders = cidrs.nodes === 1 ? 'one node' : `${cidrs.nodes} nodes`;
    throw new ObjectError(node, `spec.podCIDR: the pod range ${range} is used up by ${holders}`);
  }

  // ---- services ---------------------------------------------------------------------------------------------------

  #completeService(service: Service): Service {
    const { spec } = service;
    if (spec.clusterIP === 'None') return { ...service, spec: { ...spec, clusterIPs: ['None'] } };
    if (!hasClusterIp(service)) return service;
    const { ipFamilies = [], clusterIPs: given = [] } = spec;
    const clusterIPs = ipFamilies.map((family, index) => given[index] ?? this.#allocateClusterIp(service, family));
    const ports = this.#withNodePorts(service);
    const healthCheckNodePort = needsHealthCheck(service)
      ? (spec.healthCheckNodePort ?? this.#allocateNodePort(service, 'spec.healthCheckNodePort'))
      : undefined;
    const completed = { clusterIP: clusterIPs[0], clusterIPs, ports, healthCheckNodePort };
    return withChanges(service, { spec: withChanges(spec, completed) });
  }

  #allocateClusterIp(service: Service, family: IpFamilyName): string {
    const range = this.#serviceRange(family) as Prefix; // families have been checked
    const at = (offset: number) => formatIp(clusterIpAt(range, offset), range.family);
    const address = keyOf(service) === 'default/kubernetes' ? this.#freeKubernetesIp(range) : undefined;
    const offset = address === undefined ? this.#drawClusterIp(service, range) : 0;
    if (offset === undefined) {
      throw new ObjectError(service, `spec.clusterIP: range is full: every address of ${formatPrefix(range)} is taken`);
    }
    this.#hold(service, `${this.#clusterIpKind} ${at(offset)}`);
    return at(offset);
  }

  /** The API server keeps the first address for itself, so its own Service finds it free, unless somebody asked for it. */
  #freeKubernetesIp(range: Prefix): string | undefined {
    const address = formatIp(kubernetesClusterIp(range), range.family);
    return clusterIpBands(range).size === 0 || this.#isClusterIp(address) ? undefined : address;
  }

  #drawClusterIp(service: Service, range: Prefix): number | undefined {
    const name = range === this.#ranges.service ? 'clusterIP' : 'second clusterIP';
    return pickOffset(
      clusterIpBands(range),
      (choices) => this.#draws.draw(`${name} ${keyOf(service)}`, choices),
      (candidate) => this.#isClusterIp(formatIp(clusterIpAt(range, candidate), range.family)),
    );
  }

  #isClusterIp(address: string): boolean {
    return this.#holders.has(`${this.#clusterIpKind} ${address}`);
  }

  /** A port that is served over TCP and UDP (DNS) has one node port for both (initNodePorts). */
  #withNodePorts(service: Service): Service['spec']['ports'] {
    const { type, allocateLoadBalancerNodePorts, ports } = service.spec;
    if (type !== 'NodePort' && !(type === 'LoadBalancer' && allocateLoadBalancerNodePorts)) return ports;
    const byPort = new Map<number, number>();
    for (const { port, nodePort } of ports) if (nodePort !== undefined && !byPort.has(port)) byPort.set(port, nodePort);
    return ports.map((entry, index) => {
      const nodePort =
        entry.nodePort ??
        byPort.get(entry.port) ??
        this.#allocateNodePort(service, `spec.ports[${index}].nodePort`, entry.port);
      byPort.set(entry.port, byPort.get(entry.port) ?? nodePort);
      return { ...entry, nodePort };
    });
  }

  /** `port` is the Service's port that it is for; without one it is for health checks. */
  #allocateNodePort(service: Service, field: string, port?: number): number {
    const { first, last } = this.#nodePorts;
    const offset = pickOffset(
      nodePortBands(last - first + 1),
      (choices) => this.#draws.draw(`nodePort ${keyOf(service)} ${port ?? 'health check'}`, choices),
      (candidate) => this.#holders.has(`port ${first + candidate}`),
    );
    if (offset === undefined)
      throw new ObjectError(service, `${field}: range is full: every port from ${first} to ${last} is taken`);
    this.#hold(service, `port ${first + offset}`);
    return first + offset;
  }
}

const familyNameOf = ({ family }: Prefix): IpFamilyName => (family === 4 ? 'IPv4' : 'IPv6');

/** What of an object no other object may have. Node ports are claimed whatever their protocol (portallocator). */
function claimsOf(object: KubeObject): Claim[] {
  switch (object.kind) {
    case 'Service':
      return [...clusterIpClaims(object), ...nodePortClaims(object)];
    case 'Pod':
      // A pod on the node's network shares the node's address; a finished one has given its address back.
      return object.spec.hostNetwork || isFinished(object)
        ? []
        : podIpsOf(object).map((ip, index) => addressClaim(index === 0 ? 'status.podIP' : 'status.podIPs', ip));
    case 'Node':
      return internalIpsOf(object).map((ip) => addressClaim('status.addresses', ip));
    default:
      return [];
  }
}

const clusterIpClaims = (service: Service): Claim[] =>
  clusterIpsOf(service).map((text, index) =>
    addressClaim(index === 0 ? 'spec.clusterIP' : `spec.clusterIPs[${index}]`, text),
  );

/** IPv6 has several texts for one address. */
const addressClaim = (field: string, text: string): Claim => ({
  kind: 'address',
  field,
  value: text.includes(':') ? formatIp(parseAddress(text).ip, 6) : text,
});

function nodePortClaims(service: Service): Claim[] {
  const { ports, healthCheckNodePort } = service.spec;
  const claims = ports.flatMap(({ nodePort }, index): Claim[] =>
    nodePort === undefined ? [] : [{ kind: 'port', field: `spec.ports[${index}].nodePort`, value: `${nodePort}` }],
  );
  if (healthCheckNodePort !== undefined)
    claims.push({ kind: 'port', field: 'spec.healthCheckNodePort', value: `${healthCheckNodePort}` });
  return claims;
}
