// `-m limit`: a token bucket per rule. A frame that finds a token takes it and matches.
//
// Linux keeps credit in jiffies; here it is exact.

import { between, type Instant, START } from '../../../engine/time.ts';
import { NamespaceMemory } from '../walk-context.ts';
import type { MatchKind } from './match.ts';

export interface LimitMatch {
  readonly match: 'limit';
  readonly amount: number;
  readonly per: 'second' | 'minute' | 'hour' | 'day';
  /** Size of the bucket; absent: 5. */
  readonly burst?: number;
}

type Unit = LimitMatch['per'];

/** XT_LIMIT_SCALE: the kernel knows a rate as the time between two tokens, in ten-thousandths of a second. */
const TICKS_PER_SECOND = 10_000;
const NS_PER_TICK = 1e9 / TICKS_PER_SECOND;
const TICKS: Readonly<Record<Unit, number>> = {
  day: 24 * 60 * 60 * TICKS_PER_SECOND,
  hour: 60 * 60 * TICKS_PER_SECOND,
  minute: 60 * TICKS_PER_SECOND,
  second: TICKS_PER_SECOND,
};
const UNITS = Object.keys(TICKS) as readonly Unit[];

const DEFAULT_BURST = 5;

export const limit: MatchKind<LimitMatch> = {
  name: 'limit',
  remembers: true,
  print: (spec) => {
    const { burst = DEFAULT_BURST } = spec;
    return ` --limit ${printRate(intervalOf(spec))}${burst === DEFAULT_BURST ? '' : ` --limit-burst ${burst}`}`;
  },
  options: {
    '--limit': (words) => words.takeAs('a rate such as 5/minute', readRate),
    '--limit-burst': (words) => ({ burst: words.takeInteger({ first: 1, last: 10_000 }) }),
  },
  complete: ({ amount = 3, per = 'hour', ...fields }) => ({ ...fields, match: 'limit', amount, per }),
  problem: (spec) => {
    const { amount, per, burst = DEFAULT_BURST } = spec;
    if (!(Number.isInteger(amount) && amount >= 1 && intervalOf(spec) >= 1)) return `a rate of ${amount}/${per}`;
    return Number.isInteger(burst) && burst >= 1 ? undefined : `a burst of ${burst}`;
  },
  compile: (spec) => {
    const intervalNs = intervalOf(spec) * NS_PER_TICK;
    const fullNs = intervalNs * (spec.burst ?? DEFAULT_BURST);
    const buckets = new NamespaceMemory(() => ({ creditNs: 0, at: START, generation: -1 }));
    return (_frame, context) => {
      const bucket = buckets.of(context);
      const now: Instant = context.cpus.instant;
      if (bucket.generation !== context.table.generation) {
        bucket.generation = context.table.generation;
        bucket.creditNs = fullNs;
      } else {
        bucket.creditNs = Math.min(fullNs, bucket.creditNs + between(bucket.at, now));
      }
      bucket.at = now;
      if (bucket.creditNs < intervalNs) return false;
      bucket.creditNs -= intervalNs;
      return true;
    };
  },
};

/** Ticks between two tokens; the kernel keeps whole ones. */
const intervalOf = ({ amount, per }: LimitMatch): number => Math.floor(TICKS[per] / amount);

/** As iptables-save: in the longest unit in which the rate is a whole number, or nearly. */
function printRate(interval: number): string {
  let unit: Unit = 'day';
  for (const shorter of UNITS.slice(1)) {
    const ticks = TICKS[shorter];
    if (interval > ticks || Math.floor(ticks / interval) < ticks % interval) break;
    unit = shorter;
  }
  return `${Math.floor(TICKS[unit] / interval)}/${PRINTED[unit]}`;
}

const PRINTED: Readonly<Record<Unit, string>> = { day: 'day', hour: 'hour', minute: 'min', second: 'sec' };

function readRate(word: string): Pick<LimitMatch, 'amount' | 'per'> | undefined {
  const [, amount = '', unit = ''] = /^(\d+)(?:\/([a-z]+))?$/.exec(word) ?? [];
  const per = UNITS.find((name) => name.startsWith(unit));
  if (amount === '' || per === undefined) return undefined;
  const spec = { amount: Number(amount), per: unit === '' ? ('second' as const) : per };
  return spec.amount >= 1 && spec.amount <= TICKS[spec.per] ? spec : undefined;
}
