// rr: the servers in turn, whatever their weight, if it is not 0 (ip_vs_rr.c). Every virtual server begins at the head of
// its list, so that on many nodes with few connections each the same servers are the first to get some.

import type { RealServer } from '../virtual-server.ts';
import type { Scheduler } from './scheduler.ts';

export class RoundRobin implements Scheduler {
  /** Whose turn it was last; undefined: the head of the list, which is nobody. */
  #last: RealServer | undefined;

  choose(servers: readonly RealServer[]): RealServer | undefined {
    const start = this.#last === undefined ? -1 : servers.indexOf(this.#last);
    for (let step = 1; step <= servers.length; step++) {
      const server = servers[(start + step) % servers.length]!;
      if (server.weight > 0) return (this.#last = server);
    }
    return undefined;
  }

  /** The turn goes back to the server before, or to the head. */
  removed(servers: readonly RealServer[], index: number, server: RealServer): void {
    if (this.#last === server) this.#last = servers[index - 1];
  }
}
