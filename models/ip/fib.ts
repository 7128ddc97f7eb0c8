// The forwarding table of one network namespace: longest prefix wins, then the lower metric. Table `local` (the host's
// own addresses) and table `main` are one here, because the kernel asks them in that order and local routes are /32.
//
// Not modelled: policy routing (`ip rule`), ECMP, TOS routes.

import type { NetDevice } from '../link/net-device.ts';
import { ANY_IP, addressBits, formatIp, formatPrefix, type Ip, maskOf, type Prefix } from '../packet/ip-address.ts';
import type { SharedRoute, SharedRoutes, SharedRoutesReader } from './shared-routes.ts';

export type RouteType = 'unicast' | 'local' | 'broadcast' | 'anycast' | 'unreachable' | 'prohibit' | 'blackhole';

/** A class, so that every route has the same hidden class: each packet reads several. */
export class Route {
  readonly type: RouteType;
  readonly destination: Prefix;
  readonly device: NetDevice;
  /** Next hop; ANY_IP: the destination itself is on the link. */
  readonly gateway: Ip;
  /** Source address that local senders get by this route; ANY_IP: the device's. */
  readonly source: Ip;
  readonly metric: number;

  constructor({ type, destination, device, gateway, source, metric }: Route) {
    this.type = type;
    this.destination = destination;
    this.device = device;
    this.gateway = gateway;
    this.source = source;
    this.metric = metric;
  }
}

/** Routes that a host shares with others. */
export interface SharedUse {
  readonly routes: SharedRoutes;
  readonly device: NetDevice;
  /** The address by which the others know this host, and the source of what it sends by these routes. */
  readonly host: Ip;
}

export class Fib implements SharedRoutesReader {
  /** Tables by prefix length, longest first: only lengths that occur. */
  readonly #lengths: { readonly mask: number; readonly length: number; readonly routes: Map<number, Route[]> }[] = [];
  /**
   * The same as one list, longest first, while it is short: nets and masks by turns, and the route of each pair. A pod's
   * handful of routes then fits two cache lines instead of a Map per prefix length.
   */
  #short: readonly number[] | undefined = [];
  #shortRoutes: readonly Route[] = [];
  /** The latest two answers: a pod's packets go out to one peer and come in to itself. */
  #latestIp = ANY_IP;
  #latest: Route | undefined;
  #earlierIp = ANY_IP;
  #earlier: Route | undefined;
  #shared: SharedUse | undefined;
  /** Shared routes that packets have taken since they last changed, as routes of this host. */
  #taken: Map<SharedRoute, Route> | undefined;

  /** Adds a route; one of the same destination and metric is replaced, as `ip route replace` does. */
  add(fields: Route): void {
    const route = new Route(fields);
    const { net, length } = route.destination;
    let table = this.#lengths.find((candidate) => candidate.length === length);
    if (table === undefined) {
      table = { mask: maskOf(length), length, routes: new Map() };
      this.#lengths.push(table);
      this.#lengths.sort((a, b) => b.length - a.length);
    }
    const others = (table.routes.get(net) ?? []).filter(({ metric }) => metric !== route.metric);
    table.routes.set(
      net,
      [...others, route].sort((a, b) => a.metric - b.metric),
    );
    this.#changed();
  }

  /** Uses these routes beside its own, of which one to the same destination goes first. They may change at any time. */
  share(use: SharedUse): void {
    this.#shared = use;
    this.#taken = undefined;
    this.#changed();
  }

  /** The shared routes have changed. */
  forget(): void {
    this.#taken = undefined;
    this.#forgetLatest();
  }

  /** Removes the routes to exactly this destination; returns whether there were any. */
  remove(destination: Prefix): boolean {
    const table = this.#lengths.find(({ length }) => length === destination.length);
    const removed = table?.routes.delete(destination.net) ?? false;
    if (removed) this.#changed();
    return removed;
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
      route = new Route({ type: 'unicast', destination, device, gateway, source: host, metric: 0 });
      this.#taken.set(found, route);
    }
    return route;
  }

  #searchOwn(ip: Ip): Route | undefined {
    const short = this.#short;
    if (short !== undefined) {
      for (let i = 0; i < short.length; i += 2) if ((ip & short[i + 1]!) === short[i]) return this.#shortRoutes[i >> 1];
      return undefined;
    }
    for (const { mask, routes } of this.#lengths) {
      const found = routes.get(ip & mask);
      if (found !== undefined) return found[0];
    }
    return undefined;
  }

  /** Every route of its own, longest prefix first. */
  *[Symbol.iterator](): Generator<Route> {
    for (const { routes } of this.#lengths) for (const alternatives of routes.values()) yield* alternatives;
  }

  #changed(): void {
    const destinations = this.#lengths.reduce((sum, { routes }) => sum + routes.size, 0);
    const isShort = destinations <= SHORT_LIST;
    this.#shortRoutes = isShort
      ? this.#lengths.flatMap(({ routes }) => [...routes.values()].map(([first]) => first!))
      : [];
    this.#short = isShort
      ? this.#shortRoutes.flatMap(({ destination }) => [destination.net, destination.mask])
      : undefined;
    this.#forgetLatest();
  }

  #forgetLatest(): void {
    this.#latestIp = this.#earlierIp = ANY_IP;
    this.#latest = this.#earlier = this.#searchOwn(ANY_IP); // no shared route is for it
  }
}

/** A route that says that there is none. */
export const isErrorRoute = ({ type }: Route): boolean =>
  type === 'unreachable' || type === 'prohibit' || type === 'blackhole';

/** Up to so many destinations a scan beats a Map per prefix length. */
const SHORT_LIST = 8;

/** As `ip route` prints it: `10.244.2.0/24 via 192.168.0.12 dev eth0`. */
export function formatRoute({ type, destination, gateway, device }: Route): string {
  const { family, net, length } = destination;
  const host = length === addressBits(family);
  const to = length === 0 ? 'default' : host ? formatIp(net, family) : formatPrefix(destination);
  const kind = type === 'unicast' ? '' : `${type} `;
  return `${kind}${to}${gateway === ANY_IP ? '' : ` via ${formatIp(gateway, family)}`} dev ${device.name}`;
}
