// One computer: CPUs, a root network namespace, and the namespaces made in it. A Kubernetes node is one; so are the
// gateway and the clients outside the cluster.

import type { Home, Place, Simulator } from '../../engine/simulator.ts';
import { type CostModel, LINUX_6_18 } from '../cpu/cost-model.ts';
import { CpuSet } from '../cpu/cpu-set.ts';
import { flowCacheOf } from '../ip/flow-cache.ts';
import { DummyDevice } from '../link/dummy.ts';
import { WireDevice } from '../link/wire.ts';
import type { FrameStore } from '../packet/frame-store.ts';
import type { Ip, IpFamily } from '../packet/ip-address.ts';
import { localMac, type Mac } from '../packet/mac.ts';
import type { SocketBalancer } from '../transport/socket-balancer.ts';
import { NetworkNamespace } from './network-namespace.ts';

export interface MachineOptions {
  readonly name: string;
  readonly sim: Simulator;
  readonly frames: FrameStore;
  readonly cpuCount?: number;
  readonly costs?: CostModel;
  /** net.ipv4.ip_forward of the root namespace. */
  readonly forwarding: boolean;
  /** The worker that simulates it, where there are several; the first one by default. */
  readonly home?: Home;
}

/** Serial numbers of MACs are made of the place and a counter of its own: 24 bits are enough for any machine. */
const MACS_PER_PLACE = 2 ** 24;

export class Machine {
  readonly name: string;
  readonly place: Place;
  readonly cpus: CpuSet;
  readonly frames: FrameStore;
  readonly root: NetworkNamespace;
  readonly #namespaces = new Map<string, NetworkNamespace>();
  #socketBalancer: SocketBalancer | undefined;
  #macs = 0;
  #nextCpu = 0;

  constructor({ name, sim, frames, cpuCount = 2, costs = LINUX_6_18, forwarding, home = 0 }: MachineOptions) {
    this.name = name;
    this.place = sim.place(name, { home });
    this.cpus = new CpuSet(this.place, { count: cpuCount, costs });
    this.frames = frames;
    this.root = this.#make(name, forwarding);
  }

  get namespaces(): NetworkNamespace[] {
    return [...this.#namespaces.values()];
  }

  /** `ip netns add NAME`: a pod's namespace does not forward. Throws if the name is taken. */
  addNamespace(name: string): NetworkNamespace {
    if (this.#namespaces.has(name))
      throw new RangeError(`network namespace ${name} exists on ${this.name}; expected a new name`);
    return this.#make(name, false);
  }

  removeNamespace(name: string): void {
    this.#namespaces.delete(name);
  }

  nextMac(): Mac {
    return localMac(this.place.id * MACS_PER_PLACE + ++this.#macs);
  }

  /** CPUs are handed to processes in turn: where a process runs, its system calls cost. */
  nextCpu(): number {
    return this.#nextCpu++ % this.cpus.count;
  }

  /** A physical interface in the root namespace, to be wired up. */
  addNic(name: string): WireDevice {
    return this.root.add(new WireDevice(this.root.device(name, this.nextMac())));
  }

  /**
   * `ip link add NAME type dummy`, if it is not there, and `ip addr add IP/32 dev NAME` for each of these addresses: those
   * that the device had before are gone.
   */
  bindServiceAddresses(name: string, ips: ReadonlySet<Ip>, family: IpFamily): void {
    const { root } = this;
    const device =
      root.devices.find((candidate) => candidate.name === name) ??
      root.add(new DummyDevice(root.device(name, this.nextMac())));
    root.stack.setServiceAddresses(device, ips, family);
  }

  /** Translates for the sockets of all network namespaces, those to come included. */
  set socketBalancer(balancer: SocketBalancer) {
    this.#socketBalancer = balancer;
    for (const namespace of this.#namespaces.values()) namespace.balanceSockets(balancer);
  }

  #make(name: string, forwarding: boolean): NetworkNamespace {
    const { cpus, frames } = this;
    const namespace = new NetworkNamespace({ name, cpus, frames, forwarding, flows: flowCacheOf(frames) });
    if (this.#socketBalancer !== undefined) namespace.balanceSockets(this.#socketBalancer);
    this.#namespaces.set(name, namespace);
    return namespace;
  }
}
