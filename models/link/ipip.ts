// IP-in-IP (RFC 2003; net/ipv4/ipip.c, ip_tunnel.c): the device `tunl0` that comes with the kernel's module, whose packets
// travel in packets of protocol 4 to the next hop of their route, whoever that is. They go out and come in through the IP
// stack of the device's own namespace, with its hooks.
//
// The device has no Ethernet: neighbors on it have IP addresses for link-layer addresses (ARPHRD_TUNNEL), and nobody is
// asked for them. Frames keep the header that all of them have; it is not among the bytes of the packet outside.
//
// Its settings are those that it comes with, `remote any local any ttl inherit nopmtudisc`: the TTL and DF of the packet
// outside are those of the packet inside, and of its type of service it has ECN. Not modelled: tunnels between two
// addresses (`ip tunnel add`, which say DF of all packets), IPv6 and MPLS inside, GUE and FOU. NICs see one flow between two
// hosts, so that one CPU receives it.

import { lastingFlowHash } from '../packet/flow-hash.ts';
import {
  type DeviceRef,
  ETHERNET_HEADER_BYTES,
  ETHERTYPE_IPV4,
  type Frame,
  IPV4_HEADER_BYTES,
  PROTOCOL_IPIP,
} from '../packet/frame.ts';
import { ICMP_DEST_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED, ICMP_PORT_UNREACHABLE } from '../packet/icmp.ts';
import { ANY_IP, formatIp, type Ip } from '../packet/ip-address.ts';
import { type Mac, ZERO_MAC } from '../packet/mac.ts';
import { NetDevice, type NetDeviceOptions } from './net-device.ts';
import { innerTypeOfService, MOST_TUNNELS, outerCongestionBits, ReceiveCell } from './tunnel.ts';

/** The outer header. */
export const IPIP_OVERHEAD_BYTES = IPV4_HEADER_BYTES;

/** The namespace's IP stack, below the tunnel. */
export interface IpipUnderlay {
  /** Sends a packet of the tunnel; it ends there if it cannot go. */
  send(frame: Frame, tunnel: DeviceRef, ttl: number): void;
  routeTo(ip: Ip, family: 4): { readonly device: DeviceRef | undefined; readonly mtuBytes: number } | undefined;
  /** How large packets to there may be, as far as is known. */
  mtuTo(dst: Ip): number;
  updatePathMtu(dst: Ip, mtuBytes: number): void;
  sendIcmpError(about: Frame, type: number, code: number, details?: { readonly mtuBytes?: number }): void;
}

export interface IpipOptions extends Omit<NetDeviceOptions, 'mac'> {
  readonly underlay: IpipUnderlay;
}

export class IpipDevice extends NetDevice {
  readonly #underlay: IpipUnderlay;
  readonly #cell = new ReceiveCell(this);

  constructor({ underlay, ...options }: IpipOptions) {
    super({ ...options, mac: ZERO_MAC });
    this.#underlay = underlay;
  }

  override get headroomBytes(): number {
    return IPIP_OVERHEAD_BYTES;
  }

  override get isWithoutHeader(): boolean {
    return true;
  }

  override linkAddressOf(ip: Ip): Mac {
    return (ip >>> 0) as Mac;
  }

  /** ip_tunnel_xmit. */
  protected override carry(frame: Frame): void {
    if (frame.etherType !== ETHERTYPE_IPV4) return this.drop(frame, 'UNHANDLED_PROTO');
    frame.closeInnerChecksum();
    const { cpus } = this;
    if (cpus.tunnelDepth === MOST_TUNNELS) return this.drop(frame, 'TX_RECURSION');
    const remote = (frame.dstMac | 0) as Ip;
    const route = this.#underlay.routeTo(remote, 4);
    if (route === undefined) return this.drop(frame, 'IP_OUTNOROUTES');
    if (route.device === this) return this.drop(frame, 'TX_RECURSION');
    if (frame.dontFragment && this.#isTooBig(frame, route.mtuBytes - IPIP_OVERHEAD_BYTES)) return;
    cpus.tunnelDepth++;
    this.#sendTo(remote, frame);
    cpus.tunnelDepth--;
  }

  /**
   * tnl_update_pmtu: the way to the packet's destination has that MTU, too. The kernel renews what it remembers of that before
   * it expires; here the first packet after that does.
   */
  #isTooBig(frame: Frame, mtuBytes: number): boolean {
    if (mtuBytes < this.#underlay.mtuTo(frame.dstIp)) this.#underlay.updatePathMtu(frame.dstIp, mtuBytes);
    if (frame.ipBytes() <= mtuBytes) return false;
    this.#underlay.sendIcmpError(frame, ICMP_DEST_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED, { mtuBytes });
    this.drop(frame, 'PKT_TOO_BIG');
    return true;
  }

  #sendTo(remote: Ip, inner: Frame): void {
    this.cpus.charge(this.cpus.costs.ipipEncapNs);
    lastingFlowHash(inner); // ip_tunnel_init_flow asks for it, so that it stays
    const outer = this.frames.encapsulate(inner);
    outer.protocol = PROTOCOL_IPIP;
    outer.srcIp = ANY_IP; // the route's
    outer.dstIp = remote;
    outer.dontFragment = inner.dontFragment;
    outer.typeOfService = outerCongestionBits(inner);
    outer.payloadBytes = inner.sizeBytes - ETHERNET_HEADER_BYTES;
    outer.updateSize();
    outer.mark = inner.mark; // skb_scrub_packet within one namespace: conntrack goes, the mark stays
    inner.clearMetadata();
    this.#note(outer, `in IPIP to ${formatIp(remote)}`);
    this.#underlay.send(outer, this, inner.ttl);
  }

  /** A packet of protocol 4 for this host (tunnel4_rcv, ip_tunnel_rcv): the one in it comes out of the device. */
  receive(outer: Frame): void {
    if (!this.up) {
      this.#underlay.sendIcmpError(outer, ICMP_DEST_UNREACHABLE, ICMP_PORT_UNREACHABLE);
      return this.drop(outer, 'UNHANDLED_PROTO');
    }
    if (outer.inner === undefined) return this.drop(outer, 'IP_INHDR');
    this.cpus.charge(this.cpus.costs.ipipDecapNs);
    const { srcIp, mark, typeOfService } = outer;
    this.#note(outer, `out of IPIP from ${formatIp(srcIp)}`);
    const frame = this.frames.decapsulate(outer);
    const innerTos = innerTypeOfService(frame.typeOfService, typeOfService);
    if (innerTos === undefined) return this.drop(frame, 'IP_TUNNEL_ECN');
    frame.typeOfService = innerTos;
    frame.srcMac = frame.dstMac = this.mac;
    frame.mark = mark;
    this.#cell.receive(frame);
  }

  /** ipip_err: of a tunnel to anybody only this matters. What the packet inside was too large for, its sender hears next time. */
  icmpError(type: number, code: number, quoted: Frame, mtuBytes: number): void {
    if (type !== ICMP_DEST_UNREACHABLE || code !== ICMP_FRAGMENTATION_NEEDED) return;
    this.#underlay.updatePathMtu(quoted.dstIp, mtuBytes);
  }

  #note(frame: Frame, text: string): void {
    frame.journey?.add({ at: this.cpus.instant, namespace: this.namespace, stage: 'tunnel', device: this.name, text });
  }
}
