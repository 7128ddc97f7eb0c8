// What is not the cluster: a gateway on the nodes' network that routes to one network outside, and a client there.
//
//   outside 203.0.113.10 ── wire ── 203.0.113.1 gateway (last address of the node range) ── switch ── nodes
//   2001:db8:203:113::10              ::1               (IPv6: the first)
//
// The gateway knows the nodes' network and nothing of pods or Services, as the router of a data centre does.

import type { Simulator } from '../../engine/simulator.ts';
import { FREE } from '../cpu/cost-model.ts';
import type { NetDevice } from '../link/net-device.ts';
import { connectWire, type WireSettings } from '../link/wire.ts';
import type { FrameStore } from '../packet/frame-store.ts';
import {
  addressAt,
  addressBits,
  addressCount,
  type Ip,
  type IpAddress,
  type IpFamily,
  type Prefix,
  parseIp,
  parseIpv6,
  parseIpv6Prefix,
  parsePrefix,
  prefix,
} from '../packet/ip-address.ts';
import type { Fabric } from './fabric.ts';
import { addAddress, addDefaultRoute, stackOf } from './ip-setup.ts';
import { Machine } from './machine.ts';
import type { Process } from './process.ts';

/** TEST-NET-3 (RFC 5737) and a part of 2001:db8::/32 (RFC 3849): addresses that documentation may use for the world outside. */
export const OUTSIDE_RANGE = parsePrefix('203.0.113.0/24');
export const OUTSIDE_IPV6_RANGE = parseIpv6Prefix('2001:db8:203:113::/64');

/** Addresses of load balancers, among nodes as seen from the gateway: TEST-NET-2, and a part of 2001:db8::/32. */
export const LOAD_BALANCER_RANGES = {
  4: parsePrefix('198.51.100.0/24'),
  6: parseIpv6Prefix('2001:db8:198:51::/64'),
} as const;

const OUTSIDE = {
  4: { range: OUTSIDE_RANGE, gateway: parseIp('203.0.113.1'), client: parseIp('203.0.113.10') },
  6: {
    range: OUTSIDE_IPV6_RANGE,
    gateway: parseIpv6('2001:db8:203:113::1'),
    client: parseIpv6('2001:db8:203:113::10'),
  },
} as const;

/** Of the node range: the last address that a host may have, in IPv6 the first. */
export const gatewayOf = (nodeRange: Prefix): Ip =>
  addressAt(nodeRange, nodeRange.family === 4 ? addressCount(nodeRange) - 2 : 1);

/** The client's address, also where the cluster has none of that family. */
export const outsideClientIp = (family: IpFamily): Ip => OUTSIDE[family].client;

export class OutsideWorld {
  readonly gateway: Machine;
  readonly machine: Machine;
  /** The client's program. */
  readonly client: Process;
  /** The client's, one of each family of the cluster, the first one first. */
  readonly addresses: readonly IpAddress[];
  readonly #inner: NetDevice;

  /** `nodeRanges`: one of each family that the nodes have. */
  constructor(
    sim: Simulator,
    {
      frames,
      fabric,
      nodeRanges,
      wire,
    }: { frames: FrameStore; fabric: Fabric; nodeRanges: readonly Prefix[]; wire: Partial<WireSettings> },
  ) {
    // Neither is a bottleneck: their CPUs are free, so that only the cluster's own costs show.
    const common = { sim, frames, costs: FREE, cpuCount: 1 };
    this.gateway = new Machine({ ...common, name: 'gateway', forwarding: true });
    this.machine = new Machine({ ...common, name: 'outside', forwarding: false });
    const inner = fabric.attach(this.gateway, 'eth0');
    this.#inner = inner;
    const outer = this.gateway.addNic('eth1');
    const nic = this.machine.addNic('eth0');
    connectWire(outer, nic, wire);
    for (const nodeRange of nodeRanges) {
      const { family } = nodeRange;
      const { range, gateway, client } = OUTSIDE[family];
      if (family === 6) this.gateway.root.stack.enableIpv6().setForwarding(1);
      addAddress(this.gateway.root, inner, { family, ip: gatewayOf(nodeRange), length: nodeRange.length });
      addAddress(this.gateway.root, outer, { family, ip: gateway, length: range.length });
      addAddress(this.machine.root, nic, { family, ip: client, length: range.length });
      addDefaultRoute(this.machine.root, nic, { family, ip: gateway });
    }
    this.addresses = nodeRanges.map(({ family }) => ({ family, ip: outsideClientIp(family) }));
    this.client = { name: 'outside', place: this.machine.place, namespace: this.machine.root, cpu: 0 };
  }

  /** The gateway knows the way to a pod, as the routers of a data centre do that nodes announce their pods to. */
  routeToPod({ family, ip }: IpAddress, { via }: { readonly via: Ip }): void {
    this.routeToPods(prefix(ip, addressBits(family), family), { via });
  }

  /** The same for all pods of a node. */
  routeToPods(destination: Prefix, { via }: { readonly via: Ip }): void {
    stackOf(this.gateway.root, destination.family).addRoute({ destination, gateway: via, device: this.#inner });
  }

  /** The gateway finds this address on the nodes' network, where a load balancer answers for it. */
  announce({ family, ip }: IpAddress): void {
    const { root } = this.gateway;
    const destination = prefix(ip, addressBits(family), family);
    stackOf(root, family).addRoute({ destination, device: this.#inner });
    // Nodes do not know of it, and are not told: routers of data centres send no redirects.
    for (const scope of ['all', this.#inner.name]) root.stack.settings.write(scope, 'send_redirects', 0);
  }
}
