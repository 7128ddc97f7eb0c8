// IPv4 of one network namespace: the path of a packet from a device to a socket, to another device, or from a socket out,
// with netfilter's five hooks at the kernel's places:
//
//   device ─▶ PREROUTING ─▶ route ─┬─▶ INPUT ─▶ socket ─▶ route ─▶ OUTPUT ─▶ (route) ─┐
//                                  └─▶ TTL ─▶ FORWARD ──────────────────────────────┴─▶ POSTROUTING ─▶ neighbor ─▶ device
//
// A packet moves by plain calls within one visit of a CPU. Not modelled: IPv6, fragmentation and reassembly (a UDP
// message larger than the MTU is refused at the socket), multicast routing, IP options, source routing.

import type { RandomStream } from '../../engine/random.ts';
import type { CpuSet } from '../cpu/cpu-set.ts';
import { LoopbackDevice } from '../link/loopback.ts';
import type { FrameReceiver, NetDevice } from '../link/net-device.ts';
import { CT_RELATED } from '../netfilter/conntrack-state.ts';
import {
  FORWARD,
  type Hook,
  INPUT,
  type Netfilter,
  type NetfilterStack,
  OUTPUT,
  POSTROUTING,
  PREROUTING,
  type RejectType,
} from '../netfilter/netfilter.ts';
import { describeFlow } from '../packet/describe.ts';
import type { DropReason } from '../packet/drop-reason.ts';
import {
  type DeviceRef,
  ETHERNET_HEADER_BYTES,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  type Frame,
  PROTOCOL_ICMP,
} from '../packet/frame.ts';
import type { FrameStore } from '../packet/frame-store.ts';
import {
  ICMP_DEST_UNREACHABLE,
  ICMP_ECHO_REQUEST,
  ICMP_FRAGMENTATION_NEEDED,
  ICMP_REDIRECT,
  ICMP_TIME_EXCEEDED,
} from '../packet/icmp.ts';
import {
  ANY_IP,
  broadcastOf,
  formatIp,
  type Ip,
  isLoopback,
  isMulticast,
  LIMITED_BROADCAST_IP,
  LOOPBACK_IP,
  maskOf,
  type Prefix,
  prefix,
} from '../packet/ip-address.ts';
import { isGroupAddress } from '../packet/mac.ts';
import { Arp } from './arp.ts';
import { Fib, formatRoute, type Route } from './fib.ts';
import {
  fillEchoReply,
  fillIcmpError,
  ICMP_HOST_UNREACHABLE,
  ICMP_NET_UNREACHABLE,
  ICMP_PROTOCOL_UNREACHABLE,
  IcmpRateLimit,
  isIcmpError,
  mayCauseError,
} from './icmp.ts';
import { Ipv4Settings } from './ipv4-settings.ts';
import type { NeighborTable } from './neighbor-table.ts';
import { fillReset, icmpCodeOf, mayCauseReset } from './reject.ts';

/** Why a local sender could not send, as errno names it. */
export type SendError = 'ENETUNREACH' | 'EHOSTUNREACH' | 'EINVAL' | 'EPERM';

/** A transport protocol on top of the stack. */
export interface ProtocolHandler {
  /** A packet for this host, after INPUT. The handler ends the frame: delivers or drops it. */
  receive(frame: Frame): void;
  /** An ICMP error about a packet that this host sent; `quoted` has its headers as they were sent. */
  icmpError(type: number, code: number, quoted: Frame, mtuBytes: number): void;
}

export interface IpStackOptions {
  /** The network namespace's name. */
  readonly name: string;
  readonly cpus: CpuSet;
  readonly frames: FrameStore;
  readonly random: RandomStream;
  /** net.ipv4.ip_forward: pods 0, nodes 1. */
  readonly forwarding: boolean;
}

export class IpStack implements FrameReceiver, NetfilterStack {
  readonly name: string;
  readonly cpus: CpuSet;
  readonly frames: FrameStore;
  readonly fib = new Fib();
  readonly neighbors: NeighborTable;
  readonly settings = new Ipv4Settings();
  netfilter: Netfilter | undefined;
  readonly #arp: Arp;
  readonly #addresses: { readonly device: NetDevice; readonly ip: Ip; readonly subnet: Prefix }[] = [];
  /** The host's own addresses: few, and asked for with every packet, so a list. */
  readonly #localIps: Ip[] = [];
  /** By IP protocol number: a handful. */
  readonly #handlers: (ProtocolHandler | undefined)[] = [];
  readonly #icmpRate: IcmpRateLimit;
  #loopback: NetDevice | undefined;
  #identification: number;

  constructor({ name, cpus, frames, random, forwarding }: IpStackOptions) {
    this.name = name;
    this.cpus = cpus;
    this.frames = frames;
    this.settings.write('all', 'forwarding', forwarding ? 1 : 0);
    this.#icmpRate = new IcmpRateLimit(this.settings);
    this.#identification = random.int(65_536);
    this.#arp = new Arp(this, random);
    this.neighbors = this.#arp.neighbors;
  }

  // ── from a device ──────────────────────────────────────────────────────────────────────────────────────────────────

  receive(frame: Frame, device: NetDevice): void {
    if (frame.dstMac !== device.mac && !isGroupAddress(frame.dstMac)) return this.drop(frame, 'OTHERHOST');
    switch (frame.etherType) {
      case ETHERTYPE_IPV4:
        return this.#preRouting(frame, device);
      case ETHERTYPE_ARP:
        return this.#arp.receive(frame, device);
      default:
        return this.drop(frame, 'UNHANDLED_PROTO');
    }
  }

  #preRouting(frame: Frame, device: NetDevice): void {
    if (frame.preRoutingDone)
      frame.preRoutingDone = false; // br_netfilter has been here with this frame
    else if (this.netfilter !== undefined && !this.netfilter.run(PREROUTING, frame, device, undefined)) return;
    if (!this.#acceptable(frame, device)) return;
    const route = this.fib.lookup(frame.dstIp);
    if (route?.type === 'local' || route?.type === 'broadcast' || frame.dstIp === LIMITED_BROADCAST_IP) {
      return this.#localDeliver(frame, device);
    }
    this.#forward(frame, device, route);
  }

  /** Martian addresses and reverse path; drops the frame and returns false where the kernel would. */
  #acceptable(frame: Frame, device: NetDevice): boolean {
    if (device === this.#loopback) return true;
    const { srcIp, dstIp } = frame;
    const { route_localnet, accept_local, rp_filter } = this.settings.of(device);
    const martian =
      (isLoopback(srcIp) || isLoopback(dstIp)) && route_localnet === 0
        ? true
        : isMulticast(srcIp) ||
          srcIp === LIMITED_BROADCAST_IP ||
          (accept_local === 0 && this.#localIps.includes(srcIp));
    if (martian) {
      this.drop(frame, 'IP_INADDRERRORS');
      return false;
    }
    if (rp_filter === 0) return true;
    const back = this.fib.lookup(srcIp);
    if (back !== undefined && (rp_filter === 2 || back.device === device)) return true;
    this.drop(frame, 'IP_RPFILTER');
    return false;
  }

  #localDeliver(frame: Frame, device: NetDevice): void {
    if (this.netfilter !== undefined && !this.netfilter.run(INPUT, frame, device, undefined)) return;
    if (frame.protocol === PROTOCOL_ICMP) return this.#receiveIcmp(frame);
    const handler = this.#handlers[frame.protocol];
    if (handler !== undefined) return handler.receive(frame);
    this.sendIcmpError(frame, ICMP_DEST_UNREACHABLE, ICMP_PROTOCOL_UNREACHABLE);
    this.drop(frame, 'UNHANDLED_PROTO');
  }

  #forward(frame: Frame, inDevice: NetDevice, route: Route | undefined): void {
    if (this.settings.of(inDevice).forwarding === 0 || isMulticast(frame.dstIp))
      return this.drop(frame, 'IP_NOFORWARD');
    if (route === undefined || route.type !== 'unicast') return this.#noRoute(frame, route);
    if (frame.ttl <= 1) {
      this.sendIcmpError(frame, ICMP_TIME_EXCEEDED, 0);
      return this.drop(frame, 'IP_TTL');
    }
    const { device } = route;
    if (frame.dontFragment && frame.sizeBytes - ETHERNET_HEADER_BYTES > device.mtuBytes) {
      this.sendIcmpError(frame, ICMP_DEST_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED, { mtuBytes: device.mtuBytes });
      return this.drop(frame, 'PKT_TOO_BIG');
    }
    this.cpus.charge(this.cpus.costs.forwardNs);
    if (frame.journey !== undefined) this.#noteRoute(frame, route);
    if (device === inDevice && this.settings.of(device).send_redirects !== 0 && this.#onLink(frame.srcIp, device)) {
      this.sendIcmpError(frame, ICMP_REDIRECT, 1, { gateway: route.gateway === ANY_IP ? frame.dstIp : route.gateway });
    }
    frame.ttl--;
    if (this.netfilter !== undefined && !this.netfilter.run(FORWARD, frame, inDevice, device)) return;
    this.#output(frame, route);
  }

  #noRoute(frame: Frame, route: Route | undefined): void {
    if (route?.type !== 'blackhole') {
      const code = route === undefined ? ICMP_NET_UNREACHABLE : route.type === 'prohibit' ? 13 : ICMP_HOST_UNREACHABLE;
      this.sendIcmpError(frame, ICMP_DEST_UNREACHABLE, code);
    }
    this.drop(frame, 'IP_INNOROUTES');
  }

  // ── from a socket ──────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Sends a locally made packet; the frame is no longer the caller's, whatever comes back. The source address is chosen
   * by route where it is ANY_IP. Returns what send() would fail with.
   */
  send(frame: Frame): SendError | undefined {
    let route = this.fib.lookup(frame.dstIp);
    if (frame.srcIp === ANY_IP && route !== undefined) frame.srcIp = this.#sourceBy(route, frame.dstIp);
    if (frame.journey?.title === '') frame.journey.title = describeFlow(frame);
    if (route === undefined || (route.type !== 'unicast' && route.type !== 'local')) {
      this.drop(frame, 'IP_OUTNOROUTES');
      return route?.type === 'unreachable' ? 'EHOSTUNREACH' : 'ENETUNREACH';
    }
    if (
      isLoopback(frame.dstIp) !== isLoopback(frame.srcIp) &&
      this.settings.of(this.#outDevice(route)).route_localnet === 0 &&
      !this.#localIps.includes(frame.dstIp)
    ) {
      this.drop(frame, 'IP_INADDRERRORS');
      return 'EINVAL';
    }
    frame.ttl = this.settings.ip_default_ttl;
    frame.identification = this.#identification = (this.#identification + 1) & 0xffff;
    if (this.netfilter !== undefined) {
      const { dstIp } = frame;
      if (!this.netfilter.run(OUTPUT, frame, undefined, this.#outDevice(route))) return 'EPERM';
      if (frame.dstIp !== dstIp) {
        route = this.fib.lookup(frame.dstIp); // DNAT re-routes; the source stays that of the first lookup
        if (route === undefined) {
          this.drop(frame, 'IP_OUTNOROUTES');
          return 'EHOSTUNREACH';
        }
      }
    }
    if (frame.journey !== undefined) this.#noteRoute(frame, route);
    this.#output(frame, route);
    return undefined;
  }

  #output(frame: Frame, route: Route): void {
    const device = this.#outDevice(route);
    if (this.netfilter !== undefined && !this.netfilter.run(POSTROUTING, frame, undefined, device)) return;
    if (device === this.#loopback) return device.transmit(frame);
    this.neighbors.output(frame, device, route.gateway === ANY_IP ? frame.dstIp : route.gateway);
  }

  /** Packets for the host's own addresses go by loopback, whatever device has the address. */
  #outDevice(route: Route): NetDevice {
    return route.type === 'local' && this.#loopback !== undefined ? this.#loopback : route.device;
  }

  // ── ICMP ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** An ICMP error to the sender of `about`, if the RFCs and the rate limits allow one. */
  sendIcmpError(
    about: Frame,
    type: number,
    code: number,
    { mtuBytes = 0, gateway = ANY_IP }: { mtuBytes?: number; gateway?: Ip } = {},
  ): void {
    if (!mayCauseError(about)) return;
    if (!this.isLocal(about.srcIp) && !this.#icmpRate.allow(type, code, about.srcIp, this.cpus.instant)) return;
    const error = this.frames.allocate();
    fillIcmpError(error, { about, type, code, mtuBytes, gateway });
    // Locally addressed packets are answered from the address they were sent to; others from the way back's address.
    if (this.#localIps.includes(about.dstIp)) error.srcIp = about.dstIp;
    this.#noteIcmp(about, error);
    this.#attachConntrack(error, about);
    this.send(error);
  }

  /** What REJECT does: the error or reset goes back to the sender; netfilter then drops the packet. */
  reject(frame: Frame, _hook: Hook, rejectWith: RejectType, _inDevice: DeviceRef | undefined): void {
    if (rejectWith !== 'tcp-reset') {
      return this.sendIcmpError(frame, ICMP_DEST_UNREACHABLE, icmpCodeOf(rejectWith));
    }
    if (!mayCauseReset(frame)) return;
    const reset = this.frames.allocate();
    fillReset(reset, frame);
    this.#attachConntrack(reset, frame);
    this.send(reset);
  }

  /** nf_ct_attach: an answer made here belongs to the connection of the packet it answers, so NAT is undone on it. */
  #attachConntrack(answer: Frame, about: Frame): void {
    if (about.conntrackEntry === 0) return;
    answer.conntrackEntry = about.conntrackEntry;
    answer.conntrackReply = !about.conntrackReply;
    answer.conntrackState = CT_RELATED;
  }

  #receiveIcmp(frame: Frame): void {
    if (frame.icmpType === ICMP_ECHO_REQUEST) {
      const reply = this.frames.allocate();
      fillEchoReply(reply, frame);
      this.frames.deliver(frame);
      this.send(reply);
      return;
    }
    const { quoted } = frame;
    if (isIcmpError(frame.icmpType) && frame.icmpType !== ICMP_REDIRECT && quoted !== undefined) {
      this.#handlers[quoted.protocol]?.icmpError(frame.icmpType, frame.icmpCode, quoted, frame.icmpMtu);
    }
    const echo = this.#handlers[PROTOCOL_ICMP];
    if (echo !== undefined) return echo.receive(frame);
    this.frames.deliver(frame);
  }

  /** Nobody answered for the next hop: the sender hears of it, by loopback if it is on this host. */
  unreachable(frame: Frame): void {
    this.sendIcmpError(frame, ICMP_DEST_UNREACHABLE, ICMP_HOST_UNREACHABLE);
    this.drop(frame, 'NEIGH_FAILED');
  }

  // ── configuration ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** The device hands what it receives to this stack. A loopback device brings 127.0.0.1 with it. */
  addDevice(device: NetDevice): void {
    device.receiver = this;
    this.settings.addDevice(device);
    if (!(device instanceof LoopbackDevice)) return;
    this.#loopback = device;
    this.addAddress(device, LOOPBACK_IP, 8);
  }

  /** `ip addr add IP/LENGTH dev DEVICE`: also makes the address local and the subnet reachable. */
  addAddress(device: NetDevice, ip: Ip, prefixLength: number): void {
    const subnet = prefix(ip, prefixLength);
    this.#addresses.push({ device, ip, subnet });
    this.#localIps.push(ip);
    const common = { device, gateway: ANY_IP, source: ip, metric: 0 };
    if (device === this.#loopback) this.fib.add({ ...common, type: 'local', destination: subnet });
    this.fib.add({ ...common, type: 'local', destination: prefix(ip, 32) });
    if (prefixLength >= 31 || device === this.#loopback) return;
    this.fib.add({ ...common, type: 'unicast', destination: subnet });
    this.fib.add({ ...common, type: 'broadcast', destination: prefix(broadcastOf(subnet), 32) });
  }

  /** `ip route add DESTINATION [via GATEWAY] dev DEVICE`. */
  addRoute({
    destination,
    device,
    gateway = ANY_IP,
    source = ANY_IP,
    metric = 0,
  }: {
    destination: Prefix;
    device: NetDevice;
    gateway?: Ip;
    source?: Ip;
    metric?: number;
  }): void {
    // Chosen now and not per packet, as the kernel does (fib_info's saddr); ANY_IP if the device has no address yet.
    const preferred =
      source === ANY_IP ? this.addressOn(device, gateway === ANY_IP ? destination.net : gateway) : source;
    this.fib.add({ type: 'unicast', destination, device, gateway, source: preferred, metric });
  }

  register(protocol: number, handler: ProtocolHandler): void {
    this.#handlers[protocol] = handler;
  }

  isLocal(ip: Ip): boolean {
    return this.#localIps.includes(ip) || isLoopback(ip);
  }

  /** The addresses of this namespace, loopback's included, in the order in which they were added. */
  get addresses(): readonly { readonly device: NetDevice; readonly ip: Ip; readonly subnet: Prefix }[] {
    return this.#addresses;
  }

  /** Source address for a packet to `dst`, or undefined without a route. */
  sourceFor(dst: Ip): Ip | undefined {
    const route = this.fib.lookup(dst);
    return route === undefined ? undefined : this.#sourceBy(route, dst);
  }

  /** MTU of the first hop towards `dst`; 1500 without a route. */
  mtuTo(dst: Ip): number {
    const route = this.fib.lookup(dst);
    return route === undefined ? 1500 : this.#outDevice(route).mtuBytes;
  }

  /** For ARP: an address of `device`, in the subnet of `towards` where there is one. */
  addressOn(device: NetDevice, towards: Ip): Ip {
    const own = this.#addresses.filter((address) => address.device === device);
    const best = own.find(({ subnet }) => (towards & maskOf(subnet.length)) === subnet.net) ?? own[0];
    return best?.ip ?? this.#addresses.find(({ ip }) => !isLoopback(ip))?.ip ?? ANY_IP;
  }

  addressType(ip: Ip): 'LOCAL' | 'UNICAST' | 'BROADCAST' | 'MULTICAST' {
    if (isMulticast(ip)) return 'MULTICAST';
    if (ip === LIMITED_BROADCAST_IP) return 'BROADCAST';
    if (this.isLocal(ip)) return 'LOCAL';
    return this.fib.lookup(ip)?.type === 'broadcast' ? 'BROADCAST' : 'UNICAST';
  }

  /** The device's address in the next hop's subnet, else its first, else one of another device (observed). */
  masqueradeAddress(outDevice: DeviceRef, dstIp: Ip): Ip | undefined {
    const route = this.fib.lookup(dstIp);
    const nextHop = route === undefined || route.gateway === ANY_IP ? dstIp : route.gateway;
    const device = this.#addresses.find((address) => address.device.index === outDevice.index)?.device;
    const ip =
      device === undefined
        ? this.#addresses.find((address) => !isLoopback(address.ip))?.ip
        : this.addressOn(device, nextHop);
    return ip === ANY_IP ? undefined : ip;
  }

  drop(frame: Frame, reason: DropReason): void {
    this.frames.drop(frame, reason, this.cpus.instant, this.name);
  }

  #sourceBy(route: Route, dst: Ip): Ip {
    if (route.type === 'local') return isLoopback(dst) ? LOOPBACK_IP : dst;
    if (route.source !== ANY_IP) return route.source;
    return this.addressOn(route.device, route.gateway === ANY_IP ? dst : route.gateway);
  }

  #onLink(ip: Ip, device: NetDevice): boolean {
    return this.#addresses.some(
      (address) => address.device === device && (ip & address.subnet.mask) === address.subnet.net,
    );
  }

  #noteRoute(frame: Frame, route: Route): void {
    frame.journey?.add({
      at: this.cpus.instant,
      namespace: this.name,
      stage: 'route',
      device: route.device.name,
      text: `${formatIp(frame.dstIp)}: ${formatRoute(route)}`,
    });
  }

  #noteIcmp(about: Frame, error: Frame): void {
    const text = `icmp ${error.icmpType}/${error.icmpCode} to ${formatIp(error.dstIp)}`;
    about.journey?.add({ at: this.cpus.instant, namespace: this.name, stage: 'icmp', text });
  }
}
