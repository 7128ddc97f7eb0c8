// IPv6 of one network namespace, beside IPv4 (stack.ts), with the same five hooks at the same places. What differs is
// what differs in the kernel (net/ipv6): routers do not fragment, errors have other numbers and other rules for their
// source address, next hops are asked for by neighbor discovery, and every device has a link-local address, whose
// destinations mean something on its link only.
//
// Not modelled: extension headers but the fragment header, multicast routing, sockets that talk to link-local addresses (they would
// need a scope), flow labels, reverse path filters (IPv6 has none but `-m rpfilter`).

import type { RandomStream } from '../../engine/random.ts';
import { after, type Instant, minutes, ms, s } from '../../engine/time.ts';
import type { CpuSet } from '../cpu/cpu-set.ts';
import { LoopbackDevice } from '../link/loopback.ts';
import type { NetDevice } from '../link/net-device.ts';
import { attachConntrack } from '../netfilter/conntrack-state.ts';
import {
  type AddressType,
  FORWARD,
  type Hook,
  INPUT,
  type Netfilter,
  OUTPUT,
  POSTROUTING,
  PREROUTING,
} from '../netfilter/netfilter.ts';
import { describeFlow } from '../packet/describe.ts';
import type { DropReason } from '../packet/drop-reason.ts';
import { hashForLabel } from '../packet/flow-hash.ts';
import {
  type DeviceRef,
  ETHERNET_HEADER_BYTES,
  type Frame,
  MIN_IPV6_MTU_BYTES,
  PROTOCOL_ICMPV6,
  PROTOCOL_TCP,
} from '../packet/frame.ts';
import type { FrameStore } from '../packet/frame-store.ts';
import {
  ICMPV6_ADDRESS_UNREACHABLE,
  ICMPV6_ADMIN_PROHIBITED,
  ICMPV6_BEYOND_SCOPE,
  ICMPV6_DEST_UNREACHABLE,
  ICMPV6_ECHO_REQUEST,
  ICMPV6_NO_ROUTE,
  ICMPV6_PACKET_TOO_BIG,
  ICMPV6_PARAMETER_PROBLEM,
  ICMPV6_TIME_EXCEEDED,
  ICMPV6_UNKNOWN_NEXT_HEADER,
  isIcmpv6Error,
} from '../packet/icmpv6.ts';
import {
  ANY_IP,
  addressBits,
  formatIp,
  type Ip,
  isIpv6LinkLocal,
  isIpv6Multicast,
  LOOPBACK_IPV6,
  multicastMacOf,
  type Prefix,
  prefix,
} from '../packet/ip-address.ts';
import { isGroupHigh } from '../packet/mac.ts';
import { Fib, formatRoute, localRoute, type Route } from './fib.ts';
import { fragment } from './fragmentation.ts';
import { fillIcmpv6EchoReply, fillIcmpv6Error, mayCauseIcmpv6Error, PeerRateLimit } from './icmpv6.ts';
import { Ipv6Interface } from './ipv6-interface.ts';
import { Ipv6Settings } from './ipv6-settings.ts';
import { type Ipv6Address, selectSource } from './ipv6-source-address.ts';
import { type DiscoveryStack, NeighborDiscovery } from './neighbor-discovery.ts';
import type { NeighborTable } from './neighbor-table.ts';
import { Reassembly, type ReassemblyLimits } from './reassembly.ts';
import { errorByRoute, type SendError } from './send-error.ts';
import { SourceRoutes } from './source-routes.ts';
import type { ProtocolHandler } from './stack.ts';

/** The stack of both families that this one is half of. */
export interface Ipv6Host {
  readonly name: string;
  readonly cpus: CpuSet;
  readonly frames: FrameStore;
  readonly netfilter: Netfilter | undefined;
  /** Of a transport protocol; those of ICMPv6 packets are asked for by its number. */
  handlerOf(protocol: number): ProtocolHandler | undefined;
}

export interface Icmpv6ErrorOptions {
  /** The MTU of "packet too big", the offset of a "parameter problem". */
  readonly info?: number;
  /** That the packet belongs to when the error is made: the one it came in by if absent. */
  readonly device?: DeviceRef | undefined;
}

export class Ipv6Stack implements DiscoveryStack {
  readonly name: string;
  readonly cpus: CpuSet;
  readonly frames: FrameStore;
  readonly fib = new Fib({ family: 6 });
  readonly sourceRoutes: SourceRoutes;
  readonly neighbors: NeighborTable;
  readonly settings = new Ipv6Settings();
  readonly #host: Ipv6Host;
  readonly #discovery: NeighborDiscovery;
  /** By device index. */
  readonly #interfaces: (Ipv6Interface | undefined)[] = [];
  readonly #peers = new PeerRateLimit();
  /** What routers said about the way to an address (RFC 8201). */
  readonly #pathMtus = new Map<Ip, { readonly mtuBytes: number; readonly until: Instant }>();
  /** Made with the first fragment: most hosts never see one. */
  #reassembly: Reassembly | undefined;
  #loopback: NetDevice | undefined;
  #identification: number;
  /** Of the packet that lost its route while the OUTPUT hook ran. */
  #rerouteError: SendError | undefined;

  constructor(host: Ipv6Host, random: RandomStream) {
    this.#host = host;
    this.name = host.name;
    this.cpus = host.cpus;
    this.sourceRoutes = new SourceRoutes(host.cpus);
    this.frames = host.frames;
    this.#identification = random.bits31();
    this.#discovery = new NeighborDiscovery(this, random);
    this.neighbors = this.#discovery.neighbors;
  }

  // ── from a device ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** A frame for the device's MAC or a group. */
  receive(frame: Frame, device: NetDevice): void {
    if (!this.#isAcceptable(frame, device)) return;
    const { netfilter, cpus } = this.#host;
    const sentTo = frame.dstIp;
    if (frame.preRoutingDone) {
      // br_netfilter has been here with this frame; ip6_rcv_core forgets its largest fragment, so that it leaves whole if
      // it can, but not the list of them.
      frame.preRoutingDone = false;
      if (frame.fragments !== undefined) frame.fragments = { ...frame.fragments, largestBytes: 0 };
    } else if (netfilter !== undefined && !netfilter.run(PREROUTING, frame, device, undefined)) return;
    if (cpus.isListing) return cpus.holdBack(() => this.#route(frame, device, sentTo));
    this.#route(frame, device, sentTo);
  }

  #route(frame: Frame, device: NetDevice, sentTo: Ip): void {
    const { dstIp } = frame;
    if (isIpv6Multicast(dstIp)) {
      if (this.#interfaceOf(device).isMember(dstIp, this.isRouter)) return this.#localDeliver(frame, device);
      return this.drop(frame, 'NOT_A_MEMBER');
    }
    // What comes by loopback was routed when it was sent (skb_valid_dst in ip6_rcv_finish), also to a link's own address.
    if (device === this.#loopback && dstIp === sentTo) return this.#localDeliver(frame, device);
    const route = this.sourceRoutes.routeOf(frame.srcIp, dstIp, this.#lookup(dstIp, device));
    if (route?.type === 'local' || route?.type === 'anycast') return this.#localDeliver(frame, device);
    this.#forward(frame, device, route);
  }

  /** ip6_rcv_core: before any hook, unlike IPv4's martians. A packet from an address of this host is one like others. */
  #isAcceptable(frame: Frame, device: NetDevice): boolean {
    if (isIpv6Multicast(frame.srcIp)) {
      this.drop(frame, 'IP_INVALID_SOURCE');
      return false;
    }
    if ((frame.srcIp !== LOOPBACK_IPV6 && frame.dstIp !== LOOPBACK_IPV6) || device === this.#loopback) return true;
    this.drop(frame, 'IP_LOCALNET');
    return false;
  }

  #localDeliver(frame: Frame, device: NetDevice): void {
    const { netfilter } = this.#host;
    if (netfilter !== undefined && !netfilter.run(INPUT, frame, device, undefined)) return;
    if (frame.isFragment && !this.#gather(frame, 'delivery')) return;
    if (frame.protocol === PROTOCOL_ICMPV6) return this.#receiveIcmpv6(frame, device);
    const toGroup = isIpv6Multicast(frame.dstIp) || isGroupHigh(frame.dstMacHigh);
    if (toGroup && frame.protocol === PROTOCOL_TCP) return this.drop(frame, 'NO_SOCKET'); // tcp_v6_rcv: not even a reset
    const handler = this.#host.handlerOf(frame.protocol);
    if (handler !== undefined) return handler.receive(frame);
    this.sendError(frame, ICMPV6_PARAMETER_PROBLEM, ICMPV6_UNKNOWN_NEXT_HEADER, { info: NEXT_HEADER_OFFSET });
    this.drop(frame, 'UNHANDLED_PROTO');
  }

  /** ip6_forward */
  #forward(frame: Frame, inDevice: NetDevice, route: Route | undefined): void {
    if (route === undefined || route.type !== 'unicast') return this.#discard(frame, route);
    if (!this.isRouter) return this.drop(frame, 'IP_NOFORWARD');
    if (isGroupHigh(frame.dstMacHigh)) return this.drop(frame, 'UNICAST_IN_L2_MULTICAST');
    if (frame.ttl <= 1) {
      this.sendError(frame, ICMPV6_TIME_EXCEEDED, 0);
      return this.drop(frame, 'IP_TTL');
    }
    const { device } = route;
    const { srcIp } = frame;
    if (device === inDevice || frame.routedByBridge) {
      this.#redirect(frame, inDevice, route);
    } else if (srcIp === ANY_IP) {
      return this.drop(frame, 'IP_INADDRERRORS');
    } else if (isIpv6LinkLocal(srcIp)) {
      this.sendError(frame, ICMPV6_DEST_UNREACHABLE, ICMPV6_BEYOND_SCOPE);
      return this.drop(frame, 'IP_INADDRERRORS');
    }
    if (this.#isStoppedBySize(frame, device)) return;
    this.cpus.charge(this.cpus.costs.forwardNs);
    if (frame.journey !== undefined) this.#noteRoute(frame, route);
    frame.ttl--;
    const { netfilter } = this.#host;
    if (netfilter !== undefined && !netfilter.run(FORWARD, frame, inDevice, device)) return;
    frame.routedByBridge = false;
    this.#output(frame, route);
  }

  /** Too large for the device: the sender hears of it, and the packet is dropped. */
  #isStoppedBySize(frame: Frame, device: NetDevice): boolean {
    const mtuBytes = Math.max(device.mtuBytes, MIN_IPV6_MTU_BYTES);
    if (!isTooBig(frame, mtuBytes)) return false;
    this.#stopTooBig(frame, device, mtuBytes);
    return true;
  }

  #stopTooBig(frame: Frame, device: NetDevice, mtuBytes: number): void {
    this.sendError(frame, ICMPV6_PACKET_TOO_BIG, 0, { info: mtuBytes, device });
    this.drop(frame, 'PKT_TOO_BIG');
  }

  /** ip6_pkt_drop: said also by hosts that do not forward. */
  #discard(frame: Frame, route: Route | undefined): void {
    if (route?.type !== 'blackhole') {
      const code = route?.type === 'prohibit' ? ICMPV6_ADMIN_PROHIBITED : ICMPV6_NO_ROUTE;
      this.sendError(frame, ICMPV6_DEST_UNREACHABLE, code);
    }
    this.drop(frame, 'IP_INNOROUTES');
  }

  /** To a sender on the link of the next hop, at most once a second on average, and so for the destination. */
  #redirect(frame: Frame, inDevice: NetDevice, { device, gateway }: Route): void {
    const now = this.cpus.instant;
    if (!this.#peers.allow(frame.dstIp, REDIRECT_INTERVAL, now)) return;
    const wayBack = this.#lookup(frame.srcIp, inDevice);
    if (wayBack === undefined || wayBack.gateway !== ANY_IP) return;
    if (!this.#peers.allow(frame.srcIp, REDIRECT_INTERVAL, now)) return;
    const target = gateway === ANY_IP ? frame.dstIp : gateway;
    this.#discovery.redirect(frame, inDevice, { target, linkLayer: this.neighbors.known(device, target) });
  }

  // ── to a device ────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Sends a locally made packet; the frame is no longer the caller's, whatever comes back. The source address is chosen
   * where it is ANY_IP. `device` says which link a link-local destination is on. Returns what send() would fail with.
   */
  send(frame: Frame, device?: DeviceRef): SendError | undefined {
    return this.#sendBy(this.#lookup(frame.dstIp, device), frame, device);
  }

  /** A datagram of a tunnel, as {@link IpStack.send} sends it: not into itself by any route, and without a flow label. */
  sendOf(tunnel: DeviceRef, frame: Frame): SendError | undefined {
    const route = this.fib.lookup(frame.dstIp);
    if (route?.device === tunnel) {
      this.drop(frame, 'TX_RECURSION');
      return undefined;
    }
    frame.ttl = this.settings.hop_limit;
    return this.#sendBy(route, frame, undefined);
  }

  #sendBy(found: Route | undefined, frame: Frame, device: DeviceRef | undefined): SendError | undefined {
    let route = found;
    if (frame.srcIp === ANY_IP && route !== undefined) frame.srcIp = this.#sourceBy(route, frame.dstIp) ?? ANY_IP;
    if (frame.journey?.title === '') frame.journey.title = describeFlow(frame);
    const error = errorByRoute(route);
    if (route === undefined || error !== undefined) {
      this.drop(frame, 'IP_OUTNOROUTES');
      return error;
    }
    const { netfilter } = this.#host;
    if (netfilter !== undefined) {
      const { dstIp } = frame;
      if (!netfilter.run(OUTPUT, frame, undefined, this.#outDevice(route))) return this.#whyNotSent();
      // DNAT re-routes; the source stays that of the first lookup.
      if (frame.dstIp !== dstIp) route = this.#lookup(frame.dstIp, device)!;
    }
    if (frame.journey !== undefined) this.#noteRoute(frame, route);
    this.#output(frame, route);
    return undefined;
  }

  routeError(dst: Ip): SendError | undefined {
    return errorByRoute(this.#lookup(dst, undefined));
  }

  /** As {@link IpStack.reroute}. */
  reroute(frame: Frame): boolean {
    const route = this.#lookup(frame.dstIp, undefined);
    if (route !== undefined && errorByRoute(route) === undefined) return true;
    this.drop(frame, 'IP_OUTNOROUTES');
    this.#rerouteError = 'EHOSTUNREACH';
    return false;
  }

  /** As {@link IpStack.routeToServer} (ip_vs_nat_xmit_v6). */
  routeToServer(frame: Frame, ip: Ip): DeviceRef | 'here' | undefined {
    const route = this.fib.lookup(ip);
    if (route?.type === 'local') return 'here';
    if (route === undefined || route.type !== 'unicast') {
      this.sendError(frame, ICMPV6_DEST_UNREACHABLE, ICMPV6_ADDRESS_UNREACHABLE);
      this.drop(frame, 'IP_OUTNOROUTES');
      return undefined;
    }
    const { device } = route;
    if (frame.ttl <= 1) {
      this.sendError(frame, ICMPV6_TIME_EXCEEDED, 0);
      this.drop(frame, 'IP_TTL');
      return undefined;
    }
    if (this.#isStoppedBySize(frame, device)) return undefined;
    this.cpus.charge(this.cpus.costs.forwardNs);
    frame.ttl--;
    return device;
  }

  sendOn(frame: Frame): void {
    const route = this.fib.lookup(frame.dstIp)!; // that of routeToServer: nothing has changed within this visit
    if (frame.journey !== undefined) this.#noteRoute(frame, route);
    this.#output(frame, route);
  }

  /** As in IPv4: one that IPVS has sent to a server has left already. */
  #whyNotSent(): SendError | undefined {
    if (this.#host.netfilter?.takeSentOn() === true) return undefined;
    const error = this.#rerouteError ?? 'EPERM';
    this.#rerouteError = undefined;
    return error;
  }

  sendOnLink(frame: Frame, device: NetDevice): void {
    if (frame.journey?.title === '') frame.journey.title = describeFlow(frame);
    const { netfilter } = this.#host;
    if (netfilter !== undefined && !netfilter.run(OUTPUT, frame, undefined, device)) return;
    this.#outputBy(device, frame, frame.dstIp);
  }

  #output(frame: Frame, route: Route): void {
    this.#outputBy(this.#outDevice(route), frame, route.gateway === ANY_IP ? frame.dstIp : route.gateway);
  }

  #outputBy(device: NetDevice, frame: Frame, nextHop: Ip): void {
    const { netfilter } = this.#host;
    if (netfilter !== undefined && !netfilter.run(POSTROUTING, frame, undefined, device)) return;
    if (device === this.#loopback) return device.transmit(frame);
    if (!isIpv6Multicast(nextHop)) {
      const mtuBytes = this.#mtuFor(frame, device);
      const largestBytes = frame.fragments?.largestBytes || mtuBytes;
      if (frame.sizeBytes - ETHERNET_HEADER_BYTES > Math.min(largestBytes, mtuBytes)) {
        if (!mayBeCut(frame)) return this.#stopTooBig(frame, device, mtuBytes);
        return this.#outputFragments(frame, device, { nextHop, mtuBytes });
      }
      return this.neighbors.output(frame, device, nextHop);
    }
    frame.srcMac = device.mac;
    frame.dstMac = multicastMacOf(nextHop);
    device.transmit(frame);
  }

  /** ip6_skb_dst_mtu: unlike in IPv4, also what is forwarded heeds what routers have said, but only when it leaves. */
  #mtuFor({ dstIp, receivedOn }: Frame, { mtuBytes }: NetDevice): number {
    return receivedOn !== undefined && this.#pathMtus.size === 0 ? mtuBytes : Math.min(this.mtuTo(dstIp), mtuBytes);
  }

  // ── fragments ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * ip6_fragment: of what this host sends, and of what connection tracking has put together. That leaves in the fragments
   * in which it came, however small; if they do not fit, in new ones that are no larger than the largest that came.
   */
  #outputFragments(frame: Frame, device: NetDevice, { nextHop, mtuBytes }: { nextHop: Ip; mtuBytes: number }): void {
    const largestBytes = frame.fragments?.largestBytes || mtuBytes;
    const limit = Math.min(mtuBytes, Math.max(largestBytes, MIN_IPV6_MTU_BYTES));
    // Fragments that have no room for a tunnel's headers cannot be sent again as they are: the packet is cut anew.
    if (device.headroomBytes > 0) frame.fragments = undefined;
    frame.identification = this.#identification = (this.#identification + 1) | 0;
    this.cpus.batch(() => {
      for (const part of fragment(frame, limit, this.frames)) {
        this.cpus.charge(this.cpus.costs.fragmentNs);
        this.neighbors.output(part, device, nextHop);
      }
    });
  }

  /** For connection tracking, which sees whole packets only: bridged ones apart from those of the IP stack. */
  defragment(frame: Frame, hook: Hook): boolean {
    return this.#gather(frame, hook === OUTPUT ? 'output' : frame.physIn === undefined ? 'tracking' : 'bridge');
  }

  get reassemblyLimits(): ReassemblyLimits {
    return { timeS: this.settings.ip6frag_time, memoryBytes: this.settings.ip6frag_high_thresh };
  }

  #gather(frame: Frame, purpose: string): boolean {
    this.#reassembly ??= new Reassembly(this);
    return this.#reassembly.add(frame, purpose);
  }

  /** ip6frag_expire_frag_queue; connection tracking says nothing. */
  reassemblyTimedOut(first: Frame, purpose: string): void {
    if (purpose === 'delivery') this.sendError(first, ICMPV6_TIME_EXCEEDED, REASSEMBLY_TIME);
  }

  /** Packets for the host's own addresses go by loopback, whatever device has the address. */
  #outDevice({ type, device }: Route): NetDevice {
    return (type === 'local' || type === 'anycast') && this.#loopback !== undefined ? this.#loopback : device;
  }

  // ── ICMPv6 ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  #receiveIcmpv6(frame: Frame, device: NetDevice): void {
    const { icmpType, quoted } = frame;
    if (frame.discovery !== undefined) return this.#discovery.receive(frame, device);
    if (icmpType === ICMPV6_ECHO_REQUEST) return this.#answerEcho(frame, device);
    if (isIcmpv6Error(icmpType) && quoted !== undefined) {
      this.#host.handlerOf(quoted.protocol)?.icmpError(icmpType, frame.icmpCode, quoted, frame.icmpMtu);
    }
    const echo = this.#host.handlerOf(PROTOCOL_ICMPV6);
    if (echo !== undefined) return echo.receive(frame);
    this.frames.deliver(frame);
  }

  /** From the address that was asked, unless that is a group's or everybody's. */
  #answerEcho(frame: Frame, device: NetDevice): void {
    const reply = this.frames.allocate();
    fillIcmpv6EchoReply(reply, frame);
    reply.ttl = this.settings.hop_limit;
    if (this.#isOwn(frame.dstIp, device)) reply.srcIp = frame.dstIp;
    this.frames.deliver(frame);
    hashForLabel(reply);
    this.#sendIcmpv6(reply, device);
  }

  /** An error to the sender of `about`, if RFC 4443 and the rate limit allow one (icmp6_send). */
  sendError(about: Frame, type: number, code: number, options: Icmpv6ErrorOptions = {}): void {
    const { info = 0, device = about.receivedOn ?? this.#deviceOfDiscovery(about) } = options;
    if ((this.cpus.icmpLocks & ICMPV6_LOCK) !== 0 || !mayCauseIcmpv6Error(about, type)) return;
    const route = this.#lookup(about.srcIp, device);
    if (route === undefined || errorByRoute(route) !== undefined || route.type === 'anycast') return;
    if (!this.#mayError(about.srcIp, type, route)) return;
    const error = this.frames.allocate();
    fillIcmpv6Error(error, { about, type, code, info });
    error.ttl = this.settings.hop_limit;
    // What was sent to this host is answered from there, also from an anycast address.
    if (this.#isOwn(about.dstIp, device) || this.fib.lookup(about.dstIp)?.type === 'anycast') error.srcIp = about.dstIp;
    else if (route.source === ANY_IP && route.type === 'unicast') error.srcIp = this.#sourceByInput(about);
    this.#noteError(about, error);
    attachConntrack(error, about);
    hashForLabel(error);
    this.#sendIcmpv6(error, device);
  }

  #sendIcmpv6(message: Frame, device: DeviceRef | undefined): void {
    const { cpus } = this;
    cpus.icmpLocks |= ICMPV6_LOCK;
    this.send(message, device);
    cpus.icmpLocks &= ~ICMPV6_LOCK;
  }

  /** icmp6_send: better an address of the device that the packet came in by. ANY_IP for what was made here. */
  #sourceByInput(about: Frame): Ip {
    const inDevice = this.#cameInBy(about);
    return (inDevice && this.#sourceAt(inDevice, about.srcIp)) ?? ANY_IP;
  }

  /** What br_netfilter has routed counts as come in by the device by which it leaves (ip6_rcv_core). */
  #cameInBy({ routedByBridge, dstIp, receivedOn }: Frame): DeviceRef | undefined {
    return routedByBridge ? this.#lookup(dstIp, receivedOn)?.device : receivedOn;
  }

  /** What neighbor discovery sends has its device before it comes to OUTPUT (ndisc_alloc_skb): rules may reject it there. */
  #deviceOfDiscovery({ discovery, srcIp }: Frame): DeviceRef | undefined {
    return discovery === undefined ? undefined : this.#interfaces.find((known) => known?.has(srcIp))?.device;
  }

  #mayError(peer: Ip, type: number, route: Route): boolean {
    const { icmp_ratelimit, icmp_ratemask } = this.settings;
    if (!icmp_ratemask.has(type) || this.#outDevice(route) === this.#loopback) return true;
    return this.#peers.allow(peer, ms(icmp_ratelimit), this.cpus.instant);
  }

  /** Nobody answered for the next hop: the sender hears of it, by loopback if it is on this host. */
  unreachable(frame: Frame): void {
    this.sendError(frame, ICMPV6_DEST_UNREACHABLE, ICMPV6_ADDRESS_UNREACHABLE);
    this.drop(frame, 'NEIGH_FAILED');
  }

  // ── configuration ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** The device gets its link-local address; loopback brings ::1 with it. */
  addDevice(device: NetDevice): void {
    const added = new Ipv6Interface(device, { hasLinkLocal: !(device instanceof LoopbackDevice) });
    this.#interfaces[device.index] = added;
    if (!(device instanceof LoopbackDevice)) return;
    this.#loopback = device;
    this.addAddress(device, LOOPBACK_IPV6, 128);
  }

  /** As {@link IpStack.removeDevice}. */
  removeDevice(device: NetDevice): void {
    this.neighbors.removeDevice(device);
    const gone = this.#interfaces[device.index]?.addresses ?? [];
    this.#interfaces[device.index] = undefined;
    this.fib.removeDevice(device);
    for (const { ip } of gone) {
      const other = this.addresses.find((address) => address.ip === ip);
      if (other !== undefined && !isIpv6LinkLocal(ip)) this.fib.add(localRoute(other.device, ip, 6));
    }
  }

  /** `ip -6 addr add IP/LENGTH dev DEVICE nodad`: also makes the address local and the subnet reachable. */
  addAddress(device: NetDevice, ip: Ip, prefixLength: number): void {
    const subnet = prefix(ip, prefixLength, 6);
    this.#interfaceOf(device).addAddress({ device, ip, subnet });
    if (isIpv6LinkLocal(ip)) return;
    const common = { device, gateway: ANY_IP, source: ANY_IP };
    this.fib.add({ ...common, type: 'local', destination: prefix(ip, 128, 6), metric: 0 });
    if (prefixLength === addressBits(6)) return;
    this.fib.add({ ...common, type: 'unicast', destination: subnet, metric: KERNEL_METRIC });
    if (this.isRouter) this.#answerForRouters(device, subnet);
  }

  /** `ip -6 route add [TYPE] DESTINATION [via GATEWAY] dev DEVICE`. */
  addRoute({
    type = 'unicast',
    destination,
    device,
    gateway = ANY_IP,
    source = ANY_IP,
    metric = DEFAULT_METRIC,
  }: Pick<Route, 'destination' | 'device'> & Partial<Route>): void {
    this.fib.add({ type, destination, device, gateway, source, metric });
  }

  get isRouter(): boolean {
    return this.settings.forwarding !== 0;
  }

  /** net.ipv6.conf.all.forwarding. A router answers to the first address of each of its subnets (RFC 4291 2.6.1). */
  setForwarding(value: number): void {
    this.settings.forwarding = value;
    for (const { device, subnet } of this.addresses) {
      const anycast = prefix(subnet.net, 128, 6);
      if (value !== 0) this.#answerForRouters(device, subnet);
      else if (this.fib.lookup(subnet.net)?.type === 'anycast') this.fib.remove(anycast);
    }
  }

  /** Not on links between two (RFC 6164). */
  #answerForRouters(device: NetDevice, { net, length }: Prefix): void {
    if (length >= 127) return;
    const destination = prefix(net, 128, 6);
    // Where it is an address of the host's own already, that is found first.
    if (this.fib.lookup(net)?.type === 'local') return;
    this.fib.add({ type: 'anycast', destination, device, gateway: ANY_IP, source: ANY_IP, metric: 0 });
  }

  /** Devices in the order of their indexes; the addresses of each by scope, the newest of a scope first. */
  get addresses(): readonly Ipv6Address[] {
    return this.#interfaces.flatMap((known) => known?.addresses ?? []);
  }

  isLocal(ip: Ip): boolean {
    return isIpv6LinkLocal(ip)
      ? this.#interfaces.some((known) => known?.has(ip) === true)
      : this.fib.lookup(ip)?.type === 'local';
  }

  hasAddress(device: DeviceRef, ip: Ip): boolean {
    return this.#interfaceOf(device).has(ip);
  }

  hasAnycast(device: NetDevice, ip: Ip): boolean {
    const route = this.fib.lookup(ip);
    return route?.type === 'anycast' && route.device === device;
  }

  linkLocalOn(device: NetDevice): Ip | undefined {
    return this.#interfaceOf(device).addresses.find(({ ip }) => isIpv6LinkLocal(ip))?.ip;
  }

  sourceOn(device: NetDevice, dst: Ip): Ip | undefined {
    return selectSource(this.addresses, dst, device);
  }

  /** The source address of packets that leave by the device for `dst` (nf_nat_masquerade_ipv6). */
  masqueradeAddress(outDevice: DeviceRef, dst: Ip): Ip | undefined {
    return this.#sourceAt(outDevice, dst);
  }

  #sourceAt({ index }: DeviceRef, dst: Ip): Ip | undefined {
    const device = this.#interfaces[index]?.device;
    return device === undefined ? undefined : this.sourceOn(device, dst);
  }

  routeFor(ip: Ip): Route | undefined {
    return this.#lookup(ip, undefined);
  }

  /** Where REDIRECT sends what came in by the device: its first address (nf_nat_redirect_ipv6). */
  redirectAddress(inDevice: DeviceRef): Ip | undefined {
    return this.#interfaceOf(inDevice).addresses[0]?.ip;
  }

  /** Source address for a packet to `dst`, or undefined without a route. */
  sourceFor(dst: Ip): Ip | undefined {
    const route = this.#lookup(dst, undefined);
    return errorByRoute(route) === undefined && route !== undefined ? this.#sourceBy(route, dst) : undefined;
  }

  /** What the way to `dst` takes: the first hop, or what a router said in the last ten minutes. */
  mtuTo(dst: Ip): number {
    const route = this.#lookup(dst, undefined);
    const mtuBytes = route === undefined ? 1500 : this.#outDevice(route).mtuBytes;
    const learned = this.#pathMtus.get(dst);
    if (learned === undefined) return mtuBytes;
    if (learned.until > this.cpus.instant) return Math.min(mtuBytes, learned.mtuBytes);
    this.#pathMtus.delete(dst);
    return mtuBytes;
  }

  /** As -m addrtype sees it (match_lookup_rt6). */
  addressType(ip: Ip): AddressType {
    if (ip === ANY_IP) return 'UNSPEC';
    if (isIpv6Multicast(ip)) return 'MULTICAST';
    if (this.isLocal(ip)) return 'LOCAL';
    if (isIpv6LinkLocal(ip)) return 'UNICAST';
    const route = this.fib.lookup(ip);
    if (route === undefined) return 'UNREACHABLE';
    return route.type === 'unicast' ? 'UNICAST' : route.type === 'anycast' ? 'ANYCAST' : 'UNREACHABLE';
  }

  drop(frame: Frame, reason: DropReason): void {
    this.frames.drop(frame, reason, this.cpus.instant, this.name);
  }

  /** Link-local destinations are found on the link of `device`, and only there. */
  #lookup(ip: Ip, device: DeviceRef | undefined): Route | undefined {
    if (!isIpv6LinkLocal(ip)) return this.fib.lookup(ip);
    return device === undefined ? undefined : this.#interfaces[device.index]?.routeTo(ip);
  }

  #sourceBy(route: Route, dst: Ip): Ip | undefined {
    if (route.source !== ANY_IP) return route.source;
    return route.type === 'local' ? dst : this.sourceOn(route.device, dst);
  }

  /** Is the address one of this host, and a link-local one of this device? */
  #isOwn(ip: Ip, device: DeviceRef | undefined): boolean {
    if (isIpv6LinkLocal(ip)) return device !== undefined && this.hasAddress(device, ip);
    return this.fib.lookup(ip)?.type === 'local';
  }

  #interfaceOf(device: DeviceRef): Ipv6Interface {
    const known = this.#interfaces[device.index];
    if (known === undefined) throw new Error(`${device.name} is no device of ${this.name}`);
    return known;
  }

  /** What transport protocols make of "packet too big" about a packet of theirs (__ip6_rt_update_pmtu). */
  updatePathMtu(dst: Ip, mtuBytes: number): void {
    if (mtuBytes < MIN_IPV6_MTU_BYTES || mtuBytes >= this.mtuTo(dst)) return;
    this.#pathMtus.set(dst, { mtuBytes, until: after(this.cpus.instant, PATH_MTU_LIFETIME) });
  }

  #noteRoute(frame: Frame, route: Route): void {
    frame.journey?.add({
      at: this.cpus.instant,
      namespace: this.name,
      stage: 'route',
      device: route.device.name,
      text: `${formatIp(frame.dstIp, 6)}: ${formatRoute(route)}`,
    });
  }

  #noteError(about: Frame, error: Frame): void {
    const text = `icmpv6 ${error.icmpType}/${error.icmpCode} to ${formatIp(error.dstIp, 6)}`;
    about.journey?.add({ at: this.cpus.instant, namespace: this.name, stage: 'icmp', text });
  }
}

/** What was put together from fragments may leave in fragments, unless even those are too big. */
function isTooBig({ sizeBytes, fragments }: Frame, mtuBytes: number): boolean {
  if (sizeBytes - ETHERNET_HEADER_BYTES <= mtuBytes) return false;
  return fragments === undefined || fragments.largestBytes > mtuBytes;
}

/** ignore_df: what a socket here has sent, but not what a tunnel has, and what has been put together from fragments. */
const mayBeCut = ({ inner, receivedOn, fragments }: Frame): boolean =>
  fragments !== undefined || (receivedOn === undefined && inner === undefined);

/** Code of {@link ICMPV6_TIME_EXCEEDED}. */
const REASSEMBLY_TIME = 1;
/** Of {@link CpuSet.icmpLocks}. */
const ICMPV6_LOCK = 1 << 6;

/** Where the IPv6 header says what follows it. */
const NEXT_HEADER_OFFSET = 6;
const REDIRECT_INTERVAL = s(1);
/** Of the routes to subnets that come with addresses (IP6_RT_PRIO_ADDRCONF), and of `ip -6 route add`. */
const KERNEL_METRIC = 256;
const DEFAULT_METRIC = 1024;
/** net.ipv6.route.mtu_expires */
const PATH_MTU_LIFETIME = minutes(10);
