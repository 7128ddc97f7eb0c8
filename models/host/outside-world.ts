// What is not the cluster: a gateway on the nodes' network that routes to one network outside, and a client there.
//
//   outside 203.0.113.10 ── wire ── 203.0.113.1 gateway (last address of the node range) ── switch ── nodes
//
// The gateway knows the nodes' network and nothing of pods or Services, as the router of a data centre does.

import type { Simulator } from '../../engine/simulator.ts';
import { FREE } from '../cpu/cost-model.ts';
import { connectWire, type WireSettings } from '../link/wire.ts';
import type { FrameStore } from '../packet/frame-store.ts';
import {
  ANY_PREFIX,
  addressAt,
  addressCount,
  type Ip,
  type Prefix,
  parseIp,
  parsePrefix,
} from '../packet/ip-address.ts';
import type { Fabric } from './fabric.ts';
import { Machine } from './machine.ts';
import type { Process } from './process.ts';

/** TEST-NET-3 (RFC 5737): addresses that documentation may use for the world outside. */
export const OUTSIDE_RANGE = parsePrefix('203.0.113.0/24');
const OUTSIDE_GATEWAY = parseIp('203.0.113.1');
const OUTSIDE_CLIENT = parseIp('203.0.113.10');

/** The last address of the range that a host may have. */
export const gatewayOf = (nodeRange: Prefix): Ip => addressAt(nodeRange, addressCount(nodeRange) - 2);

export class OutsideWorld {
  readonly gateway: Machine;
  readonly machine: Machine;
  /** A program on the gateway: what stands between outside and nodes. */
  readonly gatewayProcess: Process;
  /** Next hop of the nodes' default routes. */
  readonly gatewayIp: Ip;
  /** The client's program, and its address. */
  readonly client: Process;
  readonly clientIp = OUTSIDE_CLIENT;

  constructor(
    sim: Simulator,
    {
      frames,
      fabric,
      nodeRange,
      wire,
    }: { frames: FrameStore; fabric: Fabric; nodeRange: Prefix; wire: Partial<WireSettings> },
  ) {
    // Neither is a bottleneck: their CPUs are free, so that only the cluster's own costs show.
    const common = { sim, frames, costs: FREE, cpuCount: 1 };
    this.gateway = new Machine({ ...common, name: 'gateway', forwarding: true });
    this.machine = new Machine({ ...common, name: 'outside', forwarding: false });
    this.gatewayIp = gatewayOf(nodeRange);
    const inner = fabric.attach(this.gateway, 'eth0');
    const outer = this.gateway.addNic('eth1');
    const nic = this.machine.addNic('eth0');
    connectWire(outer, nic, wire);
    this.gateway.root.stack.addAddress(inner, this.gatewayIp, nodeRange.length);
    this.gateway.root.stack.addAddress(outer, OUTSIDE_GATEWAY, OUTSIDE_RANGE.length);
    this.machine.root.stack.addAddress(nic, OUTSIDE_CLIENT, OUTSIDE_RANGE.length);
    this.machine.root.stack.addRoute({ destination: ANY_PREFIX, device: nic, gateway: OUTSIDE_GATEWAY });
    this.gatewayProcess = { name: 'gateway', place: this.gateway.place, namespace: this.gateway.root, cpu: 0 };
    this.client = { name: 'outside', place: this.machine.place, namespace: this.machine.root, cpu: 0 };
  }
}
