// mh: Maglev hashing (Eisenbud et al., NSDI 2016; ip_vs_mh.c). Every server has a permutation of the places of a table, and
// the servers take turns in claiming the next place of theirs that is free. Each gets nearly the same share, and when one
// goes, few places change hands beside its own.
//
// The kernel hashes with a fixed key of SipHash; which place a client has is arbitrary here as there, so that this uses the
// hash that is at hand.

import { jhash2 } from '../../jhash.ts';
import type { RealServer } from '../virtual-server.ts';
import type { Scheduler, SchedulerRequest } from './scheduler.ts';

/** CONFIG_IP_VS_MH_TAB_INDEX 12: the prime below 2^12. */
export const MAGLEV_PLACES = 4_093;

export class MaglevScheduler implements Scheduler {
  readonly #hashesPort: boolean;
  #table: Int32Array = new Int32Array(0);
  #servers: readonly RealServer[] = [];

  constructor({ hashesPort = false }: { hashesPort?: boolean } = {}) {
    this.#hashesPort = hashesPort;
  }

  choose(_servers: readonly RealServer[], { clientIp, clientPort }: SchedulerRequest): RealServer | undefined {
    if (this.#table.length === 0) return undefined;
    const place = jhash2([clientIp, this.#hashesPort ? clientPort : 0], CLIENT_SEED) % MAGLEV_PLACES;
    const server = this.#servers[this.#table[place]!]!;
    return server.weight > 0 ? server : undefined;
  }

  changed(servers: readonly RealServer[]): void {
    // A server that is being drained keeps its places (last_weight), so that the others' clients stay where they are.
    this.#servers = [...servers];
    this.#table = maglevTable(
      servers.map(({ foldedIp, port, weight }) => ({ key: [foldedIp, port], weight: Math.max(1, weight) })),
      MAGLEV_PLACES,
    );
  }

  removed(servers: readonly RealServer[]): void {
    this.changed(servers);
  }
}

export interface MaglevMember {
  /** What makes the member's permutation: the same key, the same permutation. */
  readonly key: readonly number[];
  readonly weight: number;
}

/** Whose each place is, as indices of the members; empty without members. `places` must be a prime. */
export function maglevTable(members: readonly MaglevMember[], places: number): Int32Array {
  const claimants = members
    .map(({ key, weight }, index) => ({
      index,
      weight,
      next: jhash2(key, OFFSET_SEED) % places,
      skip: (jhash2(key, SKIP_SEED) % (places - 1)) + 1,
    }))
    .filter(({ weight }) => weight > 0);
  if (claimants.length === 0) return new Int32Array(0);
  const table = new Int32Array(places).fill(FREE_PLACE);
  for (let claimed = 0; ; ) {
    for (const claimant of claimants) {
      for (let turn = 0; turn < claimant.weight; turn++) {
        while (table[claimant.next] !== FREE_PLACE) claimant.next = (claimant.next + claimant.skip) % places;
        table[claimant.next] = claimant.index;
        if (++claimed === places) return table;
      }
    }
  }
}

const FREE_PLACE = -1;
const OFFSET_SEED = 0x5bd1e995;
const SKIP_SEED = 0x9e3779b9;
const CLIENT_SEED = 0x2545f491;
