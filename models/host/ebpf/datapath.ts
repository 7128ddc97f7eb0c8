// An eBPF-style replacement of kube-proxy on one machine: a table of Services, a program at its sockets and one at its device.

import type { NetDevice } from '../../link/net-device.ts';
import type { Ip } from '../../packet/ip-address.ts';
import type { Machine } from '../machine.ts';
import { NodePortProgram, type NodePortSettings } from './node-port-program.ts';
import { type EbpfService, ServiceMap } from './service-map.ts';
import { SocketLoadBalancer } from './socket-load-balancer.ts';

export class EbpfDatapath {
  readonly services = new ServiceMap();
  readonly #machine: Machine;
  readonly #program: NodePortProgram;

  /** `device` has the node's address. */
  constructor(machine: Machine, { device, nodeIp }: { readonly device: NetDevice; readonly nodeIp: Ip }) {
    const { root, cpus, place } = machine;
    const { services } = this;
    this.#machine = machine;
    machine.socketBalancer = new SocketLoadBalancer(services, { cpus, random: place.random('ebpf/sockets') });
    this.#program = new NodePortProgram(services, { stack: root.stack, random: place.random('ebpf/packets'), nodeIp });
    root.stack.attachProgram(device, this.#program);
  }

  configure(settings: Partial<NodePortSettings>): void {
    this.#program.settings = { ...this.#program.settings, ...settings };
  }

  /** These Services and no others, from now on; connections that there are stay where they are. */
  replaceServices(services: Iterable<EbpfService>): void {
    this.services.replaceAll(services);
    this.#machine.cpus.forgetWays();
  }
}
