// Connections as text, byte for byte as conntrack-tools 1.4.7 and /proc print them: `conntrack -L`, `-S`, and
// /proc/net/nf_conntrack. The order of lines is ours: the kernel's goes by a secret hash.

import { type Instant, inSeconds } from '../../engine/time.ts';
import { PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP } from '../packet/frame.ts';
import { formatIp, type Ip, type IpFamily } from '../packet/ip-address.ts';
import { ipv6Word } from '../packet/ipv6-address.ts';
import { type ConnectionTuple, PROTOCOL_GRE } from './connection-tuple.ts';
import { zoneDirectionsOf, zoneNumberOf } from './connection-zone.ts';
import {
  CONNTRACK_DEFAULTS,
  type ConntrackEntry,
  type ConntrackSettings,
  type ConntrackStatistics,
} from './conntrack.ts';

/**
 * `tcp      6 431999 ESTABLISHED src=10.244.1.2 dst=10.96.0.10 sport=40000 dport=80 src=10.244.2.2 dst=10.244.1.2
 * sport=8080 dport=40000 [ASSURED] mark=0 use=1`: protocol and its number, seconds to live, state, both tuples, flags.
 * With `-o extended` the family and its number come first.
 */
export function formatConntrack(entry: ConntrackEntry, now: Instant, { extended = false } = {}): string {
  const { original, reply, tcpState, seenReply, assured, mark, zone } = entry;
  const named = `zone${ZONE_SUFFIXES[zoneDirectionsOf(zone)]}=${zoneNumberOf(zone)}`;
  const zoneIn = (directions: string) => zone !== 0 && zoneDirectionsOf(zone) === directions && named;
  return words([
    extended && formatFamily(original.family),
    formatProtocol(original.protocol),
    secondsLeft(entry, now),
    tcpState,
    formatConnectionTuple(original, formatIp),
    zoneIn('original'),
    !seenReply && '[UNREPLIED]',
    formatConnectionTuple(reply, formatIp),
    zoneIn('reply'),
    assured && '[ASSURED]',
    `mark=${mark >>> 0}`,
    zoneIn('both'),
    'use=1',
  ]);
}

/** A line of /proc/net/nf_conntrack, whose reader holds a reference of its own; GRE shows its sysctls there. */
export function formatProcConntrack(
  entry: ConntrackEntry,
  now: Instant,
  { greTimeout, greStreamTimeout }: Pick<ConntrackSettings, 'greTimeout' | 'greStreamTimeout'> = CONNTRACK_DEFAULTS,
): string {
  const { original, reply, tcpState, seenReply, assured, mark, zone } = entry;
  const directions = zoneDirectionsOf(zone);
  const named = `zone${ZONE_SUFFIXES[directions]}=${zoneNumberOf(zone)}`;
  return words([
    formatFamily(original.family),
    formatProtocol(original.protocol),
    secondsLeft(entry, now),
    original.protocol === PROTOCOL_GRE &&
      `timeout=${inSeconds(greTimeout)}, stream_timeout=${inSeconds(greStreamTimeout)}`,
    tcpState,
    formatConnectionTuple(original, formatFullIp),
    directions === 'original' && named,
    !seenReply && '[UNREPLIED]',
    formatConnectionTuple(reply, formatFullIp),
    directions === 'reply' && named,
    assured && '[ASSURED]',
    `mark=${mark >>> 0}`,
    directions === 'both' && named,
    'use=2',
  ]);
}

/** `conntrack -S`: a line per CPU. */
export function formatConntrackStatistics(statistics: readonly ConntrackStatistics[]): string {
  const lines = statistics.map((events, cpu) => {
    const counts = STATISTICS.map(
      (name) => `${name}=${name in events ? events[name as keyof ConntrackStatistics] : 0} `,
    );
    return `cpu=${String(cpu).padEnd(4)}\t${counts.join('')}\n`;
  });
  return lines.join('');
}

/** In the order of the tool. What conntrack does not count here stays 0: see ConntrackStatistics. */
const STATISTICS = [
  'found',
  'invalid',
  'insert',
  'insert_failed',
  'drop',
  'early_drop',
  'error',
  'search_restart',
  'clash_resolve',
  'chaintoolong',
] as const;

const words = (parts: readonly (string | false | undefined)[]): string =>
  parts.filter((part) => part !== undefined && part !== false).join(' ');

const formatFamily = (family: IpFamily): string => (family === 6 ? 'ipv6     10' : 'ipv4     2');

const secondsLeft = ({ expiresAt }: ConntrackEntry, now: Instant): string => `${Math.floor((expiresAt - now) / 1e9)}`;

const ZONE_SUFFIXES = { both: '', original: '-orig', reply: '-reply' } as const;

function formatConnectionTuple(
  { family, protocol, srcIp, dstIp, srcPort, dstPort }: ConnectionTuple,
  format: (ip: Ip, family: IpFamily) => string,
): string {
  const addresses = `src=${format(srcIp, family)} dst=${format(dstIp, family)}`;
  switch (protocol) {
    case PROTOCOL_TCP:
    case PROTOCOL_UDP:
    case PROTOCOL_SCTP:
      return `${addresses} sport=${srcPort} dport=${dstPort}`;
    case PROTOCOL_ICMP:
    case PROTOCOL_ICMPV6:
      return `${addresses} type=${dstPort >> 8} code=${dstPort & 255} id=${srcPort}`;
    case PROTOCOL_GRE:
      return `${addresses} srckey=0x0 dstkey=0x0`;
    default:
      return addresses;
  }
}

/** As the kernel prints with %pI6: every digit. */
function formatFullIp(ip: Ip, family: IpFamily): string {
  if (family === 4) return formatIp(ip);
  const parts = ([0, 1, 2, 3] as const).map((word) => {
    const digits = (ipv6Word(ip, word) >>> 0).toString(16).padStart(8, '0');
    return `${digits.slice(0, 4)}:${digits.slice(4)}`;
  });
  return parts.join(':');
}

/** The names that libnetfilter_conntrack and the kernel know; other protocols are `unknown`. */
const NAMES: ReadonlyMap<number, string> = new Map([
  [PROTOCOL_ICMP, 'icmp'],
  [PROTOCOL_TCP, 'tcp'],
  [PROTOCOL_UDP, 'udp'],
  [PROTOCOL_GRE, 'gre'],
  [PROTOCOL_ICMPV6, 'icmpv6'],
  [PROTOCOL_SCTP, 'sctp'],
]);

const formatProtocol = (protocol: number): string => `${(NAMES.get(protocol) ?? 'unknown').padEnd(8)} ${protocol}`;
