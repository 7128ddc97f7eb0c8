// br_netfilter: with net.bridge.bridge-nf-call-iptables = 1, bridged IPv4 frames pass iptables' PREROUTING, FORWARD and
// POSTROUTING, with the bridge as both devices and the ports as physdev; with bridge-nf-call-ip6tables = 1, IPv6 frames
// pass ip6tables'.
//
// A frame whose destination PREROUTING has changed is bridged to the new one if that lies on the same bridge (TTL stays),
// and goes up to the IP stack otherwise. Observed on Linux 6.18; net/bridge/br_netfilter_hooks.c, br_netfilter_ipv6.c.

import { isErrorRoute, type Route } from '../ip/fib.ts';
import { fragment } from '../ip/fragmentation.ts';
import type { NeighborTable } from '../ip/neighbor-table.ts';
import type { IpStack } from '../ip/stack.ts';
import type { Bridge, BridgeNetfilter, BridgePort } from '../link/bridge.ts';
import { FORWARD, type Netfilter, POSTROUTING, PREROUTING } from '../netfilter/netfilter.ts';
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6, type FragmentSizes, type Frame } from '../packet/frame.ts';
import { ANY_IP } from '../packet/ip-address.ts';
import { isGroupHigh } from '../packet/mac.ts';

/** The sysctls net.bridge.bridge-nf-call-*. */
export interface BridgeCalls {
  readonly iptables: boolean;
  readonly ip6tables: boolean;
}

export class BridgeIptables implements BridgeNetfilter {
  readonly #bridge: Bridge;
  readonly #stack: IpStack;
  readonly #netfilter: Netfilter;
  readonly #calls: BridgeCalls;

  constructor(bridge: Bridge, stack: IpStack, netfilter: Netfilter, calls: BridgeCalls) {
    this.#bridge = bridge;
    this.#stack = stack;
    this.#netfilter = netfilter;
    this.#calls = calls;
  }

  isFor({ etherType }: Frame): boolean {
    return etherType === ETHERTYPE_IPV4 ? this.#calls.iptables : etherType === ETHERTYPE_IPV6 && this.#calls.ip6tables;
  }

  preRouting(frame: Frame, ingress: BridgePort): boolean {
    this.#bridge.cpus.charge(this.#bridge.cpus.costs.bridgeNetfilterNs);
    frame.physIn = ingress.device;
    const { dstIp } = frame;
    if (!this.#netfilter.run(PREROUTING, frame, this.#bridge, undefined)) return false;
    frame.preRoutingDone = true;
    return frame.dstIp === dstIp || this.#redirect(frame, ingress);
  }

  forward(frame: Frame, ingress: BridgePort, egress: BridgePort): boolean {
    frame.physIn = ingress.device;
    frame.physOut = egress.device;
    this.#netfilter.conntrack.refreshCopy(frame);
    return this.#netfilter.run(FORWARD, frame, this.#bridge, this.#bridge);
  }

  postRouting(frame: Frame, egress: BridgePort): boolean {
    frame.physOut = egress.device;
    if (!this.#netfilter.run(POSTROUTING, frame, undefined, this.#bridge)) return false;
    return frame.fragments === undefined || this.#sendFragments(frame, frame.fragments, egress);
  }

  /** br_nf_local_in: what others have copies of, is of a confirmed connection before the IP stack sees it. */
  localIn(frame: Frame): boolean {
    this.#netfilter.conntrack.refreshCopy(frame);
    return !isGroupHigh(frame.dstMacHigh) || this.#netfilter.confirm(frame);
  }

  /** br_nf_local_in lets go of its connection, so that nobody translates it: the one that is bridged has it. */
  promiscuousIn(frame: Frame): void {
    frame.conntrackEntry = 0;
    frame.conntrackReply = false;
    frame.conntrackState = 0;
  }

  /** br_nf_dev_queue_xmit: what came in fragments leaves in fragments; true for a packet that goes on whole. */
  #sendFragments(frame: Frame, { largestBytes }: FragmentSizes, egress: BridgePort): boolean {
    if (largestBytes > egress.device.mtuBytes) {
      this.#bridge.drop(frame, 'PKT_TOO_BIG');
      return false;
    }
    const { cpus } = this.#bridge;
    cpus.batch(() => {
      for (const part of fragment(frame, largestBytes, this.#stack.frames)) {
        cpus.charge(cpus.costs.fragmentNs);
        egress.transmit(part);
      }
    });
    return false;
  }

  /** A new destination: its MAC if it is on this bridge, else the bridge's own, so that the IP stack routes it. */
  #redirect(frame: Frame, ingress: BridgePort): boolean {
    if (frame.family === 6) return this.#redirectIpv6(frame, ingress);
    const refusal = this.#stack.inputRefusal(this.#bridge, frame.srcIp, frame.dstIp);
    if (refusal !== undefined) {
      this.#bridge.drop(frame, refusal);
      return false;
    }
    const route = this.#stack.fib.lookup(frame.dstIp);
    if (route?.type === 'unicast' && route.device === this.#bridge) {
      return this.#bridgeTo(route, this.#stack.neighbors, frame, ingress);
    }
    frame.dstMac = this.#bridge.mac;
    return true;
  }

  /** br_nf_pre_routing_finish_ipv6: without a route the frame ends here, and nobody hears of it. */
  #redirectIpv6(frame: Frame, ingress: BridgePort): boolean {
    const { ipv6 } = this.#stack;
    const route = ipv6?.fib.lookup(frame.dstIp);
    if (ipv6 === undefined || route === undefined || isErrorRoute(route)) {
      this.#bridge.drop(frame, 'IP_INNOROUTES');
      return false;
    }
    if (route.type === 'unicast') {
      if (route.device === this.#bridge) return this.#bridgeTo(route, ipv6.neighbors, frame, ingress);
      frame.routedByBridge = true;
    }
    frame.dstMac = this.#bridge.mac;
    return true;
  }

  /** Costs what routing it would: ip_route_input() and the neighbor's MAC (br_nf_pre_routing_finish_bridge). */
  #bridgeTo({ gateway }: Route, neighbors: NeighborTable, frame: Frame, ingress: BridgePort): false {
    const bridge = this.#bridge;
    bridge.cpus.charge(bridge.cpus.costs.forwardNs);
    const wasForBridge = bridge.isAddressedBy(frame);
    neighbors.resolve(frame, bridge, gateway === ANY_IP ? frame.dstIp : gateway, (resolved, mac) => {
      resolved.cameForGroup = resolved.group;
      resolved.dstMac = mac;
      bridge.forward(resolved, ingress, { wasForBridge });
    });
    return false;
  }
}
