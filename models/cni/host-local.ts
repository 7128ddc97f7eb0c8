// The host-local IPAM plugin: addresses of one node's ranges, in turn. The next address of a range is the one after the
// last that was handed out, so an address comes back only after the whole range has been used: a restarted pod gets a new
// one. A container gets one of each range: in a dual-stack cluster there is one of each family.
//
// Source of the order: allocator.go of containernetworking/plugins ("last reserved IP + 1", gateway skipped, wraps), and
// of the limits range.go (IPv6 has no broadcast address to leave out).

import {
  addressAt,
  addressBits,
  addressCount,
  contains,
  formatIp,
  formatPrefix,
  type Ip,
  type IpAddress,
  type IpFamily,
  type Prefix,
  prefix,
} from '../packet/ip-address.ts';
import type { Ipam, IpamLease } from './plugin.ts';

export class AddressError extends Error {
  override readonly name = 'AddressError';
}

/** Says of addresses that containers will ask for that they are. */
export type IsReserved = (address: IpAddress) => boolean;

export class HostLocal implements Ipam {
  readonly type = 'host-local';
  readonly #ranges: readonly RangeAllocator[];

  /**
   * The gateway is the first usable address of a range. Neither it nor a container that asks for no address gets one
   * that is reserved: those are for containers that will ask.
   */
  constructor(subnets: readonly Prefix[], isReserved: IsReserved = () => false) {
    this.#ranges = subnets.map((subnet) => new RangeAllocator(subnet, isReserved));
  }

  get gateways(): readonly IpamLease[] {
    return this.#ranges.map((range) => range.leaseOf(range.gateway));
  }

  /**
   * Throws an AddressError when a range is used up, or a requested address is taken. A requested address outside the
   * range (a pod of a snapshot whose network does not cut the pod range by nodes) stands alone, as a /32 or /128.
   */
  allocate(containerId: string, requestedIps: readonly IpAddress[] = []): readonly IpamLease[] {
    for (const range of this.#ranges) range.checkHoldsNone(containerId);
    try {
      return this.#ranges.map((range) =>
        range.allocate(containerId, requestedIps.find(({ family }) => family === range.family)?.ip),
      );
    } catch (error) {
      this.release(containerId);
      throw error;
    }
  }

  release(containerId: string): void {
    for (const range of this.#ranges) range.release(containerId);
  }
}

/** One range. */
class RangeAllocator {
  readonly #subnet: Prefix;
  readonly #gateway: Ip;
  readonly #isReserved: IsReserved;
  readonly #byContainer = new Map<string, Ip>();
  readonly #taken = new Set<Ip>();
  /** Of addresses that a host may have: without the network's own, and the broadcast address of IPv4. */
  readonly #usable: number;
  #last = 1; // index in the range of the last reserved address; starts at the gateway

  constructor(subnet: Prefix, isReserved: IsReserved) {
    const { family, length } = subnet;
    const longest = addressBits(family) - 2;
    if (length > longest)
      throw new AddressError(`pod range ${formatPrefix(subnet)}: expected a prefix length of at most ${longest}`);
    this.#subnet = subnet;
    this.#isReserved = isReserved;
    this.#usable = addressCount(subnet) - (family === 4 ? 2 : 1);
    while (this.#last < this.#usable && isReserved({ family, ip: addressAt(subnet, this.#last) })) this.#last++;
    this.#gateway = addressAt(subnet, this.#last);
  }

  get family(): IpFamily {
    return this.#subnet.family;
  }

  get gateway(): Ip {
    return this.#gateway;
  }

  allocate(containerId: string, requestedIp: Ip | undefined): IpamLease {
    const ip = requestedIp === undefined ? this.#next() : this.#claim(requestedIp);
    this.#taken.add(ip);
    this.#byContainer.set(containerId, ip);
    return this.leaseOf(ip);
  }

  leaseOf(ip: Ip): IpamLease {
    const { family } = this;
    const subnet = contains(this.#subnet, ip) ? this.#subnet : prefix(ip, addressBits(family), family);
    return { family, ip, subnet, gateway: this.#gateway };
  }

  checkHoldsNone(containerId: string): void {
    const held = this.#byContainer.get(containerId);
    if (held !== undefined) throw new AddressError(`${containerId} holds ${this.#text(held)} already`);
  }

  release(containerId: string): void {
    const ip = this.#byContainer.get(containerId);
    if (ip === undefined) return;
    this.#byContainer.delete(containerId);
    this.#taken.delete(ip);
  }

  #next(): Ip {
    const { family } = this;
    const usable = this.#usable;
    for (let step = 1; step <= usable; step++) {
      const index = ((this.#last - 1 + step) % usable) + 1;
      const ip = addressAt(this.#subnet, index);
      if (ip === this.#gateway || this.#taken.has(ip) || this.#isReserved({ family, ip })) continue;
      this.#last = index;
      return ip;
    }
    throw new AddressError(
      `no IP addresses available in range ${formatPrefix(this.#subnet)}: all ${usable - 1} are in use`,
    );
  }

  #claim(ip: Ip): Ip {
    if (ip === this.#gateway)
      throw new AddressError(`${this.#text(ip)} is the gateway of ${formatPrefix(this.#subnet)}`);
    if (this.#taken.has(ip)) throw new AddressError(`${this.#text(ip)} is in use`);
    return ip;
  }

  #text(ip: Ip): string {
    return formatIp(ip, this.family);
  }
}
