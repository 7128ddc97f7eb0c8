// ICMP of one namespace: echo replies, errors about packets that could not go on (RFC 792, RFC 1122 3.2.2, RFC 1812
// 4.3.2), and their rate limits as in Linux.

import { Frame, PROTOCOL_ICMP } from '../packet/frame.ts';
import { ICMP_DEST_UNREACHABLE, ICMP_ECHO_REPLY, ICMP_REDIRECT, ICMP_TIME_EXCEEDED } from '../packet/icmp.ts';
import { ANY_IP, type Ip, isMulticast } from '../packet/ip-address.ts';
import { ZERO_MAC } from '../packet/mac.ts';

export const ICMP_SOURCE_QUENCH = 4;
export const ICMP_PARAMETER_PROBLEM = 12;

/** Codes of destination unreachable. */
export const ICMP_NET_UNREACHABLE = 0;
export const ICMP_HOST_UNREACHABLE = 1;
export const ICMP_PROTOCOL_UNREACHABLE = 2;
export const ICMP_ADMINISTRATIVELY_PROHIBITED = 13;

/** Code of time exceeded: fragments did not come in time. */
export const ICMP_REASSEMBLY_TIME = 1;

export const isIcmpError = (type: number): boolean =>
  type === ICMP_DEST_UNREACHABLE ||
  type === ICMP_SOURCE_QUENCH ||
  type === ICMP_TIME_EXCEEDED ||
  type === ICMP_PARAMETER_PROBLEM ||
  type === ICMP_REDIRECT;

/**
 * May an ICMP error be sent about this packet? Never about errors, later fragments, senders without address, or what came
 * for a group of stations. Whether it is addressed to many is the caller's to know.
 */
export function mayCauseError(frame: Frame): boolean {
  if (frame.protocol === PROTOCOL_ICMP && isIcmpError(frame.icmpType)) return false;
  if (frame.group !== ZERO_MAC) return false;
  if (frame.fragmentOffset > 0 || frame.srcIp === ANY_IP) return false;
  return !isMulticast(frame.srcIp);
}

/** Turns a received echo request around; the caller sends it as a frame of its own. */
export function fillEchoReply(reply: Frame, request: Frame): void {
  reply.protocol = PROTOCOL_ICMP;
  reply.icmpType = ICMP_ECHO_REPLY;
  reply.icmpIdentifier = request.icmpIdentifier;
  reply.icmpSequence = request.icmpSequence;
  reply.srcIp = request.dstIp;
  reply.dstIp = request.srcIp;
  reply.payloadBytes = request.payloadBytes;
  reply.message = request.message;
  reply.dontFragment = false; // the kernel's own ICMP socket does not discover path MTUs
  reply.updateSize();
}

export interface IcmpErrorFields {
  readonly about: Frame;
  readonly type: number;
  readonly code: number;
  /** Of "fragmentation needed": what the next hop takes. */
  readonly mtuBytes: number;
  /** Of a redirect: the better next hop. */
  readonly gateway: Ip;
}

/** Fills `error` with an ICMP error about `about`, quoting its headers; the source address is the caller's. */
export function fillIcmpError(error: Frame, { about, type, code, mtuBytes, gateway }: IcmpErrorFields): void {
  const quoted = new Frame();
  quoted.copyPacketFrom(about);
  error.protocol = PROTOCOL_ICMP;
  error.icmpType = type;
  error.icmpCode = code;
  error.icmpMtu = mtuBytes;
  error.icmpGateway = gateway;
  error.quoted = quoted;
  error.dstIp = about.srcIp;
  error.typeOfService = 0xc0; // internetwork control, as the kernel marks its errors
  error.dontFragment = false;
  error.updateSize();
}
