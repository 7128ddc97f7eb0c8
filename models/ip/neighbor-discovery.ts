// Neighbor discovery of one network namespace (RFC 4861, net/ipv6/ndisc.c): asks who has an address, answers for its own,
// redirects senders, and keeps what it hears in the neighbor table.
//
// Addresses may be used at once, as those set with `nodad`. Not modelled: duplicate address detection (its questions are
// answered, as those of others), routers that advertise themselves and hosts that ask for them, proxy NDP, redirects
// that a host believes: those of a gateway with a global address are never valid.

import type { RandomStream } from '../../engine/random.ts';
import type { NetDevice } from '../link/net-device.ts';
import { type Discovery, Frame, PROTOCOL_ICMPV6 } from '../packet/frame.ts';
import { ICMPV6_NEIGHBOR_ADVERTISEMENT, ICMPV6_NEIGHBOR_SOLICITATION, ICMPV6_REDIRECT } from '../packet/icmpv6.ts';
import {
  ALL_NODES_IPV6,
  ANY_IP,
  type Ip,
  isIpv6LinkLocal,
  isIpv6Multicast,
  solicitedNodeGroup,
} from '../packet/ip-address.ts';
import type { Mac } from '../packet/mac.ts';
import { type AddressResolution, type NeighborStack, NeighborTable } from './neighbor-table.ts';

/** What neighbor discovery needs of the IPv6 stack it belongs to. */
export interface DiscoveryStack extends NeighborStack {
  readonly isRouter: boolean;
  linkLocalOn(device: NetDevice): Ip | undefined;
  /** Is the address one of this very device? */
  hasAddress(device: NetDevice, ip: Ip): boolean;
  /** Is it an anycast address of this device? */
  hasAnycast(device: NetDevice, ip: Ip): boolean;
  /** Source address for packets to `dst` on the device's link. */
  sourceOn(device: NetDevice, dst: Ip): Ip | undefined;
  /** Sends a packet of neighbor discovery to its destination on the device's link, past OUTPUT and POSTROUTING. */
  sendOnLink(frame: Frame, device: NetDevice): void;
}

export class NeighborDiscovery implements AddressResolution {
  readonly family = 6;
  readonly neighbors: NeighborTable;
  readonly #stack: DiscoveryStack;

  constructor(stack: DiscoveryStack, random: RandomStream) {
    this.#stack = stack;
    this.neighbors = new NeighborTable(stack, this, random);
  }

  /** Takes a message that came in by `device`, after INPUT; the frame ends here. */
  receive(frame: Frame, device: NetDevice): void {
    const { discovery } = frame;
    // A hop limit of 255 proves that no router has forwarded it.
    if (discovery !== undefined && frame.ttl === FROM_THIS_LINK && !isIpv6Multicast(discovery.target)) {
      if (frame.icmpType === ICMPV6_NEIGHBOR_SOLICITATION) this.#receiveSolicitation(frame, discovery, device);
      if (frame.icmpType === ICMPV6_NEIGHBOR_ADVERTISEMENT) this.#receiveAdvertisement(frame, discovery, device);
    }
    this.#stack.frames.deliver(frame);
  }

  solicit(device: NetDevice, ip: Ip, mac: Mac | undefined, waiting: Frame | undefined): void {
    // The sender of the packet that waits is used where it is on this device, so that the answer teaches its address.
    const source =
      waiting !== undefined && this.#stack.hasAddress(device, waiting.srcIp)
        ? waiting.srcIp
        : this.#stack.linkLocalOn(device);
    if (source === undefined) return;
    const message = { target: ip, linkLayer: device.mac, isRouter: false, isSolicited: false, isOverride: false };
    const frame = this.#message(ICMPV6_NEIGHBOR_SOLICITATION, message);
    frame.srcIp = source;
    frame.dstIp = mac === undefined ? solicitedNodeGroup(ip) : ip;
    this.#send(frame, device);
  }

  /** Tells the sender of `about` of a better next hop, by way of the device on which the packet came in. */
  redirect(about: Frame, device: NetDevice, { target, linkLayer }: { target: Ip; linkLayer: Mac | undefined }): void {
    const source = this.#stack.linkLocalOn(device);
    if (source === undefined) return;
    if (target !== about.dstIp && !isIpv6LinkLocal(target)) return; // a router is known by its link-local address only
    const message = { target, linkLayer, isRouter: false, isSolicited: false, isOverride: false };
    const frame = this.#message(ICMPV6_REDIRECT, message);
    frame.quoted = new Frame();
    frame.quoted.copyPacketFrom(about);
    frame.srcIp = source;
    frame.dstIp = about.srcIp;
    this.#send(frame, device);
  }

  #receiveSolicitation(frame: Frame, { target, linkLayer }: Discovery, device: NetDevice): void {
    const { srcIp, dstIp } = frame;
    const isOwn = this.#stack.hasAddress(device, target);
    if (!isOwn && !this.#stack.hasAnycast(device, target)) return;
    const toGroup = isIpv6Multicast(dstIp);
    if (srcIp === ANY_IP) {
      // Somebody wants the address for itself, and hears that it is taken.
      if (toGroup) this.#advertise(device, target, { to: ALL_NODES_IPV6, isSolicited: false, isOverride: isOwn });
      return;
    }
    if (linkLayer === undefined && toGroup) return;
    if (linkLayer !== undefined)
      this.neighbors.learn(device, { ip: srcIp, mac: linkLayer, state: 'STALE', create: true });
    this.#advertise(device, target, { to: srcIp, isSolicited: true, isOverride: isOwn && toGroup, asked: toGroup });
  }

  #receiveAdvertisement(frame: Frame, discovery: Discovery, device: NetDevice): void {
    const { target: ip, linkLayer: mac, isSolicited, isOverride } = discovery;
    if (isSolicited && isIpv6Multicast(frame.dstIp)) return;
    const state = isSolicited ? 'REACHABLE' : 'STALE';
    this.neighbors.learn(device, { ip, mac, state, create: false, isOverride });
  }

  /** `asked`: the address was asked for, not only whether it still answers; then the answer has the MAC. */
  #advertise(
    device: NetDevice,
    target: Ip,
    {
      to,
      isSolicited,
      isOverride,
      asked = true,
    }: { to: Ip; isSolicited: boolean; isOverride: boolean; asked?: boolean },
  ): void {
    const source = this.#stack.hasAddress(device, target) ? target : this.#stack.sourceOn(device, to);
    if (source === undefined) return;
    const linkLayer = asked ? device.mac : undefined;
    const message = { target, linkLayer, isRouter: this.#stack.isRouter, isSolicited, isOverride };
    const frame = this.#message(ICMPV6_NEIGHBOR_ADVERTISEMENT, message);
    frame.srcIp = source;
    frame.dstIp = to;
    this.#send(frame, device);
  }

  #message(icmpType: number, discovery: Discovery): Frame {
    const frame = this.#stack.frames.allocate();
    frame.setFamily(6);
    frame.protocol = PROTOCOL_ICMPV6;
    frame.icmpType = icmpType;
    frame.discovery = discovery;
    frame.ttl = FROM_THIS_LINK;
    return frame;
  }

  #send(frame: Frame, device: NetDevice): void {
    frame.updateSize();
    this.#stack.sendOnLink(frame, device);
  }
}

const FROM_THIS_LINK = 255;
