// Choices of a generator: from weighted alternatives, by chance, some of a list.

import type { RandomStream } from '../../../engine/random.ts';

export class Draw {
  readonly #random: RandomStream;

  constructor(random: RandomStream) {
    this.#random = random;
  }

  chance(probability: number): boolean {
    return this.#random.uniform() < probability;
  }

  /** From `least` to `most`. */
  between(least: number, most: number): number {
    return least + this.#random.int(most - least + 1);
  }

  pick<T>(items: readonly T[]): T {
    return this.#random.pick(items);
  }

  /** Different ones, in random order; all of a list that is too short. */
  some<T>(count: number, items: readonly T[]): T[] {
    return this.#random.shuffle(items).slice(0, count);
  }

  /** One of the alternatives, each as likely as its weight says; those of weight 0 never. */
  weighted<T>(alternatives: readonly (readonly [weight: number, make: () => T])[]): T {
    let rest = this.#random.uniform() * alternatives.reduce((sum, [weight]) => sum + weight, 0);
    const chosen = alternatives.find(([weight]) => (rest -= weight) < 0 && weight > 0);
    if (chosen === undefined) throw new RangeError('a choice between alternatives without weight');
    return chosen[1]();
  }
}
