// sh and dh: 256 buckets that the servers share in turn; the client's address, or the virtual server's, says which bucket
// a connection is in (ip_vs_sh.c, ip_vs_dh.c). A bucket of a server with weight 0 has none: the connection is refused.

import type { RealServer } from '../virtual-server.ts';
import type { Scheduler, SchedulerRequest } from './scheduler.ts';

const BUCKET_BITS = 8;
const BUCKETS = 1 << BUCKET_BITS;

export class AddressHash implements Scheduler {
  readonly #keyOf: (request: SchedulerRequest) => number;
  readonly #isWeighted: boolean;
  #buckets: readonly RealServer[] = [];

  private constructor(keyOf: (request: SchedulerRequest) => number, { isWeighted }: { isWeighted: boolean }) {
    this.#keyOf = keyOf;
    this.#isWeighted = isWeighted;
  }

  /** By the client: each server has as many buckets in a row as its weight says. */
  static bySource({ hashesPort = false }: { hashesPort?: boolean } = {}): AddressHash {
    const keyOf = ({ clientIp, clientPort }: SchedulerRequest): number => clientIp + (hashesPort ? clientPort : 0);
    return new AddressHash(keyOf, { isWeighted: true });
  }

  /** By the virtual address: useful where that stands for many, as before transparent caches. */
  static byDestination(): AddressHash {
    return new AddressHash(({ virtualIp }) => virtualIp, { isWeighted: false });
  }

  choose(_servers: readonly RealServer[], request: SchedulerRequest): RealServer | undefined {
    const server = this.#buckets[hash32(this.#keyOf(request), BUCKET_BITS)];
    return server !== undefined && server.weight > 0 ? server : undefined;
  }

  changed(servers: readonly RealServer[]): void {
    const turns = servers.flatMap((server) =>
      new Array<RealServer>(this.#isWeighted ? Math.max(1, server.weight) : 1).fill(server),
    );
    this.#buckets = turns.length === 0 ? [] : Array.from({ length: BUCKETS }, (_, i) => turns[i % turns.length]!);
  }

  removed(servers: readonly RealServer[]): void {
    this.changed(servers);
  }
}

/** GOLDEN_RATIO_32: the upper bits of the product (include/linux/hash.h). */
export const hash32 = (value: number, bits: number): number => (Math.imul(value, 0x61c88647) >>> 0) >>> (32 - bits);
