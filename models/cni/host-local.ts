// The host-local IPAM plugin: addresses of one node's range, in turn. The next address is the one after the last that
// was handed out, so an address comes back only after the whole range has been used: a restarted pod gets a new one.
//
// Source of the order: allocator.go of containernetworking/plugins ("last reserved IP + 1", gateway skipped, wraps).

import {
  addressAt,
  addressCount,
  contains,
  formatIp,
  formatPrefix,
  type Ip,
  type Prefix,
  prefix,
} from '../packet/ip-address.ts';
import type { Ipam, IpamLease } from './plugin.ts';

export class AddressError extends Error {
  override readonly name = 'AddressError';
}

export class HostLocal implements Ipam {
  readonly type = 'host-local';
  readonly #subnet: Prefix;
  readonly #gateway: Ip;
  readonly #isReserved: (ip: Ip) => boolean;
  readonly #byContainer = new Map<string, Ip>();
  readonly #taken = new Set<Ip>();
  #last = 1; // index in the range of the last reserved address; starts at the gateway

  /**
   * The gateway is the first usable address of the range. Neither it nor a container that asks for no address gets one
   * that is reserved: those are for containers that will ask.
   */
  constructor(subnet: Prefix, isReserved: (ip: Ip) => boolean = () => false) {
    if (subnet.length > 30)
      throw new AddressError(`pod range ${formatPrefix(subnet)}: expected a prefix length of at most 30`);
    this.#subnet = subnet;
    this.#isReserved = isReserved;
    while (this.#last < addressCount(subnet) - 2 && isReserved(addressAt(subnet, this.#last))) this.#last++;
    this.#gateway = addressAt(subnet, this.#last);
  }

  get gateway(): Ip {
    return this.#gateway;
  }

  /**
   * Throws an AddressError when the range is used up, or the requested address is taken. A requested address outside the
   * range (a pod of a snapshot whose network does not cut the pod range by nodes) stands alone, as a /32.
   */
  allocate(containerId: string, requestedIp?: Ip): IpamLease {
    const held = this.#byContainer.get(containerId);
    if (held !== undefined) throw new AddressError(`${containerId} holds ${formatIp(held)} already`);
    const ip = requestedIp === undefined ? this.#next() : this.#claim(requestedIp);
    this.#taken.add(ip);
    this.#byContainer.set(containerId, ip);
    const subnet = contains(this.#subnet, ip) ? this.#subnet : prefix(ip, 32);
    return { ip, subnet, gateway: this.#gateway };
  }

  release(containerId: string): void {
    const ip = this.#byContainer.get(containerId);
    if (ip === undefined) return;
    this.#byContainer.delete(containerId);
    this.#taken.delete(ip);
  }

  #next(): Ip {
    const usable = addressCount(this.#subnet) - 2; // without network and broadcast address
    for (let step = 1; step <= usable; step++) {
      const index = ((this.#last - 1 + step) % usable) + 1;
      const ip = addressAt(this.#subnet, index);
      if (ip === this.#gateway || this.#taken.has(ip) || this.#isReserved(ip)) continue;
      this.#last = index;
      return ip;
    }
    throw new AddressError(
      `no IP addresses available in range ${formatPrefix(this.#subnet)}: all ${usable - 1} are in use`,
    );
  }

  #claim(ip: Ip): Ip {
    if (ip === this.#gateway) throw new AddressError(`${formatIp(ip)} is the gateway of ${formatPrefix(this.#subnet)}`);
    if (this.#taken.has(ip)) throw new AddressError(`${formatIp(ip)} is in use`);
    return ip;
  }
}
