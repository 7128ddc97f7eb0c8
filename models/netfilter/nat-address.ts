// Which address of a range NAT maps to (find_best_ips_proto in nf_nat_core.c): a hash of source and destination, so that
// a client has the same one for all of its connections to a server. Addresses of both families are four words, as in
// union nf_inet_addr; those of an IPv4 address after the first are 0.

import type { Ip, IpFamily } from '../packet/ip-address.ts';
import { compareIpv6, internIpv6, ipv6Word } from '../packet/ipv6-address.ts';
import { jhash2, swapBytes } from './jhash.ts';

export interface AddressRange {
  readonly family: IpFamily;
  readonly minIp: Ip;
  readonly maxIp: Ip;
}

export function isInRange(ip: Ip, { family, minIp, maxIp }: AddressRange): boolean {
  if (family === 6) return compareIpv6(ip, minIp) >= 0 && compareIpv6(ip, maxIp) <= 0;
  return ip >>> 0 >= minIp >>> 0 && ip >>> 0 <= maxIp >>> 0;
}

export interface AddressChoice {
  readonly srcIp: Ip;
  readonly dstIp: Ip;
  readonly zoneId: number;
  /** The source alone decides. */
  readonly persistent: boolean;
  /** It is the destination that is chosen: its new words come into the hash instead of the old ones, as they are written. */
  readonly isDestination: boolean;
}

/** Always the same for the same source and destination. */
export function addressFrom(
  range: AddressRange,
  { srcIp, dstIp, zoneId, persistent, isDestination }: AddressChoice,
): Ip {
  const { family, minIp, maxIp } = range;
  if (minIp === maxIp) return minIp;
  const length = family === 6 ? 4 : 1;
  const destination = wordsOf(dstIp, family).map(swapBytes);
  let hash = jhash2(wordsOf(srcIp, family).map(swapBytes), persistent ? 0 : destination[length - 1]! ^ zoneId);
  const first = wordsOf(minIp, family);
  const last = wordsOf(maxIp, family);
  // Once a word is below that of the last address, all values of the words after it are in the range.
  let isBelow = false;
  const words = first.map((minWord, i) => {
    if (i >= length) return 0;
    const count = isBelow ? 0xffff_ffff : (last[i]! >>> 0) - (minWord >>> 0) + 1;
    const word = ((isBelow ? 0 : minWord) + scale(hash, count)) | 0;
    if (word !== last[i]) isBelow = true;
    if (!persistent) hash = (hash ^ (isDestination ? swapBytes(word) : destination[i]!)) >>> 0;
    return word;
  });
  return addressOf(words, family);
}

function wordsOf(ip: Ip, family: IpFamily): number[] {
  return family === 6 ? ([0, 1, 2, 3] as const).map((word) => ipv6Word(ip, word)) : [ip, 0, 0, 0];
}

const addressOf = ([w0 = 0, w1 = 0, w2 = 0, w3 = 0]: readonly number[], family: IpFamily): Ip =>
  family === 6 ? internIpv6(w0, w1, w2, w3) : (w0 as Ip);

/** reciprocal_scale: 0 to `count - 1`, evenly. A product of 32 bits by 32 bits is too large for one float64. */
function scale(hash: number, count: number): number {
  return Math.floor(((hash >>> 16) * count + Math.floor(((hash & 0xffff) * count) / 0x1_0000)) / 0x1_0000);
}
