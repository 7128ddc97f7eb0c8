// Entries in the notation of `conntrack -L`. Left out: mark and use count, which are not modelled.

import type { Instant } from '../../engine/time.ts';
import { formatProtocol } from '../packet/describe.ts';
import { PROTOCOL_ICMP, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP } from '../packet/frame.ts';
import { formatIp } from '../packet/ip-address.ts';
import type { ConnectionTuple } from './connection-tuple.ts';
import type { ConntrackEntry } from './conntrack.ts';

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

function formatConnectionTuple({ protocol, srcIp, dstIp, srcPort, dstPort }: ConnectionTuple): string {
  const addresses = `src=${formatIp(srcIp)} dst=${formatIp(dstIp)}`;
  switch (protocol) {
    case PROTOCOL_TCP:
    case PROTOCOL_UDP:
    case PROTOCOL_SCTP:
      return `${addresses} sport=${srcPort} dport=${dstPort}`;
    case PROTOCOL_ICMP:
      return `${addresses} type=${dstPort >> 8} code=${dstPort & 255} id=${srcPort}`;
    default:
      return addresses;
  }
}

function nameOf(protocol: number): string {
  const name = formatProtocol(protocol);
  return name.startsWith('protocol') ? 'unknown' : name;
}
