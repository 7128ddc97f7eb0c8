// What an ICMP error tells a socket: the kernel's icmp_err_convert[], by code of "destination unreachable".

import { ICMP_DEST_UNREACHABLE } from '../packet/icmp.ts';

/** As errno: ECONNREFUSED (also ENOPROTOOPT), or one of the kinds of unreachable (EHOSTUNREACH, ENETUNREACH, ...). */
export type IcmpError = 'refused' | 'unreachable';

/** Port and protocol unreachable say that the host is there; everything else that the way to it is not. */
export const icmpErrorOf = (type: number, code: number): IcmpError =>
  type === ICMP_DEST_UNREACHABLE && (code === 2 || code === 3) ? 'refused' : 'unreachable';

/**
 * Errors that a connected UDP socket without IP_RECVERR reports. Network and host unreachable (0, 1), source route
 * failed (5), the two of type of service (11, 12) and time exceeded may pass, and are kept from it.
 */
export const isHardError = (type: number, code: number): boolean =>
  type === ICMP_DEST_UNREACHABLE && code !== 0 && code !== 1 && code !== 4 && code !== 5 && code !== 11 && code !== 12;
