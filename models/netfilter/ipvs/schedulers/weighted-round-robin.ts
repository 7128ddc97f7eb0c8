// wrr: the servers in turn, each as often as its weight says (ip_vs_wrr.c). A threshold falls from the largest weight in
// steps of the weights' greatest common divisor; in every round the servers that reach it have their turn.

import type { RealServer } from '../virtual-server.ts';
import type { Scheduler } from './scheduler.ts';

export class WeightedRoundRobin implements Scheduler {
  /** Index of the server whose turn it was; -1 is the head of the list. */
  #position = -1;
  #threshold = 0;
  #largest = 0;
  #step = 1;

  choose(servers: readonly RealServer[]): RealServer | undefined {
    if (this.#largest <= 0) return undefined;
    for (;;) {
      while (++this.#position < servers.length) {
        const server = servers[this.#position]!;
        if (server.weight >= this.#threshold) return server;
      }
      this.#position = -1;
      this.#threshold -= this.#step;
      if (this.#threshold <= 0) this.#threshold = this.#largest;
    }
  }

  changed(servers: readonly RealServer[]): void {
    this.#position = -1;
    this.#step = servers.reduce((divisor, { weight }) => greatestCommonDivisor(divisor, weight), 0) || 1;
    // The largest threshold is the one from which steps lead to 1, the least that lets weight 0 out.
    this.#largest = Math.max(0, ...servers.map(({ weight }) => weight)) - (this.#step - 1);
    if (this.#threshold > this.#largest || this.#threshold === 0) this.#threshold = this.#largest;
    else if (this.#step > 1) this.#threshold = Math.floor(this.#threshold / this.#step) * this.#step + 1;
  }

  removed(servers: readonly RealServer[]): void {
    this.changed(servers);
  }
}

const greatestCommonDivisor = (a: number, b: number): number => (b === 0 ? a : greatestCommonDivisor(b, a % b));
