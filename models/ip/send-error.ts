// What sending fails with, before a packet has left its host.

import type { Route } from './fib.ts';

/** Why a local sender could not send, as errno names it. */
export type SendError = 'ENETUNREACH' | 'EHOSTUNREACH' | 'EACCES' | 'EINVAL' | 'EPERM';

/** By the type of the route (fib_props, ip6_rt_type_to_error); undefined for one that leads somewhere. */
export function errorByRoute(route: Route | undefined): SendError | undefined {
  switch (route?.type) {
    case undefined:
      return 'ENETUNREACH';
    case 'unreachable':
      return 'EHOSTUNREACH';
    case 'prohibit':
      return 'EACCES';
    case 'blackhole':
      return 'EINVAL';
    default:
      return undefined;
  }
}
