// One range of the host-local plugin: a subnet, the part of it that is given out, and its gateway. Source of the defaults
// and limits: range.go of containernetworking/plugins (IPv6 has no broadcast address to leave out).

import {
  addressAt,
  addressBits,
  addressCount,
  contains,
  formatIp,
  formatPrefix,
  type Ip,
  type IpFamily,
  indexIn,
  overlaps,
  type Prefix,
  parseAddress,
  parseAnyPrefix,
} from '../../packet/ip-address.ts';
import { RangeConfigError } from '../cni-error.ts';
import type { IsReserved } from '../cni-host.ts';

/** As in the configuration. */
export interface RangeConfig {
  readonly subnet: string;
  readonly rangeStart?: string;
  readonly rangeEnd?: string;
  readonly gateway?: string;
}

export class AddressRange {
  readonly subnet: Prefix;
  /** Numbers of the first and the last address in the subnet; in IPv6 exact up to 2^53. */
  readonly first: number;
  readonly last: number;
  readonly gateway: Ip;

  /** The gateway is by default the subnet's first address that is not reserved. Throws a CniError. */
  constructor(config: RangeConfig, isReserved: IsReserved = () => false) {
    const subnet = parse(() => parseAnyPrefix(config.subnet));
    const { family, length } = subnet;
    const [address = ''] = config.subnet.split('/');
    if (parse(() => parseAddress(address)).ip !== subnet.net)
      throw new RangeConfigError(
        `subnet ${config.subnet}: host bits set; the network address is ${formatIp(subnet.net, family)}`,
      );
    if (length > addressBits(family) - 2)
      throw new RangeConfigError(
        `subnet ${config.subnet}: too small to allocate from; expected a prefix length of at most ${addressBits(family) - 2}`,
      );
    this.subnet = subnet;
    const lastUsable = addressCount(subnet) - (family === 4 ? 2 : 1);
    this.first = this.#numberOf('rangeStart', config.rangeStart) ?? 1;
    this.last = this.#numberOf('rangeEnd', config.rangeEnd) ?? lastUsable;
    if (this.first > this.last)
      throw new RangeConfigError(
        `subnet ${config.subnet}: rangeStart ${config.rangeStart} is behind rangeEnd ${config.rangeEnd}`,
      );
    this.gateway = addressAt(
      subnet,
      this.#numberOf('gateway', config.gateway) ?? this.#firstFree(lastUsable, isReserved),
    );
  }

  get family(): IpFamily {
    return this.subnet.family;
  }

  /** The address of that number in the subnet. */
  at(number: number): Ip {
    return addressAt(this.subnet, number);
  }

  has(ip: Ip): boolean {
    if (!contains(this.subnet, ip)) return false;
    const number = indexIn(this.subnet, ip);
    return number >= this.first && number <= this.last;
  }

  numberOf(ip: Ip): number {
    return indexIn(this.subnet, ip);
  }

  overlaps(other: AddressRange): boolean {
    if (!overlaps(this.subnet, other.subnet)) return false;
    return (
      this.has(other.at(other.first)) ||
      this.has(other.at(other.last)) ||
      other.has(this.at(this.first)) ||
      other.has(this.at(this.last))
    );
  }

  /** `10.244.1.1-10.244.1.254` */
  toString(): string {
    const { family } = this;
    return `${formatIp(this.at(this.first), family)}-${formatIp(this.at(this.last), family)}`;
  }

  #firstFree(last: number, isReserved: IsReserved): number {
    let number = 1;
    while (number < last && isReserved({ family: this.family, ip: this.at(number) })) number++;
    return number;
  }

  #numberOf(option: 'rangeStart' | 'rangeEnd' | 'gateway', text: string | undefined): number | undefined {
    if (text === undefined) return undefined;
    const { family, ip } = parse(() => parseAddress(text));
    if (family !== this.family || !contains(this.subnet, ip))
      throw new RangeConfigError(`${option} not in subnet: ${text} in ${formatPrefix(this.subnet)}`);
    return indexIn(this.subnet, ip);
  }
}

function parse<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof RangeError ? new RangeConfigError(error.message) : error;
  }
}
