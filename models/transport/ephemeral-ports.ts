// Local ports that nobody asked for by number.

import type { RandomStream, Reserved } from '../../engine/random.ts';
import type { Ip } from '../packet/ip-address.ts';
import { hashOf } from './socket-table.ts';
import type { SocketAddress } from './transport-stack.ts';

/** net.ipv4.ip_local_port_range, default of Linux. */
export const FIRST_LOCAL_PORT = 32_768;
export const LAST_LOCAL_PORT = 60_999;

interface PortRange {
  readonly first: number;
  readonly last: number;
}

const LOCAL_PORTS: PortRange = { first: FIRST_LOCAL_PORT, last: LAST_LOCAL_PORT };

export class EphemeralPorts {
  readonly #random: RandomStream;
  readonly #secret: Reserved;
  readonly #range: PortRange;
  /** Where the next search for a destination starts, by hash of the destination. */
  #searches: Map<number, { offset: number; parity: 0 | 1 }> | undefined;

  constructor(
    random: RandomStream,
    { range = LOCAL_PORTS, secret = random.reserve() }: { readonly range?: PortRange; readonly secret?: Reserved } = {},
  ) {
    this.#random = random;
    this.#range = range;
    if (!(this.#count >= 2)) throw new RangeError(`local ports ${range.first} to ${range.last}; expected two or more`);
    this.#secret = secret;
  }

  /** Even, so that steps of two keep their parity when they wrap around. */
  get #count(): number {
    return (this.#range.last - this.#range.first + 1) & ~1;
  }

  /**
   * A port to connect from. As in Linux (__inet_hash_connect, RFC 6056 algorithm 4), ports towards one destination rise
   * from a secret start in steps of 2 to 16 (seen on Linux 6.18), even ones first; odd ones are left to bind(). When one
   * half is full, the search stays in the other until that is full too: Linux would look through the first half each
   * time. Undefined when no port is free (EADDRNOTAVAIL).
   */
  forConnect(localIp: Ip, remote: SocketAddress, isFree: (port: number) => boolean): number | undefined {
    const { family = 4, ip, port: remotePort } = remote;
    const secret = this.#random.reservedBits31(this.#secret);
    const hash = hashOf(family, localIp, secret & 0xffff, ip, remotePort) & OFFSET_MASK;
    this.#searches ??= new Map();
    let search = this.#searches.get(hash);
    if (search === undefined) this.#searches.set(hash, (search = { offset: hash ^ secret, parity: 0 }));
    const count = this.#count;
    const { first } = this.#range;
    const start = (search.offset % count) & ~1;
    for (let half = 0; half < 2; half++) {
      for (let step = 0; step < count; step += 2) {
        const port = first + search.parity + ((start + step) % count);
        if (!isFree(port)) continue;
        search.offset = start + Math.max(step, 2 * this.#random.int(8)) + 2;
        return port;
      }
      search.parity = search.parity === 0 ? 1 : 0;
    }
    return undefined;
  }

  /** A port to bind to: the first free one from a random start. Undefined when none is free. */
  forBind(isFree: (port: number) => boolean): number | undefined {
    const count = this.#count;
    const start = this.#random.int(count);
    for (let step = 0; step < count; step++) {
      const port = this.#range.first + ((start + step) % count);
      if (isFree(port)) return port;
    }
    return undefined;
  }
}

const OFFSET_MASK = 0xffff; // INET_TABLE_PERTURB_SIZE
