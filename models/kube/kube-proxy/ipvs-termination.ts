// How real servers go in IPVS mode (GracefulTerminationManager): those of TCP with connections get weight 0 and wait; once a
// minute it is looked whether their connections are over. Those of UDP and SCTP, and idle ones, go at once: their
// connections end with the next packet (vs.expire_nodest_conn).

import { minutes } from '../../../engine/time.ts';
import type { Ipvs } from '../../netfilter/ipvs/ipvs.ts';
import type { RealServer, VirtualServer } from '../../netfilter/ipvs/virtual-server.ts';
import { PROTOCOL_NUMBERS } from '../../netfilter/protocol.ts';

export const TERMINATION_CHECK_INTERVAL = minutes(1);

export class GracefulTermination {
  readonly #waiting = new Map<RealServer, VirtualServer>();

  get isEmpty(): boolean {
    return this.#waiting.size === 0;
  }

  has(server: RealServer): boolean {
    return this.#waiting.has(server);
  }

  /** The endpoint is gone. */
  end(ipvs: Ipvs, virtual: VirtualServer, server: RealServer): void {
    if (this.#tryDelete(ipvs, virtual, server)) return;
    ipvs.setWeight(virtual, server, 0);
    this.#waiting.set(server, virtual);
  }

  /** The endpoint is back: the server is deleted, to be added anew. */
  cancel(ipvs: Ipvs, virtual: VirtualServer, server: RealServer): void {
    this.#waiting.delete(server);
    ipvs.deleteServer(virtual, server);
  }

  /** Its virtual server goes, and takes it along. */
  forget(server: RealServer): void {
    this.#waiting.delete(server);
  }

  /** Once a minute. */
  check(ipvs: Ipvs): void {
    for (const [server, virtual] of this.#waiting)
      if (this.#tryDelete(ipvs, virtual, server)) this.#waiting.delete(server);
  }

  #tryDelete(ipvs: Ipvs, virtual: VirtualServer, server: RealServer): boolean {
    ipvs.tidy();
    if (virtual.protocol === PROTOCOL_NUMBERS.tcp && server.connections > 0) return false;
    ipvs.deleteServer(virtual, server);
    return true;
  }
}
