// Two machines on one cable, for tests of clients and servers: what they cost is nothing, and the cable takes 10 us each
// way, so that times can be reckoned by hand.

import { Simulator } from '../../engine/simulator.ts';
import { type Duration, type Instant, ns, us } from '../../engine/time.ts';
import { FREE } from '../cpu/cost-model.ts';
import { Machine } from '../host/machine.ts';
import type { Process } from '../host/process.ts';
import { connectWire, type WireDevice } from '../link/wire.ts';
import { type Frame, PROTOCOL_TCP, TCP_ACK, TCP_SYN } from '../packet/frame.ts';
import { FrameStore } from '../packet/frame-store.ts';
import { type Ip, parseIp } from '../packet/ip-address.ts';

const CABLE = us(10);
/** So fast that frames take no time of their own on the cable. */
const WITHOUT_SERIALIZATION_BPS = 1e18;

/** There and back. */
export const ROUND_TRIP: Duration = ns(2 * CABLE);

export class TwoMachines {
  readonly sim: Simulator;
  readonly frames = new FrameStore();
  readonly client: Process;
  readonly server: Process;
  readonly serverIp: Ip = parseIp('192.0.2.2');
  /** Connections that were asked for at the server's interface, retransmissions included. */
  synsReceived = 0;

  constructor(seed = 'two machines') {
    this.sim = new Simulator({ seed });
    const client = this.#machine('client', parseIp('192.0.2.1'));
    const server = this.#machine('server', this.serverIp);
    connectWire(client.nic, server.nic, { rateBps: WITHOUT_SERIALIZATION_BPS, delay: CABLE });
    server.nic.tap = (frame: Frame, direction: 'in' | 'out') => {
      const isSyn = frame.protocol === PROTOCOL_TCP && (frame.tcpFlags & (TCP_SYN | TCP_ACK)) === TCP_SYN;
      if (direction === 'in' && isSyn) this.synsReceived++;
    };
    this.client = processOn(client.machine);
    this.server = processOn(server.machine);
  }

  to(port: number): { ip: Ip; port: number } {
    return { ip: this.serverIp, port };
  }

  runFor(duration: Duration): void {
    this.sim.run({ until: (this.sim.now + duration) as Instant });
    this.frames.assertConserved();
  }

  #machine(name: string, ip: Ip): { machine: Machine; nic: WireDevice } {
    const machine = new Machine({
      name,
      sim: this.sim,
      frames: this.frames,
      cpuCount: 1,
      costs: FREE,
      forwarding: false,
    });
    const nic = machine.addNic('eth0');
    machine.root.stack.addAddress(nic, ip, 24);
    return { machine, nic };
  }
}

const processOn = (machine: Machine): Process => ({
  name: machine.name,
  place: machine.place,
  namespace: machine.root,
  cpu: 0,
});
