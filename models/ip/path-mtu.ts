// What routers have said of the way to a destination (RFC 1191): the MTU of their next hop, believed for
// net.ipv4.route.mtu_expires seconds (fib_nh_exception; `ip route get` shows it as "cache").

import { after, type Instant, s } from '../../engine/time.ts';
import type { Ip } from '../packet/ip-address.ts';
import type { Ipv4Settings } from './ipv4-settings.ts';

export interface PathMtu {
  readonly mtuBytes: number;
  /** The router asked for less than net.ipv4.route.min_pmtu: packets leave without DF, to be cut where it must be. */
  readonly isLocked: boolean;
  readonly until: Instant;
}

export class PathMtus {
  readonly #settings: Ipv4Settings;
  /** Undefined until a router says something: most hosts never hear from one. */
  #byDestination: Map<Ip, PathMtu> | undefined;

  constructor(settings: Ipv4Settings) {
    this.#settings = settings;
  }

  /** __ip_rt_update_pmtu. `known`: what packets to there may have so far. */
  learn(dst: Ip, mtuBytes: number, known: number, now: Instant): void {
    const { min_pmtu, mtu_expires } = this.#settings.host;
    if (mtuBytes > known) return;
    const isLocked = mtuBytes < min_pmtu;
    const until = after(now, s(mtu_expires));
    this.#byDestination ??= new Map();
    this.#byDestination.set(dst, { mtuBytes: isLocked ? Math.min(known, min_pmtu) : mtuBytes, isLocked, until });
  }

  /** Undefined where nobody has said anything, or long ago. */
  find(dst: Ip, now: Instant): PathMtu | undefined {
    if (this.#byDestination === undefined) return undefined;
    const found = this.#byDestination.get(dst);
    if (found === undefined || found.until > now) return found;
    this.#byDestination.delete(dst);
    return undefined;
  }
}
