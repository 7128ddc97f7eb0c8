// ICMP of one namespace: echo replies, errors about packets that could not go on (RFC 792, RFC 1122 3.2.2, RFC 1812
// 4.3.2), and their rate limits as in Linux.

import { type Duration, type Instant, ms, ns, START, s } from '../../engine/time.ts';
import { Frame, PROTOCOL_ICMP } from '../packet/frame.ts';
import {
  ICMP_DEST_UNREACHABLE,
  ICMP_ECHO_REPLY,
  ICMP_FRAGMENTATION_NEEDED,
  ICMP_REDIRECT,
  ICMP_TIME_EXCEEDED,
} from '../packet/icmp.ts';
import { ANY_IP, type Ip, isMulticast, LIMITED_BROADCAST_IP } from '../packet/ip-address.ts';
import type { Ipv4Settings } from './ipv4-settings.ts';

export const ICMP_PARAMETER_PROBLEM = 12;

/** Codes of destination unreachable. */
export const ICMP_NET_UNREACHABLE = 0;
export const ICMP_HOST_UNREACHABLE = 1;
export const ICMP_PROTOCOL_UNREACHABLE = 2;
export const ICMP_PORT_UNREACHABLE = 3;

export const isIcmpError = (type: number): boolean =>
  type === ICMP_DEST_UNREACHABLE ||
  type === ICMP_TIME_EXCEEDED ||
  type === ICMP_PARAMETER_PROBLEM ||
  type === ICMP_REDIRECT;

/** May an ICMP error be sent about this packet? Never about errors, groups, later fragments or senders without address. */
export function mayCauseError(frame: Frame): boolean {
  if (frame.protocol === PROTOCOL_ICMP && isIcmpError(frame.icmpType)) return false;
  if (frame.fragmentOffset > 0 || frame.srcIp === ANY_IP) return false;
  return !isMulticast(frame.dstIp) && frame.dstIp !== LIMITED_BROADCAST_IP && !isMulticast(frame.srcIp);
}

/** Turns a received echo request around; the caller sends it as a frame of its own. */
export function fillEchoReply(reply: Frame, request: Frame): void {
  reply.protocol = PROTOCOL_ICMP;
  reply.icmpType = ICMP_ECHO_REPLY;
  reply.icmpIdentifier = request.icmpIdentifier;
  reply.icmpSequence = request.icmpSequence;
  reply.srcIp = request.dstIp;
  reply.dstIp = request.srcIp;
  reply.payloadBytes = request.payloadBytes;
  reply.message = request.message;
  reply.updateSize();
}

export interface IcmpErrorFields {
  readonly about: Frame;
  readonly type: number;
  readonly code: number;
  /** Of "fragmentation needed": what the next hop takes. */
  readonly mtuBytes: number;
  /** Of a redirect: the better next hop. */
  readonly gateway: Ip;
}

/** Fills `error` with an ICMP error about `about`, quoting its headers; the source address is the caller's. */
export function fillIcmpError(error: Frame, { about, type, code, mtuBytes, gateway }: IcmpErrorFields): void {
  const quoted = new Frame();
  quoted.copyPacketFrom(about);
  error.protocol = PROTOCOL_ICMP;
  error.icmpType = type;
  error.icmpCode = code;
  error.icmpMtu = mtuBytes;
  error.icmpGateway = gateway;
  error.quoted = quoted;
  error.dstIp = about.srcIp;
  error.typeOfService = 0xc0; // internetwork control, as the kernel marks its errors
  error.dontFragment = false;
  error.updateSize();
}

/**
 * How many ICMP messages may be sent, of the types in net.ipv4.icmp_ratemask and without "fragmentation needed":
 * net.ipv4.icmp_ratelimit (one per interval and destination, after a burst of six) and icmp_msgs_per_sec (of the whole
 * host, after a burst of icmp_msgs_burst).
 */
export class IcmpRateLimit {
  readonly #settings: Ipv4Settings;
  readonly #perDestination = new Map<Ip, { tokens: Duration; at: Instant }>();
  #hostTokens: number;
  #hostAt = START;

  constructor(settings: Ipv4Settings) {
    this.#settings = settings;
    this.#hostTokens = settings.icmp_msgs_burst;
  }

  allow(type: number, code: number, destination: Ip, now: Instant): boolean {
    const { icmp_ratemask, icmp_ratelimit, icmp_msgs_per_sec, icmp_msgs_burst } = this.#settings;
    if (((1 << type) & icmp_ratemask) === 0) return true;
    if (type === ICMP_DEST_UNREACHABLE && code === ICMP_FRAGMENTATION_NEEDED) return true;
    const refill = ((now - this.#hostAt) / s(1)) * icmp_msgs_per_sec;
    this.#hostTokens = Math.min(icmp_msgs_burst, this.#hostTokens + refill);
    this.#hostAt = now;
    if (this.#hostTokens < 1 || !this.#allowDestination(destination, ms(icmp_ratelimit), now)) return false;
    this.#hostTokens--;
    return true;
  }

  #allowDestination(destination: Ip, interval: Duration, now: Instant): boolean {
    let bucket = this.#perDestination.get(destination);
    const full = ns(DESTINATION_BURST * interval);
    if (bucket === undefined) this.#perDestination.set(destination, (bucket = { tokens: full, at: now }));
    bucket.tokens = ns(Math.min(full, bucket.tokens + (now - bucket.at)));
    bucket.at = now;
    if (bucket.tokens < interval) return false;
    bucket.tokens = ns(bucket.tokens - interval);
    return true;
  }
}

const DESTINATION_BURST = 6; // XRLIM_BURST_FACTOR
