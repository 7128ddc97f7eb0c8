// IPv4 of one network namespace: the path of a packet from a device to a socket, to another device, or from a socket out,
// with netfilter's five hooks at the kernel's places:
//
//   device ─▶ PREROUTING ─▶ route ─┬─▶ INPUT ─▶ socket ─▶ route ─▶ OUTPUT ─▶ (route) ─┐
//                                  └─▶ TTL ─▶ FORWARD ──────────────────────────────┴─▶ POSTROUTING ─▶ neighbor ─▶ device
//
// A packet moves by plain calls within one visit of a CPU. IPv6 stands beside it where the namespace has it
// (ipv6-stack.ts); what both families ask comes to this class. Not modelled: multicast routing, IP options, source routing.

import { appended } from '../../engine/appended.ts';
import type { RandomStream, Reserved } from '../../engine/random.ts';
import type { CpuSet } from '../cpu/cpu-set.ts';
import { LoopbackDevice } from '../link/loopback.ts';
import type { FrameReceiver, NetDevice } from '../link/net-device.ts';
import { attachConntrack } from '../netfilter/conntrack-state.ts';
import {
  type AddressType,
  FORWARD,
  type Hook,
  INPUT,
  type Netfilter,
  type NetfilterStack,
  OUTPUT,
  POSTROUTING,
  PREROUTING,
  type RejectType,
  type RouteView,
} from '../netfilter/netfilter.ts';
import { describeFlow } from '../packet/describe.ts';
import type { DropReason } from '../packet/drop-reason.ts';
import { hashForLabel } from '../packet/flow-hash.ts';
import type { FrameTaker } from '../packet/flow-recorder.ts';
import {
  type DeviceRef,
  ETHERNET_HEADER_BYTES,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  type Frame,
  PROTOCOL_ICMP,
  PROTOCOL_SCTP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_RST,
} from '../packet/frame.ts';
import type { FrameStore } from '../packet/frame-store.ts';
import {
  ICMP_DEST_UNREACHABLE,
  ICMP_ECHO_REQUEST,
  ICMP_FRAGMENTATION_NEEDED,
  ICMP_PORT_UNREACHABLE,
  ICMP_REDIRECT,
  ICMP_TIME_EXCEEDED,
} from '../packet/icmp.ts';
import { ICMPV6_DEST_UNREACHABLE, ICMPV6_PORT_UNREACHABLE } from '../packet/icmpv6.ts';
import {
  ANY_IP,
  broadcastOf,
  formatIp,
  type Ip,
  type IpFamily,
  isLoopback,
  isMulticast,
  LIMITED_BROADCAST_IP,
  LOOPBACK_IP,
  maskOf,
  type Prefix,
  prefix,
} from '../packet/ip-address.ts';
import { BROADCAST_MAC, isGroupHigh } from '../packet/mac.ts';
import { Arp } from './arp.ts';
import type { DeviceProgram } from './device-program.ts';
import { Fib, formatRoute, isErrorRoute, localRoute, type Route, type RouteType } from './fib.ts';
import type { FlowCache } from './flow-cache.ts';
import { fragment } from './fragmentation.ts';
import {
  fillEchoReply,
  fillIcmpError,
  ICMP_ADMINISTRATIVELY_PROHIBITED,
  ICMP_HOST_UNREACHABLE,
  ICMP_NET_UNREACHABLE,
  ICMP_PROTOCOL_UNREACHABLE,
  ICMP_REASSEMBLY_TIME,
  isIcmpError,
  mayCauseError,
} from './icmp.ts';
import { IcmpRateLimit } from './icmp-rate-limit.ts';
import { type DeviceSettings, Ipv4Settings } from './ipv4-settings.ts';
import { Ipv6Stack } from './ipv6-stack.ts';
import type { NeighborTable } from './neighbor-table.ts';
import { PathMtus } from './path-mtu.ts';
import { Reassembly, type ReassemblyLimits } from './reassembly.ts';
import { fillReset, icmpCodeOf, mayCauseReset } from './reject.ts';
import { errorByRoute, type SendError } from './send-error.ts';
import { SourceRoutes } from './source-routes.ts';

/** A transport protocol on top of the stack. */
export interface ProtocolHandler {
  /**
   * For the flow cache: who takes packets like this one in the end, now and later; once it does not, it hands them back to
   * the handler. Absent or undefined: the handler itself.
   */
  receiverOf?(frame: Frame): FrameTaker | undefined;
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
  /** The run's memory of ways; absent: every frame goes through every stage. */
  readonly flows?: FlowCache | undefined;
}

/** What is thought of a packet's source: less than ACCEPTED is refused. */
const LOCAL_SOURCE = 0;
const WRONG_WAY = 1;
const ACCEPTED = 2;
/** Accepted, and on the link by which it came. */
const ON_LINK = 3;
type SourceVerdict = typeof LOCAL_SOURCE | typeof WRONG_WAY | typeof ACCEPTED | typeof ON_LINK;

/** What the kernel itself says may go to everybody; a socket would have to ask for that first. */
const isKernelsOwn = ({ protocol, tcpFlags }: Frame): boolean =>
  protocol === PROTOCOL_ICMP || (protocol === PROTOCOL_TCP && (tcpFlags & TCP_RST) !== 0);

/** Of every packet that comes from a socket, so that a flow's way leads from here to the TTL that it leaves with. */
const UNROUTED_TTL = 64;
/** Of each namespace's loopback device. */
const LOOPBACK_SUBNET = prefix(LOOPBACK_IP, 8);
const LOOPBACK_HOST = prefix(LOOPBACK_IP, 32);
/** Of a host that has not sent yet. */
const UNDRAWN = -1;
/** Of {@link CpuSet.icmpLocks}. */
const ICMP_LOCK = 1 << 4;

function refusalOf(verdict: SourceVerdict): DropReason | undefined {
  if (verdict >= ACCEPTED) return undefined;
  return verdict === LOCAL_SOURCE ? 'IP_LOCAL_SOURCE' : 'IP_RPFILTER';
}

export class IpStack implements FrameReceiver, NetfilterStack {
  // First what every frame needs, in one line of the processor's cache.
  readonly #flows: FlowCache | undefined;
  #identification = UNDRAWN;
  /** Where ways of frames begin that sockets send. */
  readonly #socketIngress: number;
  readonly name: string;
  readonly cpus: CpuSet;
  readonly frames: FrameStore;
  readonly fib: Fib;
  readonly neighbors: NeighborTable;
  readonly settings = new Ipv4Settings();
  #netfilter: Netfilter | undefined;
  readonly #arp: Arp;
  #addresses: readonly { readonly device: NetDevice; readonly ip: Ip; readonly subnet: Prefix }[] = [];
  /** Addresses that no packet leaves with: see {@link setServiceAddresses}. */
  #serviceIps: ReadonlySet<Ip> | undefined;
  #tcp: ProtocolHandler | undefined;
  #udp: ProtocolHandler | undefined;
  /** Of other protocols, by number. */
  #others: Map<number, ProtocolHandler> | undefined;
  #devices: readonly NetDevice[] = [];
  // What most hosts never need is made when it is first used: there are as many as pods.
  #sourceRoutes: SourceRoutes | undefined;
  #pathMtus: PathMtus | undefined;
  #icmpRate: IcmpRateLimit | undefined;
  #reassembly: Reassembly | undefined;
  #ipv6: Ipv6Stack | undefined;
  #loopback: NetDevice | undefined;
  #program: DeviceProgram | undefined;
  #programDevice: NetDevice | undefined;
  readonly #random: RandomStream;
  readonly #firstIdentification: Reserved;
  /** Of the packet that lost its route while the OUTPUT hook ran. */
  #rerouteError: SendError | undefined;

  constructor({ name, cpus, frames, random, forwarding, flows }: IpStackOptions) {
    this.name = name;
    this.cpus = cpus;
    this.frames = frames;
    this.settings.write('all', 'forwarding', forwarding ? 1 : 0);
    this.#random = random;
    this.#firstIdentification = random.reserve();
    this.#arp = new Arp(this, random);
    this.neighbors = this.#arp.neighbors;
    this.#flows = flows;
    this.#socketIngress = flows?.newIngress() ?? 0;
    this.fib = new Fib({ ways: cpus });
  }

  get sourceRoutes(): SourceRoutes {
    this.#sourceRoutes ??= new SourceRoutes(this.cpus);
    return this.#sourceRoutes;
  }

  get netfilter(): Netfilter | undefined {
    return this.#netfilter;
  }

  set netfilter(netfilter: Netfilter | undefined) {
    this.#netfilter = netfilter;
    this.cpus.forgetWays();
  }

  // ── from a device ──────────────────────────────────────────────────────────────────────────────────────────────────

  receive(frame: Frame, device: NetDevice): void {
    const isAddressed = device.isAddressedBy(frame);
    if (!isAddressed && !isGroupHigh(frame.dstMacHigh)) return this.drop(frame, 'OTHERHOST');
    if (this.#flows === undefined || !device.beginsVisits || !isAddressed) return this.#receive(frame, device);
    if (this.#flows.repeat(device.wayIngress, frame, this.cpus)) return;
    this.#receive(frame, device);
    this.#flows.finish();
  }

  #receive(frame: Frame, device: NetDevice): void {
    frame.receivedOn = device;
    switch (frame.etherType) {
      case ETHERTYPE_IPV4:
        return device === this.#programDevice ? this.#runProgram(frame, device) : this.#preRouting(frame, device);
      case ETHERTYPE_ARP:
        return this.#arp.receive(frame, device);
      case ETHERTYPE_IPV6:
        if (this.#ipv6 === undefined) return this.drop(frame, 'IPV6DISABLED');
        return this.#ipv6.receive(frame, device);
      default:
        return this.drop(frame, 'UNHANDLED_PROTO');
    }
  }

  #runProgram(frame: Frame, device: NetDevice): void {
    const passed = this.#program!.ingress(frame);
    if (passed === undefined) return;
    passed.receivedOn = device;
    this.#preRouting(passed, device);
  }

  #preRouting(frame: Frame, device: NetDevice): void {
    if (frame.preRoutingDone) {
      // br_netfilter has been here with this frame; ip_rcv forgets its largest fragment, so that it leaves whole if it can.
      frame.preRoutingDone = false;
      if (frame.fragments !== undefined) frame.fragments = { ...frame.fragments, largestBytes: 0 };
    } else if (this.#netfilter !== undefined && !this.#netfilter.run(PREROUTING, frame, device, undefined)) return;
    if (this.cpus.isListing) return this.cpus.holdBack(() => this.#route(frame, device));
    this.#route(frame, device);
  }

  #route(frame: Frame, device: NetDevice): void {
    if (device === this.#loopback) return this.#localDeliver(frame, device, this.fib.lookup(frame.dstIp)); // routed when sent
    const settings = this.settings.of(device);
    const { dstIp } = frame;
    const unusable = this.#unusableAddress(frame.srcIp, dstIp, settings);
    if (unusable !== undefined) return this.drop(frame, unusable);
    const main = this.fib.lookup(dstIp);
    const route = this.#sourceRoutes === undefined ? main : this.#sourceRoutes.routeOf(frame.srcIp, dstIp, main);
    const isForAll = route?.type === 'broadcast' || dstIp === LIMITED_BROADCAST_IP || dstIp === ANY_IP;
    if (isForAll || route?.type === 'local') {
      const source = this.#judgeSource(frame.srcIp, device, undefined, settings);
      const refusal = refusalOf(source);
      return refusal === undefined ? this.#localDeliver(frame, device, route) : this.drop(frame, refusal);
    }
    if (settings.forwarding === 0 || isMulticast(dstIp)) return this.drop(frame, 'IP_NOFORWARD');
    if (route === undefined || route.type !== 'unicast') return this.#noRoute(frame, route);
    const source = this.#judgeSource(frame.srcIp, device, route.device, settings);
    const refusal = refusalOf(source);
    if (refusal !== undefined) return this.drop(frame, refusal);
    this.#forward(frame, device, route, source);
  }

  /** ip_route_input_slow: why a packet with such addresses cannot come from outside. */
  #unusableAddress(srcIp: Ip, dstIp: Ip, { route_localnet }: DeviceSettings): DropReason | undefined {
    const src = srcIp >>> 24;
    const dst = dstIp >>> 24;
    if (src !== 0 && src !== 127 && src < 224 && dst !== 0 && dst !== 127) return undefined;
    if (isMulticast(srcIp) || srcIp === LIMITED_BROADCAST_IP) return 'IP_INVALID_SOURCE';
    if (dstIp === LIMITED_BROADCAST_IP || (srcIp | dstIp) === ANY_IP) return undefined; // also from 0.0.0.0, as DHCP asks
    if (srcIp === ANY_IP) return 'IP_INVALID_SOURCE';
    if (dstIp === ANY_IP) return 'IP_INVALID_DEST';
    return (src === 127 || dst === 127) && route_localnet === 0 ? 'IP_LOCALNET' : undefined;
  }

  /**
   * fib_validate_source: can a packet with this source come in by `device`? `outDevice`: where it will go on to; undefined
   * if it stays here.
   */
  #judgeSource(
    srcIp: Ip,
    device: NetDevice,
    outDevice: NetDevice | undefined,
    { accept_local, rp_filter, send_redirects }: DeviceSettings,
  ): SourceVerdict {
    if (rp_filter === 0 && (device !== outDevice || send_redirects === 0)) {
      const isOwn = this.#holds(srcIp) || this.#serviceIps?.has(srcIp) === true;
      return accept_local !== 0 || !isOwn ? ACCEPTED : LOCAL_SOURCE;
    }
    const back = this.fib.lookup(srcIp);
    if (back === undefined || isErrorRoute(back)) return rp_filter === 0 || srcIp === ANY_IP ? ACCEPTED : WRONG_WAY;
    if (back.type !== 'unicast' && (back.type !== 'local' || accept_local === 0)) return LOCAL_SOURCE;
    if (back.device === device) return back.gateway === ANY_IP ? ON_LINK : ACCEPTED;
    // A device without addresses is loose with nobody.
    return rp_filter === 0 || (rp_filter === 2 && this.#hasAddress(device)) ? ACCEPTED : WRONG_WAY;
  }

  /** Why a packet with these addresses could not come in by `device`; without a route nobody looks at the source. */
  inputRefusal(device: NetDevice, srcIp: Ip, dstIp: Ip): DropReason | undefined {
    const settings = this.settings.of(device);
    const unusable = this.#unusableAddress(srcIp, dstIp, settings);
    const route = this.fib.lookup(dstIp);
    if (unusable !== undefined || route === undefined || isErrorRoute(route)) return unusable;
    const outDevice = route.type === 'unicast' ? route.device : undefined;
    return refusalOf(this.#judgeSource(srcIp, device, outDevice, settings));
  }

  /** For ARP: where a packet would go that came in by `device`; undefined if it would be refused, or has nowhere to go. */
  inputRoute(device: NetDevice, srcIp: Ip, dstIp: Ip): Route | undefined {
    return this.inputRefusal(device, srcIp, dstIp) === undefined ? this.fib.lookup(dstIp) : undefined;
  }

  #hasAddress(device: NetDevice): boolean {
    return this.#addresses.some((address) => address.device === device);
  }

  #localDeliver(frame: Frame, device: NetDevice, route: Route | undefined): void {
    if (frame.isFragment && !this.#gather(frame, 'delivery')) return;
    if (this.#netfilter !== undefined && !this.#netfilter.run(INPUT, frame, device, undefined)) return;
    const { protocol } = frame;
    const toAll = route?.type !== 'local';
    if (protocol === PROTOCOL_ICMP) return this.#receiveIcmp(frame, toAll);
    const toGroup = toAll || (device !== this.#loopback && isGroupHigh(frame.dstMacHigh));
    if (toGroup && protocol === PROTOCOL_TCP) return this.drop(frame, 'NO_SOCKET'); // tcp_v4_rcv: not even a reset
    const handler = this.handlerOf(protocol);
    if (handler !== undefined) {
      const { recorder } = this.frames;
      if (recorder.isRecording) recorder.leaves(frame, { receiver: handler.receiverOf?.(frame) ?? handler });
      return handler.receive(frame);
    }
    this.sendIcmpError(frame, ICMP_DEST_UNREACHABLE, ICMP_PROTOCOL_UNREACHABLE);
    this.drop(frame, 'UNHANDLED_PROTO');
  }

  /** ip_forward. */
  #forward(frame: Frame, inDevice: NetDevice, route: Route, source: SourceVerdict): void {
    if (isGroupHigh(frame.dstMacHigh)) return this.drop(frame, 'UNICAST_IN_L2_MULTICAST');
    if (frame.ttl <= 1) {
      this.sendIcmpError(frame, ICMP_TIME_EXCEEDED, 0);
      return this.drop(frame, 'IP_TTL');
    }
    const { device } = route;
    if (frame.dontFragment && this.#isTooBig(frame, this.#mtuFor(frame, device))) return;
    this.cpus.charge(this.cpus.costs.forwardNs);
    if (frame.journey !== undefined) this.#noteRoute(frame, route);
    frame.ttl--;
    if (source === ON_LINK && device === inDevice) this.#sendRedirect(frame, route);
    if (this.#netfilter !== undefined && !this.#netfilter.run(FORWARD, frame, inDevice, device)) return;
    this.#output(frame, route);
  }

  /** ip_rt_send_redirect: the sender could have sent it to the next hop itself. */
  #sendRedirect(frame: Frame, { device, gateway }: Route): void {
    if (this.settings.of(device).send_redirects === 0) return;
    this.frames.recorder.spoil(); // it depends on how many packets came before, and when
    if (!this.#icmpLimit().allowRedirect(frame.srcIp)) return;
    this.sendIcmpError(frame, ICMP_REDIRECT, 1, { gateway: gateway === ANY_IP ? frame.dstIp : gateway });
  }

  /** ip_error: the sender hears of it, though not of every packet, and not from a blackhole. */
  #noRoute(frame: Frame, route: Route | undefined): void {
    if (route?.type !== 'blackhole' && this.#icmpLimit().allowRouteError(frame.srcIp)) {
      const code =
        route === undefined
          ? ICMP_NET_UNREACHABLE
          : route.type === 'prohibit'
            ? ICMP_ADMINISTRATIVELY_PROHIBITED
            : ICMP_HOST_UNREACHABLE;
      this.sendIcmpError(frame, ICMP_DEST_UNREACHABLE, code);
    }
    this.drop(frame, 'IP_INNOROUTES');
  }

  // ── from a socket ──────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Sends a locally made packet; the frame is no longer the caller's, whatever comes back. The source address is chosen
   * by route where it is ANY_IP. Returns what send() would fail with. A `tunnel` sends its packets by this way, too, with a
   * `ttl` of its own where it has one; it does not send into itself by any route, only by rules (udp_tunnel_dst_lookup).
   */
  send(frame: Frame, tunnel?: DeviceRef, ttl?: number): SendError | undefined {
    if (frame.family === 6) return this.#sendOverIpv6(frame, tunnel);
    if (tunnel === undefined && this.#repeat(frame)) return undefined;
    const error = this.#send(frame, tunnel, ttl);
    this.#flows?.finish();
    return error;
  }

  /** {@link send} for a datagram that is cut here if it is too large for the path, but nowhere else (IP_PMTUDISC_WANT). */
  sendOrCut(frame: Frame): SendError | undefined {
    frame.dontFragment = true;
    if (frame.family === 4 && this.#repeat(frame)) return undefined;
    frame.dontFragment = frame.ipBytes() <= this.mtuTo(frame.dstIp, frame.family);
    const error = frame.family === 6 ? this.#sendOverIpv6(frame) : this.#send(frame);
    this.#flows?.finish();
    return error;
  }

  /** True: the frame has gone the way of its flow. */
  #repeat(frame: Frame): boolean {
    if (this.#flows === undefined) return false;
    if (this.#identification === UNDRAWN) return false;
    const identification = this.#identification;
    frame.identification = this.#identification = (identification + 1) & 0xffff;
    frame.ttl = UNROUTED_TTL;
    if (this.#flows.repeat(this.#socketIngress, frame, this.cpus)) return true;
    this.#identification = identification;
    return false;
  }

  #send(frame: Frame, tunnel?: DeviceRef, ttl = this.settings.host.ip_default_ttl): SendError | undefined {
    let route = this.fib.lookup(frame.dstIp);
    if (tunnel !== undefined && route?.device === tunnel) {
      this.drop(frame, 'TX_RECURSION');
      return undefined;
    }
    if (frame.srcIp === ANY_IP && route !== undefined) frame.srcIp = this.#sourceBy(route, frame.dstIp);
    if (frame.journey?.title === '') frame.journey.title = describeFlow(frame);
    if (route === undefined || !this.#mayLeave(frame, route)) return this.#unsendable(frame, route);
    frame.ttl = ttl;
    if (frame.dontFragment && !this.#discoversPathMtu(frame.dstIp, tunnel)) frame.dontFragment = false;
    if (this.#identification === UNDRAWN)
      this.#identification = this.#random.reservedInt(this.#firstIdentification, 65_536);
    frame.identification = this.#identification = (this.#identification + 1) & 0xffff;
    if (frame.journey !== undefined) this.#noteRoute(frame, route);
    if (this.#netfilter !== undefined) {
      const { dstIp } = frame;
      if (!this.#netfilter.run(OUTPUT, frame, undefined, this.#outDevice(route))) return this.#whyNotSent();
      if (frame.dstIp !== dstIp) {
        // ip_route_me_harder: a new destination has another route; the source stays that of the first.
        route = this.fib.lookup(frame.dstIp)!;
        if (frame.journey !== undefined) this.#noteRoute(frame, route);
      }
    }
    if (route.type === 'broadcast') this.#outputToAll(frame, route.device);
    else this.#output(frame, route);
    return undefined;
  }

  /** For netfilter, while it runs the OUTPUT hook. */
  reroute(frame: Frame): boolean {
    if (frame.family === 6) return this.#ipv6 === undefined || this.#ipv6.reroute(frame);
    const route = this.fib.lookup(frame.dstIp);
    if (route !== undefined && this.#mayLeave(frame, route)) return true;
    this.#rerouteError = this.#unsendable(frame, route);
    return false;
  }

  /** Rules have dropped the packet, or it has lost its route; one that IPVS has sent to a server has left already. */
  #whyNotSent(): SendError | undefined {
    if (this.#netfilter?.takeSentOn() === true) return undefined;
    const error = this.#rerouteError ?? 'EPERM';
    this.#rerouteError = undefined;
    return error;
  }

  /** Does the route lead anywhere, and may the source be seen there? 127.0.0.0/8 only with route_localnet. */
  #mayLeave(frame: Frame, route: Route): boolean {
    if (route.type === 'broadcast') return isKernelsOwn(frame);
    if (route.type !== 'unicast') return route.type === 'local';
    return !isLoopback(frame.srcIp) || this.settings.of(route.device).route_localnet !== 0;
  }

  /** What the system call fails with. */
  #unsendable(frame: Frame, route: Route | undefined): SendError {
    const mayNotBeSeen = route?.type === 'unicast';
    this.drop(frame, mayNotBeSeen ? 'IP_LOCALNET' : 'IP_OUTNOROUTES');
    if (mayNotBeSeen) return 'EINVAL';
    // To a broadcast address: without SO_BROADCAST.
    return errorByRoute(route) ?? 'EACCES';
  }

  // ── for programs at devices ────────────────────────────────────────────────────────────────────────────────────────

  /** `tc filter add dev DEVICE ingress` and `egress`: one program for one device of the namespace. */
  attachProgram(device: NetDevice, program: DeviceProgram): void {
    this.#programDevice = device;
    this.#program = program;
    this.cpus.forgetWays();
  }

  /** bpf_fib_lookup and bpf_redirect: the packet leaves by its route, past netfilter. */
  redirect(frame: Frame): void {
    const route = this.fib.lookup(frame.dstIp);
    if (route === undefined || route.type !== 'unicast') return this.drop(frame, 'IP_INNOROUTES');
    if (frame.ttl <= 1) {
      this.sendIcmpError(frame, ICMP_TIME_EXCEEDED, 0);
      return this.drop(frame, 'IP_TTL');
    }
    this.cpus.charge(this.cpus.costs.forwardNs);
    if (frame.journey !== undefined) this.#noteRoute(frame, route);
    frame.ttl--;
    this.neighbors.output(frame, route.device, route.gateway === ANY_IP ? frame.dstIp : route.gateway);
  }

  // ── for IPVS ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** __ip_vs_get_out_rt. */
  routeToServer(frame: Frame, ip: Ip): DeviceRef | 'here' | undefined {
    if (frame.family === 6) return this.#ipv6!.routeToServer(frame, ip);
    const route = this.fib.lookup(ip);
    if (route?.type === 'local') return 'here';
    if (route === undefined || route.type !== 'unicast') {
      this.sendIcmpError(frame, ICMP_DEST_UNREACHABLE, ICMP_HOST_UNREACHABLE);
      this.drop(frame, 'IP_OUTNOROUTES');
      return undefined;
    }
    if (frame.ttl <= 1) {
      this.sendIcmpError(frame, ICMP_TIME_EXCEEDED, 0);
      this.drop(frame, 'IP_TTL');
      return undefined;
    }
    if (frame.dontFragment && this.#isTooBig(frame, route.device.mtuBytes)) return undefined;
    this.cpus.charge(this.cpus.costs.forwardNs);
    frame.ttl--;
    return route.device;
  }

  sendOn(frame: Frame): void {
    if (frame.family === 6) return this.#ipv6!.sendOn(frame);
    const route = this.fib.lookup(frame.dstIp)!; // that of routeToServer: nothing has changed within this visit
    if (frame.journey !== undefined) this.#noteRoute(frame, route);
    this.#output(frame, route);
  }

  #sendOverIpv6(frame: Frame, tunnel?: DeviceRef): SendError | undefined {
    if (this.#ipv6 !== undefined) {
      if (tunnel !== undefined) return this.#ipv6.sendOf(tunnel, frame);
      hashForLabel(frame);
      return this.#ipv6.send(frame);
    }
    this.drop(frame, 'IPV6DISABLED');
    return 'ENETUNREACH';
  }

  #output(frame: Frame, route: Route): void {
    const device = this.#outDevice(route);
    if (this.#netfilter !== undefined && !this.#netfilter.run(POSTROUTING, frame, undefined, device)) return;
    if (device === this.#loopback) return device.transmit(frame);
    const nextHop = route.gateway === ANY_IP ? frame.dstIp : route.gateway;
    if (device === this.#programDevice) this.#program!.egress(frame);
    const isToBeCut = frame.fragments !== undefined && frame.fragments.largestBytes > 0;
    if (isToBeCut || frame.sizeBytes - ETHERNET_HEADER_BYTES > this.#mtuFor(frame, device)) {
      return this.#outputFragments(frame, device, nextHop);
    }
    this.neighbors.output(frame, device, nextHop);
  }

  /** ip_mc_output: what goes to all goes to this host too, by a copy that seems to have come in by the device. */
  #outputToAll(frame: Frame, device: NetDevice): void {
    const netfilter = this.#netfilter;
    const own = this.frames.copy(frame);
    const isHeardHere = netfilter === undefined || netfilter.run(POSTROUTING, own, undefined, device);
    if (netfilter === undefined || netfilter.run(POSTROUTING, frame, undefined, device)) {
      const { mtuBytes } = device;
      const fits = frame.sizeBytes - ETHERNET_HEADER_BYTES <= mtuBytes;
      this.cpus.batch(() => {
        for (const part of fits ? [frame] : fragment(frame, mtuBytes, this.frames)) {
          part.srcMac = device.mac;
          part.dstMac = BROADCAST_MAC;
          device.transmit(part);
        }
      });
    }
    if (!isHeardHere) return;
    const { dstIp } = own;
    own.receivedOn = device;
    if (netfilter === undefined || netfilter.run(PREROUTING, own, device, undefined))
      this.#localDeliver(own, device, this.fib.lookup(dstIp));
  }

  // ── fragments and path MTUs ────────────────────────────────────────────────────────────────────────────────────────

  /** ip_fragment. */
  #outputFragments(frame: Frame, device: NetDevice, nextHop: Ip): void {
    const mtuBytes = this.#mtuFor(frame, device);
    if (frame.dontFragment && this.#isTooBig(frame, mtuBytes)) return;
    const limit = Math.min(mtuBytes, frame.fragments?.largestBytes || mtuBytes);
    // Fragments that have no room for a tunnel's headers cannot be sent again as they are: the packet is cut anew.
    if (device.headroomBytes > 0) frame.fragments = undefined;
    this.cpus.batch(() => {
      for (const part of fragment(frame, limit, this.frames)) {
        this.cpus.charge(this.cpus.costs.fragmentNs);
        this.neighbors.output(part, device, nextHop);
      }
    });
  }

  /** A packet that forbids fragmentation, or whose largest fragment did: its sender hears of it, and it ends. */
  #isTooBig(frame: Frame, mtuBytes: number): boolean {
    if ((frame.fragments?.largestBytes ?? frame.sizeBytes - ETHERNET_HEADER_BYTES) <= mtuBytes) return false;
    this.sendIcmpError(frame, ICMP_DEST_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED, { mtuBytes });
    this.drop(frame, 'PKT_TOO_BIG');
    return true;
  }

  /** ip_skb_dst_mtu: packets of this host heed what routers have said; what it forwards is their business. */
  #mtuFor({ dstIp, receivedOn }: Frame, { mtuBytes }: NetDevice): number {
    if (receivedOn !== undefined && this.settings.host.ip_forward_use_pmtu === 0) return mtuBytes;
    const learned = this.#pathMtus?.find(dstIp, this.cpus.instant);
    if (learned === undefined) return mtuBytes;
    this.frames.recorder.spoil(); // it will be forgotten
    return Math.min(learned.mtuBytes, mtuBytes);
  }

  /** ip_dont_fragment: packets say that they must not be cut as long as there is a use in hearing of narrow ways. */
  #discoversPathMtu(dst: Ip, tunnel: DeviceRef | undefined): boolean {
    if (this.settings.host.ip_no_pmtu_disc !== 0 && tunnel === undefined) return false; // of sockets; not in iptunnel_xmit
    return this.#pathMtus?.find(dst, this.cpus.instant)?.isLocked !== true;
  }

  /** For connection tracking, which sees whole packets only: bridged ones apart from those of the IP stack. */
  defragment(frame: Frame, hook: Hook): boolean {
    if (frame.family === 6) return this.#ipv6 === undefined || this.#ipv6.defragment(frame, hook);
    return this.#gather(frame, hook === OUTPUT ? 'output' : frame.physIn === undefined ? 'tracking' : 'bridge');
  }

  get reassemblyLimits(): ReassemblyLimits {
    return { timeS: this.settings.host.ipfrag_time, memoryBytes: this.settings.host.ipfrag_high_thresh };
  }

  #gather(frame: Frame, purpose: string): boolean {
    this.#reassembly ??= new Reassembly(this);
    return this.#reassembly.add(frame, purpose);
  }

  /** ip_expire: a router that only looked at the packet says nothing (RFC 792). */
  reassemblyTimedOut(first: Frame, purpose: string): void {
    if (purpose === 'delivery' || this.fib.lookup(first.dstIp)?.type === 'local')
      this.sendIcmpError(first, ICMP_TIME_EXCEEDED, ICMP_REASSEMBLY_TIME);
  }

  /** Packets for the host's own addresses go by loopback, whatever device has the address. */
  #outDevice(route: Route): NetDevice {
    return route.type === 'local' && this.#loopback !== undefined ? this.#loopback : route.device;
  }

  #icmpLimit(): IcmpRateLimit {
    const { cpus, name } = this;
    this.#icmpRate ??= new IcmpRateLimit(cpus, this.settings, () => cpus.place.random(`icmp/${name}`));
    return this.#icmpRate;
  }

  // ── ICMP ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** An ICMP error to the sender of `about`, if the RFCs and the rate limits allow one. */
  sendIcmpError(
    about: Frame,
    type: number,
    code: number,
    { mtuBytes = 0, gateway = ANY_IP }: { mtuBytes?: number; gateway?: Ip } = {},
  ): void {
    if ((this.cpus.icmpLocks & ICMP_LOCK) !== 0 || !mayCauseError(about) || this.#isRoutedToMany(about)) return;
    // Nothing limits what has come by loopback.
    const cameByLoopback = about.receivedOn !== undefined && about.receivedOn === this.#loopback;
    const isLocal = this.isLocal(about.srcIp);
    if (!cameByLoopback && !this.#icmpLimit().allow(type, code, about.srcIp, { isLocal })) return;
    const error = this.frames.allocate();
    fillIcmpError(error, { about, type, code, mtuBytes, gateway });
    // Locally addressed packets are answered from the address they were sent to; others from the way back's address.
    if (this.isLocal(about.dstIp) && !crossesBridge(about)) error.srcIp = about.dstIp;
    else if (this.settings.host.icmp_errors_use_inbound_ifaddr !== 0 && about.receivedOn !== undefined)
      error.srcIp = this.#addressOf(about.receivedOn, about.srcIp);
    this.#noteIcmp(about, error);
    attachConntrack(error, about);
    this.#sendIcmp(error);
  }

  /** RTCF_BROADCAST, RTCF_MULTICAST. */
  #isRoutedToMany(frame: Frame): boolean {
    if (crossesBridge(frame)) return false;
    const { dstIp } = frame;
    return isMulticast(dstIp) || dstIp === LIMITED_BROADCAST_IP || this.fib.lookup(dstIp)?.type === 'broadcast';
  }

  #sendIcmp(message: Frame): void {
    const { cpus } = this;
    cpus.icmpLocks |= ICMP_LOCK;
    this.send(message);
    cpus.icmpLocks &= ~ICMP_LOCK;
  }

  /**
   * UDP has no socket for a packet that it was given. It has let go of the packet's connection (nf_reset_ct in
   * __udp4_lib_rcv), so that rules before conntrack see an error of no connection.
   */
  portUnreachable(frame: Frame): void {
    frame.conntrackEntry = 0;
    frame.conntrackReply = false;
    frame.conntrackState = 0;
    if (frame.family === 6) this.#ipv6?.sendError(frame, ICMPV6_DEST_UNREACHABLE, ICMPV6_PORT_UNREACHABLE);
    else this.sendIcmpError(frame, ICMP_DEST_UNREACHABLE, ICMP_PORT_UNREACHABLE);
  }

  /** What REJECT does: the error or reset goes back to the sender; netfilter then drops the packet. */
  reject(frame: Frame, _hook: Hook, rejectWith: RejectType, inDevice: DeviceRef | undefined): void {
    // Its checksum is that of the whole packet, and looks wrong (nf_reject_verify_csum); SCTP's is not looked at.
    if (frame.isFragment && frame.protocol !== PROTOCOL_SCTP) return;
    if (rejectWith !== 'tcp-reset') {
      const code = icmpCodeOf(rejectWith);
      if (frame.family === 6) this.#ipv6?.sendError(frame, ICMPV6_DEST_UNREACHABLE, code, { device: inDevice });
      else this.sendIcmpError(frame, ICMP_DEST_UNREACHABLE, code);
      return;
    }
    if (frame.family === 4 && this.#isRoutedToMany(frame)) return;
    // Also a reset that only crosses a bridge needs a route (ip_route_me_harder in nf_send_reset).
    if (!mayCauseReset(frame) || this.routeTo(frame.srcIp, frame.family) === undefined) return;
    this.#netfilter?.conntrack.closeByReset(frame);
    const reset = this.frames.allocate();
    fillReset(reset, frame);
    reset.isChecksumOpen = frame.family === 4; // nf_reject_ip6_tcphdr_put computes it
    const port =
      frame.physIn === undefined ? undefined : this.#devices.find(({ index }) => index === frame.physIn?.index);
    if (port !== undefined) return sendBackBy(port, reset, frame);
    attachConntrack(reset, frame);
    if (frame.family === 6)
      this.#ipv6?.send(reset); // without a flow label (nf_send_reset6)
    else this.send(reset);
  }

  /** `toAll`: by its address; what link it came by for whom does not matter here. */
  #receiveIcmp(frame: Frame, toAll: boolean): void {
    if (frame.icmpType === ICMP_ECHO_REQUEST) {
      const { icmp_echo_ignore_all, icmp_echo_ignore_broadcasts } = this.settings.host;
      if (icmp_echo_ignore_all !== 0 || (toAll && icmp_echo_ignore_broadcasts !== 0)) return this.frames.deliver(frame);
      const reply = this.frames.allocate();
      fillEchoReply(reply, frame);
      if (toAll) reply.srcIp = ANY_IP; // the route's
      this.frames.deliver(frame);
      return this.#sendIcmp(reply);
    }
    const { quoted } = frame;
    if (isIcmpError(frame.icmpType) && frame.icmpType !== ICMP_REDIRECT && quoted !== undefined) {
      this.handlerOf(quoted.protocol)?.icmpError(frame.icmpType, frame.icmpCode, quoted, frame.icmpMtu);
    }
    const echo = this.handlerOf(PROTOCOL_ICMP);
    if (echo !== undefined) return echo.receive(frame);
    this.frames.deliver(frame);
  }

  /** Nobody answered for the next hop: the sender hears of it, by loopback if it is on this host. */
  unreachable(frame: Frame): void {
    this.sendIcmpError(frame, ICMP_DEST_UNREACHABLE, ICMP_HOST_UNREACHABLE);
    this.drop(frame, 'NEIGH_FAILED');
  }

  // ── configuration ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** IPv6 of this namespace; undefined before {@link enableIpv6}. */
  get ipv6(): Ipv6Stack | undefined {
    return this.#ipv6;
  }

  /** net.ipv6.conf.all.disable_ipv6 = 0: gives every device its link-local address, and loopback ::1. */
  enableIpv6(): Ipv6Stack {
    if (this.#ipv6 === undefined) {
      this.#ipv6 = new Ipv6Stack(this, this.cpus.place.random(`ipv6/${this.name}`));
      for (const device of this.#devices) this.#ipv6.addDevice(device);
    }
    return this.#ipv6;
  }

  get devices(): readonly NetDevice[] {
    return this.#devices;
  }

  /** Of a transport protocol. */
  handlerOf(protocol: number): ProtocolHandler | undefined {
    if (protocol === PROTOCOL_UDP) return this.#udp;
    return protocol === PROTOCOL_TCP ? this.#tcp : this.#others?.get(protocol);
  }

  /** The device hands what it receives to this stack. A loopback device brings 127.0.0.1 with it. */
  addDevice(device: NetDevice): void {
    device.receiver = this;
    this.#devices = appended(this.#devices, device);
    if (device.beginsVisits && this.#flows !== undefined) device.wayIngress = this.#flows.newIngress();
    this.#ipv6?.addDevice(device);
    this.settings.addDevice(device, this.#devices);
    this.neighbors.settings.addDevice(device, this.#devices);
    if (!(device instanceof LoopbackDevice)) return;
    this.#loopback = device;
    this.#keepAddress({ device, ip: LOOPBACK_IP, subnet: LOOPBACK_SUBNET });
    this.#addLinkRoute('local', LOOPBACK_SUBNET, device, LOOPBACK_IP);
    this.#addLinkRoute('local', LOOPBACK_HOST, device, LOOPBACK_IP);
  }

  /** `ip addr add IP/LENGTH dev DEVICE`: also makes the address local and the subnet reachable. */
  addAddress(device: NetDevice, ip: Ip, prefixLength: number): void {
    const subnet = prefix(ip, prefixLength);
    this.#keepAddress({ device, ip, subnet });
    if (device === this.#loopback) this.#addLinkRoute('local', subnet, device, ip);
    this.#addLinkRoute('local', prefix(ip, 32), device, ip);
    if (prefixLength >= 31 || device === this.#loopback) return;
    this.#addLinkRoute('unicast', subnet, device, ip);
    this.#addLinkRoute('broadcast', prefix(broadcastOf(subnet), 32), device, ip);
  }

  #addLinkRoute(type: RouteType, destination: Prefix, device: NetDevice, source: Ip): void {
    this.fib.add({ type, destination, device, gateway: ANY_IP, source, metric: 0 });
  }

  #keepAddress(address: { readonly device: NetDevice; readonly ip: Ip; readonly subnet: Prefix }): void {
    this.#addresses = appended(this.#addresses, address);
  }

  /** `ip link del DEVICE`: its addresses and routes go with it. An address that another device has, too, stays. */
  removeDevice(device: NetDevice): void {
    this.neighbors.removeDevice(device);
    const isGone = (address: { readonly device: NetDevice }): boolean => address.device === device;
    const gone = this.#addresses.filter(isGone);
    this.#addresses = this.#addresses.filter((address) => !isGone(address));
    this.#devices = this.#devices.filter((other) => other !== device);
    this.settings.removeDevice(device, this.#devices);
    this.neighbors.settings.removeDevice(device, this.#devices);
    this.fib.removeDevice(device);
    for (const { ip } of gone) {
      const other = this.#addresses.find((address) => address.ip === ip);
      if (other !== undefined) this.fib.add(localRoute(other.device, ip, 4));
    }
    this.#ipv6?.removeDevice(device);
    device.receiver = undefined;
  }

  /**
   * The addresses, each alone in its subnet, of a device by which nothing leaves (kube-ipvs0): the host answers for them, and
   * is never known by them but to itself. There may be thousands, the same on many hosts, so that the set is only referred
   * to; another one takes its place.
   */
  setServiceAddresses(device: NetDevice, ips: ReadonlySet<Ip>, family: IpFamily): void {
    if (family === 6) return this.enableIpv6().fib.setLocalAddresses(device, ips);
    this.#serviceIps = ips.size === 0 ? undefined : ips;
    this.fib.setLocalAddresses(device, ips);
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
    this.cpus.forgetWays();
    if (protocol === PROTOCOL_UDP) this.#udp = handler;
    else if (protocol === PROTOCOL_TCP) this.#tcp = handler;
    else (this.#others ??= new Map()).set(protocol, handler);
  }

  #holds(ip: Ip): boolean {
    for (const address of this.#addresses) if (address.ip === ip) return true;
    return false;
  }

  isLocal(ip: Ip, family: IpFamily = 4): boolean {
    if (family === 6) return this.#ipv6?.isLocal(ip) === true;
    return this.#holds(ip) || isLoopback(ip) || this.#serviceIps?.has(ip) === true;
  }

  /** The addresses of this namespace, loopback's included, in the order in which they were added. */
  get addresses(): readonly { readonly device: NetDevice; readonly ip: Ip; readonly subnet: Prefix }[] {
    return this.#addresses;
  }

  /** Source address for a packet to `dst`, or undefined without a route. */
  sourceFor(dst: Ip, family: IpFamily = 4): Ip | undefined {
    if (family === 6) return this.#ipv6?.sourceFor(dst);
    const route = this.fib.lookup(dst);
    return route === undefined ? undefined : this.#sourceBy(route, dst);
  }

  /** Why a connection to the address fails before a packet is made for it (ip_route_connect). */
  routeError(dst: Ip, family: IpFamily = 4): SendError | undefined {
    if (family === 6) return this.#ipv6 === undefined ? 'ENETUNREACH' : this.#ipv6.routeError(dst);
    return errorByRoute(this.fib.lookup(dst));
  }

  /** What transport protocols make of "fragmentation needed" about a packet of theirs. */
  updatePathMtu(dst: Ip, mtuBytes: number, family: IpFamily = 4): void {
    if (family === 6) return this.#ipv6?.updatePathMtu(dst, mtuBytes);
    this.cpus.forgetWays();
    this.#pathMtus ??= new PathMtus(this.settings);
    this.#pathMtus.learn(dst, mtuBytes, this.mtuTo(dst), this.cpus.instant);
  }

  /** MTU of the first hop towards `dst`; 1500 without a route. */
  mtuTo(dst: Ip, family: IpFamily = 4): number {
    if (family === 6) return this.#ipv6?.mtuTo(dst) ?? 1500;
    const route = this.fib.lookup(dst);
    if (route === undefined) return 1500;
    const { mtuBytes } = this.#outDevice(route);
    const learned = this.#pathMtus?.find(dst, this.cpus.instant);
    return learned === undefined ? mtuBytes : Math.min(learned.mtuBytes, mtuBytes);
  }

  isAddressOf(device: NetDevice, ip: Ip): boolean {
    return this.#addresses.some((address) => address.device === device && address.ip === ip);
  }

  /** Are both in one subnet of the device (inet_addr_onlink)? */
  shareSubnet(device: NetDevice, a: Ip, b: Ip): boolean {
    return this.#addresses.some(
      ({ device: { index }, subnet: { mask, net } }) =>
        index === device.index && (a & mask) === net && (b & mask) === net,
    );
  }

  /** For ARP: an address of `device`, in the subnet of `towards` where there is one. */
  addressOn(device: NetDevice, towards: Ip): Ip {
    return this.#addressOf(device, towards);
  }

  /**
   * inet_select_addr: the device's address in the subnet of `towards`, else its first, else that of the first device that has
   * one. Those of loopback are for this host alone (scope host), so that loopback itself borrows one.
   */
  #addressOf({ index }: DeviceRef, towards: Ip): Ip {
    const known = this.#addresses.filter(({ ip }) => !isLoopback(ip));
    const own = known.filter(({ device }) => device.index === index);
    const best = own.find(({ subnet }) => (towards & maskOf(subnet.length)) === subnet.net) ?? own[0];
    return (best ?? known.toSorted((a, b) => a.device.index - b.device.index)[0])?.ip ?? ANY_IP;
  }

  /** With a device, only its own addresses and networks are local and broadcast (inet_dev_addr_type). */
  addressType(ip: Ip, family: IpFamily, device?: DeviceRef): AddressType {
    if (family === 6) return this.#ipv6?.addressType(ip) ?? 'UNREACHABLE';
    if (isMulticast(ip)) return 'MULTICAST';
    if (ip === LIMITED_BROADCAST_IP || ip >>> 24 === 0) return 'BROADCAST';
    const route = this.fib.lookup(ip);
    if (device !== undefined && route?.device.index !== device.index) return 'UNICAST';
    if (this.isLocal(ip)) return 'LOCAL';
    return route?.type === 'broadcast' ? 'BROADCAST' : 'UNICAST';
  }

  /** Routes that refuse are none (`fib` of nftables, rpfilter). */
  routeTo(ip: Ip, family: IpFamily): RouteView | undefined {
    const route = family === 6 ? this.#ipv6?.routeFor(ip) : this.fib.lookup(ip);
    if (route?.type !== 'unicast' && route?.type !== 'local') return undefined;
    return { isLocal: route.type === 'local', device: route.device, mtuBytes: this.mtuTo(ip, family) };
  }

  mtuOf({ index }: DeviceRef): number | undefined {
    return this.#devices.find((device) => device.index === index)?.mtuBytes;
  }

  /** The first address of the device that a packet came in by (nf_nat_redirect). */
  redirectAddress(inDevice: DeviceRef, family: IpFamily): Ip | undefined {
    if (family === 6) return this.#ipv6?.redirectAddress(inDevice);
    return this.#addresses.find(({ device }) => device.index === inDevice.index)?.ip;
  }

  /** nf_nat_masquerade_ipv4: by the next hop. */
  masqueradeAddress(outDevice: DeviceRef, dstIp: Ip, family: IpFamily): Ip | undefined {
    if (family === 6) return this.#ipv6?.masqueradeAddress(outDevice, dstIp);
    const route = this.fib.lookup(dstIp);
    const nextHop = route === undefined || route.gateway === ANY_IP ? dstIp : route.gateway;
    const ip = this.#addressOf(outDevice, nextHop);
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

/**
 * br_netfilter asks rules about it, and it has no route: flags like RTCF_LOCAL are those of the bridge's fake one
 * (bridge_parent_rtable).
 */
const crossesBridge = ({ receivedOn, physIn }: Frame): boolean => receivedOn === undefined && physIn !== undefined;

/**
 * The answer to a frame that br_netfilter took from a bridge's port leaves by that port at once, as if the receiver had
 * sent it: past bridge and hooks, so that NAT is not undone (nf_send_reset, nf_send_reset6).
 */
function sendBackBy(port: NetDevice, reset: Frame, about: Frame): void {
  reset.srcMac = about.dstMac;
  reset.dstMac = about.srcMac;
  port.transmit(reset);
}
