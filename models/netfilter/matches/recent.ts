// `-m recent`: lists of addresses by when they were last seen, per namespace. kube-proxy keeps ClientIP affinity in them,
// one list per endpoint.
//
// As in xt_recent with its default parameters: a list holds 100 addresses and forgets the least recently seen beyond. The
// list itself is gone when no rule names it any more (RuleTables sees to that). Of an address it keeps as many sightings as
// rules have asked for with `--hitcount`, at least 32.

import { type Instant, s } from '../../../engine/time.ts';
import { formatIp, type Ip, type IpFamily } from '../../packet/ip-address.ts';
import { andIpv6, internIpv6 } from '../../packet/ipv6-address.ts';
import type { FrameTest, Selector } from '../selector.ts';
import type { MatchKind } from './match.ts';

export type RecentOperation = 'set' | 'rcheck' | 'update' | 'remove';

export interface RecentMatch {
  readonly match: 'recent';
  readonly operation: RecentOperation;
  /** Absent: DEFAULT. */
  readonly name?: string;
  readonly negated?: boolean;
  /** rcheck, update: only sightings within so many seconds count. */
  readonly seconds?: number;
  /** rcheck, update: only with so many sightings. */
  readonly hitcount?: number;
  /** Removes the oldest address of the list if it is past `seconds`. */
  readonly reap?: boolean;
  /** rcheck, update: only if the packet has as many hops left as the one that was seen last. */
  readonly rttl?: boolean;
  /** Absent: source. */
  readonly side?: 'source' | 'destination';
  /** Absent: the whole address. */
  readonly mask?: Ip;
}

/** Sightings kept per address when no rule asks for more (ip_pkt_list_tot 0). */
const SIGHTINGS = 32;
/** XT_RECENT_MAX_NSTAMPS. */
const MOST_SIGHTINGS = 65_535;
/** XT_RECENT_NAME_LEN without its terminating zero. */
const LONGEST_NAME = 199;
/** ip_list_tot. */
const LIST_ADDRESSES = 100;
const DEFAULT_LIST = 'DEFAULT';
/** Longer than any run: everything that was ever seen is within it. */
const LONGEST_WINDOW_SECONDS = 9_000_000;

const operation =
  (operation: RecentOperation) =>
  (_words: unknown, negated: boolean): Partial<RecentMatch> => ({ operation, ...(negated && { negated }) });

export const recent: MatchKind<RecentMatch> = {
  name: 'recent',
  remembers: true,
  print: ({ operation, name = DEFAULT_LIST, negated, seconds, hitcount, reap, rttl, side = 'source', mask }, family) =>
    `${negated ? ' !' : ''} --${operation}` +
    `${seconds === undefined ? '' : ` --seconds ${seconds}`}${reap ? ' --reap' : ''}` +
    `${hitcount === undefined ? '' : ` --hitcount ${hitcount}`}${rttl ? ' --rttl' : ''}` +
    ` --name ${name} --mask ${formatIp(mask ?? wholeAddress(family), family)} ${side === 'source' ? '--rsource' : '--rdest'}`,
  options: {
    '--name': (words) => ({ name: words.takeText(LONGEST_NAME) }),
    '--seconds': (words) => ({ seconds: words.takeInteger({ first: 1, last: 0xffff_ffff }) }),
    '--hitcount': (words) => {
      const hitcount = words.takeInteger({ first: 0, last: MOST_SIGHTINGS });
      return hitcount === 0 ? {} : { hitcount };
    },
    '--rttl': () => ({ rttl: true }),
    '--reap': () => ({ reap: true }),
    '--mask': (words) => ({ mask: words.takeIp() }),
    '--rsource': () => ({ side: 'source' }),
    '--rdest': () => ({ side: 'destination' }),
  },
  negatableOptions: {
    '--set': operation('set'),
    '--rcheck': operation('rcheck'),
    '--update': operation('update'),
    '--remove': operation('remove'),
  },
  complete: ({ operation, ...fields }) =>
    operation === undefined ? '--set, --rcheck, --update or --remove' : { ...fields, match: 'recent', operation },
  problem: ({ operation, name = DEFAULT_LIST, seconds, hitcount = 0, reap = false, rttl = false }) => {
    const checks = operation === 'rcheck' || operation === 'update';
    if (!checks && (seconds !== undefined || hitcount > 0 || rttl))
      return `--seconds, --hitcount and --rttl do not go with --${operation}`;
    if (reap && seconds === undefined) return '--reap needs --seconds';
    if (name === '' || name.includes('/')) return `"${name}" is no name of a list`;
    return hitcount > MOST_SIGHTINGS ? `--hitcount ${hitcount} is more than ${MOST_SIGHTINGS}` : undefined;
  },
  compile: compileRecent,
};

/** The mask that keeps every bit. */
const wholeAddress = (family: IpFamily): Ip => (family === 6 ? WHOLE_IPV6_ADDRESS : (-1 as Ip));
const WHOLE_IPV6_ADDRESS = internIpv6(-1, -1, -1, -1);

interface Sightings {
  /** The latest is the last. */
  readonly at: Instant[];
  /** Hops that the latest packet had left. */
  hops: number;
}

/** By address, the least recently seen first. */
export class RecentList extends Map<Ip, Sightings> {
  /** Sightings kept per address. */
  kept = SIGHTINGS;
}

/** By name; what `/proc/net/xt_recent` shows. */
export type RecentLists = Map<string, RecentList>;

export const listNameOf = ({ name = DEFAULT_LIST }: RecentMatch): string => name;

function compileRecent(spec: RecentMatch, _selector: Selector, family: IpFamily): FrameTest {
  const { operation, negated = false, seconds, hitcount = 1, reap = false, rttl = false } = spec;
  const { side = 'source', mask } = spec;
  const name = listNameOf(spec);
  const window = seconds === undefined || seconds > LONGEST_WINDOW_SECONDS ? undefined : s(seconds);

  return (frame, context) => {
    const list = listOf(context.memories.recentLists, name);
    const address = masked(side === 'source' ? frame.srcIp : frame.dstIp, mask, family);
    const now = context.cpus.instant;
    if (hitcount > list.kept) list.kept = hitcount;
    // As the packet came in: routing has taken one off before FORWARD.
    const hops = frame.ttl + (context.outDevice === undefined ? 0 : 1);
    const sightings = list.get(address);
    if (operation === 'set') {
      see(list, address, sightings, now, hops);
      return !negated;
    }
    if (sightings === undefined || (rttl && sightings.hops !== hops)) return negated;
    if (operation === 'remove') {
      list.delete(address);
      return !negated;
    }
    const earliest = window === undefined ? (0 as Instant) : ((now - window) as Instant);
    const nth = sightings.at[sightings.at.length - hitcount];
    const matches = (nth !== undefined && nth >= earliest) !== negated;
    const updates = operation === 'update' && matches;
    if (reap) reapOldest(list, earliest, updates ? address : undefined);
    if (updates) see(list, address, sightings, now, hops);
    return matches;
  };
}

function masked(ip: Ip, mask: Ip | undefined, family: IpFamily): Ip {
  if (mask === undefined) return ip;
  return family === 6 ? andIpv6(ip, mask) : ((ip & mask) as Ip);
}

function listOf(lists: RecentLists, name: string): RecentList {
  let list = lists.get(name);
  if (list === undefined) lists.set(name, (list = new RecentList()));
  return list;
}

function see(list: RecentList, address: Ip, known: Sightings | undefined, now: Instant, hops: number): void {
  const sightings = known ?? { at: [], hops };
  sightings.at.push(now);
  sightings.hops = hops;
  if (sightings.at.length > list.kept) sightings.at.shift();
  list.delete(address);
  if (known === undefined && list.size === LIST_ADDRESSES) list.delete(oldestOf(list)!);
  list.set(address, sightings);
}

/** One address per frame, as in xt_recent; never the one about to be updated. */
function reapOldest(list: RecentList, earliest: Instant, keep: Ip | undefined): void {
  const oldest = oldestOf(list);
  if (oldest !== undefined && oldest !== keep && list.get(oldest)!.at.at(-1)! < earliest) list.delete(oldest);
}

const oldestOf = (list: RecentList): Ip | undefined => list.keys().next().value;
