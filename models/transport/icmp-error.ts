// What an ICMP error tells a socket: the kernel's icmp_err_convert[], by code of "destination unreachable", and in IPv6
// icmpv6_err_convert().

import type { SendError } from '../ip/send-error.ts';
import { ICMP_DEST_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED } from '../packet/icmp.ts';
import {
  ICMPV6_ADDRESS_UNREACHABLE,
  ICMPV6_ADMIN_PROHIBITED,
  ICMPV6_BEYOND_SCOPE,
  ICMPV6_DEST_UNREACHABLE,
  ICMPV6_NO_ROUTE,
  ICMPV6_PACKET_TOO_BIG,
  ICMPV6_PARAMETER_PROBLEM,
  ICMPV6_POLICY_FAIL,
  ICMPV6_PORT_UNREACHABLE,
  ICMPV6_REJECT_ROUTE,
} from '../packet/icmpv6.ts';
import type { IpFamily } from '../packet/ip-address.ts';

/** As errno: ECONNREFUSED (also ENOPROTOOPT), ENETUNREACH, EHOSTUNREACH, EACCES. */
export type IcmpError = 'refused' | 'network unreachable' | 'host unreachable' | 'prohibited';

/** Port and protocol unreachable say that the host is there; everything else that the way to it is not. */
export function icmpErrorOf(type: number, code: number, family: IpFamily): IcmpError {
  const errors = family === 6 ? DEST_UNREACHABLE_V6 : DEST_UNREACHABLE;
  const unreachable = family === 6 ? ICMPV6_DEST_UNREACHABLE : ICMP_DEST_UNREACHABLE;
  return (type === unreachable ? errors.get(code) : undefined) ?? 'host unreachable';
}

/** By code; others are EHOSTUNREACH, as are EOPNOTSUPP, EHOSTDOWN and ENONET (5, 7, 8) for whom it matters. */
const DEST_UNREACHABLE: ReadonlyMap<number, IcmpError> = new Map([
  [0, 'network unreachable'],
  [2, 'refused'],
  [3, 'refused'],
  [6, 'network unreachable'],
  [9, 'network unreachable'],
  [11, 'network unreachable'],
]);

const DEST_UNREACHABLE_V6: ReadonlyMap<number, IcmpError> = new Map([
  [ICMPV6_NO_ROUTE, 'network unreachable'],
  [ICMPV6_ADMIN_PROHIBITED, 'prohibited'],
  [ICMPV6_PORT_UNREACHABLE, 'refused'],
  [ICMPV6_POLICY_FAIL, 'prohibited'],
  [ICMPV6_REJECT_ROUTE, 'prohibited'],
]);

/** A router says how large packets may be; the sender makes them smaller. */
export const isTooBig = (type: number, code: number, family: IpFamily): boolean =>
  family === 6 ? type === ICMPV6_PACKET_TOO_BIG : type === ICMP_DEST_UNREACHABLE && code === ICMP_FRAGMENTATION_NEEDED;

/**
 * Errors that a connected UDP socket without IP_RECVERR reports. Network and host unreachable (0, 1), source route
 * failed (5), the two of type of service (11, 12) and time exceeded may pass, and are kept from it; so in IPv6 no route,
 * beyond scope and address unreachable.
 */
export function isHardError(type: number, code: number, family: IpFamily): boolean {
  if (family === 6) {
    if (type !== ICMPV6_DEST_UNREACHABLE) return type === ICMPV6_PARAMETER_PROBLEM;
    return code !== ICMPV6_NO_ROUTE && code !== ICMPV6_BEYOND_SCOPE && code !== ICMPV6_ADDRESS_UNREACHABLE;
  }
  const mayPass = code === 0 || code === 1 || code === 4 || code === 5 || code === 11 || code === 12;
  return type === ICMP_DEST_UNREACHABLE && !mayPass;
}

/** As errno: EPERM (a packet filter dropped it), EINVAL (an address that may not leave). */
export type LocalError = 'not permitted' | 'invalid argument';

/** What the stack says of a packet that it could not send. */
export const sendErrorOf = (error: SendError): IcmpError | LocalError => SEND_ERRORS[error];

const SEND_ERRORS: Readonly<Record<SendError, IcmpError | LocalError>> = {
  ENETUNREACH: 'network unreachable',
  EHOSTUNREACH: 'host unreachable',
  EACCES: 'prohibited',
  EINVAL: 'invalid argument',
  EPERM: 'not permitted',
};
