// `-m limit`: a token bucket per rule. A frame that finds a token takes it and matches.
//
// Linux adds credit once per jiffy; here time passes evenly.

import { between, type Instant, START } from '../../../engine/time.ts';
import { NamespaceMemory } from '../walk-context.ts';
import type { MatchKind } from './match.ts';
import { intervalOf, printRate, type Rate, rateOf, takeRate } from './rate.ts';

export interface LimitMatch extends Rate {
  readonly match: 'limit';
  /** Size of the bucket; absent: 5. */
  readonly burst?: number;
}

/** XT_LIMIT_SCALE: the kernel knows a rate as the time between two tokens, in ten-thousandths of a second. */
const TICKS_PER_SECOND = 10_000;
/** CREDITS_PER_JIFFY (128) in so many jiffies; whole credits are what a token costs. */
const CREDITS_PER_SECOND = 250 * 128;
const NS_PER_CREDIT = 1e9 / CREDITS_PER_SECOND;

const DEFAULT_BURST = 5;

export const limit: MatchKind<LimitMatch> = {
  name: 'limit',
  remembers: true,
  print: (spec) => {
    const { burst = DEFAULT_BURST } = spec;
    const rate = rateOf(intervalOf(spec, TICKS_PER_SECOND), TICKS_PER_SECOND);
    return ` --limit ${printRate(rate)}${burst === DEFAULT_BURST ? '' : ` --limit-burst ${burst}`}`;
  },
  options: {
    '--limit': (words) => takeRate(words, TICKS_PER_SECOND),
    '--limit-burst': (words) => ({ burst: words.takeInteger({ first: 0, last: 10_000 }) }),
  },
  complete: ({ amount = 3, per = 'hour', ...fields }) => ({ ...fields, match: 'limit', amount, per }),
  problem: (spec) => {
    const { amount, per, burst = DEFAULT_BURST } = spec;
    if (!(Number.isInteger(amount) && amount >= 1 && intervalOf(spec, TICKS_PER_SECOND) >= 1))
      return `a rate of ${amount}/${per}`;
    if (!(Number.isInteger(burst) && burst >= 1)) return `a burst of ${burst}`;
    const { cost, cap } = creditsOf(spec);
    return cap < cost ? `a burst of ${burst} at ${amount}/${per} is more than the kernel can count` : undefined;
  },
  compile: (spec) => {
    const { cost, cap } = creditsOf(spec);
    const intervalNs = cost * NS_PER_CREDIT;
    const fullNs = cap * NS_PER_CREDIT;
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

/** limit_mt_check, in numbers of 32 bits that wrap. */
function creditsOf(spec: LimitMatch): { cost: number; cap: number } {
  const interval = intervalOf(spec, TICKS_PER_SECOND);
  return { cost: credits(interval), cap: credits(Math.imul(interval, spec.burst ?? DEFAULT_BURST) >>> 0) };
}

/** user2credits: multiplies first where there is room. */
const credits = (ticks: number): number =>
  ticks > 0xffff_ffff / CREDITS_PER_SECOND
    ? Math.imul(Math.floor(ticks / TICKS_PER_SECOND), CREDITS_PER_SECOND) >>> 0
    : Math.floor((ticks * CREDITS_PER_SECOND) / TICKS_PER_SECOND);
