// Routes that many hosts have in common, but for the host they lead to: "whoever is in this range is behind that host". In a
// cluster every node routes every other node's pod range, so of n nodes each would hold n - 1 routes that are the others'
// too; one table for all of them grows with n instead of n squared.
//
// A host that shares the table has its entries as routes by one device of its own, and leaves out those that lead to itself.

import { ANY_IP, contains, formatPrefix, type Ip, maskOf, type Prefix } from '../packet/ip-address.ts';

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
  /** By prefix length, longest first: only lengths that occur. */
  readonly #lengths: { readonly mask: number; readonly length: number; readonly routes: Map<number, SharedRoute> }[] =
    [];
  /** Those that have asked since the last change: a change costs as much as is in use. */
  #readers: SharedRoutesReader[] = [];

  /** Adds routes; returns those that they replace, by destination. None may be a default route. */
  add(routes: Iterable<SharedRoute>): SharedRoute[] {
    const replaced: SharedRoute[] = [];
    for (const route of routes) {
      const { net, length } = route.destination;
      if (contains(route.destination, ANY_IP))
        throw new RangeError(`shared route to ${formatPrefix(route.destination)}; expected a range of hosts`);
      const table = this.#table(length);
      const old = table.get(net);
      if (old !== undefined) replaced.push(old);
      table.set(net, route);
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
    for (const { mask, length, routes } of this.#lengths) {
      if (length <= longerThan) return undefined;
      const found = routes.get(ip & mask);
      if (found !== undefined && found.gateway !== host) return found;
    }
    return undefined;
  }

  /** Every route, longest prefix first. */
  *[Symbol.iterator](): Generator<SharedRoute> {
    for (const { routes } of this.#lengths) yield* routes.values();
  }

  #table(length: number): Map<number, SharedRoute> {
    let table = this.#lengths.find((candidate) => candidate.length === length);
    if (table === undefined) {
      table = { mask: maskOf(length), length, routes: new Map() };
      this.#lengths.push(table);
      this.#lengths.sort((a, b) => b.length - a.length);
    }
    return table.routes;
  }
}
