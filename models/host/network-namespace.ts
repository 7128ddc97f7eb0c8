// What `ip netns` makes: devices, addresses and routes, netfilter, sockets of its own.

import type { CpuSet } from '../cpu/cpu-set.ts';
import type { FlowCache } from '../ip/flow-cache.ts';
import { IpStack } from '../ip/stack.ts';
import { Bridge } from '../link/bridge.ts';
import { IpipDevice } from '../link/ipip.ts';
import { LOOPBACK_MTU_BYTES, LoopbackDevice } from '../link/loopback.ts';
import { DEFAULT_MTU_BYTES, type NetDevice, type NetDeviceOptions } from '../link/net-device.ts';
import { VXLAN_OVERHEAD_BYTES, VXLAN_PORT, VxlanDevice, VxlanEndpoint } from '../link/vxlan.ts';
import type { ConntrackSettings } from '../netfilter/conntrack.ts';
import { Netfilter } from '../netfilter/netfilter.ts';
import { PROTOCOL_IPIP } from '../packet/frame.ts';
import type { FrameStore } from '../packet/frame-store.ts';
import type { Ip, IpFamily } from '../packet/ip-address.ts';
import { type Mac, ZERO_MAC } from '../packet/mac.ts';
import { SctpLayer } from '../transport/sctp-layer.ts';
import type { SocketBalancer } from '../transport/socket-balancer.ts';
import { TcpLayer } from '../transport/tcp-layer.ts';
import { UdpLayer } from '../transport/udp.ts';
import { type BridgeCalls, BridgeIptables } from './bridge-netfilter.ts';
import { Sysctls } from './sysctls.ts';

export interface NetworkNamespaceOptions {
  /** `node-1` for a node's own namespace, `default/web-0` for a pod's. */
  readonly name: string;
  readonly cpus: CpuSet;
  readonly frames: FrameStore;
  readonly forwarding: boolean;
  /** The run's memory of ways, if it has one. */
  readonly flows?: FlowCache;
}

export interface VxlanLink {
  readonly name: string;
  readonly mac: Mac;
  /** VXLAN network identifier. */
  readonly vni: number;
  /** The address of this tunnel endpoint. */
  readonly local: Ip;
  /** Of that address, and of all others; default IPv4. */
  readonly family?: IpFamily;
  /** The device by which the datagrams leave. */
  readonly lower: NetDevice;
  readonly port?: number;
  readonly learning?: boolean;
}

/** A node has one for each of its pods. */
const MANY_DEVICES = 8;

const NO_BRIDGE_CALLS: BridgeCalls = { iptables: false, ip6tables: false };

export class NetworkNamespace {
  readonly name: string;
  readonly cpus: CpuSet;
  readonly stack: IpStack;
  readonly udp: UdpLayer;
  readonly tcp: TcpLayer;
  #sctp: SctpLayer | undefined;
  readonly #frames: FrameStore;
  /** Where there are many; others are looked through. */
  #devicesByName: Map<string, NetDevice> | undefined;
  /** The kernel's sockets for VXLAN, by family and port. */
  #vxlanEndpoints: Map<string, VxlanEndpoint> | undefined;
  #bridgeCalls: BridgeCalls = NO_BRIDGE_CALLS;
  #lastIndex = 0;

  constructor({ name, cpus, frames, forwarding, flows }: NetworkNamespaceOptions) {
    this.name = name;
    this.cpus = cpus;
    this.#frames = frames;
    const random = cpus.place.random(`stack/${name}`);
    this.stack = new IpStack({ name, cpus, frames, random, forwarding, flows });
    this.udp = new UdpLayer(this.stack, random);
    this.tcp = new TcpLayer(this.stack, random);
    this.add(new LoopbackDevice(this.device('lo', ZERO_MAC, { mtuBytes: LOOPBACK_MTU_BYTES })));
  }

  /** There from the first socket on, as the kernel loads its module then: before, its packets are of an unknown protocol. */
  get sctp(): SctpLayer {
    this.#sctp ??= new SctpLayer(this.stack, this.cpus.place.random(`sctp/${this.name}`));
    return this.#sctp;
  }

  get netfilter(): Netfilter | undefined {
    return this.stack.netfilter;
  }

  /** Loads netfilter into this namespace; without it hooks cost nothing. */
  enableNetfilter(conntrack: Partial<ConntrackSettings> = {}): Netfilter {
    this.stack.netfilter ??= new Netfilter({
      cpus: this.cpus,
      frames: this.#frames,
      random: this.cpus.place.random(`netfilter/${this.name}`),
      natRandom: this.cpus.place.random(`nat/${this.name}`),
      namespace: this.name,
      stack: this.stack,
      conntrack,
    });
    return this.stack.netfilter;
  }

  /** Sockets ask where to go from now on. */
  balanceSockets(balancer: SocketBalancer): void {
    this.tcp.balancer = balancer;
    this.udp.balancer = balancer;
  }

  /** Its settings by their Linux names. Not kept: its hundred closures are more than all the settings are. */
  get sysctls(): Sysctls {
    return new Sysctls(this);
  }

  /** `sysctl -w NAME=VALUE` in this namespace. Throws a RangeError for a name or a value that is not modelled. */
  sysctl(name: string, value: number | string): void {
    this.sysctls.write(name, value);
  }

  /** net.bridge.bridge-nf-call-iptables and -ip6tables: do frames of this namespace's bridges pass the rules? */
  get bridgeCalls(): BridgeCalls {
    return this.#bridgeCalls;
  }

  set bridgeCalls(calls: BridgeCalls) {
    this.#bridgeCalls = calls;
    for (const device of this.stack.devices) this.#hookBridge(device);
  }

  /** Options for a new device of this namespace. Throws if the name is taken. */
  device(name: string, mac: Mac, { mtuBytes = DEFAULT_MTU_BYTES }: { mtuBytes?: number } = {}): NetDeviceOptions {
    if (this.findDevice(name) !== undefined)
      throw new RangeError(`device ${name} exists in ${this.name}; expected a new name`);
    const { cpus } = this;
    return { name, mac, mtuBytes, namespace: this.name, index: ++this.#lastIndex, cpus, frames: this.#frames };
  }

  /** Takes a device in. Bridge ports are taken from the IP stack again by `Bridge.addPort`. */
  add<D extends NetDevice>(device: D): D {
    this.stack.addDevice(device);
    this.#devicesByName?.set(device.name, device);
    this.#hookBridge(device);
    return device;
  }

  /** `ip link set DEVICE down`: frames end there from now on, and so do the connections that it masquerades. */
  takeDown(device: NetDevice): void {
    device.up = false;
    this.netfilter?.conntrack.endMasqueraded(device.index);
  }

  /** `ip link del DEVICE`. The other end of a veth pair goes with it, if its namespace is told so, too. */
  remove(device: NetDevice): void {
    this.takeDown(device);
    this.stack.removeDevice(device);
    this.#devicesByName?.delete(device.name);
  }

  /** The device of that name, if there is one. */
  findDevice(name: string): NetDevice | undefined {
    const { devices } = this.stack;
    if (devices.length < MANY_DEVICES) return devices.find((device) => device.name === name);
    this.#devicesByName ??= new Map(devices.map((device) => [device.name, device]));
    return this.#devicesByName.get(name);
  }

  #hookBridge(device: NetDevice): void {
    if (!(device instanceof Bridge)) return;
    const calls = this.#bridgeCalls;
    device.netfilter =
      calls.iptables || calls.ip6tables
        ? new BridgeIptables(device, this.stack, this.enableNetfilter(), calls)
        : undefined;
  }

  /** `ip link add NAME type vxlan id VNI local LOCAL dev LOWER dstport PORT`; its MTU leaves room for the outer headers. */
  addVxlan({ name, mac, vni, local, family = 4, lower, port = VXLAN_PORT, learning = false }: VxlanLink): VxlanDevice {
    this.#vxlanEndpoints ??= new Map();
    const key = `IPv${family} ${port}`;
    let endpoint = this.#vxlanEndpoints.get(key);
    if (endpoint === undefined) {
      endpoint = new VxlanEndpoint({ namespace: this.name, cpus: this.cpus, frames: this.#frames });
      this.udp.addTunnel(port, family, endpoint);
      this.#vxlanEndpoints.set(key, endpoint);
    }
    const device = new VxlanDevice({
      ...this.device(name, mac, { mtuBytes: lower.mtuBytes - VXLAN_OVERHEAD_BYTES[family] }),
      vni,
      local,
      family,
      port,
      learning,
      underlay: this.stack,
    });
    endpoint.add(device);
    return this.add(device);
  }

  /** `modprobe ipip; ip link set tunl0 up mtu BYTES`: a namespace has one such device. */
  addIpip({ name = 'tunl0', mtuBytes }: { name?: string; mtuBytes: number }): IpipDevice {
    if (this.stack.handlerOf(PROTOCOL_IPIP) !== undefined)
      throw new RangeError(`${this.name} has a tunnel of IP in IP; expected no other than that one`);
    const { mac: _, ...options } = this.device(name, ZERO_MAC);
    const device = new IpipDevice({ ...options, mtuBytes, underlay: this.stack });
    this.stack.register(PROTOCOL_IPIP, device);
    return this.add(device);
  }

  get devices(): NetDevice[] {
    return [...this.stack.devices];
  }

  /** Throws a RangeError for an unknown name. */
  deviceNamed(name: string): NetDevice {
    const device = this.findDevice(name);
    if (device === undefined)
      throw new RangeError(
        `no device ${name} in ${this.name}; it has ${this.stack.devices.map((own) => own.name).join(', ')}`,
      );
    return device;
  }
}
