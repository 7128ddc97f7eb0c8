// Which backend of a Service a new connection gets: at random, by Maglev's table, or the one that the client had before.

import type { RandomStream } from '../../../engine/random.ts';
import { after, type Instant, s } from '../../../engine/time.ts';
import { maglevTable } from '../../netfilter/ipvs/schedulers/maglev.ts';
import { jhash2 } from '../../netfilter/jhash.ts';
import type { Ip } from '../../packet/ip-address.ts';
import type { Backend, EbpfService } from './service-map.ts';

/** maglev.tableSize of Cilium, its default: for up to 160 backends (100 places each). */
export const MAGLEV_TABLE_SIZE = 16_381;

const tables = new WeakMap<readonly Backend[], Int32Array>();

/** The table of these backends, made when it is first asked for. */
export function tableOf(backends: readonly Backend[]): Int32Array {
  let table = tables.get(backends);
  if (table === undefined) {
    const members = backends.map(({ ip, port }) => ({ key: [ip, port], weight: 1 }));
    tables.set(backends, (table = maglevTable(members, MAGLEV_TABLE_SIZE)));
  }
  return table;
}

export interface FlowEnds {
  readonly protocol: number;
  readonly clientIp: Ip;
  readonly clientPort: number;
  readonly ip: Ip;
  readonly port: number;
}

/** The same backend on every node that has the same backends. */
export function byMaglev(
  backends: readonly Backend[],
  { protocol, clientIp, clientPort, ip, port }: FlowEnds,
): Backend {
  const hash = jhash2([clientIp, ip, (clientPort << 16) | port, protocol], HASH_SEED);
  return backends[tableOf(backends)[hash % MAGLEV_TABLE_SIZE]!]!;
}

const HASH_SEED = 0x1b873593;

export const byChance = (backends: readonly Backend[], random: RandomStream): Backend => random.pick(backends);

/** Clients that keep their backend. */
export class Affinities {
  readonly #kept = new Map<string, { readonly backend: Backend; until: Instant }>();

  /** The backend that the client had last, if it is still one, or a new one; kept from now on for as long as is said. */
  choose(
    { name, protocol, affinitySeconds }: EbpfService,
    {
      backends,
      client,
      now,
    }: { readonly backends: readonly Backend[]; readonly client: string; readonly now: Instant },
    chooseAnew: () => Backend,
  ): Backend {
    if (affinitySeconds === undefined) return chooseAnew();
    const key = `${name} ${protocol} ${client}`;
    const kept = this.#kept.get(key);
    const isGood =
      kept !== undefined &&
      kept.until > now &&
      backends.some(({ ip, port }) => ip === kept.backend.ip && port === kept.backend.port);
    const backend = isGood ? kept.backend : chooseAnew();
    this.#kept.set(key, { backend, until: after(now, s(affinitySeconds)) });
    return backend;
  }
}
