// The IPv6 forwarding table of one network namespace: longest prefix wins, then the lower metric. Tables `local` and
// `main` are one, as in fib.ts. Link-local and multicast destinations are not in it: they mean something on a link only,
// and the stack finds them by device.
//
// Handles have no bits to mask, so a table per prefix length is keyed by a hash of the first bits; entries of one hash
// are told apart by comparing.
//
// Policy routing is in source-routes.ts. Not modelled: ECMP, routes by source address.

import type { NetDevice } from '../link/net-device.ts';
import { ANY_IP, type Ip, type Prefix } from '../packet/ip-address.ts';
import { hashIpv6Prefix, ipv6SharesPrefix } from '../packet/ipv6-address.ts';
import { localRoute, Route, type SharedUse } from './fib.ts';
import type { SharedRoute, SharedRoutesReader } from './shared-routes.ts';

interface LengthTable {
  readonly length: number;
  /** By hash of the first `length` bits; routes of one destination ascend by metric. */
  readonly buckets: Map<number, Route[]>;
}

export class Ipv6Fib implements SharedRoutesReader {
  /** Longest first: only lengths that occur. */
  readonly #lengths: LengthTable[] = [];
  /** The latest two answers: a pod's packets go out to one peer and come in to itself. */
  #latestIp: Ip | undefined;
  #latest: Route | undefined;
  #earlierIp: Ip | undefined;
  #earlier: Route | undefined;
  #shared: SharedUse | undefined;
  #localAddresses: { readonly device: NetDevice; readonly ips: ReadonlySet<Ip> } | undefined;
  /** Shared routes that packets have taken since they last changed, as routes of this host. */
  #taken: Map<SharedRoute, Route> | undefined;

  /** As {@link Fib.share}. */
  share(use: SharedUse): void {
    this.#shared = use;
    this.forget();
  }

  /** As {@link Fib.setLocalAddresses}, of length 128. */
  setLocalAddresses(device: NetDevice, ips: ReadonlySet<Ip>): void {
    this.#localAddresses = ips.size === 0 ? undefined : { device, ips };
    this.#forget();
  }

  /** The shared routes have changed. */
  forget(): void {
    this.#taken = undefined;
    this.#forget();
  }

  /** Adds a route; one of the same destination and metric is replaced, as `ip -6 route replace` does. */
  add(fields: Route): void {
    const route = new Route(fields);
    const { net, length } = route.destination;
    let table = this.#lengths.find((candidate) => candidate.length === length);
    if (table === undefined) {
      table = { length, buckets: new Map() };
      this.#lengths.push(table);
      this.#lengths.sort((a, b) => b.length - a.length);
    }
    const hash = hashIpv6Prefix(net, length);
    const others = (table.buckets.get(hash) ?? []).filter(
      ({ destination, metric }) => destination.net !== net || metric !== route.metric,
    );
    table.buckets.set(
      hash,
      [...others, route].sort((a, b) => a.metric - b.metric),
    );
    this.#forget();
  }

  /** Removes the routes to exactly this destination; returns whether there were any. */
  remove({ net, length }: Prefix): boolean {
    const buckets = this.#lengths.find((candidate) => candidate.length === length)?.buckets;
    const hash = hashIpv6Prefix(net, length);
    const routes = buckets?.get(hash) ?? [];
    const kept = routes.filter(({ destination }) => destination.net !== net);
    if (kept.length === 0) buckets?.delete(hash);
    else buckets?.set(hash, kept);
    this.#forget();
    return kept.length < routes.length;
  }

  /** The routes by a device that goes. */
  removeDevice(device: NetDevice): void {
    for (const { buckets } of this.#lengths) {
      for (const [hash, routes] of buckets) {
        const kept = routes.filter((route) => route.device !== device);
        if (kept.length === 0) buckets.delete(hash);
        else if (kept.length < routes.length) buckets.set(hash, kept);
      }
    }
    this.#forget();
  }

  /** The route for `ip`, or undefined when not even a default route is there. */
  lookup(ip: Ip): Route | undefined {
    if (ip === this.#latestIp) return this.#latest;
    if (ip === this.#earlierIp) return this.#earlier;
    const route = this.#search(ip);
    this.#earlierIp = this.#latestIp;
    this.#earlier = this.#latest;
    this.#latestIp = ip;
    this.#latest = route;
    return route;
  }

  #search(ip: Ip): Route | undefined {
    if (this.#localAddresses?.ips.has(ip) === true) return localRoute(this.#localAddresses.device, ip, 6);
    const own = this.#searchOwn(ip);
    return this.#shared === undefined ? own : this.#searchShared(this.#shared, ip, own);
  }

  #searchShared({ routes, device, host }: SharedUse, ip: Ip, own: Route | undefined): Route | undefined {
    if (this.#taken === undefined) {
      this.#taken = new Map();
      routes.tellOnce(this);
    }
    const found = routes.lookup(ip, own === undefined ? -1 : own.destination.length, host);
    if (found === undefined) return own;
    let route = this.#taken.get(found);
    if (route === undefined) {
      const { destination, gateway } = found;
      route = new Route({ type: 'unicast', destination, device, gateway, source: ANY_IP, metric: SHARED_METRIC });
      this.#taken.set(found, route);
    }
    return route;
  }

  #searchOwn(ip: Ip): Route | undefined {
    for (const { length, buckets } of this.#lengths) {
      const routes = buckets.get(hashIpv6Prefix(ip, length));
      if (routes === undefined) continue;
      for (const route of routes) if (ipv6SharesPrefix(ip, route.destination.net, length)) return route;
    }
    return undefined;
  }

  /** Every route of its own, longest prefix first. */
  *[Symbol.iterator](): Generator<Route> {
    for (const { buckets } of this.#lengths) for (const routes of buckets.values()) yield* routes;
  }

  #forget(): void {
    this.#latestIp = this.#earlierIp = undefined;
    this.#latest = this.#earlier = undefined;
  }
}

/** That of `ip -6 route add` (IP6_RT_PRIO_USER). */
const SHARED_METRIC = 1024;
