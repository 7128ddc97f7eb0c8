// One direction of a connection as conntrack knows it: addresses, protocol, and the two numbers that tell connections
// between the same addresses apart. Those are ports, or for ICMP queries the identifier and the type with its code.
//
// Both numbers are also handled packed into one int32, source in the upper half, so that a tuple is four integers.

import { type Frame, PROTOCOL_ICMP, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP } from '../packet/frame.ts';
import {
  ICMP_DEST_UNREACHABLE,
  ICMP_ECHO_REPLY,
  ICMP_ECHO_REQUEST,
  ICMP_REDIRECT,
  ICMP_TIME_EXCEEDED,
} from '../packet/icmp.ts';
import type { Ip } from '../packet/ip-address.ts';

export interface ConnectionTuple {
  readonly protocol: number;
  readonly srcIp: Ip;
  readonly dstIp: Ip;
  /** ICMP: the identifier. Protocols without ports: 0. */
  readonly srcPort: number;
  /** ICMP: `type * 256 + code`. */
  readonly dstPort: number;
}

export const packPorts = (srcPort: number, dstPort: number): number => (srcPort << 16) | dstPort;
export const srcPortOf = (ports: number): number => ports >>> 16;
export const dstPortOf = (ports: number): number => ports & 0xffff;

/** The packed ports of a frame. Fragments are not modelled. */
export function portsOf(frame: Frame): number {
  switch (frame.protocol) {
    case PROTOCOL_TCP:
    case PROTOCOL_UDP:
    case PROTOCOL_SCTP:
      return (frame.srcPort << 16) | frame.dstPort;
    case PROTOCOL_ICMP:
      return (frame.icmpIdentifier << 16) | (frame.icmpType << 8) | frame.icmpCode;
    default:
      return 0;
  }
}

/** The packed ports of the answer. An ICMP answer has the same identifier and the answering type. */
export function invertPorts(protocol: number, ports: number): number {
  if (protocol !== PROTOCOL_ICMP) return (ports << 16) | (ports >>> 16);
  return (ports & ~0xff00) | (ICMP_ANSWERS[(ports >>> 8) & 0xff]! << 8);
}

export function invertTuple({ protocol, srcIp, dstIp, srcPort, dstPort }: ConnectionTuple): ConnectionTuple {
  const ports = invertPorts(protocol, packPorts(srcPort, dstPort));
  return { protocol, srcIp: dstIp, dstIp: srcIp, srcPort: srcPortOf(ports), dstPort: dstPortOf(ports) };
}

/** Only a query begins an ICMP "connection": echo, timestamp, information, address mask. */
export const isIcmpQuery = (type: number): boolean => ICMP_QUERIES.has(type);
/** Queries and their answers; other types have no tuple. */
export const isIcmpQueryOrAnswer = (type: number): boolean => ICMP_ANSWERS[type] !== NO_ANSWER;
/** Errors are not connections: they belong to the connection of the packet that they quote. */
export const isIcmpError = (type: number): boolean => ICMP_ERRORS.has(type);

const ICMP_SOURCE_QUENCH = 4;
const ICMP_PARAMETER_PROBLEM = 12;
const ICMP_ERRORS: ReadonlySet<number> = new Set([
  ICMP_DEST_UNREACHABLE,
  ICMP_SOURCE_QUENCH,
  ICMP_REDIRECT,
  ICMP_TIME_EXCEEDED,
  ICMP_PARAMETER_PROBLEM,
]);

const ICMP_TIMESTAMP = 13;
const ICMP_INFORMATION = 15;
const ICMP_ADDRESS_MASK = 17;
const ICMP_QUERIES: ReadonlySet<number> = new Set([
  ICMP_ECHO_REQUEST,
  ICMP_TIMESTAMP,
  ICMP_INFORMATION,
  ICMP_ADDRESS_MASK,
]);

const NO_ANSWER = 0xff;
/** Query to answer and back, by type. */
const ICMP_ANSWERS = new Uint8Array(256).fill(NO_ANSWER);
for (const [query, answer] of [
  [ICMP_ECHO_REQUEST, ICMP_ECHO_REPLY],
  [ICMP_TIMESTAMP, ICMP_TIMESTAMP + 1],
  [ICMP_INFORMATION, ICMP_INFORMATION + 1],
  [ICMP_ADDRESS_MASK, ICMP_ADDRESS_MASK + 1],
] as const) {
  ICMP_ANSWERS[query] = answer;
  ICMP_ANSWERS[answer] = query;
}
