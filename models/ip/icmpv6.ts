// ICMPv6 of one namespace: echo replies, errors about packets that could not go on (RFC 4443), and how many of them
// Linux sends (net/ipv6/icmp.c).

import { type Duration, type Instant, ns, s } from '../../engine/time.ts';
import { startOfJiffy } from '../cpu/jiffy.ts';
import { Frame, PROTOCOL_ICMPV6 } from '../packet/frame.ts';
import { ICMPV6_ECHO_REPLY, ICMPV6_PACKET_TOO_BIG, isIcmpv6Error } from '../packet/icmpv6.ts';
import { ANY_IP, type Ip, isIpv6Multicast } from '../packet/ip-address.ts';
import { ZERO_MAC } from '../packet/mac.ts';

/** May an error of this type be sent about the packet? Never about errors, groups and senders without an address. */
export function mayCauseIcmpv6Error(frame: Frame, type: number): boolean {
  if (frame.srcIp === ANY_IP || isIpv6Multicast(frame.srcIp)) return false;
  const isForGroup = isIpv6Multicast(frame.dstIp) || frame.group !== ZERO_MAC;
  if (isForGroup && type !== ICMPV6_PACKET_TOO_BIG) return false;
  return !(frame.protocol === PROTOCOL_ICMPV6 && frame.fragmentOffset === 0 && isIcmpv6Error(frame.icmpType));
}

/** Turns a received echo request around; the source address is the caller's. */
export function fillIcmpv6EchoReply(reply: Frame, request: Frame): void {
  reply.setFamily(6);
  reply.protocol = PROTOCOL_ICMPV6;
  reply.icmpType = ICMPV6_ECHO_REPLY;
  reply.icmpIdentifier = request.icmpIdentifier;
  reply.icmpSequence = request.icmpSequence;
  reply.typeOfService = request.typeOfService;
  reply.dstIp = request.srcIp;
  reply.payloadBytes = request.payloadBytes;
  reply.message = request.message;
  reply.updateSize();
}

export interface Icmpv6ErrorFields {
  readonly about: Frame;
  readonly type: number;
  readonly code: number;
  /** The MTU of "packet too big", the offset of a "parameter problem". */
  readonly info: number;
}

/** Fills `error` with an ICMPv6 error about `about`; the source address is the caller's. */
export function fillIcmpv6Error(error: Frame, { about, type, code, info }: Icmpv6ErrorFields): void {
  const quoted = new Frame();
  quoted.copyPacketFrom(about);
  error.setFamily(6);
  error.protocol = PROTOCOL_ICMPV6;
  error.icmpType = type;
  error.icmpCode = code;
  error.icmpMtu = info;
  error.quoted = quoted;
  error.dstIp = about.srcIp;
  error.updateSize();
}

/**
 * How often a peer may be written to (inet_peer_xrlim_allow): errors and redirects draw on one bucket of time, each as
 * much as its own interval, and up to six intervals are saved. An interval of 0 is always allowed, and empties the bucket
 * unless that was drawn on in the same jiffy: with net.ipv6.icmp.ratelimit = 0 an error keeps redirects away for a second.
 */
export class PeerRateLimit {
  readonly #peers = new Map<Ip, { saved: Duration; at: Instant }>();

  allow(peer: Ip, interval: Duration, now: Instant): boolean {
    let bucket = this.#peers.get(peer);
    const jiffy = startOfJiffy(now);
    if (bucket === undefined) {
      this.#peers.set(peer, (bucket = { saved: ns(Math.min(BURST * interval, FIRST_SAVED)), at: jiffy }));
    } else if (jiffy > bucket.at) {
      bucket.saved = ns(Math.min(BURST * interval, bucket.saved + (jiffy - bucket.at)));
      bucket.at = jiffy;
    }
    if (bucket.saved < interval) return false;
    bucket.saved = ns(bucket.saved - interval);
    return true;
  }
}

const BURST = 6; // XRLIM_BURST_FACTOR
const FIRST_SAVED = s(60); // a new peer counts as silent for a minute (inet_getpeer)
