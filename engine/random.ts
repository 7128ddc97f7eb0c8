// Random numbers: one named stream per consumer, so that a new consumer does not disturb the others, and two variants
// of an experiment with the same seed meet the same arrivals.
//
// Generator: alea, 32 bits per draw, period about 2^116. Good enough for simulation, not for secrets.

import seedrandom from 'seedrandom';
import { type Duration, ns } from './time.ts';

export class RandomStreams {
  #seed: string;
  readonly #streams = new Map<string, RandomStream>();

  constructor(seed: string) {
    this.#seed = seed;
  }

  /** The stream of that name; its numbers depend on the seed and the name alone. Asking again goes on with the same one. */
  stream(name: string): RandomStream {
    let stream = this.#streams.get(name);
    if (stream === undefined) {
      stream = new RandomStream(name, this.#seed);
      this.#streams.set(name, stream);
    }
    return stream;
  }

  /** All streams go on as if this had been the seed, for those who look for a run with a given outcome. */
  reseed(seed: string): void {
    this.#seed = seed;
    for (const stream of this.#streams.values()) stream.reseed(seed);
  }
}

declare const reservedBrand: unique symbol;

/** Names a number that was set aside; see {@link RandomStream.reserve}. */
export type Reserved = number & { readonly [reservedBrand]: true };

export class RandomStream {
  readonly #name: string;
  #seed: string | undefined;
  /** Made for the first number that somebody wants: a generator is half a kilobyte, and most pods never want one. */
  #generator: (() => number) | undefined;
  /** How many numbers are set aside; which, if they have been drawn. */
  #reservations = 0;
  #reserved: number[] | undefined;

  /** Seeded by `SEED/NAME`, or by the name alone. */
  constructor(name: string, seed?: string) {
    this.#name = name;
    this.#seed = seed;
  }

  reseed(seed: string): void {
    if (this.#reservations > 0 && this.#reserved === undefined) this.#begin(); // they belong to the old seed
    this.#seed = seed;
    this.#generator = undefined;
  }

  #next(): number {
    return (this.#generator ?? this.#begin())();
  }

  #begin(): () => number {
    const generator = seedrandom.alea(this.#seed === undefined ? this.#name : `${this.#seed}/${this.#name}`);
    this.#generator = generator;
    this.#reserved ??= Array.from({ length: this.#reservations }, () => generator());
    return generator;
  }

  /** Sets the next number aside: the first ones of a stream take nothing until somebody wants one of them, or a later one. */
  reserve(): Reserved {
    this.#reserved?.push(this.#next());
    return this.#reservations++ as Reserved;
  }

  /** A number that was set aside, from 0 up to, not including, 1. */
  reserved(number: Reserved): number {
    if (this.#reserved === undefined) this.#begin();
    return this.#reserved![number]!;
  }

  /** The same as {@link int} and {@link bits31} of it. */
  reservedInt(number: Reserved, count: number): number {
    return intOf(this.reserved(number), count);
  }

  reservedBits31(number: Reserved): number {
    return bits31Of(this.reserved(number));
  }

  /** From 0 up to, not including, 1. */
  uniform(): number {
    return this.#next();
  }

  /** An integer from 0 to count - 1, for a count up to 2^32. */
  int(count: number): number {
    return intOf(this.#next(), count);
  }

  /** An integer from 0 to 2^31 - 1: a small integer in V8, for initial sequence numbers and hash seeds. */
  bits31(): number {
    return bits31Of(this.#next());
  }

  /** True with a probability of `threshold` / 2^31: what the kernel does with a threshold and 31 random bits. */
  chance31(threshold: number): boolean {
    return this.bits31() < threshold;
  }

  exponential(mean: Duration): Duration {
    return ns(-Math.log(1 - this.#next()) * mean);
  }

  /** Box and Muller's method, one value per two draws. */
  normal(mean: number, standardDeviation: number): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.#next()));
    return mean + standardDeviation * radius * Math.cos(2 * Math.PI * this.#next());
  }

  /** As if so many numbers had been drawn. */
  skip(count: number): void {
    for (let i = 0; i < count; i++) this.#next();
  }

  /** A new array in random order (Fisher and Yates). */
  shuffle<T>(items: readonly T[]): T[] {
    const shuffled = [...items];
    for (let i = shuffled.length - 1; i > 0; i--) {
      const j = this.int(i + 1);
      const swapped = shuffled[i]!;
      shuffled[i] = shuffled[j]!;
      shuffled[j] = swapped;
    }
    return shuffled;
  }

  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw new RangeError('pick from an empty array');
    return items[this.int(items.length)]!;
  }
}

function intOf(uniform: number, count: number): number {
  if (!(count >= 1)) throw new RangeError(`random integer below ${count}; expected at least 1`);
  return Math.floor(uniform * count);
}

const bits31Of = (uniform: number): number => (uniform * 2 ** 31) | 0;
