// Virtual time: whole nanoseconds. A float64 holds every integer up to 2^53, which is 104 days of nanoseconds.

declare const instantBrand: unique symbol;
declare const durationBrand: unique symbol;

/** A point of virtual time, in whole nanoseconds since the start of the run. */
export type Instant = number & { readonly [instantBrand]: true };

/** A span of virtual time, in whole nanoseconds; never negative. */
export type Duration = number & { readonly [durationBrand]: true };

export const START = 0 as Instant;
/** Later than every event: `run` until here means until nothing is pending. */
export const END_OF_TIME = Number.POSITIVE_INFINITY as Instant;

export const ns = (count: number): Duration => duration(count, 1);
export const us = (count: number): Duration => duration(count, 1e3);
export const ms = (count: number): Duration => duration(count, 1e6);
export const s = (count: number): Duration => duration(count, 1e9);
export const minutes = (count: number): Duration => duration(count, 60e9);
export const hours = (count: number): Duration => duration(count, 3_600e9);
export const days = (count: number): Duration => duration(count, 86_400e9);

/** Rounds to whole nanoseconds. Throws a RangeError for a negative, infinite or missing count. */
function duration(count: number, nanoseconds: number): Duration {
  const total = Math.round(count * nanoseconds);
  if (!(total >= 0 && total <= Number.MAX_SAFE_INTEGER)) {
    throw new RangeError(`duration ${count} x ${nanoseconds} ns; expected 0 to ${Number.MAX_SAFE_INTEGER} ns`);
  }
  return total as Duration;
}

export const after = (instant: Instant, delay: Duration): Instant => (instant + delay) as Instant;
export const between = (earlier: Instant, later: Instant): Duration => (later - earlier) as Duration;
export const inUs = (time: Duration | Instant): number => time / 1e3;
export const inMs = (time: Duration | Instant): number => time / 1e6;
export const inSeconds = (time: Duration | Instant): number => time / 1e9;

/** Seconds with all nine decimals, the way journeys and captures print an instant: `0.001250000`. */
export function formatInstant(instant: Instant): string {
  const seconds = Math.floor(instant / 1e9);
  return `${seconds}.${String(instant - seconds * 1e9).padStart(9, '0')}`;
}

/** What {@link formatInstant} has printed; undefined for any other text, such as a date of the real world. */
export function parseInstant(text: string): Instant | undefined {
  const [, seconds, nanoseconds] = /^(\d+)\.(\d{9})$/.exec(text) ?? [];
  if (seconds === undefined) return undefined;
  const instant = Number(seconds) * 1e9 + Number(nanoseconds);
  return Number.isSafeInteger(instant) ? (instant as Instant) : undefined;
}
