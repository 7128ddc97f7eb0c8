// Which of its addresses a host sends from: RFC 6724 section 5 as Linux has it (ipv6_get_saddr_eval). A candidate wins by
// the first rule in which it differs from the other; of equals the first in the list wins.
//
// Not modelled: deprecated and temporary addresses, home addresses, net.ipv6.conf.*.use_oif_addrs_only, a policy table of
// one's own (`ip addrlabel`).

import type { NetDevice } from '../link/net-device.ts';
import {
  contains,
  type Ip,
  isIpv6LinkLocal,
  isIpv6Multicast,
  LOOPBACK_IPV6,
  type Prefix,
  parseIpv6Prefix,
} from '../packet/ip-address.ts';
import { commonIpv6Bits, ipv6Word } from '../packet/ipv6-address.ts';

export interface Ipv6Address {
  readonly device: NetDevice;
  readonly ip: Ip;
  /** Its prefix, as `ip addr add` had it. */
  readonly subnet: Prefix;
}

/** The source for packets to `dst` that leave by `device`; undefined when no candidate may be used. */
export function selectSource(candidates: Iterable<Ipv6Address>, dst: Ip, device: NetDevice): Ip | undefined {
  const scope = scopeOf(dst);
  // A link-local destination means something on this link only, and so must the source.
  const onlyOfDevice = scope <= LINK_LOCAL_SCOPE;
  let best: Ipv6Address | undefined;
  let bestScores: readonly number[] = [];
  for (const candidate of candidates) {
    if (onlyOfDevice && candidate.device !== device) continue;
    const scores = scoresOf(candidate, dst, scope, device);
    if (best !== undefined && !isBetter(scores, bestScores)) continue;
    best = candidate;
    bestScores = scores;
  }
  return best?.ip;
}

/** By rule, higher is better. */
function scoresOf({ ip, device, subnet }: Ipv6Address, dst: Ip, dstScope: number, outDevice: NetDevice): number[] {
  const scope = scopeOf(ip);
  return [
    Number(ip === dst), //                                   rule 1: the destination itself
    scope >= dstScope ? -scope : scope - 128, //              rule 2: the smallest scope that reaches it
    Number(device === outDevice), //                          rule 5: of the outgoing device
    Number(labelOf(ip) === labelOf(dst)), //                  rule 6: of the same label
    Math.min(commonIpv6Bits(ip, dst), subnet.length), //      rule 8: the longest common prefix
  ];
}

function isBetter(scores: readonly number[], than: readonly number[]): boolean {
  for (let rule = 0; rule < scores.length; rule++) {
    if (scores[rule]! !== than[rule]!) return scores[rule]! > than[rule]!;
  }
  return false;
}

const LINK_LOCAL_SCOPE = 2;
const GLOBAL_SCOPE = 14;

/** As in multicast addresses (RFC 4291 2.7). ::1 counts as link-local (RFC 6724 3.4). */
function scopeOf(ip: Ip): number {
  if (isIpv6Multicast(ip)) return (ipv6Word(ip, 0) >>> 16) & 0xf;
  return isIpv6LinkLocal(ip) || ip === LOOPBACK_IPV6 ? LINK_LOCAL_SCOPE : GLOBAL_SCOPE;
}

/** The default policy table, longest prefix first (net/ipv6/addrlabel.c). */
const LABELS: readonly { readonly prefix: Prefix; readonly label: number }[] = [
  { prefix: parseIpv6Prefix('::1/128'), label: 0 },
  { prefix: parseIpv6Prefix('::ffff:0:0/96'), label: 4 },
  { prefix: parseIpv6Prefix('::/96'), label: 3 },
  { prefix: parseIpv6Prefix('2001::/32'), label: 6 },
  { prefix: parseIpv6Prefix('2001:10::/28'), label: 7 },
  { prefix: parseIpv6Prefix('3ffe::/16'), label: 12 },
  { prefix: parseIpv6Prefix('2002::/16'), label: 2 },
  { prefix: parseIpv6Prefix('fec0::/10'), label: 11 },
  { prefix: parseIpv6Prefix('fc00::/7'), label: 5 },
];

const labelOf = (ip: Ip): number => LABELS.find(({ prefix }) => contains(prefix, ip))?.label ?? 1;
