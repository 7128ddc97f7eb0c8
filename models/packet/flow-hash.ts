// A number for the flow that a frame belongs to: the same for all its frames, and well mixed over flows. The kernel's
// flow dissector takes addresses, and ports where every packet of the flow has them (skb_get_hash); real NICs use
// Toeplitz. Any good mix serves.

import { ETHERTYPE_ARP, type Frame, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP } from './frame.ts';
import type { Ip, IpFamily } from './ip-address.ts';
import { hashIpv6 } from './ipv6-address.ts';

/** From 0 to 2^32 - 1; the answers of a flow have another. */
export function flowHash(frame: Frame): number {
  let hash =
    Math.imul(wordOf(frame.srcIp, frame.family), 0x9e3779b1) ^ Math.imul(wordOf(frame.dstIp, frame.family), 0x85ebca6b);
  // Ports tell protocols apart well enough.
  hash ^= Math.imul(hasPorts(frame) ? (frame.srcPort << 16) | frame.dstPort : frame.protocol, 0xc2b2ae35);
  return (hash ^ (hash >>> 15)) >>> 0;
}

const wordOf = (ip: Ip, family: IpFamily): number => (family === 4 ? ip : hashIpv6(ip));

/** Later fragments have no ports, so the first one's do not count either. */
function hasPorts({ etherType, protocol, moreFragments, fragmentOffset }: Frame): boolean {
  if (moreFragments || fragmentOffset > 0 || etherType === ETHERTYPE_ARP) return false;
  return protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP || protocol === PROTOCOL_SCTP;
}
