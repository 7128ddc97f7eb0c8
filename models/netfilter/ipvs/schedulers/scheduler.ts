// What decides which real server a new connection goes to. One object per virtual server of a network namespace: what it
// remembers (whose turn it is, a table) is that virtual server's. Servers come in the kernel's order, the latest first.

import type { RealServer } from '../virtual-server.ts';

/** Addresses are folded to 32 bits (foldIp). */
export interface SchedulerRequest {
  readonly clientIp: number;
  readonly clientPort: number;
  readonly virtualIp: number;
}

export interface Scheduler {
  /** The server for a new connection; undefined if none may have it. */
  choose(servers: readonly RealServer[], request: SchedulerRequest): RealServer | undefined;
  /** Servers have come, or have another weight. */
  changed?(servers: readonly RealServer[]): void;
  /** A server has gone; it stood at `index`, and is not in the list any more. */
  removed?(servers: readonly RealServer[], index: number, server: RealServer): void;
}
