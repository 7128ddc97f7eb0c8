// The network of a parity case in the simulator, made as the kernel's side makes it: every node, pod and the fabric is a
// network namespace of one machine, and veth pairs and bridges join them. So nothing takes time but waiting does, and a
// packet is carried to the end of its way before the next one is sent.
//
// Not modelled here: costs. The same code runs with every stage free.

import { Simulator } from '../../../engine/simulator.ts';
import { FREE } from '../../cpu/cost-model.ts';
import { CpuSet } from '../../cpu/cpu-set.ts';
import { NetworkNamespace } from '../../host/network-namespace.ts';
import { Bridge } from '../../link/bridge.ts';
import type { NetDevice } from '../../link/net-device.ts';
import { createVethPair, type VethPair } from '../../link/veth.ts';
import { Rule } from '../../netfilter/rule.ts';
import { FrameStore } from '../../packet/frame-store.ts';
import { ANY_PREFIX, addressAt, parseIp, parsePrefix, prefix } from '../../packet/ip-address.ts';
import { localMac, type Mac, parseMac } from '../../packet/mac.ts';
import type { Capture, ParityNode, ParityPod, Topology } from '../case.ts';
import { CaseError } from '../case-error.ts';
import { captureOf } from './packets.ts';

/** What the kernel's side sets on every node, before what the case says. */
const NODE_SYSCTLS: Readonly<Record<string, number>> = {
  'net.ipv4.ip_forward': 1,
  'net.ipv4.conf.all.rp_filter': 0,
  'net.ipv4.icmp_ratelimit': 0,
  'net.bridge.bridge-nf-call-iptables': 1,
};

const FABRIC = 'fab';
/** The next hop of pods behind routed veths: nobody has it, the node's side of the veth answers for it. */
const LINK_LOCAL_GATEWAY = parseIp('169.254.1.1');
const ROUTED_VETH_MAC = parseMac('ee:ee:ee:ee:ee:ee');

export class SimulatedNetwork {
  readonly sim: Simulator;
  readonly frames = new FrameStore();
  readonly cpus: CpuSet;
  readonly topology: Topology;
  readonly #namespaces = new Map<string, NetworkNamespace>();
  /** By pod: its node, and the device there that is its gateway. */
  readonly #gateways = new Map<string, NetDevice>();
  #captures: Capture[] = [];
  #macs = 0;

  constructor(topology: Topology, seed: string) {
    if (topology.overlay === 'vxlan') throw new CaseError('topology.overlay: vxlan is not modelled; expected host-gw');
    this.sim = new Simulator({ seed });
    this.cpus = new CpuSet(this.sim.place('parity'), { count: 2, costs: FREE });
    this.topology = topology;
    const fabric = this.#makeFabric();
    for (const node of topology.nodes) this.#makeNode(node, fabric);
    for (const node of topology.nodes) this.#routeToPeers(node);
  }

  /** Throws a CaseError for a name that the topology does not have. */
  namespace(name: string): NetworkNamespace {
    const namespace = this.#namespaces.get(name);
    if (namespace === undefined) throw new CaseError(`no namespace ${name}; there are ${[...this.#namespaces.keys()]}`);
    return namespace;
  }

  get podNames(): ReadonlySet<string> {
    return new Set(this.#gateways.keys());
  }

  /** Where a pod's packets for other networks go. */
  gatewayOf(podName: string): NetDevice | undefined {
    return this.#gateways.get(podName);
  }

  /** What the taps have seen since they were last asked. */
  drain(): Capture[] {
    const seen = this.#captures;
    this.#captures = [];
    return seen;
  }

  #makeFabric(): Bridge | undefined {
    if (this.topology.nodes.length === 1 && this.topology.fabric !== true) return undefined;
    const namespace = this.#make(FABRIC, { forwarding: false });
    return namespace.add(new Bridge(namespace.device('fab0', this.#nextMac())));
  }

  #makeNode(node: ParityNode, fabric: Bridge | undefined): void {
    const sysctls = { ...NODE_SYSCTLS, ...node.sysctls };
    const namespace = this.#make(node.name, { forwarding: true });
    namespace.enableNetfilter();
    const bridge = node.bridge === false ? undefined : this.#makeBridge(node, namespace);
    if (fabric !== undefined) this.#plugIn(node, namespace, fabric);
    for (const [index, pod] of node.pods.entries()) this.#makePod(pod, { node, namespace, bridge, index });
    for (const [name, value] of Object.entries(sysctls)) setSysctl(namespace, name, value);
  }

  #makeBridge({ podCIDR }: ParityNode, namespace: NetworkNamespace): Bridge {
    const bridge = namespace.add(new Bridge(namespace.device('cbr0', this.#nextMac())));
    namespace.stack.addAddress(bridge, addressAt(parsePrefix(podCIDR), 1), 24);
    return bridge;
  }

  #plugIn(node: ParityNode, namespace: NetworkNamespace, fabric: Bridge): void {
    const switchNamespace = this.namespace(FABRIC);
    const mtuBytes = node.fabricMtu ?? 1500;
    const { inside, outside } = createVethPair({
      inside: { ...namespace.device('eth0', this.#nextMac()), mtuBytes },
      outside: { ...switchNamespace.device(`f${fabric.ports.length}`, this.#nextMac()), mtuBytes },
    });
    this.#tap(namespace.add(inside));
    fabric.addPort(switchNamespace.add(outside));
    if (node.ip !== undefined) namespace.stack.addAddress(inside, parseIp(node.ip), 24);
  }

  #makePod(
    pod: ParityPod,
    {
      node,
      namespace,
      bridge,
      index,
    }: { node: ParityNode; namespace: NetworkNamespace; bridge: Bridge | undefined; index: number },
  ): void {
    const podNamespace = this.#make(pod.name, { forwarding: false });
    const outsideMac = bridge === undefined ? ROUTED_VETH_MAC : this.#nextMac();
    const veth = createVethPair({
      inside: podNamespace.device('eth0', this.#nextMac()),
      outside: namespace.device(`veth${index}`, outsideMac),
    });
    this.#tap(podNamespace.add(veth.inside));
    this.#tap(namespace.add(veth.outside));
    if (bridge === undefined) this.#joinByRoute(pod, { namespace, podNamespace, veth });
    else this.#joinByBridge(pod, { node, podNamespace, bridge, veth });
    if (pod.stack !== true) silence(podNamespace);
  }

  #joinByBridge(
    pod: ParityPod,
    {
      node,
      podNamespace,
      bridge,
      veth,
    }: { node: ParityNode; podNamespace: NetworkNamespace; bridge: Bridge; veth: VethPair },
  ): void {
    bridge.addPort(veth.outside, { hairpin: pod.hairpin ?? false });
    podNamespace.stack.addAddress(veth.inside, parseIp(pod.ip), 24);
    const gateway = addressAt(parsePrefix(node.podCIDR), 1);
    podNamespace.stack.addRoute({ destination: ANY_PREFIX, device: veth.inside, gateway });
    this.#gateways.set(pod.name, bridge);
  }

  #joinByRoute(
    pod: ParityPod,
    { namespace, podNamespace, veth }: { namespace: NetworkNamespace; podNamespace: NetworkNamespace; veth: VethPair },
  ): void {
    const ip = parseIp(pod.ip);
    namespace.stack.addRoute({ destination: prefix(ip, 32), device: veth.outside });
    podNamespace.stack.addAddress(veth.inside, ip, 32);
    podNamespace.stack.addRoute({ destination: prefix(LINK_LOCAL_GATEWAY, 32), device: veth.inside });
    podNamespace.stack.addRoute({ destination: ANY_PREFIX, device: veth.inside, gateway: LINK_LOCAL_GATEWAY });
    this.#gateways.set(pod.name, veth.outside);
  }

  /** host-gw: every other node's pod range by that node's address. */
  #routeToPeers(node: ParityNode): void {
    const { stack } = this.namespace(node.name);
    for (const peer of this.topology.nodes) {
      if (peer === node || peer.ip === undefined) continue;
      const device = this.namespace(node.name).deviceNamed('eth0');
      stack.addRoute({ destination: parsePrefix(peer.podCIDR), device, gateway: parseIp(peer.ip) });
    }
  }

  #make(name: string, { forwarding }: { forwarding: boolean }): NetworkNamespace {
    const namespace = new NetworkNamespace({ name, cpus: this.cpus, frames: this.frames, forwarding });
    this.#namespaces.set(name, namespace);
    return namespace;
  }

  #tap(device: NetDevice): void {
    const { namespace: ns, name: dev } = device;
    device.tap = (frame, dir) => this.#captures.push(captureOf(frame, { ns, dev, dir }));
  }

  #nextMac(): Mac {
    return localMac(++this.#macs);
  }
}

/** Names may be paths in /proc/sys, too: devices can have dots in their names. */
function setSysctl(namespace: NetworkNamespace, name: string, value: number | string): void {
  try {
    namespace.sysctl(name.includes('.') ? name : name.replaceAll('/', '.'), value);
  } catch (error) {
    throw error instanceof RangeError ? new CaseError(error.message) : error;
  }
}

/** A pod that resolves addresses and says nothing else: `iptables -t raw -A PREROUTING -j DROP`. */
function silence(namespace: NetworkNamespace): void {
  const { tables } = namespace.enableNetfilter();
  tables.appendRule('raw', 'PREROUTING', new Rule({ target: { target: 'DROP' } }));
}
