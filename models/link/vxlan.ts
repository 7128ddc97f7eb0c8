// VXLAN (RFC 7348): a device whose frames travel as UDP datagrams to the tunnel endpoint that its forwarding database
// names for the destination MAC. The datagrams go out and come in through the IP stack of the device's own namespace,
// with its hooks (drivers/net/vxlan).
//
// Not modelled: tunnels over IPv6, multicast groups, ARP suppression, group policy, several networks on one device, and
// ageing of the entries of a learning device (they move, but stay).

import type { CpuSet } from '../cpu/cpu-set.ts';
import { lastingFlowHash } from '../packet/flow-hash.ts';
import { type DeviceRef, type Frame, PROTOCOL_UDP, VXLAN_HEADER_BYTES } from '../packet/frame.ts';
import type { FrameStore } from '../packet/frame-store.ts';
import { formatIp, type Ip } from '../packet/ip-address.ts';
import { formatMac, type Mac, ZERO_MAC } from '../packet/mac.ts';
import { NetDevice, type NetDeviceOptions } from './net-device.ts';
import { MOST_TUNNELS, outerCongestionBits, ReceiveCell } from './tunnel.ts';

/** The port that Linux takes by default, from the time before the assignment of 4789; flannel keeps it. */
export const VXLAN_PORT = 8472;

/** What the outer headers take: Ethernet 14, IPv4 20, UDP 8, VXLAN 8. */
export const VXLAN_OVERHEAD_BYTES = 50;

/** The namespace's IP stack, below the tunnel. */
export interface VxlanUnderlay {
  /** Sends a datagram of the tunnel; it ends there if it cannot go, or would go into the tunnel. */
  send(frame: Frame, tunnel: DeviceRef): void;
}

export interface VxlanOptions extends NetDeviceOptions {
  /** VXLAN network identifier, 24 bits. */
  readonly vni: number;
  /** Source of the datagrams. */
  readonly local: Ip;
  /** Where other endpoints listen; default 8472. */
  readonly port?: number;
  /** Are source MACs of received frames remembered with the endpoint that they came from? As `learning`; default off. */
  readonly learning?: boolean;
  readonly underlay: VxlanUnderlay;
}

export class VxlanDevice extends NetDevice {
  override readonly headroomBytes = VXLAN_OVERHEAD_BYTES;
  readonly vni: number;
  readonly local: Ip;
  readonly port: number;
  readonly #learning: boolean;
  readonly #underlay: VxlanUnderlay;
  readonly #entries = new Map<Mac, Entry>();
  readonly #cell = new ReceiveCell(this);

  constructor(options: VxlanOptions) {
    super(options);
    const { vni, local, port = VXLAN_PORT, learning = false, underlay } = options;
    if (!(Number.isInteger(vni) && vni >= 0 && vni < 2 ** 24)) {
      throw new RangeError(`VXLAN network ${vni} of ${this.name}; expected 0 to ${2 ** 24 - 1}`);
    }
    this.vni = vni;
    this.local = local;
    this.port = port;
    this.#learning = learning;
    this.#underlay = underlay;
  }

  /**
   * `bridge fdb append MAC dev DEVICE dst REMOTE`. With ZERO_MAC the endpoint gets a copy of every frame whose
   * destination has no entry, as broadcasts have none.
   */
  appendForwarding(mac: Mac, remote: Ip): void {
    const remotes = this.#entries.get(mac)?.remotes ?? [];
    if (remotes.includes(remote)) {
      throw new RangeError(
        `${formatMac(mac)} on ${this.name} is at ${formatIp(remote)} already; expected a new endpoint`,
      );
    }
    this.#entries.set(mac, { remotes: [...remotes, remote], isStatic: true });
  }

  /** `bridge fdb show dev DEVICE`: by MAC the endpoints, and whether somebody has said so. */
  get forwarding(): ReadonlyMap<Mac, { readonly remotes: readonly Ip[]; readonly isStatic: boolean }> {
    return this.#entries;
  }

  /** `bridge fdb del MAC dev DEVICE`. */
  removeForwarding(mac: Mac): boolean {
    return this.#entries.delete(mac);
  }

  protected override carry(frame: Frame): void {
    const remotes = (this.#entries.get(frame.dstMac) ?? this.#entries.get(ZERO_MAC))?.remotes;
    if (remotes === undefined) return this.drop(frame, 'NO_TX_TARGET');
    frame.closeInnerChecksum();
    // Rules may send a tunnel's datagrams into a tunnel.
    const { cpus } = this;
    if (cpus.tunnelDepth === MOST_TUNNELS) return this.drop(frame, 'TX_RECURSION');
    cpus.tunnelDepth++;
    for (let i = 1; i < remotes.length; i++) this.#sendTo(remotes[i], this.frames.copy(frame));
    this.#sendTo(remotes[0], frame);
    cpus.tunnelDepth--;
  }

  #sendTo(remote: Ip, inner: Frame): void {
    this.cpus.charge(this.cpus.costs.vxlanEncapNs);
    const flowHash = lastingFlowHash(inner);
    const outer = this.frames.encapsulate(inner);
    outer.protocol = PROTOCOL_UDP;
    outer.srcIp = this.local;
    outer.dstIp = remote;
    outer.srcPort = this.#sourcePort(flowHash);
    outer.dstPort = this.port;
    outer.dontFragment = false; // df unset, the default
    outer.typeOfService = outerCongestionBits(inner);
    outer.vni = this.vni;
    outer.payloadBytes = VXLAN_HEADER_BYTES + inner.sizeBytes;
    outer.updateSize();
    outer.mark = inner.mark; // skb_scrub_packet within one namespace: conntrack goes, the mark stays
    inner.clearMetadata();
    this.#note(outer, `in VXLAN ${this.vni} to ${formatIp(remote)}`);
    this.#underlay.send(outer, this);
  }

  /** udp_flow_src_port: a flow's packets keep one port, so that they keep one path; in all tunnels of a machine. */
  #sourcePort(flowHash: number): number {
    let hash = Math.imul(flowHash ^ this.cpus.flowHashSecret, 0x9e3779b1);
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b) >>> 0;
    return FIRST_SOURCE_PORT + Math.floor((hash * (LAST_SOURCE_PORT - FIRST_SOURCE_PORT)) / 2 ** 32);
  }

  /** A datagram of this device's network has come in: the frame in it comes out of the device. */
  receive(outer: Frame): void {
    this.cpus.charge(this.cpus.costs.vxlanDecapNs);
    const { srcIp, mark } = outer;
    this.#note(outer, `out of VXLAN ${this.vni} from ${formatIp(srcIp)}`);
    const frame = this.frames.decapsulate(outer);
    frame.mark = mark;
    if (frame.srcMac === this.mac) return this.drop(frame, 'LOCAL_MAC');
    if (this.#learning && !this.#learn(frame.srcMac, srcIp)) return this.drop(frame, 'VXLAN_ENTRY_EXISTS');
    this.#cell.receive(frame);
  }

  /** vxlan_snoop; false: the source claims a place that a static entry gives to another. */
  #learn(mac: Mac, remote: Ip): boolean {
    const entry = this.#entries.get(mac);
    if (entry !== undefined && entry.remotes[0] === remote) return true;
    if (entry?.isStatic === true) return false;
    this.#entries.set(mac, { remotes: [remote], isStatic: false });
    return true;
  }

  #note(frame: Frame, text: string): void {
    frame.journey?.add({ at: this.cpus.instant, namespace: this.namespace, stage: 'tunnel', device: this.name, text });
  }
}

/** The kernel's socket on a VXLAN port of a namespace: finds the device of a datagram's network. */
export class VxlanEndpoint {
  readonly #devices = new Map<number, VxlanDevice>();
  readonly #namespace: string;
  readonly #cpus: CpuSet;
  readonly #frames: FrameStore;

  constructor({ namespace, cpus, frames }: { namespace: string; cpus: CpuSet; frames: FrameStore }) {
    this.#namespace = namespace;
    this.#cpus = cpus;
    this.#frames = frames;
  }

  add(device: VxlanDevice): void {
    if (this.#devices.has(device.vni)) {
      throw new RangeError(
        `VXLAN ${device.vni} on port ${device.port} exists in ${this.#namespace}; expected a new one`,
      );
    }
    this.#devices.set(device.vni, device);
  }

  receive(frame: Frame): void {
    const device = frame.inner === undefined ? undefined : this.#devices.get(frame.vni);
    if (device !== undefined) return device.receive(frame);
    this.#frames.drop(frame, 'VXLAN_VNI_NOT_FOUND', this.#cpus.instant, this.#namespace);
  }
}

interface Entry {
  readonly remotes: readonly Ip[];
  readonly isStatic: boolean;
}

// net.ipv4.ip_local_port_range
const FIRST_SOURCE_PORT = 32_768;
const LAST_SOURCE_PORT = 60_999;
