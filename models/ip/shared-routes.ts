// Routes that many hosts have in common, but for the host they lead to: "whoever is in this range is behind that host". In a
// cluster every node routes every other node's pod range, so of n nodes each would hold n - 1 routes that are the others'
// too; one table for all of them grows with n instead of n squared.
//
// A host that shares the table has its entries as routes by one device of its own, and leaves out those that lead to itself.
// A table is of one IP family.

import { ANY_IP, contains, formatPrefix, type Ip, type IpFamily, maskOf, type Prefix } from '../packet/ip-address.ts';
import { hashIpv6Prefix, ipv6SharesPrefix } from '../packet/ipv6-address.ts';

export interface SharedRoute {
  readonly destination: Prefix;
  /** The host behind which the destination is. */
  readonly gateway: Ip;
}

/** Who remembers answers from the table, and has to forget them when it changes. */
export interface SharedRoutesReader {
  forget(): void;
}

/** Routes of one family to destinations of one length. */
interface LengthTable {
  readonly length: number;
  find(ip: Ip): SharedRoute | undefined;
  /** Returns the route that it replaces. */
  set(route: SharedRoute): SharedRoute | undefined;
  routes(): Iterable<SharedRoute>;
}

export class SharedRoutes {
  /** By prefix length, longest first: only lengths that occur. */
  readonly #lengths: LengthTable[] = [];
  readonly #newTable: (length: number) => LengthTable;
  /** Those that have asked since the last change: a change costs as much as is in use. */
  #readers: SharedRoutesReader[] = [];

  constructor(family: IpFamily = 4) {
    this.#newTable = family === 6 ? (length) => new Ipv6Table(length) : (length) => new Ipv4Table(length);
  }

  /** Adds routes; returns those that they replace, by destination. None may be a default route. */
  add(routes: Iterable<SharedRoute>): SharedRoute[] {
    const replaced: SharedRoute[] = [];
    for (const route of routes) {
      if (contains(route.destination, ANY_IP))
        throw new RangeError(`shared route to ${formatPrefix(route.destination)}; expected a range of hosts`);
      const old = this.#table(route.destination.length).set(route);
      if (old !== undefined) replaced.push(old);
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
    for (const table of this.#lengths) {
      if (table.length <= longerThan) return undefined;
      const found = table.find(ip);
      if (found !== undefined && found.gateway !== host) return found;
    }
    return undefined;
  }

  /** Every route, longest prefix first. */
  *[Symbol.iterator](): Generator<SharedRoute> {
    for (const table of this.#lengths) yield* table.routes();
  }

  #table(length: number): LengthTable {
    let table = this.#lengths.find((candidate) => candidate.length === length);
    if (table === undefined) {
      table = this.#newTable(length);
      this.#lengths.push(table);
      this.#lengths.sort((a, b) => b.length - a.length);
    }
    return table;
  }
}

class Ipv4Table implements LengthTable {
  readonly length: number;
  readonly #mask: number;
  readonly #byNet = new Map<number, SharedRoute>();

  constructor(length: number) {
    this.length = length;
    this.#mask = maskOf(length);
  }

  find(ip: Ip): SharedRoute | undefined {
    return this.#byNet.get(ip & this.#mask);
  }

  set(route: SharedRoute): SharedRoute | undefined {
    const old = this.#byNet.get(route.destination.net);
    this.#byNet.set(route.destination.net, route);
    return old;
  }

  routes(): Iterable<SharedRoute> {
    return this.#byNet.values();
  }
}

/** Handles have no bits to mask: by a hash of the first bits, and entries of one hash are told apart by comparing. */
class Ipv6Table implements LengthTable {
  readonly length: number;
  readonly #byHash = new Map<number, SharedRoute[]>();

  constructor(length: number) {
    this.length = length;
  }

  find(ip: Ip): SharedRoute | undefined {
    const { length } = this;
    for (const route of this.#byHash.get(hashIpv6Prefix(ip, length)) ?? [])
      if (ipv6SharesPrefix(ip, route.destination.net, length)) return route;
    return undefined;
  }

  set(route: SharedRoute): SharedRoute | undefined {
    const { net } = route.destination;
    const old = this.find(net);
    const hash = hashIpv6Prefix(net, this.length);
    this.#byHash.set(hash, [...(this.#byHash.get(hash) ?? []).filter((other) => other !== old), route]);
    return old;
  }

  *routes(): Iterable<SharedRoute> {
    for (const routes of this.#byHash.values()) yield* routes;
  }
}
