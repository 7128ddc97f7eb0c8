// The types of values in nftables: what a number means, how it is written and read, and in which order its bytes stand in
// a key. Values are numbers: int32 for addresses (IPv6 as handles), unsigned otherwise; names of devices are text.
//
// Not modelled: types that no modelled expression has (link layer addresses, labels, helpers, ...).

import { formatIp, isIpv4, isIpv6, maskOf, parseIp, parseIpv6 } from '../../packet/ip-address.ts';
import { ipv6Word } from '../../packet/ipv6-address.ts';

export type Value = number | string;

export interface Datatype {
  readonly name: string;
  readonly bytes: number;
  /** Keys of sets are compared as bytes in the host's order (little endian), numbers of protocols in the network's. */
  readonly isHostOrder: boolean;
  /** Elements per line when a set is listed. */
  readonly perLine: number;
  /** Ranges that are prefixes are written as such. */
  readonly hasPrefixes: boolean;
  /** A value is a set of bits: `new,established`. */
  readonly isBitmask: boolean;
  /** By name, in rising order of values. */
  readonly symbols: ReadonlyMap<string, number> | undefined;
  read(text: string): Value | undefined;
  print(value: Value): string;
}

interface TypeOptions {
  readonly bytes: number;
  readonly isHostOrder?: boolean;
  readonly perLine?: number;
  readonly hasPrefixes?: boolean;
  readonly isBitmask?: boolean;
  readonly symbols?: Readonly<Record<string, number>>;
  /** Read, never printed. */
  readonly aliases?: Readonly<Record<string, number>>;
  readonly read?: (text: string) => Value | undefined;
  readonly print?: (value: Value) => string;
}

function datatype(name: string, options: TypeOptions): Datatype {
  const { bytes, isHostOrder = false, perLine = 1, hasPrefixes = false, isBitmask = false, symbols = {} } = options;
  const byName = new Map([...Object.entries(symbols), ...Object.entries(options.aliases ?? {})]);
  const byValue = new Map(Object.entries(symbols).map(([symbol, value]) => [value, symbol]));
  const { read = (text: string) => readNumber(text, bytes), print = String } = options;
  return {
    name,
    bytes,
    isHostOrder,
    perLine,
    hasPrefixes,
    isBitmask,
    symbols: byName.size === 0 ? undefined : byName,
    read: (text) => byName.get(text) ?? read(text),
    print: (value) => (typeof value === 'number' ? byValue.get(value) : undefined) ?? print(value),
  };
}

function readNumber(text: string, bytes: number): number | undefined {
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
  return value < 256 ** bytes ? value : undefined;
}

const hex = (digits: number) => (value: Value) => `0x${(Number(value) >>> 0).toString(16).padStart(digits, '0')}`;

export const IPV4_ADDR = datatype('ipv4_addr', {
  bytes: 4,
  perLine: 2,
  hasPrefixes: true,
  read: (text) => (isIpv4(text) ? parseIp(text) : undefined),
  print: (value) => formatIp(Number(value) as ReturnType<typeof parseIp>),
});
export const IPV6_ADDR = datatype('ipv6_addr', {
  bytes: 16,
  hasPrefixes: true,
  read: (text) => (isIpv6(text) ? parseIpv6(text) : undefined),
  print: (value) => formatIp(Number(value) as ReturnType<typeof parseIp>, 6),
});
export const INET_PROTO = datatype('inet_proto', {
  bytes: 1,
  perLine: 5,
  symbols: {
    icmp: 1,
    igmp: 2,
    ipencap: 4,
    tcp: 6,
    udp: 17,
    dccp: 33,
    gre: 47,
    esp: 50,
    ah: 51,
    'ipv6-icmp': 58,
    ipcomp: 108,
    sctp: 132,
    udplite: 136,
  },
  aliases: { icmpv6: 58, comp: 108 },
});
export const INET_SERVICE = datatype('inet_service', {
  bytes: 2,
  perLine: 5,
  aliases: {
    ftp: 21,
    ssh: 22,
    smtp: 25,
    domain: 53,
    http: 80,
    ntp: 123,
    https: 443,
    bootps: 67,
    bootpc: 68,
    'http-alt': 8080,
  },
});
export const MARK = datatype('mark', { bytes: 4, isHostOrder: true, perLine: 5, hasPrefixes: true, print: hex(8) });
export const INTEGER = datatype('integer', { bytes: 4, isHostOrder: true, perLine: 5 });
/** The same, of a header field. */
export const NETWORK_INTEGER = datatype('integer', { bytes: 2, perLine: 5 });
export const BYTE = datatype('integer', { bytes: 1, perLine: 5 });
export const IFNAME = datatype('ifname', {
  bytes: 16,
  isHostOrder: true,
  read: (text) => (text.length < 16 && text !== '' ? text : undefined),
  print: (value) => `"${value}"`,
});
/** Devices by number, which nft writes by name. Not modelled: numbers in rules, other than 0, no device. */
export const IFACE_INDEX = datatype('iface_index', {
  bytes: 4,
  isHostOrder: true,
  perLine: 5,
  read: (text) => (text === '0' ? 0 : /^\d+$/.test(text) || text.length >= 16 || text === '' ? undefined : text),
  print: (value) => (typeof value === 'string' ? `"${value}"` : `${value}`),
});
export const CT_STATE = datatype('ct_state', {
  bytes: 4,
  isHostOrder: true,
  perLine: 2,
  isBitmask: true,
  symbols: { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 },
  print: hex(8),
});
export const CT_STATUS = datatype('ct_status', {
  bytes: 4,
  isHostOrder: true,
  perLine: 2,
  isBitmask: true,
  symbols: { expected: 1, 'seen-reply': 2, assured: 4, confirmed: 8, snat: 16, dnat: 32, dying: 512 },
  print: hex(8),
});
export const CT_DIR = datatype('ct_dir', { bytes: 1, perLine: 5, symbols: { original: 0, reply: 1 } });
export const TCP_FLAG = datatype('tcp_flag', {
  bytes: 1,
  perLine: 5,
  isBitmask: true,
  symbols: { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16, urg: 32, ecn: 64, cwr: 128 },
  print: hex(1),
});
export const ICMP_TYPE = datatype('icmp_type', {
  bytes: 1,
  symbols: {
    'echo-reply': 0,
    'destination-unreachable': 3,
    'source-quench': 4,
    redirect: 5,
    'echo-request': 8,
    'router-advertisement': 9,
    'router-solicitation': 10,
    'time-exceeded': 11,
    'parameter-problem': 12,
    'timestamp-request': 13,
    'timestamp-reply': 14,
    'info-request': 15,
    'info-reply': 16,
    'address-mask-request': 17,
    'address-mask-reply': 18,
  },
});
export const ICMP_CODE = datatype('icmp_code', {
  bytes: 1,
  symbols: {
    'net-unreachable': 0,
    'host-unreachable': 1,
    'prot-unreachable': 2,
    'port-unreachable': 3,
    'frag-needed': 4,
    'net-prohibited': 9,
    'host-prohibited': 10,
    'admin-prohibited': 13,
  },
});
export const ICMPV6_TYPE = datatype('icmpv6_type', {
  bytes: 1,
  symbols: {
    'destination-unreachable': 1,
    'packet-too-big': 2,
    'time-exceeded': 3,
    'parameter-problem': 4,
    'echo-request': 128,
    'echo-reply': 129,
    'mld-listener-query': 130,
    'mld-listener-report': 131,
    'mld-listener-done': 132,
    'nd-router-solicit': 133,
    'nd-router-advert': 134,
    'nd-neighbor-solicit': 135,
    'nd-neighbor-advert': 136,
    'nd-redirect': 137,
    'router-renumbering': 138,
    'ind-neighbor-solicit': 141,
    'ind-neighbor-advert': 142,
    'mld2-listener-report': 143,
  },
  aliases: { 'mld-listener-reduction': 132 },
});
export const ICMPV6_CODE = datatype('icmpv6_code', {
  bytes: 1,
  symbols: {
    'no-route': 0,
    'admin-prohibited': 1,
    'addr-unreachable': 3,
    'port-unreachable': 4,
    'policy-fail': 5,
    'reject-route': 6,
  },
});
export const ICMPX_CODE = datatype('icmpx_code', {
  bytes: 1,
  symbols: { 'no-route': 0, 'port-unreachable': 1, 'host-unreachable': 2, 'admin-prohibited': 3 },
});
export const FIB_ADDRTYPE = datatype('fib_addrtype', {
  bytes: 4,
  isHostOrder: true,
  symbols: {
    unspec: 0,
    unicast: 1,
    local: 2,
    broadcast: 3,
    anycast: 4,
    multicast: 5,
    blackhole: 6,
    unreachable: 7,
    prohibit: 8,
  },
});
export const NF_PROTO = datatype('nf_proto', { bytes: 1, perLine: 5, symbols: { ipv4: 2, ipv6: 10 } });
export const ETHER_TYPE = datatype('ether_type', {
  bytes: 2,
  symbols: { ip: 0x0800, arp: 0x0806, ip6: 0x86dd },
  print: hex(4),
});
export const PKT_TYPE = datatype('pkt_type', {
  bytes: 1,
  perLine: 2,
  symbols: { host: 0, broadcast: 1, multicast: 2, other: 3 },
  aliases: { unicast: 0 },
});
export const UID = datatype('uid', { bytes: 4, isHostOrder: true, perLine: 5, aliases: { root: 0 } });
export const DSCP = datatype('dscp', {
  bytes: 1,
  symbols: {
    cs0: 0,
    cs1: 8,
    af11: 10,
    af12: 12,
    af13: 14,
    cs2: 16,
    af21: 18,
    af22: 20,
    af23: 22,
    cs3: 24,
    af31: 26,
    af32: 28,
    af33: 30,
    cs4: 32,
    af41: 34,
    af42: 36,
    af43: 38,
    cs5: 40,
    ef: 46,
    cs6: 48,
    cs7: 56,
  },
  read: (text) => {
    const value = readNumber(text, 1);
    return value !== undefined && value < 64 ? value : undefined;
  },
  print: hex(2),
});
export const ECN = datatype('ecn', { bytes: 1, symbols: { 'not-ect': 0, ect1: 1, ect0: 2, ce: 3 } });
export const BOOLEAN = datatype('boolean', { bytes: 1, perLine: 5, symbols: { missing: 0, exists: 1 } });
/** In milliseconds; written `1h30m`. */
export const TIME = datatype('time', {
  bytes: 8,
  isHostOrder: true,
  read: (text) => readDuration(text),
  print: (value) => printDuration(Number(value)),
});

/** Types that sets can be declared with, by name. */
export const DATATYPES: ReadonlyMap<string, Datatype> = new Map(
  [
    IPV4_ADDR,
    IPV6_ADDR,
    INET_PROTO,
    INET_SERVICE,
    MARK,
    IFNAME,
    IFACE_INDEX,
    CT_STATE,
    CT_STATUS,
    CT_DIR,
    TCP_FLAG,
    ICMP_TYPE,
    ICMP_CODE,
    ICMPV6_TYPE,
    ICMPV6_CODE,
    FIB_ADDRTYPE,
    NF_PROTO,
    ETHER_TYPE,
    PKT_TYPE,
    UID,
    DSCP,
    ECN,
    BOOLEAN,
  ].map((type) => [type.name, type]),
);

// ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

const UNITS: readonly (readonly [unit: string, ms: number])[] = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1_000],
  ['ms', 1],
];

/** `3h`, `1h30m`, `500ms`; a number alone is seconds. In milliseconds. */
export function readDuration(text: string): number | undefined {
  if (/^\d+$/.test(text)) return Number(text) * 1_000;
  const parts = /^(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?$/.exec(text);
  if (text === '' || parts === null) return undefined;
  return UNITS.reduce((sum, [, ms], i) => sum + Number(parts[i + 1] ?? 0) * ms, 0);
}

export function printDuration(milliseconds: number): string {
  if (milliseconds === 0) return '0s';
  let rest = milliseconds;
  let text = '';
  for (const [unit, ms] of UNITS) {
    const count = Math.floor(rest / ms);
    if (count > 0) text += `${count}${unit}`;
    rest -= count * ms;
  }
  return text;
}

// ── order and ranges ─────────────────────────────────────────────────────────────────────────────────────────────────

/** The bytes of a value as they stand in a key. */
export function bytesOf(type: Datatype, value: Value): number[] {
  if (typeof value === 'string') return Array.from({ length: type.bytes }, (_, i) => value.charCodeAt(i) || 0);
  if (type === IPV6_ADDR) {
    return ([0, 1, 2, 3] as const).flatMap((word) => bigEndian(ipv6Word(value as ReturnType<typeof parseIp>, word), 4));
  }
  const bytes = bigEndian(value, type.bytes);
  return type.isHostOrder ? bytes.reverse() : bytes;
}

const bigEndian = (value: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => (i < count - 4 ? 0 : (value >>> (8 * (count - 1 - i))) & 255));

/** Ascending as numbers: addresses from 0.0.0.0, texts letter by letter. */
export function compareValues(type: Datatype, a: Value, b: Value): number {
  if (a === b) return 0;
  if (type !== IPV6_ADDR && typeof a === 'number' && typeof b === 'number') {
    return type === IPV4_ADDR || type === MARK ? (a >>> 0) - (b >>> 0) : a - b;
  }
  const left = bytesOf(type, a);
  const right = bytesOf(type, b);
  const at = left.findIndex((byte, i) => byte !== right[i]);
  return at === -1 ? 0 : left[at]! - right[at]!;
}

/** Length of the prefix that the range is, if it is one. */
export function prefixLengthOf(type: Datatype, first: Value, last: Value): number | undefined {
  if (!type.hasPrefixes || typeof first === 'string' || typeof last === 'string') return undefined;
  const bits = 8 * type.bytes;
  const low = bytesOf(type, first);
  const high = bytesOf(type, last);
  if (type.isHostOrder) {
    low.reverse();
    high.reverse();
  }
  const differing = low.map((byte, i) => byte ^ high[i]!);
  const at = differing.findIndex((byte) => byte !== 0);
  if (at === -1) return bits;
  const length = 8 * at + Math.clz32(differing[at]!) - 24;
  const isWhole = low.every((byte, i) => {
    const hostBits = Math.min(8, Math.max(0, 8 * (i + 1) - length));
    const host = (1 << hostBits) - 1;
    return (byte & host) === 0 && (high[i]! & host) === host;
  });
  return isWhole ? length : undefined;
}

/** The last value of the 32-bit prefix that begins with `first`. */
export const lastOfPrefix = (first: number, length: number): number => first | ~maskOf(length) | 0;
