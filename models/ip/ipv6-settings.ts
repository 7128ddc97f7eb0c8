// net.ipv6.* of one network namespace, under the kernel's own names.
//
// Not modelled: values of single devices. What forwards is decided for the whole namespace in the kernel too
// (ip6_forward looks at conf.all).

import { IcmpTypes } from './icmp-types.ts';

/** Of errors; one for all namespaces, as it does not change. */
const ALL_BUT_PACKET_TOO_BIG = new IcmpTypes('0-1,3-127');

export class Ipv6Settings {
  /** net.ipv6.conf.all.forwarding: also makes the host a router in what it says of itself to neighbors. */
  forwarding = 0;
  /** net.ipv6.conf.all.hop_limit, of packets that the host sends. */
  hop_limit = 64;
  /** net.ipv6.icmp.ratelimit: milliseconds between ICMPv6 errors to one destination; 0 for no limit. 100 in 6.18.44. */
  icmp_ratelimit = 100;
  /** net.ipv6.icmp.ratemask: the types that are limited. */
  icmp_ratemask = ALL_BUT_PACKET_TOO_BIG;
  /** net.ipv6.ip6frag_time: seconds that fragments wait for each other. */
  ip6frag_time = 60;
  /** net.ipv6.ip6frag_high_thresh: bytes of memory that they may take. */
  ip6frag_high_thresh = 4_194_304;
}
