// kube-proxy in IPVS mode: a virtual server per address and port of a Service, a real server per endpoint, the addresses on
// kube-ipvs0, and a fixed set of iptables rules over ipsets, for one IP family. Behaviour of kube-proxy 1.30.
//
// Only service ports that have changed are looked at; kube-proxy compares all of them with what the kernel has, and comes to
// the same. Not modelled: --ipvs-exclude-cidrs, --ipvs-strict-arp.

import type { RandomStream } from '../../../engine/random.ts';
import type { IpSets } from '../../netfilter/ipset/ip-sets.ts';
import type { Ipvs } from '../../netfilter/ipvs/ipvs.ts';
import type { SchedulerName, VirtualAddress, VirtualServerSettings } from '../../netfilter/ipvs/virtual-server.ts';
import { PROTOCOL_NUMBERS } from '../../netfilter/protocol.ts';
import type { RuleTables } from '../../netfilter/rule-tables.ts';
import type { Ip } from '../../packet/ip-address.ts';
import { type IpvsChainCache, type IpvsChainSettings, installIpvsChains } from './ipvs-chains.ts';
import {
  type IpvsSetName,
  IpvsSets,
  ipPort,
  ipPortIp,
  ipPortNet,
  type PortAt,
  type SetEntry,
  single,
} from './ipvs-sets.ts';
import { GracefulTermination } from './ipvs-termination.ts';
import { type NodePortAddresses, servedOf, servesAllAddresses } from './node-port-addresses.ts';
import { PortOnNode, type ProxyNode } from './port-on-node.ts';
import { type Endpoint, type ServicePort, serviceOf } from './service-ports.ts';
import { NO_SERVICES, type ServiceSnapshot } from './service-tracker.ts';

export interface IpvsConfig extends IpvsChainSettings {
  /** --ipvs-scheduler */
  readonly scheduler: SchedulerName;
  /** --nodeport-addresses: node addresses in these ranges serve node ports; empty: all of the node but loopback. */
  readonly nodePortAddresses: NodePortAddresses;
  /**
   * In which order real servers are added; the one that was added last is the first in turn. Sorted by `address:port`, as
   * kube-proxy once did, so that all nodes begin with the same one; or arbitrary and other on every node, as it walks an
   * unsorted set now.
   */
  readonly endpointOrder: 'sorted' | 'random';
}

/** What kube-proxy does without flags on a current Linux. */
export const DEFAULT_IPVS_CONFIG: IpvsConfig = {
  family: 4,
  scheduler: 'rr',
  masqueradeAll: false,
  masqueradeBit: 14,
  randomFully: true,
  localDetector: { mode: 'None' },
  nodePortAddresses: [],
  endpointOrder: 'sorted',
};

/** What of a node it writes to. */
export interface IpvsNode {
  /** Of its family, as are the addresses. */
  readonly tables: RuleTables;
  readonly sets: IpSets;
  readonly ipvs: Ipvs;
  /** Gives kube-ipvs0 these addresses and no others of the family. */
  readonly bindServiceAddresses: (ips: ReadonlySet<Ip>) => void;
}

export interface IpvsSyncReport {
  /**
   * Services whose traffic from inside, and from outside, has no endpoint here because of policy Local. Unlike in other modes
   * it goes to endpoints elsewhere.
   */
  readonly noLocalEndpoints: { readonly internal: number; readonly external: number };
}

/** A virtual server as it should be. */
interface VirtualPlan {
  readonly key: string;
  readonly address: VirtualAddress;
  readonly settings: VirtualServerSettings;
  readonly endpoints: readonly Endpoint[];
}

/** All that a service port makes on this node. */
interface PortPlan {
  readonly entries: readonly SetEntry[];
  readonly virtuals: readonly VirtualPlan[];
  /** For kube-ipvs0. */
  readonly bound: readonly Ip[];
  readonly closedToNode: readonly PortAt[];
  readonly lacksLocalEndpoints: { readonly internal: boolean; readonly external: boolean };
}

export class IpvsProxier {
  readonly #config: IpvsConfig;
  readonly #cache: IpvsChainCache;
  readonly #random: RandomStream;
  readonly #sets: IpvsSets;
  readonly #termination = new GracefulTermination();
  readonly #plans = new Map<ServicePort, PortPlan>();
  /** How many service ports have each virtual server, and each address: two may, for a moment, or by mistake. */
  readonly #users = new Map<string, number>();
  readonly #bound = new Map<Ip, number>();
  #node: ProxyNode;
  #services = NO_SERVICES;
  #needsFullSync = true;
  #isFirst = true;

  /** `random` belongs to this node alone. */
  constructor(options: {
    readonly node: ProxyNode;
    readonly config: IpvsConfig;
    readonly cache: IpvsChainCache;
    readonly random: RandomStream;
  }) {
    this.#node = options.node;
    this.#sets = new IpvsSets(options.config.family);
    this.#config = options.config;
    this.#cache = options.cache;
    this.#random = options.random;
  }

  /** The node has other labels or addresses. */
  updateNode(node: ProxyNode): void {
    this.#node = node;
    this.#needsFullSync = true;
  }

  needFullSync(): void {
    this.#needsFullSync = true;
  }

  /** What a sync finds changed: everything, or what Services say. The iptables rules are written in any case. */
  get nextKind(): 'full' | 'partial' {
    return this.#needsFullSync ? 'full' : 'partial';
  }

  sync(node: IpvsNode, services: ServiceSnapshot): IpvsSyncReport {
    const isFull = this.#needsFullSync;
    const isFirst = this.#isFirst;
    this.#isFirst = false;
    const isKept = (port: ServicePort): boolean => !isFull && this.#plans.has(port) && services.has(port);
    if (isFirst) this.#configure(node);
    const gone = this.#services.ports.filter((port) => !isKept(port)).map((port) => this.#drop(port));
    const added = services.ports.filter((port) => !isKept(port)).map((port) => this.#take(port));
    for (const { entries } of added) for (const entry of entries) this.#sets.add(node.sets, entry);
    for (const { entries } of gone) for (const entry of entries) this.#sets.remove(node.sets, entry);
    const plans = services.ports.map((port) => this.#plans.get(port)!);
    installIpvsChains(node.tables, this.#cache.chainsFor(this.#chainContent(plans), this.#config));
    if (isFull || added.length + gone.length > 0) node.bindServiceAddresses(new Set(this.#bound.keys()));
    for (const plan of added.flatMap(({ virtuals }) => virtuals)) this.#program(node.ipvs, plan, { isFirst });
    if (isFirst) this.#deleteForeign(node.ipvs, plans);
    for (const plan of gone.flatMap(({ virtuals }) => virtuals)) this.#deleteUnused(node.ipvs, plan);
    this.#services = services;
    this.#needsFullSync = false;
    return { noLocalEndpoints: countNoLocalEndpoints(services, plans) };
  }

  /** What NewProxier does once; conn_reuse_mode stays as it is from Linux 5.9 on. */
  #configure({ ipvs, sets }: IpvsNode): void {
    ipvs.configure({ conntrack: true, expireNodestConn: true, expireQuiescentTemplate: true });
    this.#sets.ensure(sets);
  }

  // ── draining ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Real servers wait until their connections are over. */
  get isDraining(): boolean {
    return !this.#termination.isEmpty;
  }

  /** To be called each minute while {@link isDraining}. */
  checkDraining(ipvs: Ipvs): void {
    this.#termination.check(ipvs);
  }

  // ── what service ports make ────────────────────────────────────────────────────────────────────────────────────────

  #take(port: ServicePort): PortPlan {
    const plan = planOf(port, this.#node, this.#config);
    this.#plans.set(port, plan);
    for (const { key } of plan.virtuals) this.#users.set(key, (this.#users.get(key) ?? 0) + 1);
    for (const ip of plan.bound) this.#bound.set(ip, (this.#bound.get(ip) ?? 0) + 1);
    return plan;
  }

  #drop(port: ServicePort): PortPlan {
    const plan = this.#plans.get(port)!;
    this.#plans.delete(port);
    for (const { key } of plan.virtuals) this.#users.set(key, this.#users.get(key)! - 1);
    for (const ip of plan.bound) {
      const count = this.#bound.get(ip)! - 1;
      if (count > 0) this.#bound.set(ip, count);
      else this.#bound.delete(ip);
    }
    return plan;
  }

  #chainContent(plans: readonly PortPlan[]) {
    return {
      isEmpty: (set: IpvsSetName) => this.#sets.isEmpty(set),
      closedToNode: plans.flatMap(({ closedToNode }) => closedToNode),
    };
  }

  /** syncService and syncEndpoint. The first time, servers that an earlier kube-proxy was draining get their weight back. */
  #program(
    ipvs: Ipvs,
    { address, settings, endpoints }: VirtualPlan,
    { isFirst }: { readonly isFirst: boolean },
  ): void {
    const virtual = ipvs.find(address) ?? ipvs.addVirtual(address, settings);
    ipvs.editVirtual(virtual, settings);
    for (const { ip, port } of this.#inOrder(endpoints)) {
      const known = virtual.find(ip, port);
      if (known !== undefined && isFirst && known.weight !== 1) ipvs.setWeight(virtual, known, 1);
      if (known !== undefined && !this.#termination.has(known)) continue;
      if (known !== undefined) this.#termination.cancel(ipvs, virtual, known);
      ipvs.addServer(virtual, { ip, port, weight: 1 });
    }
    for (const server of [...virtual.servers]) {
      const isWanted = endpoints.some(({ ip, port }) => server.ip === ip && server.port === port);
      if (!isWanted && !this.#termination.has(server)) this.#termination.end(ipvs, virtual, server);
    }
  }

  /** cleanLegacyService: an earlier kube-proxy has left them, and their Services are gone. */
  #deleteForeign(ipvs: Ipvs, plans: readonly PortPlan[]): void {
    const wanted = new Set(plans.flatMap(({ virtuals }) => virtuals.map(({ address }) => ipvs.find(address))));
    for (const virtual of [...ipvs.virtualServers()])
      if (virtual.family === this.#config.family && !wanted.has(virtual)) ipvs.deleteVirtual(virtual);
  }

  #inOrder(endpoints: readonly Endpoint[]): readonly Endpoint[] {
    return this.#config.endpointOrder === 'random' ? this.#random.shuffle(endpoints) : endpoints;
  }

  #deleteUnused(ipvs: Ipvs, { key, address }: VirtualPlan): void {
    if (this.#users.get(key) !== 0) return;
    this.#users.delete(key);
    const virtual = ipvs.find(address);
    if (virtual === undefined) return;
    for (const server of virtual.servers) this.#termination.forget(server);
    ipvs.deleteVirtual(virtual);
  }
}

function planOf(port: ServicePort, node: ProxyNode, config: IpvsConfig): PortPlan {
  const on = new PortOnNode(port, node);
  const { usable } = on;
  const { clusterIp, externalIps, loadBalancerVips, nodePort, healthCheckNodePort, externalPolicyLocal } = port;
  const inside = endpointsFor(on, port.internalPolicyLocal);
  const outside = endpointsFor(on, externalPolicyLocal);
  const nodeIps = nodePort === undefined ? [] : nodePortIps(node, config);
  const at = (ip: Ip, number = port.port): PortAt => ({ ip, port: number, protocol: port.protocol });
  const external = [...externalIps, ...loadBalancerVips];
  return {
    entries: [
      ...port.endpoints
        .filter(({ nodeName }) => nodeName === node.name)
        .map((endpoint) => ipPortIp('KUBE-LOOP-BACK', at(endpoint.ip, endpoint.port), endpoint.ip)),
      ipPort('KUBE-CLUSTER-IP', at(clusterIp)),
      ...externalIps.map((ip) => ipPort(externalPolicyLocal ? 'KUBE-EXTERNAL-IP-LOCAL' : 'KUBE-EXTERNAL-IP', at(ip))),
      ...loadBalancerVips.flatMap((ip) => loadBalancerEntries(on, at(ip))),
      ...(nodePort === undefined ? [] : nodePortEntries(port, nodePort, nodeIps)),
      ...(healthCheckNodePort === undefined ? [] : [single('KUBE-HEALTH-CHECK-NODE-PORT', healthCheckNodePort)]),
      ...boundIps(port, node).map((ip) => single('KUBE-IPVS-IPS', ip)),
    ],
    virtuals: [
      virtualPlan(at(clusterIp), port, inside, config),
      ...external.map((ip) => virtualPlan(at(ip), port, outside, config)),
      ...nodeIps.map((ip) => virtualPlan(at(ip, nodePort), port, outside, config)),
    ],
    bound: boundIps(port, node),
    closedToNode:
      port.loadBalancerSourceRanges.length > 0 && !on.nodeIsInSourceRanges ? loadBalancerVips.map((ip) => at(ip)) : [],
    lacksLocalEndpoints: {
      internal: port.internalPolicyLocal && usable.hasAny && usable.local.length === 0,
      external:
        externalPolicyLocal && external.length + nodeIps.length > 0 && usable.hasAny && usable.local.length === 0,
    },
  };
}

/** Without a local one policy Local takes any: local pods shall reach the Service, and others find out by themselves. */
function endpointsFor({ usable: { local, cluster } }: PortOnNode, policyLocal: boolean): readonly Endpoint[] {
  return policyLocal && local.length > 0 ? local : cluster;
}

/** An address that is the node's already is not put on kube-ipvs0. */
const boundIps = ({ clusterIp, externalIps, loadBalancerVips }: ServicePort, { ips }: ProxyNode): readonly Ip[] => [
  clusterIp,
  ...[...externalIps, ...loadBalancerVips].filter((ip) => !ips.includes(ip)),
];

const nodePortIps = ({ ips }: ProxyNode, config: IpvsConfig): readonly Ip[] =>
  servesAllAddresses(config) ? ips : servedOf(ips, config);

function loadBalancerEntries({ port, nodeIsInSourceRanges }: PortOnNode, at: PortAt): SetEntry[] {
  const { loadBalancerSourceRanges: ranges, externalPolicyLocal } = port;
  return [
    ipPort('KUBE-LOAD-BALANCER', at),
    ...(externalPolicyLocal ? [ipPort('KUBE-LOAD-BALANCER-LOCAL', at)] : []),
    ...(ranges.length > 0 ? [ipPort('KUBE-LOAD-BALANCER-FW', at)] : []),
    ...ranges.map((range) => ipPortNet('KUBE-LOAD-BALANCER-SOURCE-CIDR', at, range)),
    // What the node sends to the address has that address as its source, too.
    ...(ranges.length > 0 && nodeIsInSourceRanges ? [ipPortIp('KUBE-LOAD-BALANCER-SOURCE-IP', at, at.ip)] : []),
  ];
}

function nodePortEntries(port: ServicePort, nodePort: number, nodeIps: readonly Ip[]): SetEntry[] {
  const { protocol, externalPolicyLocal } = port;
  if (nodeIps.length === 0) return [];
  const into = (all: IpvsSetName, local: IpvsSetName): IpvsSetName[] => (externalPolicyLocal ? [all, local] : [all]);
  switch (protocol) {
    case 'tcp':
      return into('KUBE-NODE-PORT-TCP', 'KUBE-NODE-PORT-LOCAL-TCP').map((set) => single(set, nodePort));
    case 'udp':
      return into('KUBE-NODE-PORT-UDP', 'KUBE-NODE-PORT-LOCAL-UDP').map((set) => single(set, nodePort));
    case 'sctp':
      return into('KUBE-NODE-PORT-SCTP-HASH', 'KUBE-NODE-PORT-LOCAL-SCTP-HASH').flatMap((set) =>
        nodeIps.map((ip) => ipPort(set, { ip, port: nodePort, protocol })),
      );
  }
}

function virtualPlan(
  { ip, port, protocol }: PortAt,
  { affinityTimeoutSeconds }: ServicePort,
  endpoints: readonly Endpoint[],
  { family, scheduler }: IpvsConfig,
): VirtualPlan {
  return {
    key: `${protocol} ${ip}:${port}`,
    address: { family, protocol: PROTOCOL_NUMBERS[protocol], ip, port },
    settings: {
      scheduler,
      ...(affinityTimeoutSeconds !== undefined && { persistenceSeconds: affinityTimeoutSeconds }),
      ...(scheduler === 'mh' && { hashesPort: true }),
    },
    endpoints,
  };
}

function countNoLocalEndpoints({ ports }: ServiceSnapshot, plans: readonly PortPlan[]) {
  const [internal, external] = [new Set<string>(), new Set<string>()];
  for (const [i, { lacksLocalEndpoints }] of plans.entries()) {
    if (lacksLocalEndpoints.internal) internal.add(serviceOf(ports[i]!));
    if (lacksLocalEndpoints.external) external.add(serviceOf(ports[i]!));
  }
  return { internal: internal.size, external: external.size };
}
