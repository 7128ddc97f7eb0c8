// A number for the flow that a frame belongs to: the same for all its frames, and well mixed over flows. NICs have one of
// their own, and the kernel another, which stays with the frame (Frame.flowHash). They take addresses, and ports where
// every packet of the flow has them. Any good mix serves.
//
// Not modelled: that a NIC hands its hash to the kernel (NETIF_F_RXHASH), and hashing received packets by their flow label.

import { ETHERTYPE_ARP, type Frame, PROTOCOL_ICMPV6, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP } from './frame.ts';
import type { Ip, IpFamily } from './ip-address.ts';
import { hashIpv6 } from './ipv6-address.ts';

/** As NICs have it to choose a CPU (Toeplitz): from 0 to 2^32 - 1; the answers of a flow have another. */
export function steeringHash(frame: Frame): number {
  let hash =
    Math.imul(wordOf(frame.srcIp, frame.family), 0x9e3779b1) ^ Math.imul(wordOf(frame.dstIp, frame.family), 0x85ebca6b);
  // Ports tell protocols apart well enough.
  hash ^= Math.imul(hasPorts(frame) ? (frame.srcPort << 16) | frame.dstPort : frame.protocol, 0xc2b2ae35);
  return (hash ^ (hash >>> 15)) >>> 0;
}

/**
 * skb_get_hash: worked out once, and then the frame's own, whatever becomes of its addresses. One without ports is worked
 * out again by the next who asks (skb_clear_hash_if_not_l4 in iptunnel_xmit).
 */
export function lastingFlowHash(frame: Frame): number {
  if (frame.flowHash !== 0) return frame.flowHash;
  const hash = symmetricFlowHash(frame) | 0;
  if (hasPorts(frame) && (frame.srcPort | frame.dstPort) !== 0) frame.flowHash = hash === 0 ? 1 : hash;
  return hash;
}

/** The same in a tunnel over IPv6: there also that of a frame without ports stays (ip6tunnel_xmit), until it comes out. */
export function keptFlowHash(frame: Frame): number {
  if (frame.flowHash !== 0) return frame.flowHash;
  const hash = lastingFlowHash(frame);
  if (frame.flowHash === 0) {
    frame.flowHash = hash === 0 ? 1 : hash;
    frame.hasPortlessHash = true;
  }
  return hash;
}

/**
 * ip6_make_flowlabel: packets of IPv6 that are made here without a hash get one for their flow label (__get_hash_from_flowi6).
 * It is not that of the same headers in a packet from elsewhere, and takes type and code of ICMPv6 for ports.
 */
export function hashForLabel(frame: Frame): void {
  if (frame.flowHash !== 0 || !(hasPorts(frame) || frame.protocol === PROTOCOL_ICMPV6)) return;
  const hash = symmetricFlowHash(frame) ^ Math.imul((frame.icmpType << 8) | frame.icmpCode | 0x10000, 0x9e3779b1);
  frame.flowHash = hash === 0 ? 1 : hash;
}

/** What a connected socket gives its packets: by chance (net_tx_rndhash), here from a number that is by chance. */
export function socketFlowHash(number: number): number {
  let hash = Math.imul(number + 0x6d2b79f5, 0x9e3779b1);
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
  return hash ^ (hash >>> 13) || 1;
}

/**
 * As the kernel has it (flow_hash_from_keys): the answers of a flow have the same, seen on Linux 6.18 in both families.
 * Addresses and ports are each put in order before they are hashed (__flow_hash_consistentify).
 */
export function symmetricFlowHash(frame: Frame): number {
  const [src, dst] = [wordOf(frame.srcIp, frame.family), wordOf(frame.dstIp, frame.family)];
  const hash = mix(mix(frame.protocol, Math.min(src, dst)), Math.max(src, dst));
  if (!hasPorts(frame)) return hash >>> 0;
  const { srcPort, dstPort } = frame;
  return mix(hash, (Math.min(srcPort, dstPort) << 16) | Math.max(srcPort, dstPort)) >>> 0;
}

/** Takes one word more into a hash; no simple relation between words makes two hashes equal (the finalizer of MurmurHash3). */
function mix(hash: number, word: number): number {
  let mixed = Math.imul(hash ^ word, 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}

const wordOf = (ip: Ip, family: IpFamily): number => (family === 4 ? ip : hashIpv6(ip));

/** Later fragments have no ports, so the first one's do not count either. */
function hasPorts({ etherType, protocol, isFragment }: Frame): boolean {
  if (isFragment || etherType === ETHERTYPE_ARP) return false;
  return protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP || protocol === PROTOCOL_SCTP;
}
