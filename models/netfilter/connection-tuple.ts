// One direction of a connection as conntrack knows it: addresses, protocol, and the two numbers that tell connections
// between the same addresses apart. Those are ports, or for ICMP queries the identifier and the type with its code.
//
// Both numbers are also handled packed into one int32, source in the upper half, and family and protocol in one small
// integer, so that a tuple is four integers. Fragments have no tuple: they come to conntrack reassembled.

import {
  type Frame,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_SCTP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from '../packet/frame.ts';
import {
  ICMP_DEST_UNREACHABLE,
  ICMP_ECHO_REPLY,
  ICMP_ECHO_REQUEST,
  ICMP_REDIRECT,
  ICMP_TIME_EXCEEDED,
} from '../packet/icmp.ts';
import type { Ip, IpFamily } from '../packet/ip-address.ts';

export interface ConnectionTuple {
  readonly family: IpFamily;
  readonly protocol: number;
  readonly srcIp: Ip;
  readonly dstIp: Ip;
  /** ICMP: the identifier. Protocols without ports: 0. */
  readonly srcPort: number;
  /** ICMP: `type * 256 + code`. */
  readonly dstPort: number;
}

/** Tracked by its addresses: its keys count only for PPTP's version, which nobody sends here. */
export const PROTOCOL_GRE = 47;

export const packPorts = (srcPort: number, dstPort: number): number => (srcPort << 16) | dstPort;
export const srcPortOf = (ports: number): number => ports >>> 16;
export const dstPortOf = (ports: number): number => ports & 0xffff;

/** Protocol and family in one: the protocol's number, with bit 8 set for IPv6. */
export const packProtocol = (protocol: number, family: IpFamily): number =>
  family === 6 ? protocol | IPV6_KIND : protocol;
/** In what {@link packProtocol} returns. */
export const IPV6_KIND = 0x100;
export const protocolOf = (kind: number): number => kind & 0xff;
export const familyOf = (kind: number): IpFamily => ((kind & IPV6_KIND) === 0 ? 4 : 6);

/** The packed ports of a frame. */
export function portsOf(frame: Frame): number {
  switch (frame.protocol) {
    case PROTOCOL_TCP:
    case PROTOCOL_UDP:
    case PROTOCOL_SCTP:
      return (frame.srcPort << 16) | frame.dstPort;
    case PROTOCOL_ICMP:
    case PROTOCOL_ICMPV6:
      return (frame.icmpIdentifier << 16) | (frame.icmpType << 8) | frame.icmpCode;
    default:
      return 0;
  }
}

/** The packed ports of the answer. An ICMP answer has the same identifier and the answering type. */
export function invertPorts(protocol: number, ports: number): number {
  if (protocol === PROTOCOL_ICMP) return (ports & ~0xff00) | (ICMP_ANSWERS[(ports >>> 8) & 0xff]! << 8);
  if (protocol === PROTOCOL_ICMPV6) return (ports & ~0xff00) | (ICMPV6_ANSWERS[(ports >>> 8) & 0xff]! << 8);
  return (ports << 16) | (ports >>> 16);
}

export function invertTuple(tuple: ConnectionTuple): ConnectionTuple {
  const { family, protocol, srcIp, dstIp, srcPort, dstPort } = tuple;
  const ports = invertPorts(protocol, packPorts(srcPort, dstPort));
  return { family, protocol, srcIp: dstIp, dstIp: srcIp, srcPort: srcPortOf(ports), dstPort: dstPortOf(ports) };
}

/** The numbers of the protocol are ports, which NAT can change. */
export const hasPorts = (protocol: number): boolean =>
  protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP || protocol === PROTOCOL_SCTP;

export const isIcmp = (protocol: number): boolean => protocol === PROTOCOL_ICMP || protocol === PROTOCOL_ICMPV6;

/** Only a query begins an ICMP "connection": echo, timestamp, information, address mask; in ICMPv6 echo and node information. */
export const isIcmpQuery = (protocol: number, type: number): boolean =>
  (protocol === PROTOCOL_ICMPV6 ? ICMPV6_QUERIES : ICMP_QUERIES).has(type);

/** Queries and their answers; other types have no tuple. */
export const isIcmpQueryOrAnswer = (protocol: number, type: number): boolean =>
  (protocol === PROTOCOL_ICMPV6 ? ICMPV6_ANSWERS : ICMP_ANSWERS)[type] !== NO_ANSWER;

/** Errors are not connections: they belong to the connection of the packet that they quote. */
export const isIcmpError = (protocol: number, type: number): boolean =>
  protocol === PROTOCOL_ICMPV6 ? type < FIRST_ICMPV6_QUERY : ICMP_ERRORS.has(type);

/** Types that conntrack looks at, though only queries and errors lead to a connection. */
export const isKnownIcmp = (protocol: number, type: number): boolean =>
  protocol === PROTOCOL_ICMPV6 || type <= LAST_ICMP_TYPE;

/**
 * Neighbor and router discovery and multicast listener messages: conntrack leaves them alone, as if a rule had said so
 * (nf_conntrack_proto_icmpv6.c).
 */
export const isNeverTracked = (protocol: number, type: number): boolean =>
  protocol === PROTOCOL_ICMPV6 && ICMPV6_UNTRACKED.has(type);

const ICMP_SOURCE_QUENCH = 4;
const ICMP_PARAMETER_PROBLEM = 12;
const ICMP_ERRORS: ReadonlySet<number> = new Set([
  ICMP_DEST_UNREACHABLE,
  ICMP_SOURCE_QUENCH,
  ICMP_REDIRECT,
  ICMP_TIME_EXCEEDED,
  ICMP_PARAMETER_PROBLEM,
]);

/** NR_ICMP_TYPES */
const LAST_ICMP_TYPE = 18;
const ICMP_TIMESTAMP = 13;
const ICMP_INFORMATION = 15;
const ICMP_ADDRESS_MASK = 17;
const ICMP_QUERIES: ReadonlySet<number> = new Set([
  ICMP_ECHO_REQUEST,
  ICMP_TIMESTAMP,
  ICMP_INFORMATION,
  ICMP_ADDRESS_MASK,
]);

/** Types below are errors (RFC 4443 2.1). */
const FIRST_ICMPV6_QUERY = 128;
const ICMPV6_ECHO = 128;
const ICMPV6_NODE_INFORMATION = 139;
const ICMPV6_QUERIES: ReadonlySet<number> = new Set([ICMPV6_ECHO, ICMPV6_NODE_INFORMATION]);
/** Multicast listener query, report and done, the discoveries of RFC 4861 without redirects, and MLDv2 reports. */
const ICMPV6_UNTRACKED: ReadonlySet<number> = new Set([130, 131, 132, 133, 134, 135, 136, 143]);

const NO_ANSWER = 0xff;
/** Query to answer and back, by type. */
const ICMP_ANSWERS = answersByType([
  [ICMP_ECHO_REQUEST, ICMP_ECHO_REPLY],
  [ICMP_TIMESTAMP, ICMP_TIMESTAMP + 1],
  [ICMP_INFORMATION, ICMP_INFORMATION + 1],
  [ICMP_ADDRESS_MASK, ICMP_ADDRESS_MASK + 1],
]);
const ICMPV6_ANSWERS = answersByType([
  [ICMPV6_ECHO, ICMPV6_ECHO + 1],
  [ICMPV6_NODE_INFORMATION, ICMPV6_NODE_INFORMATION + 1],
]);

function answersByType(pairs: readonly (readonly [query: number, answer: number])[]): Uint8Array {
  const answers = new Uint8Array(256).fill(NO_ANSWER);
  for (const [query, answer] of pairs) {
    answers[query] = answer;
    answers[answer] = query;
  }
  return answers;
}
