// `-m connlimit`: how many connections there are from an address or network, the frame's own included. As in
// nf_conncount.c of Linux 6.18, a rule knows the connections that it has seen, not all that conntrack knows, and looks
// for those that have ended or are closed when a frame comes by, as a rule once a jiffy. Two things to know:
//
// - A frame that is not confirmed, and meets the rule in several hooks, counts each time until the list is looked through.
// - A frame of an assured connection is not counted, as it should be already. If it closes the only one it is dropped.

import type { Instant } from '../../../engine/time.ts';
import { JIFFY, startOfJiffy } from '../../cpu/jiffy.ts';
import type { Frame } from '../../packet/frame.ts';
import { addressBits, type Ip, type IpFamily, maskOf } from '../../packet/ip-address.ts';
import { maskIpv6 } from '../../packet/ipv6-address.ts';
import type { ConnectionQuery, ZonedTuple } from '../connection-query.ts';
import { zoneNumberOf } from '../connection-zone.ts';
import { CONFIRMED } from '../conntrack-table.ts';
import type { FrameTest, Selector } from '../selector.ts';
import { NamespaceMemory, type WalkContext } from '../walk-context.ts';
import type { Words } from '../words.ts';
import type { MatchKind } from './match.ts';

export interface ConnlimitMatch {
  readonly match: 'connlimit';
  readonly limit: 'upto' | 'above';
  readonly connections: number;
  /** Bits of the address that count; absent: all. */
  readonly maskLength?: number;
  /** Absent: source. */
  readonly side?: 'source' | 'destination';
}

const U32 = { first: 0, last: 0xffff_ffff };

const takeLimit = (words: Words, limit: ConnlimitMatch['limit']): Partial<ConnlimitMatch> => ({
  limit,
  connections: words.takeInteger(U32),
});

export const connlimit: MatchKind<ConnlimitMatch> = {
  name: 'connlimit',
  remembers: true,
  needsConntrack: true,
  print: ({ limit, connections, maskLength, side = 'source' }, family) =>
    ` --connlimit-${limit} ${connections} --connlimit-mask ${maskLength ?? addressBits(family)}` +
    (side === 'source' ? ' --connlimit-saddr' : ' --connlimit-daddr'),
  options: {
    // Longer masks are cut to the whole address.
    '--connlimit-mask': (words) => ({
      maskLength: Math.min(words.takeInteger({ first: 0, last: 128 }), addressBits(words.family)),
    }),
    '--connlimit-saddr': () => ({ side: 'source' }),
    '--connlimit-daddr': () => ({ side: 'destination' }),
  },
  negatableOptions: {
    '--connlimit-upto': (words, negated) => takeLimit(words, negated ? 'above' : 'upto'),
    '--connlimit-above': (words, negated) => takeLimit(words, negated ? 'upto' : 'above'),
  },
  complete: ({ limit, connections, ...fields }) =>
    limit === undefined || connections === undefined
      ? '--connlimit-upto COUNT or --connlimit-above COUNT'
      : { ...fields, match: 'connlimit', limit, connections },
  compile: compileConnlimit,
};

interface Lists {
  /** By zone and masked address. */
  byKey: Map<number, ConnectionList>;
  generation: number;
}

function compileConnlimit(spec: ConnlimitMatch, _selector: Selector, family: IpFamily): FrameTest {
  const { limit, connections: most, maskLength = addressBits(family), side = 'source' } = spec;
  const memory = new NamespaceMemory<Lists>(() => ({ byKey: new Map(), generation: -1 }));
  const tuple: ZonedTuple = { srcIp: 0, dstIp: 0, ports: 0, kind: 0, zone: 0 };
  return (frame, context) => {
    const lists = memory.of(context);
    if (lists.generation !== context.table.generation) {
      lists.generation = context.table.generation;
      lists.byKey = new Map();
    }
    context.connections.readTuple(frame, tuple);
    const ip = masked(side === 'source' ? frame.srcIp : frame.dstIp, maskLength, family);
    const key = zoneNumberOf(tuple.zone) * 2 ** 32 + (ip >>> 0);
    let list = lists.byKey.get(key);
    if (list === undefined) lists.byKey.set(key, (list = new ConnectionList(tuple, context)));
    else list.include(tuple, frame, context);
    if (list.count === 0) {
      // It stays in the tree, and connlimit_mt takes its 0 for a want of memory.
      context.hotDrop = true;
      return false;
    }
    return list.count > most === (limit === 'above');
  };
}

interface Listed extends Readonly<ZonedTuple> {
  readonly cpu: number;
  /** The jiffy. */
  readonly addedAt: Instant;
}

/** Additions and removals at one time (CONNCOUNT_GC_MAX_NODES). */
const MOST_AT_ONCE = 64;
/** Two jiffies: so long what another CPU has listed may yet be confirmed (find_or_evict). */
const UNCONFIRMED_AGE = 2 * JIFFY;

/** struct nf_conncount_list */
class ConnectionList {
  readonly #listed: Listed[];
  #checkedAt: Instant;
  #countWhenChecked = 0;

  /** What comes first is counted, whatever it is (insert_tree). */
  constructor(tuple: ZonedTuple, { cpus }: WalkContext) {
    this.#checkedAt = startOfJiffy(cpus.instant);
    this.#listed = [{ ...tuple, cpu: cpus.current, addedAt: this.#checkedAt }];
  }

  get count(): number {
    return this.#listed.length;
  }

  /** __nf_conncount_add, and for what it leaves out nf_conncount_gc_list. */
  include(tuple: ZonedTuple, frame: Frame, context: WalkContext): void {
    const { connections, cpus } = context;
    const jiffy = startOfJiffy(cpus.instant);
    const connection = confirmedConnection(frame, tuple, connections);
    if (connection !== 0 && connections.isAssured(connection)) {
      if (jiffy === this.#checkedAt) return;
      this.#holdsAfterCheck(undefined, jiffy, context);
      this.#checkedAt = jiffy;
      return;
    }
    // What is unconfirmed may be listed already, but that is not looked for twice in a jiffy.
    const isChecked = jiffy === this.#checkedAt && this.count - this.#countWhenChecked < MOST_AT_ONCE;
    if (connection !== 0 || !isChecked) {
      if (this.#holdsAfterCheck(tuple, jiffy, context)) return;
      this.#checkedAt = jiffy;
      this.#countWhenChecked = this.count;
    }
    this.#listed.push({ ...tuple, cpu: cpus.current, addedAt: jiffy });
  }

  /** Forgets connections that have ended or are closed, up to the one looked for, of which it tells whether it is there. */
  #holdsAfterCheck(tuple: ZonedTuple | undefined, jiffy: Instant, { connections, cpus }: WalkContext): boolean {
    const listed = this.#listed;
    let kept = 0;
    let next = 0;
    let holds = false;
    while (next < listed.length && !holds && next - kept <= MOST_AT_ONCE) {
      const one = listed[next++]!;
      const found = connections.find(one);
      const isSame = tuple !== undefined && isSameTuple(one, tuple);
      if (found === 0) {
        const mayBeConfirmed = one.cpu !== cpus.current && jiffy - one.addedAt < UNCONFIRMED_AGE;
        if (!mayBeConfirmed) continue;
      } else if (!isSame && connections.isClosed(found)) continue;
      listed[kept++] = one;
      holds = isSame;
    }
    listed.copyWithin(kept, next);
    listed.length -= next - kept;
    return holds;
  }
}

/** Of a frame that has not come to conntrack, or is INVALID, the one that has the frame's tuple. */
function confirmedConnection(frame: Frame, tuple: ZonedTuple, connections: ConnectionQuery): number {
  if (frame.conntrackEntry === 0) return connections.find(tuple);
  return (connections.status(frame) & CONFIRMED) === 0 ? 0 : frame.conntrackEntry;
}

const isSameTuple = (a: Readonly<ZonedTuple>, b: Readonly<ZonedTuple>): boolean =>
  a.srcIp === b.srcIp && a.dstIp === b.dstIp && a.ports === b.ports && a.kind === b.kind && a.zone === b.zone;

const masked = (ip: Ip, length: number, family: IpFamily): number =>
  family === 6 ? maskIpv6(ip, length) : ip & maskOf(length);
