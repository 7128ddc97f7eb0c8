// IP addresses and prefixes as int32. ipaddr.js parses and prints at the edge; no packet loop comes here.
//
// An IPv4 address is its signed 32-bit value (`| 0`): JavaScript's `&` yields signed results, and signed 32-bit values
// stay small integers in V8.

import ipaddr from 'ipaddr.js';

export type IpFamily = 4 | 6;

declare const ipBrand: unique symbol;
/** An IPv4 address as a signed int32. */
export type Ip = number & { readonly [ipBrand]: true };

/** 0.0.0.0: "no address" in hot records, and the wildcard of a socket. */
export const ANY_IP = 0 as Ip;
export const LOOPBACK_IP = 0x7f000001 as Ip;
export const LIMITED_BROADCAST_IP = -1 as Ip;

/** Reads dotted-quad IPv4. Throws a RangeError that quotes the text. */
export function parseIp(text: string): Ip {
  if (!ipaddr.IPv4.isValidFourPartDecimal(text))
    throw new RangeError(`IP address "${text}"; expected four decimal parts`);
  const [a, b, c, d] = ipaddr.IPv4.parse(text).octets as [number, number, number, number];
  return ((a << 24) | (b << 16) | (c << 8) | d) as Ip;
}

export function isIpv4(text: string): boolean {
  return ipaddr.IPv4.isValidFourPartDecimal(text);
}

export function isIpv6(text: string): boolean {
  return ipaddr.IPv6.isValid(text);
}

export const formatIp = (ip: Ip): string => `${ip >>> 24}.${(ip >>> 16) & 255}.${(ip >>> 8) & 255}.${ip & 255}`;

/** A network: `net` has no bits outside `mask`. */
export interface Prefix {
  readonly net: Ip;
  readonly mask: number;
  readonly length: number;
}

export const ANY_PREFIX: Prefix = { net: ANY_IP, mask: 0, length: 0 };

export const maskOf = (length: number): number => (length === 0 ? 0 : -1 << (32 - length));

export function prefix(ip: Ip, length: number): Prefix {
  if (!(length >= 0 && length <= 32))
    throw new RangeError(`prefix length ${length} of ${formatIp(ip)}; expected 0 to 32`);
  return { net: (ip & maskOf(length)) as Ip, mask: maskOf(length), length };
}

/** Reads `10.244.0.0/16`, or a lone address as a /32. Host bits are cleared, as iptables and `ip route` do. */
export function parsePrefix(text: string): Prefix {
  const [address = '', length = '32', ...rest] = text.split('/');
  if (rest.length > 0 || !/^\d{1,2}$/.test(length) || Number(length) > 32) {
    throw new RangeError(`prefix "${text}"; expected ADDRESS/LENGTH with a length of 0 to 32`);
  }
  return prefix(parseIp(address), Number(length));
}

export const formatPrefix = ({ net, length }: Prefix): string => `${formatIp(net)}/${length}`;

export const contains = ({ net, mask }: Prefix, ip: Ip): boolean => (ip & mask) === net;

export const overlaps = (a: Prefix, b: Prefix): boolean => {
  const mask = a.length < b.length ? a.mask : b.mask;
  return (a.net & mask) === (b.net & mask);
};

/** Number of addresses in the prefix, network and broadcast address included. */
export const addressCount = ({ length }: Prefix): number => 2 ** (32 - length);

/** The `index`-th address of the prefix. */
export const addressAt = ({ net }: Prefix, index: number): Ip => ((net + index) | 0) as Ip;

export const broadcastOf = ({ net, mask }: Prefix): Ip => (net | ~mask) as Ip;

export const isMulticast = (ip: Ip): boolean => ip >>> 28 === 0xe;
export const isLoopback = (ip: Ip): boolean => ip >>> 24 === 127;
