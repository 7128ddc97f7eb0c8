// Lists of endpoints of one service port that some node uses, numbered: a list may be long, and thousands of nodes use the
// same.

import type { Endpoint } from './service-ports.ts';

export class EndpointLists {
  readonly #numbers = new Map<string, number>();

  /** The same for the same addresses in the same order. */
  numberOf(endpoints: readonly Endpoint[]): number {
    const addresses = endpoints.map(({ address }) => address).join();
    const number = this.#numbers.get(addresses) ?? this.#numbers.size;
    this.#numbers.set(addresses, number);
    return number;
  }
}
