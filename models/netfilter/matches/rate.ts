// Rates as limit and hashlimit spell them: `5/minute`, `10/sec`, `3`.

import type { Words } from '../words.ts';

export type RateUnit = 'second' | 'minute' | 'hour' | 'day';

export interface Rate {
  readonly amount: number;
  readonly per: RateUnit;
}

export const UNIT_SECONDS: Readonly<Record<RateUnit, number>> = { day: 86_400, hour: 3_600, minute: 60, second: 1 };
const UNITS = Object.keys(UNIT_SECONDS) as readonly RateUnit[];
const PRINTED: Readonly<Record<RateUnit, string>> = { day: 'day', hour: 'hour', minute: 'min', second: 'sec' };

/** The kernel keeps the time between two tokens, as a whole number of its own unit, `scale` of which are a second. */
export const intervalOf = ({ amount, per }: Rate, scale: number): number =>
  Math.floor((UNIT_SECONDS[per] * scale) / amount);

/** As iptables-save: in the longest unit in which the interval is a whole number of tokens, or nearly. */
export function rateOf(interval: number, scale: number): Rate {
  let per: RateUnit = 'day';
  for (const shorter of UNITS.slice(1)) {
    const ticks = UNIT_SECONDS[shorter] * scale;
    if (interval > ticks || Math.floor(ticks / interval) < ticks % interval) break;
    per = shorter;
  }
  return { amount: Math.floor((UNIT_SECONDS[per] * scale) / interval), per };
}

export const printRate = ({ amount, per }: Rate): string => `${amount}/${PRINTED[per]}`;

export const takeRate = (words: Words, scale: number): Rate =>
  words.takeAs('a rate such as 5/minute', (word) => {
    const [, amountText = '', unit] = /^(\d+)(?:\/([a-z]+))?$/i.exec(word) ?? [];
    const per = unit === undefined ? 'second' : UNITS.find((name) => name.startsWith(unit.toLowerCase()));
    if (amountText === '' || per === undefined) return undefined;
    const rate = { amount: Number(amountText), per };
    return rate.amount >= 1 && intervalOf(rate, scale) >= 1 ? rate : undefined;
  });
