// The network of a parity case in the simulator, made as the kernel's side makes it: every node, pod and the fabric is a
// network namespace of one machine, and veth pairs and bridges join them. So nothing takes time but waiting does, and a
// packet is carried to the end of its way before the next one is sent.
//
// Every stage is free unless costs are given: what a packet meets is compared apart from how long it takes.

import { Simulator } from '../../../engine/simulator.ts';
import { CniHost } from '../../cni/cni-host.ts';
import { CniRuntime } from '../../cni/cni-runtime.ts';
import { HostGateway } from '../../cni/networks/host-gateway.ts';
import type { NetworkNode, NetworkNodeFamily, NodeRouting } from '../../cni/networks/pod-network.ts';
import { RoutingByFamily } from '../../cni/networks/routing-by-family.ts';
import { VxlanMesh, type VxlanSettings } from '../../cni/networks/vxlan-mesh.ts';
import { type CostModel, FREE } from '../../cpu/cost-model.ts';
import { CpuSet } from '../../cpu/cpu-set.ts';
import { NetworkNamespace } from '../../host/network-namespace.ts';
import { Bridge } from '../../link/bridge.ts';
import type { NetDevice } from '../../link/net-device.ts';
import { createVethPair, type VethPair } from '../../link/veth.ts';
import { Rule } from '../../netfilter/rule.ts';
import type { Frame } from '../../packet/frame.ts';
import { FrameStore } from '../../packet/frame-store.ts';
import {
  ANY_IPV6_PREFIX,
  ANY_PREFIX,
  addressAt,
  type Ip,
  type IpFamily,
  type Prefix,
  parseAddress,
  parseIp,
  parseIpv6,
  parseIpv6Prefix,
  parsePrefix,
  prefix,
} from '../../packet/ip-address.ts';
import { localMac, type Mac, macHigh, macLow, parseMac } from '../../packet/mac.ts';
import type { Capture, Overlay, ParityNode, ParityPod, Topology } from '../case.ts';
import { CaseError, EndlessCaseError } from '../case-error.ts';
import { addIpv6, NODE_SYSCTLS6, resolveIpv6, routeIpv6ToPeer } from './dual-stack.ts';
import { captureOf } from './packets.ts';

/** What the kernel's side sets on every node, before what the case says. */
const NODE_SYSCTLS: Readonly<Record<string, number>> = {
  'net.ipv4.ip_forward': 1,
  'net.ipv4.conf.all.rp_filter': 0,
  'net.ipv4.icmp_ratelimit': 0,
  'net.ipv4.icmp_msgs_burst': 1_000_000,
  'net.ipv4.route.error_cost': 0,
  'net.ipv4.route.redirect_silence': -1,
  'net.bridge.bridge-nf-call-iptables': 1,
};
const POD_SYSCTLS: Readonly<Record<string, number>> = {
  'net.ipv4.icmp_ratelimit': 0,
  'net.ipv4.icmp_msgs_burst': 1_000_000,
};

const FABRIC = 'fab';
const VXLAN: VxlanSettings = { device: 'vx0', vni: 1, tunnelIp: (node) => rangeOf(node, 4).net };
const VXLAN_OF_IPV6: VxlanSettings = { device: 'vx6', vni: 1, underlay: 6, tunnelIp: (node) => rangeOf(node, 6).net };
/** The next hop of pods behind routed veths: nobody has it, the node's side of the veth answers for it. */
const ROUTED_GATEWAY = parseIp('169.254.1.1');
const ROUTED_MAC = parseMac('ee:ee:ee:ee:ee:ee');

export class SimulatedNetwork {
  readonly sim: Simulator;
  readonly frames = new FrameStore();
  readonly cpus: CpuSet;
  readonly topology: Topology;
  readonly #namespaces = new Map<string, NetworkNamespace>();
  /** By pod: the device of its node that is its gateway. */
  readonly #gateways = new Map<string, NetDevice>();
  /** How nodes find each other's pods: as networks of clusters do it. */
  readonly #routing: NodeRouting;
  readonly #networkNodes = new Map<string, NetworkNode>();
  #captures: Capture[] = [];
  /** The next frame that no tap sees, once. */
  #crafted: Frame | undefined;

  constructor(topology: Topology, seed: string, costs: CostModel = FREE) {
    this.sim = new Simulator({ seed });
    this.cpus = new CpuSet(this.sim.place('parity'), { count: 2, costs });
    this.topology = topology;
    this.#routing = routingOf(topology.overlay);
    const fabric = this.#makeFabric();
    for (const [position, node] of topology.nodes.entries()) this.#makeNode(node, { position, fabric });
    for (const node of topology.nodes) this.#addMore(node);
    const joined = [...this.#networkNodes.values()];
    this.#routing.addAll(
      joined.flatMap((home) => home.families.map(({ podRange: destination }) => ({ destination, home }))),
    );
    for (const node of topology.nodes)
      for (const peer of topology.nodes) if (peer !== node) routeIpv6ToPeer(this, node, peer);
    if (topology.cold === true) return;
    for (const node of topology.nodes) {
      this.#resolve(node);
      resolveIpv6(this, node);
    }
  }

  /** Throws a CaseError for a name that the topology does not have. */
  namespace(name: string): NetworkNamespace {
    const namespace = this.#namespaces.get(name);
    if (namespace === undefined)
      throw new CaseError(`no namespace ${name}; there are ${[...this.#namespaces.keys()].join(', ')}`);
    return namespace;
  }

  /** `n1` and `veth0`, or a pod and its `eth0`. Throws a CaseError where there is none. */
  device(namespace: string, name: string): NetDevice {
    try {
      return this.namespace(namespace).deviceNamed(name);
    } catch (error) {
      throw error instanceof RangeError ? new CaseError(error.message) : error;
    }
  }

  isPod(name: string): boolean {
    return this.#gateways.has(name);
  }

  /** Where a pod's packets for other networks go. */
  gatewayOf(podName: string): NetDevice | undefined {
    return this.#gateways.get(podName);
  }

  /** As a packet socket sends, and does not see what it sent itself. */
  send(device: NetDevice, frame: Frame): void {
    this.#crafted = frame;
    device.transmit(frame);
  }

  /** What the taps have seen since they were last asked. */
  drain(): Capture[] {
    const seen = this.#captures;
    this.#captures = [];
    return seen;
  }

  // ── building ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #makeFabric(): Bridge | undefined {
    if (this.topology.nodes.length === 1 && this.topology.fabric !== true) return undefined;
    const namespace = this.#make(FABRIC, { forwarding: false });
    return namespace.add(new Bridge(namespace.device('fab0', fabricMac(0))));
  }

  #makeNode(node: ParityNode, { position, fabric }: { position: number; fabric: Bridge | undefined }): void {
    const namespace = this.#make(node.name, { forwarding: true });
    namespace.enableNetfilter();
    // Before there are devices, which begin with what is the default then; and again for those of single devices.
    const sysctls = Object.entries(sysctlsOf(node));
    setSysctls(
      namespace,
      sysctls.filter(([name]) => !isOfDevice(name)),
    );
    let bridge: Bridge | undefined;
    if (hasBridge(node)) {
      bridge = namespace.add(new Bridge(namespace.device('cbr0', nodeMac(position, CBR0))));
      namespace.stack.addAddress(bridge, gatewayIp(node), 24);
    }
    if (fabric !== undefined) this.#plugIn(node, { position, fabric });
    for (const [number, pod] of node.pods.entries()) this.#makePod(pod, { node, position, number, bridge });
    if (fabric !== undefined) this.#joinNetwork(node, position);
    if (node.podCIDR6 !== undefined) addIpv6(this, node, node.podCIDR6);
    setSysctls(namespace, sysctls);
  }

  /** With VXLAN it has a device whose address is the first of its pod range, as flannel's has. */
  #joinNetwork({ name, ip, podCIDR, ip6, podCIDR6 }: ParityNode, position: number): void {
    if (ip === undefined) return;
    const host = this.#hostOf(name, { macs: [nodeMac(position, VX0), nodeMac(position, VX6)] });
    const nic = this.namespace(name).deviceNamed('eth0');
    const families: NetworkNodeFamily[] = [{ family: 4, ip: parseIp(ip), podRange: parsePrefix(podCIDR) }];
    if (isOverIpv6(this.topology.overlay))
      families.push({ family: 6, ip: parseIpv6(ip6!), podRange: parseIpv6Prefix(podCIDR6!) });
    const node: NetworkNode = { name, host, nic, families };
    this.#routing.attach(node);
    this.#networkNodes.set(name, node);
  }

  /** The node as plugins and networks find it: these MACs are the next ones. */
  #hostOf(name: string, { macs, vethName = '' }: { macs: Mac[]; vethName?: string }): CniHost {
    const namespaces = [...this.#namespaces.values()];
    const machine = { name, root: this.namespace(name), namespaces, nextMac: () => macs.shift()! };
    return new CniHost(machine, { newVethName: () => vethName });
  }

  #plugIn(node: ParityNode, { position, fabric }: { position: number; fabric: Bridge }): void {
    const namespace = this.namespace(node.name);
    const switchNamespace = this.namespace(FABRIC);
    const mtuBytes = node.fabricMtu ?? 1500;
    const { inside, outside } = createVethPair({
      inside: { ...namespace.device('eth0', nodeMac(position, ETH0)), mtuBytes },
      outside: { ...switchNamespace.device(`f${position}`, fabricMac(position + 1)), mtuBytes },
    });
    this.#tap(namespace.add(inside));
    const port = fabric.addPort(switchNamespace.add(outside));
    if (this.topology.cold !== true) fabric.fdb.learn(macHigh(inside.mac), macLow(inside.mac), port.number);
    if (node.ip !== undefined) namespace.stack.addAddress(inside, parseIp(node.ip), 24);
  }

  #makePod(pod: ParityPod, place: PodPlace): void {
    const podNamespace = this.#make(pod.name, { forwarding: false });
    if (place.node.ptp === true) this.#joinByPlugin(pod, podNamespace, place);
    else this.#joinByVeth(pod, podNamespace, place);
    setSysctls(podNamespace, Object.entries(POD_SYSCTLS));
    if (pod.stack !== true) silence(podNamespace);
  }

  /** The plugin `ptp` itself connects the pod. */
  #joinByPlugin(pod: ParityPod, podNamespace: NetworkNamespace, { node, position, number }: PodPlace): void {
    const vethName = `veth${number}`;
    const macs = [macAt(position, POD, number + 1), macAt(position, VETH, number + 1)];
    const ipam = { type: 'host-local', subnet: node.podCIDR, routes: [{ dst: '0.0.0.0/0' }] };
    const list = { cniVersion: '1.0.0', name: 'parity', plugins: [{ type: 'ptp', ipam }] };
    new CniRuntime(this.#hostOf(node.name, { macs, vethName }), list).add({
      ...{ containerId: pod.name, ifName: 'eth0', namespace: podNamespace },
      requestedIps: [parseAddress(pod.ip)],
    });
    const gateway = this.namespace(node.name).deviceNamed(vethName);
    this.#tap(podNamespace.deviceNamed('eth0'));
    this.#tap(gateway);
    this.#gateways.set(pod.name, gateway);
  }

  #joinByVeth(pod: ParityPod, podNamespace: NetworkNamespace, place: PodPlace): void {
    const { node, position, number, bridge } = place;
    const namespace = this.namespace(node.name);
    const veth = createVethPair({
      inside: podNamespace.device('eth0', macAt(position, POD, number + 1)),
      outside: namespace.device(`veth${number}`, bridge === undefined ? ROUTED_MAC : macAt(position, VETH, number + 1)),
    });
    this.#tap(podNamespace.add(veth.inside));
    this.#tap(namespace.add(veth.outside));
    if (bridge === undefined) this.#joinByRoute(pod, node, veth);
    else this.#joinByBridge(pod, { ...place, bridge }, veth);
  }

  #joinByBridge(pod: ParityPod, { node, bridge }: PodPlace & { readonly bridge: Bridge }, veth: VethPair): void {
    const port = bridge.addPort(veth.outside, { hairpin: pod.hairpin ?? false });
    if (this.topology.cold !== true) bridge.fdb.learn(macHigh(veth.inside.mac), macLow(veth.inside.mac), port.number);
    const { stack } = this.namespace(pod.name);
    stack.addAddress(veth.inside, parseIp(pod.ip), 24);
    stack.addRoute({ destination: ANY_PREFIX, device: veth.inside, gateway: gatewayIp(node) });
    this.#gateways.set(pod.name, bridge);
  }

  #joinByRoute(pod: ParityPod, node: ParityNode, { inside, outside }: VethPair): void {
    const namespace = this.namespace(node.name);
    const ip = parseIp(pod.ip);
    namespace.stack.addRoute({ destination: prefix(ip, 32), device: outside });
    setSysctls(namespace, [
      [`net.ipv4.conf.${outside.name}.proxy_arp`, 1],
      [`net.ipv4.neigh.${outside.name}.proxy_delay`, 0],
    ]);
    const { stack } = this.namespace(pod.name);
    stack.addAddress(inside, ip, 32);
    stack.addRoute({ destination: prefix(ROUTED_GATEWAY, 32), device: inside });
    stack.addRoute({ destination: ANY_PREFIX, device: inside, gateway: ROUTED_GATEWAY });
    this.#gateways.set(pod.name, outside);
  }

  #addMore({ name, addresses = [], routes = [] }: ParityNode): void {
    const { stack } = this.namespace(name);
    const ipv6 = routes.some(isIpv6Route) ? stack.enableIpv6() : undefined;
    for (const { address, dev } of addresses) {
      const [ip = '', length] = address.split('/');
      stack.addAddress(this.device(name, dev), parseIp(ip), Number(length));
    }
    for (const route of routes) {
      const { to, via, dev } = route;
      if (isIpv6Route(route)) {
        const destination = to === 'default' ? ANY_IPV6_PREFIX : parseIpv6Prefix(to);
        const gateway = via === undefined ? {} : { gateway: parseIpv6(via) };
        ipv6?.addRoute({ destination, device: this.device(name, dev), ...gateway });
        continue;
      }
      const destination = to === 'default' ? ANY_PREFIX : parsePrefix(to);
      stack.addRoute({
        destination,
        device: this.device(name, dev),
        ...(via === undefined ? {} : { gateway: parseIp(via) }),
      });
    }
  }

  /** Who is whose neighbor is known from the start, and does not age. */
  #resolve(node: ParityNode): void {
    const { neighbors } = this.namespace(node.name).stack;
    for (const peer of this.topology.nodes) {
      if (peer === node || peer.ip === undefined) continue;
      neighbors.addPermanent(this.device(node.name, 'eth0'), parseIp(peer.ip), this.device(peer.name, 'eth0').mac);
    }
    for (const pod of node.pods) {
      const gateway = this.#gateways.get(pod.name)!;
      const eth0 = this.device(pod.name, 'eth0');
      neighbors.addPermanent(gateway, parseIp(pod.ip), eth0.mac);
      const known = this.namespace(pod.name).stack.neighbors;
      known.addPermanent(eth0, hasOwnGateway(node) ? gatewayIp(node) : ROUTED_GATEWAY, gateway.mac);
      if (!hasBridge(node)) continue;
      for (const sibling of node.pods) {
        if (sibling !== pod) known.addPermanent(eth0, parseIp(sibling.ip), this.device(sibling.name, 'eth0').mac);
      }
    }
  }

  #make(name: string, { forwarding }: { forwarding: boolean }): NetworkNamespace {
    const namespace = new NetworkNamespace({ name, cpus: this.cpus, frames: this.frames, forwarding });
    this.#namespaces.set(name, namespace);
    return namespace;
  }

  #tap(device: NetDevice): void {
    const { namespace: ns, name: dev } = device;
    device.tap = (frame, dir) => {
      if (frame === this.#crafted) this.#crafted = undefined;
      else if (this.#captures.push(captureOf(frame, { ns, dev, dir })) > MOST_CAPTURES)
        throw new EndlessCaseError(`more than ${MOST_CAPTURES} frames in one step: they never come to rest`);
    };
  }
}

/** IPv6 without a tunnel of its own finds its ways by itself (dual-stack.ts). */
function routingOf(overlay: Overlay | undefined): NodeRouting {
  switch (overlay) {
    case 'vxlan':
      return new VxlanMesh(VXLAN);
    case 'vxlan6':
      return new RoutingByFamily([4], () => new VxlanMesh({ ...VXLAN, underlay: 6, family: 4 }));
    case 'vxlan-by-family':
      return new RoutingByFamily([4, 6], (family) => new VxlanMesh(family === 4 ? VXLAN : VXLAN_OF_IPV6));
    default:
      return new HostGateway([4]);
  }
}

const isOverIpv6 = (overlay: Overlay | undefined): boolean => overlay === 'vxlan6' || overlay === 'vxlan-by-family';

const rangeOf = ({ families }: NetworkNode, wanted: IpFamily): Prefix =>
  families.find(({ family }) => family === wanted)!.podRange;

const hasBridge = ({ bridge = true, ptp = false }: ParityNode): boolean => bridge && !ptp;
/** The first address of its pod range. */
const hasOwnGateway = ({ bridge = true, ptp = false }: ParityNode): boolean => bridge || ptp;

const isIpv6Route = ({ to, via = '' }: { readonly to: string; readonly via?: string }): boolean =>
  to.includes(':') || via.includes(':');

/** In one step: far more than any that ends has, even one that loops until its fragments' TTL is gone. */
const MOST_CAPTURES = 5_000;

interface PodPlace {
  readonly node: ParityNode;
  readonly position: number;
  /** Of the pod on its node. */
  readonly number: number;
  /** Undefined: routed veths. */
  readonly bridge: Bridge | undefined;
}

const gatewayIp = ({ podCIDR }: ParityNode): Ip => addressAt(parsePrefix(podCIDR), 1);

/** MAC addresses are made of positions, `02:00:00:NODE:KIND:NUMBER`, on both sides. */
const macAt = (position: number, kind: number, number: number): Mac =>
  localMac(((position + 1) << 16) | (kind << 8) | number);
const nodeMac = (position: number, number: number): Mac => macAt(position, NODE, number);
/** Of switch ports, which no frame ever names. */
const fabricMac = (number: number): Mac => macAt(FABRIC_POSITION, NODE, number);

const NODE = 0;
const POD = 1;
const VETH = 2;
const CBR0 = 1;
const ETH0 = 2;
const VX0 = 3;
const VX6 = 4;
const FABRIC_POSITION = 254;

/** In the order in which they are set. Bridges call both tables alike unless the case says otherwise. */
/** `net.ipv4.conf.veth0.proxy_arp`, but not those of `all`, `default` and `lo`. */
const isOfDevice = (name: string): boolean => /[./](?:conf|neigh)[./](?!(?:all|default|lo)[./])/.test(name);

function sysctlsOf({ podCIDR6, sysctls = {} }: ParityNode): Readonly<Record<string, number | string>> {
  if (podCIDR6 === undefined) return { ...NODE_SYSCTLS, ...sysctls };
  const bridgeCalls = sysctls['net.bridge.bridge-nf-call-iptables'] ?? 1;
  return { ...NODE_SYSCTLS, ...NODE_SYSCTLS6, 'net.bridge.bridge-nf-call-ip6tables': bridgeCalls, ...sysctls };
}

/** Names may be paths in /proc/sys, too: devices can have dots in their names. */
function setSysctls(namespace: NetworkNamespace, settings: readonly (readonly [string, number | string])[]): void {
  const { sysctls } = namespace; // once: it is made anew for whoever asks, and runs of a case make many networks
  try {
    for (const [name, value] of settings) sysctls.write(name.includes('.') ? name : name.replaceAll('/', '.'), value);
  } catch (error) {
    throw error instanceof RangeError ? new CaseError(error.message) : error;
  }
}

/** A pod that resolves addresses and says nothing else: `iptables -t raw -A PREROUTING -j DROP`. */
function silence(namespace: NetworkNamespace): void {
  const { tables } = namespace.enableNetfilter();
  tables.appendRule('raw', 'PREROUTING', new Rule({ target: { target: 'DROP' } }));
}
