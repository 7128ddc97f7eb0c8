// Local ports that nobody asked for by number.

import type { RandomStream } from '../../engine/random.ts';
import type { Ip } from '../packet/ip-address.ts';
import { hashOf } from './socket-table.ts';

/** net.ipv4.ip_local_port_range, default of Linux. */
export const FIRST_LOCAL_PORT = 32_768;
export const LAST_LOCAL_PORT = 60_999;

export class EphemeralPorts {
  readonly #random: RandomStream;
  readonly #secret: number;
  readonly #first: number;
  /** Even, so that steps of two keep their parity when they wrap around. */
  readonly #count: number;
  /** Where the next search for a destination starts, by hash of the destination. */
  readonly #offsets = new Map<number, number>();

  constructor(random: RandomStream, range = { first: FIRST_LOCAL_PORT, last: LAST_LOCAL_PORT }) {
    this.#random = random;
    this.#first = range.first;
    this.#count = (range.last - range.first + 1) & ~1;
    if (!(this.#count >= 2)) throw new RangeError(`local ports ${range.first} to ${range.last}; expected two or more`);
    this.#secret = random.bits31();
  }

  /**
   * A port to connect from. As in Linux (__inet_hash_connect, RFC 6056 algorithm 4), ports towards one destination rise
   * from a secret start in steps of 2 to 16 (seen on Linux 6.18); even ports are tried before odd ones, which are left
   * to bind(). Undefined when none is free (EADDRNOTAVAIL).
   */
  forConnect(localIp: Ip, remote: { ip: Ip; port: number }, isFree: (port: number) => boolean): number | undefined {
    const hash = hashOf(localIp, this.#secret & 0xffff, remote.ip, remote.port) & OFFSET_MASK;
    const start = ((this.#offsets.get(hash) ?? hash ^ this.#secret) % this.#count) & ~1;
    for (const parity of [0, 1]) {
      for (let step = 0; step < this.#count; step += 2) {
        const port = this.#first + parity + ((start + step) % this.#count);
        if (!isFree(port)) continue;
        this.#offsets.set(hash, start + Math.max(step, 2 * this.#random.int(8)) + 2);
        return port;
      }
    }
    return undefined;
  }

  /** A port to bind to: the first free one from a random start. Undefined when none is free. */
  forBind(isFree: (port: number) => boolean): number | undefined {
    const start = this.#random.int(this.#count);
    for (let step = 0; step < this.#count; step++) {
      const port = this.#first + ((start + step) % this.#count);
      if (isFree(port)) return port;
    }
    return undefined;
  }
}

const OFFSET_MASK = 0xffff; // INET_TABLE_PERTURB_SIZE
