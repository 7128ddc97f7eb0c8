// For tests of what nodes do with single packets: nodes on a switch with pods behind a bridge or behind routed veths,
// packets put on a device as text says, and every frame that then passes the uplinks and the pods' devices, as text.
//
// Pods resolve addresses and are silent, unless they are made with a stack of their own: the answers in a test are then
// those of the nodes.

import { Simulator } from '../../engine/simulator.ts';
import { after, type Duration, ms } from '../../engine/time.ts';
import { FREE } from '../cpu/cost-model.ts';
import { Bridge } from '../link/bridge.ts';
import { IPIP_OVERHEAD_BYTES, type IpipDevice } from '../link/ipip.ts';
import type { NetDevice } from '../link/net-device.ts';
import { createVethPair } from '../link/veth.ts';
import type { VxlanDevice } from '../link/vxlan.ts';
import { parseIptablesSave, restoreTables } from '../netfilter/iptables-save.ts';
import { describeFrame } from '../packet/describe.ts';
import { ETHERTYPE_ARP, Frame, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, TCP_SYN } from '../packet/frame.ts';
import { FrameStore } from '../packet/frame-store.ts';
import { ICMP_ECHO_REQUEST } from '../packet/icmp.ts';
import { ANY_PREFIX, addressAt, type Ip, type Prefix, parseIp, parsePrefix, prefix } from '../packet/ip-address.ts';
import type { Mac } from '../packet/mac.ts';
import { Fabric } from './fabric.ts';
import { Machine } from './machine.ts';
import type { NetworkNamespace } from './network-namespace.ts';

export interface LabNode {
  readonly name: string;
  readonly machine: Machine;
  readonly root: NetworkNamespace;
  readonly ip: Ip;
  readonly podRange: Prefix;
  readonly uplink: NetDevice;
  /** Absent where pods have routed veths. */
  readonly bridge: Bridge | undefined;
  readonly vxlan: VxlanDevice | undefined;
  readonly ipip: IpipDevice | undefined;
}

export interface LabPod {
  readonly node: LabNode;
  readonly namespace: NetworkNamespace;
  readonly ip: Ip;
  readonly device: NetDevice;
  /** The node's end of the veth pair. */
  readonly hostDevice: NetDevice;
}

export class PacketLab {
  readonly sim = new Simulator({ seed: 'lab' });
  readonly frames = new FrameStore();
  readonly #fabric = new Fabric(this.sim, { frames: this.frames, wire: {} });
  readonly #nodes: LabNode[] = [];
  readonly #pods = new Map<string, LabPod>();
  #seen: string[] = [];

  addNode(
    name: string,
    {
      ip,
      podRange,
      routed = false,
      overlay = false,
      ipip = false,
    }: { ip: string; podRange: string; routed?: boolean; overlay?: boolean; ipip?: boolean },
  ): LabNode {
    const machine = new Machine({
      name,
      sim: this.sim,
      frames: this.frames,
      costs: FREE,
      cpuCount: 1,
      forwarding: true,
    });
    const { root } = machine;
    root.sysctl('net.ipv4.icmp_ratelimit', 0);
    const uplink = this.#watch(this.#fabric.attach(machine, 'eth0'));
    root.stack.addAddress(uplink, parseIp(ip), 24);
    const range = parsePrefix(podRange);
    const bridge = routed ? undefined : root.add(new Bridge(root.device('cbr0', machine.nextMac())));
    if (bridge !== undefined) root.stack.addAddress(bridge, addressAt(range, 1), range.length);
    const vxlan = overlay
      ? root.addVxlan({ name: 'vx0', mac: machine.nextMac(), vni: 1, local: parseIp(ip), lower: uplink })
      : undefined;
    const tunnel = ipip ? root.addIpip({ mtuBytes: uplink.mtuBytes - IPIP_OVERHEAD_BYTES }) : undefined;
    const overlayDevice = vxlan ?? tunnel;
    if (overlayDevice !== undefined) root.stack.addAddress(overlayDevice, range.net, 32);
    const node: LabNode = {
      name,
      machine,
      root,
      ip: parseIp(ip),
      podRange: range,
      uplink,
      bridge,
      vxlan,
      ipip: tunnel,
    };
    for (const other of this.#nodes) {
      routeBetween(node, other);
      routeBetween(other, node);
    }
    this.#nodes.push(node);
    return node;
  }

  addPod(
    node: LabNode,
    name: string,
    { ip, hairpin = false, stack = false }: { ip: string; hairpin?: boolean; stack?: boolean },
  ): LabPod {
    const { machine, root, bridge } = node;
    const namespace = machine.addNamespace(name);
    const { inside, outside } = createVethPair({
      inside: namespace.device('eth0', machine.nextMac()),
      outside: root.device(`veth-${name}`, machine.nextMac()),
    });
    this.#watch(namespace.add(inside));
    root.add(outside);
    const gateway = bridge === undefined ? parseIp('169.254.1.1') : addressAt(node.podRange, 1);
    namespace.stack.addAddress(inside, parseIp(ip), bridge === undefined ? 32 : node.podRange.length);
    if (bridge === undefined) {
      root.stack.addRoute({ destination: prefix(parseIp(ip), 32), device: outside });
      namespace.stack.addRoute({ destination: prefix(gateway, 32), device: inside });
    }
    namespace.stack.addRoute({ destination: ANY_PREFIX, device: inside, gateway });
    bridge?.addPort(outside, { hairpin });
    if (!stack) loadRules(namespace, '*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j DROP\nCOMMIT\n');
    const pod: LabPod = { node, namespace, ip: parseIp(ip), device: inside, hostDevice: outside };
    this.#pods.set(name, pod);
    return pod;
  }

  pod(name: string): LabPod {
    const pod = this.#pods.get(name);
    if (pod === undefined) throw new RangeError(`no pod ${name}; there are ${[...this.#pods.keys()].join(', ')}`);
    return pod;
  }

  /**
   * Puts a packet on a pod's device: `udp 10.244.1.2:1000 > 10.244.2.2:53`, `icmp 10.244.1.2 > 10.244.2.2` (an echo
   * request). `fields` are a frame's. Returns what then passed the watched devices, ARP left out.
   */
  send(from: string, packet: string, fields: Partial<Frame> = {}): string[] {
    const pod = this.pod(from);
    const frame = new Frame();
    fillFrame(frame, packet);
    const dstMac = this.#nextHopMac(pod, frame.dstIp);
    return this.sendFrom(pod.device, pod.node.machine, packet, { dstMac, ...fields });
  }

  /** The same on any device of a machine; the destination MAC is among the fields. */
  sendFrom(device: NetDevice, machine: Machine, packet: string, fields: Partial<Frame>): string[] {
    const frame = this.frames.allocate();
    fillFrame(frame, packet);
    frame.srcMac = device.mac;
    Object.assign(frame, fields);
    frame.updateSize();
    return this.during(() => machine.cpus.submit(0, (sent: Frame) => device.transmit(sent), frame));
  }

  /** What passes the watched devices within a millisecond, or longer, after something was done. */
  during(action: () => void, duration: Duration = ms(1)): string[] {
    this.#seen = [];
    action();
    this.sim.run({ until: after(this.sim.now, duration) });
    this.frames.assertConserved();
    return this.#seen;
  }

  /** The pod of that address on the same bridge, else the gateway. */
  #nextHopMac({ node, hostDevice }: LabPod, dstIp: Ip): Mac {
    const peer = [...this.#pods.values()].find((pod) => pod.ip === dstIp && pod.node === node);
    if (node.bridge === undefined) return hostDevice.mac;
    return peer === undefined ? node.bridge.mac : peer.device.mac;
  }

  #watch<D extends NetDevice>(device: D): D {
    device.tap = (frame, direction) => {
      if (frame.etherType === ETHERTYPE_ARP) return;
      const { ttl, dontFragment } = frame;
      const df = dontFragment ? ' df' : '';
      this.#seen.push(`${device.namespace}/${device.name} ${direction} ${describeFrame(frame)} ttl ${ttl}${df}`);
    };
    return device;
  }
}

/** `iptables-restore` in a namespace; lines may be indented. */
export function loadRules(namespace: NetworkNamespace, text: string): void {
  restoreTables(namespace.enableNetfilter().tables, parseIptablesSave(text.replace(/^ +/gm, '')));
}

/** The way from one node to the pods of the other: its address, or its end of the tunnel. */
function routeBetween(from: LabNode, to: LabNode): void {
  const { stack } = from.root;
  if (from.vxlan === undefined || to.vxlan === undefined) {
    stack.addRoute({ destination: to.podRange, device: from.ipip ?? from.uplink, gateway: to.ip });
    return;
  }
  stack.addRoute({ destination: to.podRange, device: from.vxlan, gateway: to.podRange.net });
  stack.neighbors.addPermanent(from.vxlan, to.podRange.net, to.vxlan.mac);
  from.vxlan.appendForwarding(to.vxlan.mac, to.ip);
}

function fillFrame(frame: Frame, packet: string): void {
  const match = /^(udp|tcp|icmp) ([\d.]+)(?::(\d+))? > ([\d.]+)(?::(\d+))?$/.exec(packet);
  if (match === null) throw new RangeError(`packet "${packet}"; expected "udp 10.0.0.1:1000 > 10.0.0.2:53"`);
  const [, protocol, src, srcPort = '0', dst, dstPort = '0'] = match;
  frame.srcIp = parseIp(src!);
  frame.dstIp = parseIp(dst!);
  frame.srcPort = Number(srcPort);
  frame.dstPort = Number(dstPort);
  frame.dontFragment = false;
  frame.protocol = protocol === 'udp' ? PROTOCOL_UDP : protocol === 'tcp' ? PROTOCOL_TCP : PROTOCOL_ICMP;
  if (frame.protocol === PROTOCOL_TCP) frame.tcpFlags = TCP_SYN;
  if (frame.protocol === PROTOCOL_ICMP) frame.icmpType = ICMP_ECHO_REQUEST;
}
