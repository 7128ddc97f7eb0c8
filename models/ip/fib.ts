// A forwarding table of one network namespace, for one IP family: longest prefix wins, then the lower metric. Table `local`
// (the host's own addresses) and table `main` are one here, because the kernel asks them in that order and local routes are
// /32 and /128. In IPv6, link-local and multicast destinations are not in it: they mean something on a link only, and the
// stack finds them by device.
//
// Policy routing is in source-routes.ts. Not modelled: ECMP, TOS routes, routes by source address.

import { appended } from '../../engine/appended.ts';
import type { NetDevice } from '../link/net-device.ts';
import {
  ANY_IP,
  addressBits,
  contains,
  formatIp,
  formatPrefix,
  type Ip,
  type IpFamily,
  type Prefix,
  prefix,
} from '../packet/ip-address.ts';
import { NO_NUMBER, PrefixTable } from './prefix-table.ts';
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
  /** Of what this host sends by these routes in IPv4; absent: `host`. In IPv6 it is chosen for each destination. */
  readonly source?: Ip;
  /** The address by which the others know this host. */
  readonly host: Ip;
}

/** What remembers where packets went (CpuSet): is told whenever a lookup may find another route than before. */
export interface WaysMemory {
  forgetWays(): void;
}

export class Fib implements SharedRoutesReader {
  readonly #family: IpFamily;
  readonly #ways: WaysMemory | undefined;
  /** Longest prefix first, then the lower metric. Replaced, as an array that grows takes room for 17. */
  #routes: readonly Route[] = [];
  /** Made of the routes by the first lookup after a change: most pods of a large cluster are set up and never asked. */
  #isRead = false;
  /** While the list of IPv4 is short: nets and masks by turns, so that a pod's handful of routes fits two lines of the cache. */
  #short: readonly number[] = NO_PAIRS;
  /** Where the list is long: the first route to each destination, by its place in the list. */
  #table: PrefixTable | undefined;
  /** The latest two answers: a pod's packets go out to one peer and come in to itself. */
  #latestIp = ANY_IP;
  #latest: Route | undefined;
  #earlierIp = ANY_IP;
  #earlier: Route | undefined;
  #shared: SharedUse | undefined;
  #localAddresses: { readonly device: NetDevice; readonly ips: ReadonlySet<Ip> } | undefined;
  /** Shared routes that packets have taken since they last changed, as routes of this host. */
  #taken: Map<SharedRoute, Route> | undefined;

  constructor({ family = 4, ways }: { readonly family?: IpFamily; readonly ways?: WaysMemory } = {}) {
    this.#family = family;
    this.#ways = ways;
  }

  /** Adds a route; one of the same destination and metric is replaced, as `ip route replace` does. */
  add(fields: Route): void {
    const route = new Route(fields);
    const others = this.#routes.filter((old) => old.metric !== route.metric || !isTo(old, route.destination));
    const next = others.findIndex((old) => inOrder(route, old) < 0);
    this.#routes = next < 0 ? appended(others, route) : others.toSpliced(next, 0, route);
    this.#changed();
  }

  /** Uses these routes beside its own, of which one to the same destination goes first. They may change at any time. */
  share(use: SharedUse): void {
    this.#shared = use;
    this.#taken = undefined;
    this.#changed();
  }

  /** Addresses of the host itself beside its routes: as many local routes to one address, made when they are taken. */
  setLocalAddresses(device: NetDevice, ips: ReadonlySet<Ip>): void {
    this.#localAddresses = ips.size === 0 ? undefined : { device, ips };
    this.#changed();
  }

  /** The shared routes have changed. */
  forget(): void {
    this.#taken = undefined;
    this.#changed();
  }

  /** Removes the routes to exactly this destination; returns whether there were any. */
  remove(destination: Prefix): boolean {
    const routes = this.#routes;
    const kept = routes.filter((route) => !isTo(route, destination));
    const removed = kept.length < routes.length;
    this.#routes = kept;
    if (removed) this.#changed();
    return removed;
  }

  /** The routes by a device that goes. */
  removeDevice(device: NetDevice): void {
    this.#routes = this.#routes.filter((route) => route.device !== device);
    this.#changed();
  }

  /** The route for `ip`, or undefined when not even a default route is there. */
  lookup(ip: Ip): Route | undefined {
    if (!this.#isRead) this.#read();
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
    if (this.#localAddresses?.ips.has(ip) === true) return localRoute(this.#localAddresses.device, ip, this.#family);
    const own = this.#searchOwn(ip);
    return this.#shared === undefined ? own : this.#searchShared(this.#shared, ip, own);
  }

  #searchShared({ routes, device, host, source = host }: SharedUse, ip: Ip, own: Route | undefined): Route | undefined {
    if (this.#taken === undefined) {
      this.#taken = new Map();
      routes.tellOnce(this);
    }
    const found = routes.lookup(ip, own === undefined ? -1 : own.destination.length, host);
    if (found === undefined) return own;
    let route = this.#taken.get(found);
    if (route === undefined) {
      const { destination, gateway } = found;
      const ofFamily = this.#family === 4 ? { source, metric: 0 } : { source: ANY_IP, metric: IPV6_METRIC };
      route = new Route({ type: 'unicast', destination, device, gateway, ...ofFamily });
      this.#taken.set(found, route);
    }
    return route;
  }

  #searchOwn(ip: Ip): Route | undefined {
    const table = this.#table;
    if (table !== undefined) {
      for (const length of table.lengths) {
        const number = table.get(ip, length);
        if (number !== NO_NUMBER) return this.#routes[number];
      }
      return undefined;
    }
    if (this.#family === 6) return this.#routes.find(({ destination }) => contains(destination, ip));
    const short = this.#short;
    for (let i = 0; i < short.length; i += 2) if ((ip & short[i + 1]!) === short[i]) return this.#routes[i >> 1];
    return undefined;
  }

  /** Every route of its own, longest prefix first. */
  [Symbol.iterator](): Iterator<Route> {
    return this.#routes.values();
  }

  #changed(): void {
    this.#isRead = false;
    this.#ways?.forgetWays();
  }

  #read(): void {
    this.#isRead = true;
    const routes = this.#routes;
    const isShort = routes.length <= SHORT_LIST;
    const hasPairs = isShort && this.#family === 4;
    // What flatMap() makes has room for more.
    this.#short = hasPairs ? routes.flatMap(({ destination: { net, mask } }) => [net, mask]).slice() : NO_PAIRS;
    this.#table = isShort ? undefined : tableOf(routes, this.#family);
    this.#latestIp = this.#earlierIp = ANY_IP;
    this.#latest = this.#earlier = this.#searchOwn(ANY_IP); // no shared route is for it
  }
}

const inOrder = (a: Route, b: Route): number => b.destination.length - a.destination.length || a.metric - b.metric;

/** To an address of the host itself. */
export const localRoute = (device: NetDevice, ip: Ip, family: IpFamily): Route =>
  new Route({
    type: 'local',
    destination: prefix(ip, addressBits(family), family),
    device,
    gateway: ANY_IP,
    source: ip,
    metric: 0,
  });

/** A route that says that there is none. */
export const isErrorRoute = ({ type }: Route): boolean =>
  type === 'unreachable' || type === 'prohibit' || type === 'blackhole';

const NO_PAIRS: readonly number[] = [];

/** Up to so many routes a scan beats a lookup per prefix length. */
const SHORT_LIST = 8;

/** That of `ip -6 route add` (IP6_RT_PRIO_USER). */
const IPV6_METRIC = 1024;

function tableOf(routes: readonly Route[], family: IpFamily): PrefixTable {
  const table = new PrefixTable(family);
  // From the last on, so that the lowest metric stays.
  for (let number = routes.length - 1; number >= 0; number--) table.set(routes[number]!.destination, number);
  return table;
}

const isTo = ({ destination }: Route, { net, length }: Prefix): boolean =>
  destination.net === net && destination.length === length;

/** As `ip route` prints it: `10.244.2.0/24 via 192.168.0.12 dev eth0`. */
export function formatRoute({ type, destination, gateway, device }: Route): string {
  const { family, net, length } = destination;
  const host = length === addressBits(family);
  const to = length === 0 ? 'default' : host ? formatIp(net, family) : formatPrefix(destination);
  const kind = type === 'unicast' ? '' : `${type} `;
  return `${kind}${to}${gateway === ANY_IP ? '' : ` via ${formatIp(gateway, family)}`} dev ${device.name}`;
}
