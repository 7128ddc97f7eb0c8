// lc, wlc, sed and nq: the server with the least to do, the first in the list of equals (ip_vs_lc.c, ip_vs_wlc.c,
// ip_vs_sed.c, ip_vs_nq.c).

import type { RealServer } from '../virtual-server.ts';
import type { Scheduler } from './scheduler.ts';

/** What a server has to do, without regard to its weight. */
type Overhead = (server: RealServer) => number;

/** ip_vs_dest_conn_overhead: an inactive connection is a 256th of an active one. */
const connectionOverhead: Overhead = ({ activeConnections, inactiveConnections }) =>
  activeConnections * 256 + inactiveConnections;

/** What it would have to do with one more connection. */
const expectedDelay: Overhead = ({ activeConnections }) => activeConnections + 1;

export const leastConnection = (): Scheduler => ({
  choose: (servers) => least(servers, connectionOverhead, () => 1),
});

export const weightedLeastConnection = (): Scheduler => ({
  choose: (servers) => least(servers, connectionOverhead, ({ weight }) => weight),
});

export const shortestExpectedDelay = (): Scheduler => ({
  choose: (servers) => least(servers, expectedDelay, ({ weight }) => weight),
});

/** An idle server at once, else as sed. */
export const neverQueue = (): Scheduler => ({
  choose: (servers) =>
    servers.find(({ weight, activeConnections }) => weight > 0 && activeConnections === 0) ??
    least(servers, expectedDelay, ({ weight }) => weight),
});

/** Least overhead per weight, compared by products as the kernel does. */
function least(
  servers: readonly RealServer[],
  overheadOf: Overhead,
  weightOf: (server: RealServer) => number,
): RealServer | undefined {
  let best: RealServer | undefined;
  let bestOverhead = 0;
  for (const server of servers) {
    if (server.weight <= 0) continue;
    const overhead = overheadOf(server);
    if (best === undefined || bestOverhead * weightOf(server) > overhead * weightOf(best)) {
      best = server;
      bestOverhead = overhead;
    }
  }
  return best;
}
