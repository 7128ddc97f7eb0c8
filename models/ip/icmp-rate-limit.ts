// How many ICMP messages a host sends (net/ipv4/icmp.c, inetpeer.c). Three limits, of which a message passes what concerns
// it: one for the host, one for each receiver, and one for each sender of packets without a route. The latter two draw on
// the same tokens: of packets without a route only two in a row are answered, of others six.

import type { RandomStream } from '../../engine/random.ts';
import { type Duration, type Instant, ms, START, s } from '../../engine/time.ts';
import { ICMP_DEST_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED } from '../packet/icmp.ts';
import type { Ip } from '../packet/ip-address.ts';
import type { Ipv4Settings } from './ipv4-settings.ts';

/** Time as the running visit of a CPU sees it (CpuSet). */
export interface IcmpClock {
  readonly instant: Instant;
}

export class IcmpRateLimit {
  readonly #clock: IcmpClock;
  readonly #settings: Ipv4Settings;
  /** Asked for when it is first needed: most hosts never send so much. */
  readonly #randomOf: () => RandomStream;
  #random: RandomStream | undefined;
  #peers: Map<Ip, Peer> | undefined;
  #credit = 0;
  #refilledAt = START - s(1);

  constructor(clock: IcmpClock, settings: Ipv4Settings, random: () => RandomStream) {
    this.#clock = clock;
    this.#settings = settings;
    this.#randomOf = random;
  }

  /** May this message go out now? `isLocal`: to this very host, whose messages only the host's limit holds. */
  allow(type: number, code: number, receiver: Ip, { isLocal }: { isLocal: boolean }): boolean {
    const { icmp_ratemask, icmp_ratelimit } = this.#settings.host;
    if (type < 32 && ((1 << type) & icmp_ratemask) === 0) return true;
    if (type === ICMP_DEST_UNREACHABLE && code === ICMP_FRAGMENTATION_NEEDED) return true;
    if (!this.#hasCredit()) return false;
    if (
      !isLocal &&
      !this.#peer(receiver).take(ms(icmp_ratelimit), ms(PEER_BURST * icmp_ratelimit), this.#clock.instant)
    )
      return false;
    // icmp_global_consume: none, one or two, so that nobody can measure from outside how much is left.
    this.#random ??= this.#randomOf();
    this.#credit -= this.#random.int(3);
    return true;
  }

  /** ip_error: is another packet of this sender, for which there was no route, worth an answer? */
  allowRouteError(sender: Ip): boolean {
    const { error_cost, error_burst } = this.#settings.host;
    return this.#peer(sender).take(jiffies(error_cost), jiffies(error_burst), this.#clock.instant);
  }

  /** ip_rt_send_redirect: is it time to tell this sender again of a shorter way? Ever more rarely, and then no more. */
  allowRedirect(sender: Ip): boolean {
    const { redirect_load, redirect_number, redirect_silence } = this.#settings.host;
    const now = this.#clock.instant;
    const peer = this.#peer(sender);
    // A negative silence is always over: time_after() compares as signed.
    if (redirect_silence < 0 || now > peer.at + jiffies(redirect_silence)) {
      peer.tokens = 0;
      peer.redirects = 0;
    }
    if (peer.redirects >= redirect_number) {
      peer.at = now;
      return false;
    }
    if (peer.redirects > 0 && now <= peer.at + jiffies(redirect_load) * 2 ** peer.redirects) return false;
    peer.at = now;
    peer.redirects++;
    return true;
  }

  /** icmp_global_allow: credit is refilled only when it is used up, and not more often than every 20 ms. */
  #hasCredit(): boolean {
    if (this.#credit > 0) return true;
    const { icmp_msgs_per_sec, icmp_msgs_burst } = this.#settings.host;
    const now = this.#clock.instant;
    const elapsed = Math.min(now - this.#refilledAt, s(1));
    const refill = Math.floor((icmp_msgs_per_sec * elapsed) / s(1));
    if (elapsed < REFILL_INTERVAL || refill === 0) return false;
    this.#refilledAt = now;
    this.#credit = Math.min(this.#credit + refill, icmp_msgs_burst);
    return true;
  }

  #peer(ip: Ip): Peer {
    this.#peers ??= new Map();
    let peer = this.#peers.get(ip);
    if (peer === undefined) this.#peers.set(ip, (peer = new Peer(this.#clock.instant - NEW_PEER_AGE)));
    return peer;
  }
}

/** What the kernel remembers of another host (struct inet_peer). */
class Peer {
  /** Nanoseconds of waiting that are saved up. */
  tokens = 0;
  at: number;
  redirects = 0;

  constructor(at: number) {
    this.at = at;
  }

  /** inet_peer_xrlim_allow. */
  take(cost: Duration, burst: Duration, now: Instant): boolean {
    this.tokens = Math.min(this.tokens + now - this.at, burst);
    this.at = now;
    if (this.tokens < cost) return false;
    this.tokens -= cost;
    return true;
  }
}

const PEER_BURST = 6; // XRLIM_BURST_FACTOR
const NEW_PEER_AGE = s(60);
const REFILL_INTERVAL = ms(20);

/** net.ipv4.route.* are in ticks of the kernel's clock, of which the observed kernel has 250 in a second. */
const jiffies = (count: number): Duration => ms(count * 4);
