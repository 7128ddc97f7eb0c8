// ARP of one network namespace (RFC 826; net/ipv4/arp.c): asks who has an address, answers for its own and, as a proxy, for
// addresses that it routes elsewhere, and keeps what it hears in the neighbor table.
//
// Not modelled: arp_filter, arp_accept, medium ids, `ip neigh add proxy`.

import type { RandomStream } from '../../engine/random.ts';
import { ms } from '../../engine/time.ts';
import type { NetDevice } from '../link/net-device.ts';
import { ARP_REPLY, ARP_REQUEST, ETHERTYPE_ARP, type Frame } from '../packet/frame.ts';
import { ANY_IP, formatIp, type Ip, isLoopback, isMulticast } from '../packet/ip-address.ts';
import { BROADCAST_MAC, isGroupAddress, type Mac, ZERO_MAC } from '../packet/mac.ts';
import type { Route } from './fib.ts';
import type { Ipv4Settings } from './ipv4-settings.ts';
import { type AddressResolution, type NeighborStack, NeighborTable } from './neighbor-table.ts';

/** What ARP needs of the IP stack it belongs to. */
export interface ArpStack extends NeighborStack {
  readonly settings: Ipv4Settings;
  /** An address of `device`, in the subnet of `towards` where there is one. */
  addressOn(device: NetDevice, towards: Ip): Ip;
  isLocal(ip: Ip): boolean;
  isAddressOf(device: NetDevice, ip: Ip): boolean;
  /** Are both in one subnet of the device? */
  shareSubnet(device: NetDevice, a: Ip, b: Ip): boolean;
  /** Where a packet from `srcIp` to `dstIp` would go that came in by `device`; undefined if it would be refused. */
  inputRoute(device: NetDevice, srcIp: Ip, dstIp: Ip): Route | undefined;
}

interface Request {
  readonly device: NetDevice;
  readonly senderIp: Ip;
  readonly senderMac: Mac;
  readonly targetIp: Ip;
}

export class Arp implements AddressResolution {
  readonly family = 4;
  readonly neighbors: NeighborTable;
  readonly #stack: ArpStack;
  /** Asked for when a proxy first answers: few hosts are one. */
  #proxyRandom: RandomStream | undefined;
  #waitingProxyAnswers = 0;

  constructor(stack: ArpStack, random: RandomStream) {
    this.#stack = stack;
    this.neighbors = new NeighborTable(stack, this, random);
  }

  /** Takes an ARP packet that came in by `device`; the frame ends here. */
  receive(frame: Frame, device: NetDevice): void {
    const { srcIp: senderIp, srcMac: senderMac, dstIp: targetIp, arpOperation, dstMac } = frame;
    this.#stack.frames.deliver(frame);
    if (isMulticast(targetIp)) return;
    if (isLoopback(targetIp) && this.#stack.settings.of(device).route_localnet === 0) return;
    const request: Request = { device, senderIp, senderMac, targetIp };
    if (senderIp === ANY_IP) {
      // Somebody asks whether the address is free (RFC 5227).
      if (arpOperation === ARP_REQUEST && this.#answersFor(request)) this.#reply(request);
      return;
    }
    if (arpOperation === ARP_REQUEST && this.#takes(request, isGroupAddress(dstMac))) return;
    const isProof = arpOperation === ARP_REPLY && !isGroupAddress(dstMac);
    const isGratuitous = senderIp === targetIp && !this.#stack.isLocal(senderIp);
    this.neighbors.learn(device, {
      ip: senderIp,
      mac: senderMac,
      state: isProof ? 'REACHABLE' : 'STALE',
      create: false,
      respectsLock: !isGratuitous,
    });
  }

  /** arp_process on a request: is it for this host, or for one behind it? */
  #takes(request: Request, isBroadcast: boolean): boolean {
    const { device, senderIp, senderMac: mac, targetIp } = request;
    const route = this.#stack.inputRoute(device, senderIp, targetIp);
    if (route?.type === 'local') {
      if (this.#answersFor(request)) {
        this.neighbors.learn(device, { ip: senderIp, mac, state: 'STALE', create: true });
        this.#reply(request);
      }
      return true;
    }
    const { forwarding, proxy_arp } = this.#stack.settings.of(device);
    if (route?.type !== 'unicast' || route.device === device || forwarding === 0 || proxy_arp === 0) return false;
    this.neighbors.learn(device, { ip: senderIp, mac, state: 'STALE', create: true });
    this.#replyAsProxy(request, isBroadcast);
    return true;
  }

  /** arp_ignore. */
  #answersFor({ device, senderIp, targetIp }: Request): boolean {
    if (!this.#stack.isLocal(targetIp)) return false;
    switch (this.#stack.settings.of(device).arp_ignore) {
      case 1:
        return this.#stack.isAddressOf(device, targetIp);
      case 2:
        return this.#stack.isAddressOf(device, targetIp) && this.#stack.shareSubnet(device, targetIp, senderIp);
      case 8:
        return false;
      default:
        return true;
    }
  }

  /** pneigh_enqueue: a proxy gives the address's owner time to answer, if everybody was asked. */
  #replyAsProxy(request: Request, isBroadcast: boolean): void {
    const { proxy_delay, proxy_qlen } = this.neighbors.settings.of(request.device);
    if (!isBroadcast || proxy_delay === 0) return this.#reply(request);
    if (this.#waitingProxyAnswers > proxy_qlen) return;
    const { cpus, name } = this.#stack;
    this.#proxyRandom ??= cpus.place.random(`proxy arp/${name}`);
    this.#waitingProxyAnswers++;
    const answer = (): void => this.#reply(request);
    const onDelayOver = (): void => {
      this.#waitingProxyAnswers--;
      cpus.submit(0, answer, undefined);
    };
    cpus.place.schedule(ms(10 * proxy_delay * this.#proxyRandom.uniform()), onDelayOver, undefined);
  }

  solicit(device: NetDevice, ip: Ip, mac: Mac | undefined, waiting: Frame | undefined): void {
    const request = this.#packet(device, { operation: ARP_REQUEST, targetIp: ip, targetMac: ZERO_MAC });
    request.srcIp = this.#announced(device, ip, waiting?.srcIp);
    request.dstMac = mac ?? BROADCAST_MAC;
    device.transmit(request);
  }

  /** arp_announce: the source of the packet that waits, where it is one of this host's; else an address of the device. */
  #announced(device: NetDevice, target: Ip, source: Ip | undefined): Ip {
    if (source !== undefined && this.#stack.isLocal(source)) {
      const { arp_announce } = this.#stack.settings.of(device);
      if (arp_announce === 0) return source;
      if (arp_announce === 1 && this.#stack.shareSubnet(device, target, source)) return source;
    }
    return this.#stack.addressOn(device, target);
  }

  #reply({ device, senderIp, senderMac, targetIp }: Request): void {
    const reply = this.#packet(device, { operation: ARP_REPLY, targetIp: senderIp, targetMac: senderMac });
    reply.srcIp = targetIp;
    reply.dstMac = senderMac;
    device.transmit(reply);
  }

  #packet(
    device: NetDevice,
    { operation, targetIp, targetMac }: { operation: number; targetIp: Ip; targetMac: Mac },
  ): Frame {
    const frame = this.#stack.frames.allocate();
    frame.etherType = ETHERTYPE_ARP;
    frame.arpOperation = operation;
    frame.arpTargetMac = targetMac;
    frame.srcMac = device.mac;
    frame.dstIp = targetIp;
    frame.updateSize();
    if (frame.journey !== undefined)
      frame.journey.title = `arp ${operation === ARP_REQUEST ? 'who-has' : 'reply to'} ${formatIp(targetIp)}`;
    return frame;
  }
}
