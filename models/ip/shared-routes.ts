// Routes that many hosts have in common, but for the host they lead to: "whoever is in this range is behind that host". In a
// cluster every node routes every other node's pod range, so of n nodes each would hold n - 1 routes that are the others'
// too; one table for all of them grows with n instead of n squared.
//
// A host that shares the table has its entries as routes by one device of its own, and leaves out those that lead to itself.
// A table is of one IP family.

import { ANY_IP, contains, formatPrefix, type Ip, type IpFamily, type Prefix } from '../packet/ip-address.ts';
import { NO_NUMBER, PrefixTable } from './prefix-table.ts';

export interface SharedRoute {
  readonly destination: Prefix;
  /** The host behind which the destination is. */
  readonly gateway: Ip;
}

/** Who remembers answers from the table, and has to forget them when it changes. */
export interface SharedRoutesReader {
  forget(): void;
}

export class SharedRoutes {
  readonly #routes: SharedRoute[] = [];
  /** By destination: where its route stands in the list. */
  readonly #table: PrefixTable;
  /** Those that have asked since the last change: a change costs as much as is in use. */
  #readers: SharedRoutesReader[] = [];

  constructor(family: IpFamily = 4) {
    this.#table = new PrefixTable(family);
  }

  /** Adds routes; returns those that they replace, by destination. None may be a default route. */
  add(routes: Iterable<SharedRoute>): SharedRoute[] {
    const replaced: SharedRoute[] = [];
    for (const route of routes) {
      if (contains(route.destination, ANY_IP))
        throw new RangeError(`shared route to ${formatPrefix(route.destination)}; expected a range of hosts`);
      const old = this.#table.get(route.destination.net, route.destination.length);
      if (old === NO_NUMBER) {
        this.#table.set(route.destination, this.#routes.push(route) - 1);
      } else {
        replaced.push(this.#routes[old]!);
        this.#routes[old] = route;
      }
    }
    const readers = this.#readers;
    this.#readers = [];
    for (const reader of readers) reader.forget();
    return replaced;
  }

  /** The reader hears of the next change, once. */
  tellOnce(reader: SharedRoutesReader): void {
    this.#readers.push(reader);
  }

  /** For `host`, which is no way to itself: the route of the longest prefix for `ip`, if it is longer than `longerThan`. */
  lookup(ip: Ip, longerThan: number, host: Ip): SharedRoute | undefined {
    for (const length of this.#table.lengths) {
      if (length <= longerThan) return undefined;
      const number = this.#table.get(ip, length);
      if (number !== NO_NUMBER && this.#routes[number]!.gateway !== host) return this.#routes[number];
    }
    return undefined;
  }

  /** Every route, longest prefix first. */
  [Symbol.iterator](): Iterator<SharedRoute> {
    return this.#routes.toSorted((a, b) => b.destination.length - a.destination.length).values();
  }
}
