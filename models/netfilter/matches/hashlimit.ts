// `-m hashlimit`: a token bucket per source, destination, port or any of them together. A table of buckets belongs to its
// name: rules of one name share it, and it works as the first of them wanted it; only which side of the limit matches is
// each rule's own.
//
// A bucket that is new, or that has not been asked for `--hashlimit-htable-expire`, is full. A table that is full drops
// every frame that would need another bucket (xt_hashlimit.c). Not modelled: rates in bytes, `--hashlimit-rate-match`.

import { after, between, type Duration, type Instant, ms } from '../../../engine/time.ts';
import type { Frame } from '../../packet/frame.ts';
import { addressBits, type Ip, type IpFamily, maskOf } from '../../packet/ip-address.ts';
import { maskIpv6 } from '../../packet/ipv6-address.ts';
import { type FrameTest, NO_PORT, type Selector } from '../selector.ts';
import type { WalkContext } from '../walk-context.ts';
import type { Words } from '../words.ts';
import type { MatchKind } from './match.ts';
import { intervalOf, printRate, type Rate, rateOf, takeRate, UNIT_SECONDS } from './rate.ts';

/** In the order in which iptables-save lists them. */
const MODES = ['srcip', 'srcport', 'dstip', 'dstport'] as const;
export type HashlimitMode = (typeof MODES)[number];

export interface HashlimitMatch extends Rate {
  readonly match: 'hashlimit';
  /** Matches frames that find a token, or those that do not. */
  readonly limit: 'upto' | 'above';
  readonly name: string;
  /** Size of a bucket; absent: 5. */
  readonly burst?: number;
  /** Absent: one bucket for all. */
  readonly modes?: readonly HashlimitMode[];
  readonly srcMaskLength?: number;
  readonly dstMaskLength?: number;
  /** Of the hash; without effect on results. */
  readonly size?: number;
  /** Buckets in the table; absent: eight per place of the hash. */
  readonly max?: number;
  readonly collectIntervalMs?: number;
  /** Absent: one unit of the rate. */
  readonly expireMs?: number;
}

/** XT_HASHLIMIT_SCALE_v2. */
const TICKS_PER_SECOND = 1_000_000;
const NS_PER_TICK = 1_000;
const DEFAULT_BURST = 5;
const MOST_TOKENS = 1_000_000;
const DEFAULT_COLLECT_INTERVAL_MS = 1_000;
/** Places of the hash where there is a gigabyte of memory or more (htable_create). */
const DEFAULT_SIZE = 8_192;
const BUCKETS_PER_PLACE = 8;
const U32 = { first: 0, last: 0xffff_ffff };

const takeLimit = (words: Words, limit: HashlimitMatch['limit']): Partial<HashlimitMatch> => ({
  limit,
  ...takeRate(words, TICKS_PER_SECOND),
});

const upto = (words: Words, negated: boolean): Partial<HashlimitMatch> => takeLimit(words, negated ? 'above' : 'upto');

export const hashlimit: MatchKind<HashlimitMatch> = {
  name: 'hashlimit',
  remembers: true,
  print: printHashlimit,
  options: {
    '--hashlimit-burst': (words) => ({ burst: words.takeInteger({ first: 1, last: MOST_TOKENS }) }),
    '--hashlimit-mode': (words) => ({ modes: words.takeAs(`some of ${MODES.join(', ')}`, readModes) }),
    '--hashlimit-name': (words) => ({ name: words.take('a name') }),
    '--hashlimit-srcmask': (words) => ({ srcMaskLength: words.takeInteger(lengths(words)) }),
    '--hashlimit-dstmask': (words) => ({ dstMaskLength: words.takeInteger(lengths(words)) }),
    '--hashlimit-htable-size': (words) => ({ size: words.takeInteger(U32) }),
    '--hashlimit-htable-max': (words) => ({ max: words.takeInteger(U32) }),
    '--hashlimit-htable-gcinterval': (words) => ({ collectIntervalMs: words.takeInteger({ ...U32, first: 1 }) }),
    '--hashlimit-htable-expire': (words) => ({ expireMs: words.takeInteger({ ...U32, first: 1 }) }),
  },
  negatableOptions: {
    '--hashlimit-upto': upto,
    '--hashlimit': upto,
    '--hashlimit-above': (words, negated) => takeLimit(words, negated ? 'upto' : 'above'),
  },
  complete: ({ limit, name, amount, per, ...fields }) =>
    limit === undefined || amount === undefined || per === undefined
      ? '--hashlimit-upto RATE or --hashlimit-above RATE'
      : name === undefined
        ? '--hashlimit-name NAME'
        : { ...fields, match: 'hashlimit', limit, name, amount, per },
  problem: ({ name }) => (name === '' || name.includes('/') ? `"${name}" is no name for a table` : undefined),
  compile: compileHashlimit,
};

// ── buckets ──────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Bucket {
  creditNs: number;
  at: Instant;
  expiresAt: Instant;
}

/** `/proc/net/ipt_hashlimit/NAME` */
export class HashlimitTable {
  readonly #costNs: number;
  readonly #fullNs: number;
  readonly #expire: Duration;
  readonly #most: number;
  readonly #keyOf: (frame: Frame, context: WalkContext) => string;
  readonly #buckets = new Map<string, Bucket>();

  constructor(spec: HashlimitMatch, family: IpFamily) {
    const { burst = DEFAULT_BURST, size = DEFAULT_SIZE, max = 0 } = spec;
    this.#costNs = intervalOf(spec, TICKS_PER_SECOND) * NS_PER_TICK;
    this.#fullNs = this.#costNs * burst;
    this.#expire = ms(spec.expireMs ?? UNIT_SECONDS[spec.per] * 1_000);
    this.#most = max === 0 ? size * BUCKETS_PER_PLACE : Math.max(max, size === DEFAULT_SIZE ? max : size);
    this.#keyOf = bucketKey(spec, family);
  }

  /** Takes a token from the frame's bucket; false: there is none. Undefined: there is no room for a bucket. */
  take(frame: Frame, context: WalkContext): boolean | undefined {
    const buckets = this.#buckets;
    const key = this.#keyOf(frame, context);
    const now = context.cpus.instant;
    let bucket = buckets.get(key);
    if (bucket !== undefined && bucket.expiresAt <= now) {
      buckets.delete(key);
      bucket = undefined;
    }
    if (bucket === undefined) {
      if (buckets.size >= this.#most && !collect(buckets, now)) return undefined;
      buckets.set(key, (bucket = { creditNs: this.#fullNs, at: now, expiresAt: now }));
    }
    bucket.creditNs = Math.min(this.#fullNs, bucket.creditNs + between(bucket.at, now));
    bucket.at = now;
    bucket.expiresAt = after(now, this.#expire);
    if (bucket.creditNs < this.#costNs) return false;
    bucket.creditNs -= this.#costNs;
    return true;
  }
}

/** By name. */
export type HashlimitTables = Map<string, HashlimitTable>;

/** The table of that name, made as the spec says if there is none. */
export function openHashlimitTable(tables: HashlimitTables, spec: HashlimitMatch, family: IpFamily): HashlimitTable {
  let table = tables.get(spec.name);
  if (table === undefined) tables.set(spec.name, (table = new HashlimitTable(spec, family)));
  return table;
}

function compileHashlimit(spec: HashlimitMatch, _selector: Selector, family: IpFamily): FrameTest {
  const isAbove = spec.limit === 'above';
  return (frame, context) => {
    const taken = openHashlimitTable(context.memories.hashlimitTables, spec, family).take(frame, context);
    if (taken === undefined) {
      context.hotDrop = true;
      return false;
    }
    return taken !== isAbove;
  };
}

/** Ends what has expired; false if nothing has. */
function collect(buckets: Map<string, Bucket>, now: Instant): boolean {
  const before = buckets.size;
  for (const [key, { expiresAt }] of buckets) if (expiresAt <= now) buckets.delete(key);
  return buckets.size < before;
}

function bucketKey(spec: HashlimitMatch, family: IpFamily): (frame: Frame, context: WalkContext) => string {
  const { modes = [], srcMaskLength = addressBits(family), dstMaskLength = addressBits(family) } = spec;
  const hasSource = modes.includes('srcip');
  const hasDestination = modes.includes('dstip');
  const hasSrcPort = modes.includes('srcport');
  const hasDstPort = modes.includes('dstport');
  return (frame, { srcPort, dstPort }) => {
    const source = hasSource ? masked(frame.srcIp, srcMaskLength, family) : 0;
    const destination = hasDestination ? masked(frame.dstIp, dstMaskLength, family) : 0;
    return `${source} ${hasSrcPort ? portOf(srcPort) : 0} ${destination} ${hasDstPort ? portOf(dstPort) : 0}`;
  };
}

const masked = (ip: Ip, length: number, family: IpFamily): number =>
  family === 6 ? maskIpv6(ip, length) : ip & maskOf(length);

const portOf = (port: number): number => (port === NO_PORT ? 0 : port);

// ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

function printHashlimit(spec: HashlimitMatch, family: IpFamily): string {
  const { limit, name, burst = DEFAULT_BURST, modes = [], size, max, collectIntervalMs, expireMs } = spec;
  const { srcMaskLength = addressBits(family), dstMaskLength = addressBits(family) } = spec;
  const rate = rateOf(intervalOf(spec, TICKS_PER_SECOND), TICKS_PER_SECOND);
  const expire = expireMs ?? UNIT_SECONDS[spec.per] * 1_000;
  return [
    ` --hashlimit-${limit} ${printRate(rate)} --hashlimit-burst ${burst}`,
    modes.length > 0 && ` --hashlimit-mode ${MODES.filter((mode) => modes.includes(mode)).join(',')}`,
    ` --hashlimit-name ${name}`,
    size && ` --hashlimit-htable-size ${size}`,
    max && ` --hashlimit-htable-max ${max}`,
    collectIntervalMs &&
      collectIntervalMs !== DEFAULT_COLLECT_INTERVAL_MS &&
      ` --hashlimit-htable-gcinterval ${collectIntervalMs}`,
    expire !== UNIT_SECONDS[rate.per] * 1_000 && ` --hashlimit-htable-expire ${expire}`,
    srcMaskLength !== addressBits(family) && ` --hashlimit-srcmask ${srcMaskLength}`,
    dstMaskLength !== addressBits(family) && ` --hashlimit-dstmask ${dstMaskLength}`,
  ]
    .filter((part) => typeof part === 'string')
    .join('');
}

const lengths = ({ family }: Words) => ({ first: 0, last: addressBits(family) });

function readModes(word: string): HashlimitMode[] | undefined {
  const parts = word.split(',');
  const modes = MODES.filter((mode) => parts.includes(mode));
  return parts.every((part) => modes.some((mode) => mode === part)) ? modes : undefined;
}
