// What IPv6 knows of one device (inet6_dev): its addresses, the groups it listens to, and what link-local destinations
// mean on its link.

import type { NetDevice } from '../link/net-device.ts';
import {
  ALL_NODES_IPV6,
  ALL_ROUTERS_IPV6,
  ANY_IP,
  type Ip,
  isIpv6LinkLocal,
  linkLocalOf,
  parseIpv6Prefix,
  prefix,
  solicitedNodeGroup,
} from '../packet/ip-address.ts';
import { Route } from './fib.ts';
import type { Ipv6Address } from './ipv6-source-address.ts';

export class Ipv6Interface {
  readonly device: NetDevice;
  /** By scope, global ones first, and the newest of a scope first (ipv6_link_dev_addr). */
  readonly addresses: Ipv6Address[] = [];
  readonly #onLink: Route;
  readonly #own: Route;

  constructor(device: NetDevice, { hasLinkLocal }: { hasLinkLocal: boolean }) {
    this.device = device;
    const common = { device, destination: LINK_LOCAL, gateway: ANY_IP, source: ANY_IP, metric: 256 };
    this.#onLink = new Route({ ...common, type: 'unicast' });
    this.#own = new Route({ ...common, type: 'local', metric: 0 });
    if (!hasLinkLocal) return;
    const ip = linkLocalOf(device.mac);
    this.addAddress({ device, ip, subnet: prefix(ip, 64, 6) });
  }

  addAddress(address: Ipv6Address): void {
    const isGlobal = !isIpv6LinkLocal(address.ip);
    const at = isGlobal ? 0 : this.addresses.findIndex(({ ip }) => isIpv6LinkLocal(ip));
    this.addresses.splice(at < 0 ? this.addresses.length : at, 0, address);
  }

  has(ip: Ip): boolean {
    return this.addresses.some((address) => address.ip === ip);
  }

  /** Of a link-local destination. */
  routeTo(ip: Ip): Route {
    return this.has(ip) ? this.#own : this.#onLink;
  }

  /** All nodes, all routers where this is one, and the groups in which its addresses are asked for. */
  isMember(group: Ip, isRouter: boolean): boolean {
    if (group === ALL_NODES_IPV6 || (isRouter && group === ALL_ROUTERS_IPV6)) return true;
    for (const { ip, subnet } of this.addresses) {
      if (solicitedNodeGroup(ip) === group) return true;
      if (isRouter && solicitedNodeGroup(subnet.net) === group) return true;
    }
    return false;
  }
}

const LINK_LOCAL = parseIpv6Prefix('fe80::/64');
