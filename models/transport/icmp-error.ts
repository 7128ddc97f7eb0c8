// What an ICMP error tells a socket: the kernel's icmp_err_convert[], by code of "destination unreachable", and in IPv6
// icmpv6_err_convert().

import { ICMP_DEST_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED } from '../packet/icmp.ts';
import {
  ICMPV6_ADDRESS_UNREACHABLE,
  ICMPV6_BEYOND_SCOPE,
  ICMPV6_DEST_UNREACHABLE,
  ICMPV6_NO_ROUTE,
  ICMPV6_PACKET_TOO_BIG,
  ICMPV6_PARAMETER_PROBLEM,
  ICMPV6_PORT_UNREACHABLE,
} from '../packet/icmpv6.ts';
import type { IpFamily } from '../packet/ip-address.ts';

/** As errno: ECONNREFUSED (also ENOPROTOOPT), or one of the kinds of unreachable (EHOSTUNREACH, EACCES, ...). */
export type IcmpError = 'refused' | 'unreachable';

/** Port and protocol unreachable say that the host is there; everything else that the way to it is not. */
export function icmpErrorOf(type: number, code: number, family: IpFamily): IcmpError {
  const isRefused =
    family === 6
      ? type === ICMPV6_DEST_UNREACHABLE && code === ICMPV6_PORT_UNREACHABLE
      : type === ICMP_DEST_UNREACHABLE && (code === 2 || code === 3);
  return isRefused ? 'refused' : 'unreachable';
}

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
