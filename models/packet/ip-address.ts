// IP addresses and prefixes as int32. ipaddr.js parses and prints at the edge; no packet loop comes here.
//
// An IPv4 address is its signed 32-bit value (`| 0`): JavaScript's `&` yields signed results, and signed 32-bit values
// stay small integers in V8. An IPv6 address is the handle of an interned 128-bit value (ipv6-address.ts), so that
// comparing, hashing into tables and tracking connections work alike in both families. The family stands beside the
// address: in the frame, the prefix, the table.

import ipaddr from 'ipaddr.js';
import { addToIpv6, internIpv6, ipv6SharesPrefix, ipv6Word, joinIpv6, maskIpv6 } from './ipv6-address.ts';
import type { Mac } from './mac.ts';

export type IpFamily = 4 | 6;

declare const ipBrand: unique symbol;
/** An IPv4 address as a signed int32, or the handle of an IPv6 address. */
export type Ip = number & { readonly [ipBrand]: true };

/** 0.0.0.0 and `::`: "no address" in hot records, and the wildcard of a socket. */
export const ANY_IP = 0 as Ip;
export const LOOPBACK_IP = 0x7f000001 as Ip;
export const LIMITED_BROADCAST_IP = -1 as Ip;
/** ::1 */
export const LOOPBACK_IPV6 = internIpv6(0, 0, 0, 1);

/** An address that says its family. */
export interface IpAddress {
  readonly family: IpFamily;
  readonly ip: Ip;
}

/** Reads dotted-quad IPv4. Throws a RangeError that quotes the text. */
export function parseIp(text: string): Ip {
  const ip = readIpv4(text);
  if (ip !== undefined) return ip;
  if (!isIpv4(text)) throw new RangeError(`IP address "${text}"; expected four decimal parts`);
  return ipOfBytes(ipaddr.IPv4.parse(text).octets, 0);
}

/** {@link parseIp} by hand, for texts with hundreds of thousands of addresses; undefined for what is none. */
export function readIpv4(text: string): Ip | undefined {
  let ip = 0;
  let part = -1; // none read yet
  let dots = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === DOT) {
      if (part < 0 || ++dots > 3) return undefined;
      ip = (ip << 8) | part;
      part = -1;
    } else {
      const digit = code - ZERO;
      if (digit < 0 || digit > 9 || part === 0) return undefined; // a leading zero would mean octal
      part = part < 0 ? digit : 10 * part + digit;
      if (part > 255) return undefined;
    }
  }
  return dots === 3 && part >= 0 ? (((ip << 8) | part) as Ip) : undefined;
}

const DOT = 0x2e;
const ZERO = 0x30;

/** Reads IPv6 in any of its notations, without a zone. Throws a RangeError that quotes the text. */
export function parseIpv6(text: string): Ip {
  if (!isIpv6(text)) throw new RangeError(`IPv6 address "${text}"; expected up to eight hexadecimal parts`);
  return ipv6OfBytes(ipaddr.IPv6.parse(withoutDots(text)).toByteArray(), 0);
}

/** `::1.2.3.4` as `::102:304`: the library would read it as `::ffff:1.2.3.4`. */
function withoutDots(text: string): string {
  const [, head, dotted] = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text) ?? [];
  if (head === undefined || dotted === undefined) return text;
  const ip = parseIp(dotted);
  return `${head}${(ip >>> 16).toString(16)}:${(ip & 0xffff).toString(16)}`;
}

/** Reads an address of either family. */
export const parseAddress = (text: string): IpAddress =>
  text.includes(':') ? { family: 6, ip: parseIpv6(text) } : { family: 4, ip: parseIp(text) };

export const isIpv4 = (text: string): boolean =>
  readIpv4(text) !== undefined || ipaddr.IPv4.isValidFourPartDecimal(text);

export const isIpv6 = (text: string): boolean => ipaddr.IPv6.isValid(text) && !text.includes('%');

/** The IPv4 address in four bytes of network order. */
export const ipOfBytes = (bytes: ArrayLike<number>, offset: number): Ip => wordOfBytes(bytes, offset) as Ip;

/** The IPv6 address in sixteen bytes. */
export const ipv6OfBytes = (bytes: ArrayLike<number>, offset: number): Ip =>
  internIpv6(
    wordOfBytes(bytes, offset),
    wordOfBytes(bytes, offset + 4),
    wordOfBytes(bytes, offset + 8),
    wordOfBytes(bytes, offset + 12),
  );

const wordOfBytes = (bytes: ArrayLike<number>, offset: number): number =>
  (bytes[offset]! << 24) | (bytes[offset + 1]! << 16) | (bytes[offset + 2]! << 8) | bytes[offset + 3]!;

/** `10.244.1.5`, or IPv6 in the canonical form of RFC 5952. */
export const formatIp = (ip: Ip, family: IpFamily = 4): string =>
  family === 6 ? formatIpv6(ip) : [ip >>> 24, (ip >>> 16) & 255, (ip >>> 8) & 255, ip & 255].join('.');

/** As inet_ntop: an IPv4 address that is mapped or compatible is dotted. */
function formatIpv6(ip: Ip): string {
  if (ipv6Word(ip, 0) === 0 && ipv6Word(ip, 1) === 0) {
    const last = ipv6Word(ip, 3) as Ip;
    if (ipv6Word(ip, 2) === 0xffff) return `::ffff:${formatIp(last)}`;
    if (ipv6Word(ip, 2) === 0 && last >>> 16 !== 0) return `::${formatIp(last)}`;
  }
  const parts: number[] = [];
  for (const word of [0, 1, 2, 3] as const) parts.push(ipv6Word(ip, word) >>> 16, ipv6Word(ip, word) & 0xffff);
  return new ipaddr.IPv6(parts).toRFC5952String();
}

/** `10.244.1.5:8080`, `[fd00::5]:8080`. */
export const formatSocketAddress = (ip: Ip, port: number, family: IpFamily = 4): string =>
  family === 6 ? `[${formatIp(ip, 6)}]:${port}` : `${formatIp(ip)}:${port}`;

/** A network: `net` has no bits outside the first `length`. */
export interface Prefix {
  readonly family: IpFamily;
  readonly net: Ip;
  /**
   * `(ip & mask) === net` for addresses in the network. In IPv6 only for the lengths 0 and 128, because handles have no
   * bits to mask; for others ask {@link contains}.
   */
  readonly mask: number;
  readonly length: number;
}

export const ANY_PREFIX: Prefix = { family: 4, net: ANY_IP, mask: 0, length: 0 };
export const ANY_IPV6_PREFIX: Prefix = { family: 6, net: ANY_IP, mask: 0, length: 0 };

/** Of an IPv4 prefix. */
export const maskOf = (length: number): number => (length === 0 ? 0 : -1 << (32 - length));

/** Number of bits of an address. */
export const addressBits = (family: IpFamily): number => (family === 6 ? 128 : 32);

/** Pods of one node have most of their prefixes in common: some that were made lately are handed out again. */
const LATELY = new Array<Prefix | undefined>(2 ** 14).fill(undefined);

function sharedPrefix(net: Ip, length: number): Prefix {
  const at = Math.imul(net ^ length, 0x9e3779b1) >>> 18;
  const known = LATELY[at];
  if (known !== undefined && known.net === net && known.length === length) return known;
  const made: Prefix = { family: 4, net, mask: maskOf(length), length };
  LATELY[at] = made;
  return made;
}

export function prefix(ip: Ip, length: number, family: IpFamily = 4): Prefix {
  const bits = addressBits(family);
  if (!(length >= 0 && length <= bits)) {
    throw new RangeError(`prefix length ${length} of ${formatIp(ip, family)}; expected 0 to ${bits}`);
  }
  if (family === 4) return sharedPrefix((ip & maskOf(length)) as Ip, length);
  return { family, net: maskIpv6(ip, length), mask: length === 0 ? 0 : -1, length };
}

/** Reads `10.244.0.0/16`, or a lone address as a /32. Host bits are cleared, as iptables and `ip route` do. */
export function parsePrefix(text: string): Prefix {
  const [address = '', length = '32', ...rest] = text.split('/');
  if (rest.length > 0 || !/^\d{1,2}$/.test(length) || Number(length) > 32) {
    throw new RangeError(`prefix "${text}"; expected ADDRESS/LENGTH with a length of 0 to 32`);
  }
  return prefix(parseIp(address), Number(length));
}

/** Reads `fd00:10:244::/56`, or a lone address as a /128. */
export function parseIpv6Prefix(text: string): Prefix {
  const [address = '', length = '128', ...rest] = text.split('/');
  if (rest.length > 0 || !/^\d{1,3}$/.test(length) || Number(length) > 128) {
    throw new RangeError(`prefix "${text}"; expected ADDRESS/LENGTH with a length of 0 to 128`);
  }
  return prefix(parseIpv6(address), Number(length), 6);
}

/** Reads a prefix of either family. */
export const parseAnyPrefix = (text: string): Prefix =>
  text.includes(':') ? parseIpv6Prefix(text) : parsePrefix(text);

export const formatPrefix = ({ family, net, length }: Prefix): string => `${formatIp(net, family)}/${length}`;

/** Is the address, of the prefix's family, in the network? */
export const contains = ({ family, net, mask, length }: Prefix, ip: Ip): boolean =>
  family === 4 ? (ip & mask) === net : ipv6SharesPrefix(ip, net, length);

export const overlaps = (a: Prefix, b: Prefix): boolean => {
  if (a.family !== b.family) return false;
  const shorter = a.length < b.length ? a : b;
  return contains(shorter, (shorter === a ? b : a).net);
};

/** The same host in another network: the network's bits, and the address's after them. */
export function withNetwork(ip: Ip, { family, net, mask, length }: Prefix): Ip {
  return family === 4 ? ((net | (ip & ~mask)) as Ip) : joinIpv6(net, ip, length);
}

/** Number of addresses in the prefix, network and broadcast address included. */
export const addressCount = ({ family, length }: Prefix): number => 2 ** (addressBits(family) - length);

/** The `index`-th address of the prefix. */
export const addressAt = ({ family, net }: Prefix, index: number): Ip =>
  family === 4 ? (((net + index) | 0) as Ip) : addToIpv6(net, index);

/** Which address of the prefix this is; {@link addressAt} the other way round. In IPv6 exact up to 2^53. */
export function indexIn({ family, net }: Prefix, ip: Ip): number {
  if (family === 4) return (ip - net) >>> 0;
  const word = (index: 0 | 1 | 2 | 3): number => (ipv6Word(ip, index) >>> 0) - (ipv6Word(net, index) >>> 0);
  return ((word(0) * 2 ** 32 + word(1)) * 2 ** 32 + word(2)) * 2 ** 32 + word(3);
}

/** Of an IPv4 prefix; IPv6 has no broadcast. */
export const broadcastOf = ({ net, mask }: Prefix): Ip => (net | ~mask) as Ip;

export const isMulticast = (ip: Ip): boolean => ip >>> 28 === 0xe;
export const isLoopback = (ip: Ip): boolean => ip >>> 24 === 127;

/** ff00::/8 */
export const isIpv6Multicast = (ip: Ip): boolean => ipv6Word(ip, 0) >>> 24 === 0xff;
/** fe80::/10 */
export const isIpv6LinkLocal = (ip: Ip): boolean => ipv6Word(ip, 0) >>> 22 === 0xfe80 >>> 6;

/** ff02::1, every node of a link. */
export const ALL_NODES_IPV6 = internIpv6(0xff02_0000, 0, 0, 1);
/** ff02::2, every router of a link. */
export const ALL_ROUTERS_IPV6 = internIpv6(0xff02_0000, 0, 0, 2);

/** ff02::1:ffXX:XXXX, the group in which an address is asked for (RFC 4291 2.7.1). */
export const solicitedNodeGroup = (ip: Ip): Ip =>
  internIpv6(0xff02_0000, 0, 1, 0xff00_0000 | (ipv6Word(ip, 3) & 0x00ff_ffff));

/** The link-local address of a device: EUI-64 of its MAC (RFC 4291, appendix A; addr_gen_mode 0). */
export function linkLocalOf(mac: Mac): Ip {
  const upper = Math.floor(mac / 2 ** 24) ^ 0x02_00_00; // the universal/local bit is inverted
  const lower = mac % 2 ** 24;
  return internIpv6(0xfe80_0000, 0, (upper << 8) | 0xff, 0xfe00_0000 | lower);
}

/** 33:33 and the last 32 bits of the group (RFC 2464 7). */
export const multicastMacOf = (group: Ip): Mac => (0x3333_0000_0000 + (ipv6Word(group, 3) >>> 0)) as Mac;
