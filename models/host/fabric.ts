// The network between machines: one switch, a wire to each machine. The switch is a place of its own whose work is free;
// its ports queue and serialize like any other wire.

import type { Place, Simulator } from '../../engine/simulator.ts';
import { FREE } from '../cpu/cost-model.ts';
import { CpuSet } from '../cpu/cpu-set.ts';
import { Bridge } from '../link/bridge.ts';
import { connectWire, type WireBorder, WireDevice, type WireSettings } from '../link/wire.ts';
import type { FrameStore } from '../packet/frame-store.ts';
import { localMac } from '../packet/mac.ts';
import type { Machine } from './machine.ts';

export class Fabric {
  readonly bridge: Bridge;
  readonly #place: Place;
  readonly #cpus: CpuSet;
  readonly #frames: FrameStore;
  readonly #wire: Partial<WireSettings>;
  readonly #border: WireBorder | undefined;
  #ports = 0;

  /** `border`: of a run that several workers simulate. */
  constructor(
    sim: Simulator,
    { frames, wire, border }: { frames: FrameStore; wire: Partial<WireSettings>; border?: WireBorder | undefined },
  ) {
    this.#place = sim.place('fabric');
    this.#cpus = new CpuSet(this.#place, { count: 1, costs: FREE });
    this.#frames = frames;
    this.#wire = wire;
    this.#border = border;
    this.bridge = new Bridge(this.#device('switch'));
  }

  /** Gives the machine a NIC of that name and wires it to a port of the switch. */
  attach(machine: Machine, nicName: string): WireDevice {
    const nic = machine.addNic(nicName);
    const port = new WireDevice(this.#device(`port-${machine.name}`));
    this.bridge.addPort(port);
    connectWire(nic, port, { ...this.#wire, border: this.#border });
    return nic;
  }

  #device(name: string) {
    const index = ++this.#ports;
    const mac = localMac(this.#place.id * 2 ** 24 + index);
    return { name, mac, namespace: 'fabric', index, cpus: this.#cpus, frames: this.#frames };
  }
}
