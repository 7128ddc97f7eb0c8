// VXLAN (RFC 7348): a device whose frames travel as UDP datagrams to the tunnel endpoint that its forwarding database
// names for the destination MAC. The datagrams go out and come in through the IP stack of the device's own namespace,
// with its hooks (drivers/net/vxlan). A device's datagrams are of one family, the frames in them of both. Of IPv4 they may
// be cut on their way; of IPv6 by nobody, not even where they are made: one that is too large for its way is lost, and the
// device itself hears of it by ICMPv6.
//
// Datagrams have checksums in both families (udpcsum, noudp6zerocsumtx, as the kernel, flannel and Calico have it), and in
// IPv6 no flow label.
//
// Not modelled: multicast groups, ARP suppression, group policy, several networks on one device, ageing of the entries of
// a learning device (they move, but stay), and endpoints in the device's own namespace.

import type { CpuSet } from '../cpu/cpu-set.ts';
import { keptFlowHash, lastingFlowHash } from '../packet/flow-hash.ts';
import {
  type DeviceRef,
  ETHERNET_HEADER_BYTES,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  type Frame,
  IPV4_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  MIN_IPV6_MTU_BYTES,
  PROTOCOL_UDP,
  UDP_HEADER_BYTES,
  VXLAN_HEADER_BYTES,
} from '../packet/frame.ts';
import type { FrameStore } from '../packet/frame-store.ts';
import { formatIp, type Ip, type IpFamily } from '../packet/ip-address.ts';
import { formatMac, type Mac, ZERO_MAC } from '../packet/mac.ts';
import { NetDevice, type NetDeviceOptions } from './net-device.ts';
import { innerTypeOfService, MOST_TUNNELS, outerCongestionBits, ReceiveCell } from './tunnel.ts';

/** The port that Linux takes by default, from the time before the assignment of 4789; flannel keeps it. */
export const VXLAN_PORT = 8472;

const HEADERS_BYTES = ETHERNET_HEADER_BYTES + UDP_HEADER_BYTES + VXLAN_HEADER_BYTES;
/** What the headers take by the family outside, 50 and 70 (vxlan_headroom): of Ethernet it is the one of the frame inside. */
export const VXLAN_OVERHEAD_BYTES: Readonly<Record<IpFamily, number>> = {
  4: HEADERS_BYTES + IPV4_HEADER_BYTES,
  6: HEADERS_BYTES + IPV6_HEADER_BYTES,
};

/** The namespace's IP stack, below the tunnel. */
export interface VxlanUnderlay {
  /** Sends a datagram of the tunnel; it ends there if it cannot go, or would go into the tunnel. */
  send(frame: Frame, tunnel: DeviceRef): void;
  /** How large packets to there may be, as far as is known. */
  mtuTo(dst: Ip, family: IpFamily): number;
  updatePathMtu(dst: Ip, mtuBytes: number, family: IpFamily): void;
}

export interface VxlanOptions extends NetDeviceOptions {
  /** VXLAN network identifier, 24 bits. */
  readonly vni: number;
  /** Source of the datagrams. */
  readonly local: Ip;
  /** Of the datagrams; default IPv4. */
  readonly family?: IpFamily;
  /** Where other endpoints listen; default 8472. */
  readonly port?: number;
  /** Are source MACs of received frames remembered with the endpoint that they came from? As `learning`; default off. */
  readonly learning?: boolean;
  readonly underlay: VxlanUnderlay;
}

export class VxlanDevice extends NetDevice {
  readonly vni: number;
  readonly local: Ip;
  readonly family: IpFamily;
  readonly port: number;
  readonly #learning: boolean;
  readonly #underlay: VxlanUnderlay;
  readonly #entries = new Map<Mac, Entry>();
  readonly #cell = new ReceiveCell(this);

  constructor(options: VxlanOptions) {
    super(options);
    const { vni, local, family = 4, port = VXLAN_PORT, learning = false, underlay } = options;
    if (!(Number.isInteger(vni) && vni >= 0 && vni < 2 ** 24)) {
      throw new RangeError(`VXLAN network ${vni} of ${this.name}; expected 0 to ${2 ** 24 - 1}`);
    }
    this.vni = vni;
    this.local = local;
    this.family = family;
    this.port = port;
    this.#learning = learning;
    this.#underlay = underlay;
  }

  override get headroomBytes(): number {
    return VXLAN_OVERHEAD_BYTES[this.family];
  }

  /**
   * `bridge fdb append MAC dev DEVICE dst REMOTE`. With ZERO_MAC the endpoint gets a copy of every frame whose
   * destination has no entry, as broadcasts have none.
   */
  appendForwarding(mac: Mac, remote: Ip): void {
    const remotes = this.#entries.get(mac)?.remotes ?? [];
    if (remotes.includes(remote)) {
      throw new RangeError(
        `${formatMac(mac)} on ${this.name} is at ${formatIp(remote, this.family)} already; expected a new endpoint`,
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
    const { family } = this;
    const flowHash = family === 6 ? keptFlowHash(inner) : lastingFlowHash(inner);
    if (family === 6) this.#heedPathMtu(remote, inner);
    const outer = this.frames.encapsulate(inner);
    if (family === 6) outer.setFamily(6);
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
    if (outer.journey !== undefined) this.#note(outer, `in VXLAN ${this.vni} to ${formatIp(remote, family)}`);
    this.#underlay.send(outer, this);
  }

  /**
   * skb_tunnel_check_pmtu: what way the datagram has, the way of the packet inside has, too. This one goes all the same; later
   * ones of IPv6 heed it, and of IPv4 those that this host sends itself. Not asked in tunnels over IPv4, whose datagrams are
   * cut where they have to be.
   */
  #heedPathMtu(remote: Ip, { etherType, sizeBytes, dstIp, family }: Frame): void {
    const packetBytes = sizeBytes - ETHERNET_HEADER_BYTES;
    if (packetBytes <= MIN_IPV6_MTU_BYTES - this.headroomBytes) return; // no way is that narrow
    const mtuBytes = this.#underlay.mtuTo(remote, 6) - this.headroomBytes;
    if (packetBytes > mtuBytes && etherType !== ETHERTYPE_ARP) this.#underlay.updatePathMtu(dstIp, mtuBytes, family);
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
    const { srcIp, mark, typeOfService } = outer;
    if (outer.journey !== undefined) this.#note(outer, `out of VXLAN ${this.vni} from ${formatIp(srcIp, this.family)}`);
    const frame = this.frames.decapsulate(outer);
    frame.mark = mark;
    if (frame.srcMac === this.mac) return this.drop(frame, 'LOCAL_MAC');
    if (this.#learning && !this.#learn(frame.srcMac, srcIp)) return this.drop(frame, 'VXLAN_ENTRY_EXISTS');
    if (typeOfService !== 0 && !takeCongestion(frame, typeOfService)) return this.drop(frame, 'IP_TUNNEL_ECN');
    this.#cell.receive(frame);
  }

  /** An ICMPv6 error about a datagram of this device: the way to its endpoint is narrower than was known. */
  pathIsNarrow(remote: Ip, mtuBytes: number): void {
    this.#underlay.updatePathMtu(remote, mtuBytes, this.family);
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

  /** vxlan_err_lookup: it has to be of a device that there is. */
  packetTooBig(quoted: Frame, mtuBytes: number): void {
    this.#devices.get(quoted.vni)?.pathIsNarrow(quoted.dstIp, mtuBytes);
  }
}

/** vxlan_ecn_decapsulate; false: congestion was experienced on the way, and the packet has no way to say so. */
function takeCongestion(frame: Frame, outerTypeOfService: number): boolean {
  if (frame.etherType !== ETHERTYPE_IPV4 && frame.etherType !== ETHERTYPE_IPV6) return true;
  const typeOfService = innerTypeOfService(frame.typeOfService, outerTypeOfService);
  if (typeOfService === undefined) return false;
  frame.typeOfService = typeOfService;
  return true;
}

interface Entry {
  readonly remotes: readonly Ip[];
  readonly isStatic: boolean;
}

// net.ipv4.ip_local_port_range
const FIRST_SOURCE_PORT = 32_768;
const LAST_SOURCE_PORT = 60_999;
