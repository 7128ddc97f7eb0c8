// `ip addr add` and `ip route add` for either IP family, as network plugins and administrators call them. A namespace has
// IPv6 from the first address of it on.

import type { Ipv6Stack } from '../ip/ipv6-stack.ts';
import type { IpStack } from '../ip/stack.ts';
import type { NetDevice } from '../link/net-device.ts';
import { ANY_IPV6_PREFIX, ANY_PREFIX, type IpAddress, type IpFamily } from '../packet/ip-address.ts';
import type { NetworkNamespace } from './network-namespace.ts';

/** The half of the namespace's stack that has a family's addresses and routes. */
export const stackOf = ({ stack }: NetworkNamespace, family: IpFamily): IpStack | Ipv6Stack =>
  family === 6 ? stack.enableIpv6() : stack;

/** `ip addr add IP/LENGTH dev DEVICE`. */
export function addAddress(
  namespace: NetworkNamespace,
  device: NetDevice,
  { family, ip, length }: IpAddress & { readonly length: number },
): void {
  stackOf(namespace, family).addAddress(device, ip, length);
}

/** `ip route add default via GATEWAY dev DEVICE`. */
export function addDefaultRoute(namespace: NetworkNamespace, device: NetDevice, { family, ip }: IpAddress): void {
  const destination = family === 6 ? ANY_IPV6_PREFIX : ANY_PREFIX;
  stackOf(namespace, family).addRoute({ destination, device, gateway: ip });
}
