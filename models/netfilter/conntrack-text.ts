// Entries in the notation of `conntrack -L`. Left out: mark and use count, which are not modelled.

import type { Instant } from '../../engine/time.ts';
import { PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP } from '../packet/frame.ts';
import { formatIp } from '../packet/ip-address.ts';
import type { ConnectionTuple } from './connection-tuple.ts';
import type { ConntrackEntry } from './conntrack.ts';

const PROTOCOL_DCCP = 33;
const PROTOCOL_GRE = 47;
const PROTOCOL_UDPLITE = 136;

/**
 * `tcp      6 431999 ESTABLISHED src=10.244.1.2 dst=10.96.0.10 sport=40000 dport=80 src=10.244.2.2 dst=10.244.1.2
 * sport=8080 dport=40000 [ASSURED]`: protocol and its number, seconds to live, state, both tuples, flags.
 */
export function formatConntrack(entry: ConntrackEntry, now: Instant): string {
  const { original, reply, tcpState, expiresAt, seenReply, assured } = entry;
  return [
    `${nameOf(original.protocol).padEnd(8)} ${original.protocol} ${Math.floor((expiresAt - now) / 1e9)}`,
    tcpState,
    formatConnectionTuple(original),
    seenReply ? undefined : '[UNREPLIED]',
    formatConnectionTuple(reply),
    assured ? '[ASSURED]' : undefined,
  ]
    .filter((part) => part !== undefined)
    .join(' ');
}

function formatConnectionTuple({ family, protocol, srcIp, dstIp, srcPort, dstPort }: ConnectionTuple): string {
  const addresses = `src=${formatIp(srcIp, family)} dst=${formatIp(dstIp, family)}`;
  switch (protocol) {
    case PROTOCOL_TCP:
    case PROTOCOL_UDP:
    case PROTOCOL_SCTP:
      return `${addresses} sport=${srcPort} dport=${dstPort}`;
    case PROTOCOL_ICMP:
    case PROTOCOL_ICMPV6:
      return `${addresses} type=${dstPort >> 8} code=${dstPort & 255} id=${srcPort}`;
    default:
      return addresses;
  }
}

/** The names that libnetfilter_conntrack prints; other protocols are `unknown`. */
const NAMES: ReadonlyMap<number, string> = new Map([
  [PROTOCOL_ICMP, 'icmp'],
  [PROTOCOL_TCP, 'tcp'],
  [PROTOCOL_UDP, 'udp'],
  [PROTOCOL_DCCP, 'dccp'],
  [PROTOCOL_GRE, 'gre'],
  [PROTOCOL_ICMPV6, 'icmpv6'],
  [PROTOCOL_SCTP, 'sctp'],
  [PROTOCOL_UDPLITE, 'udplite'],
]);

const nameOf = (protocol: number): string => NAMES.get(protocol) ?? 'unknown';
