// Which connections a command means: the options that `conntrack -L` and `-D` take, as data and as text.

import { contains, type IpFamily, type Prefix, parseAnyPrefix } from '../packet/ip-address.ts';
import type { ConnectionTuple } from './connection-tuple.ts';
import { zoneNumberOf } from './connection-zone.ts';
import type { ConntrackEntry } from './conntrack.ts';
import { TCP_STATES, type TcpState } from './conntrack-tcp.ts';
import { PROTOCOL_NUMBERS } from './protocol.ts';

/** What is absent does not matter. */
export interface ConntrackFilter {
  readonly family?: IpFamily;
  readonly protocol?: number;
  readonly original?: TupleFilter;
  readonly reply?: TupleFilter;
  readonly mark?: { readonly value: number; readonly mask: number };
  readonly zone?: number;
  readonly state?: TcpState;
  readonly assured?: boolean;
  readonly seenReply?: boolean;
  /** Source NAT, destination NAT, or one of them: at all, or to this network. */
  readonly srcNat?: Prefix | 'any';
  readonly dstNat?: Prefix | 'any';
  readonly anyNat?: Prefix | 'any';
}

export interface TupleFilter {
  readonly src?: Prefix;
  readonly dst?: Prefix;
  readonly srcPort?: number;
  readonly dstPort?: number;
}

export function matchesFilter(entry: ConntrackEntry, filter: ConntrackFilter): boolean {
  const { original, reply } = entry;
  const { family, protocol, mark, zone, state, assured, seenReply, srcNat, dstNat, anyNat } = filter;
  return (
    (family === undefined || original.family === family) &&
    (protocol === undefined || original.protocol === protocol) &&
    matchesTuple(original, filter.original) &&
    matchesTuple(reply, filter.reply) &&
    (mark === undefined || (entry.mark & mark.mask) === (mark.value | 0)) &&
    (zone === undefined || zoneNumberOf(entry.zone) === zone) &&
    (state === undefined || entry.tcpState === state) &&
    (assured === undefined || entry.assured === assured) &&
    (seenReply === undefined || entry.seenReply === seenReply) &&
    (srcNat === undefined || hasSourceAt(entry, srcNat)) &&
    (dstNat === undefined || hasDestinationAt(entry, dstNat)) &&
    (anyNat === undefined || hasSourceAt(entry, anyNat) || hasDestinationAt(entry, anyNat))
  );
}

const hasSourceAt = ({ srcNat, reply }: ConntrackEntry, to: Prefix | 'any'): boolean =>
  srcNat && (to === 'any' || hasDestination(reply, to));

const hasDestinationAt = ({ dstNat, reply }: ConntrackEntry, to: Prefix | 'any'): boolean =>
  dstNat && (to === 'any' || hasSource(reply, to));

function matchesTuple(tuple: ConnectionTuple, { src, dst, srcPort, dstPort }: TupleFilter = {}): boolean {
  return (
    (src === undefined || hasSource(tuple, src)) &&
    (dst === undefined || hasDestination(tuple, dst)) &&
    (srcPort === undefined || tuple.srcPort === srcPort) &&
    (dstPort === undefined || tuple.dstPort === dstPort)
  );
}

const hasSource = ({ family, srcIp }: ConnectionTuple, prefix: Prefix): boolean =>
  family === prefix.family && contains(prefix, srcIp);

const hasDestination = ({ family, dstIp }: ConnectionTuple, prefix: Prefix): boolean =>
  family === prefix.family && contains(prefix, dstIp);

/**
 * Reads `-p udp --orig-dst 10.96.0.10 --dport 53`. Throws a RangeError that names the option and what was expected.
 */
export function parseConntrackFilter(text: string): ConntrackFilter {
  const words = text.split(/\s+/).filter((word) => word !== '');
  let filter: ConntrackFilter = {};
  for (let at = 0; at < words.length; ) {
    const option = words[at++]!;
    const read = OPTIONS[option];
    if (read === undefined) {
      throw new RangeError(`option "${option}" of conntrack; expected one of ${Object.keys(OPTIONS).join(' ')}`);
    }
    const next = words[at];
    const hasValue = next !== undefined && (!next.startsWith('-') || next.length === 1);
    filter = merge(filter, read(hasValue ? next : undefined, option));
    if (hasValue) at++;
  }
  return filter;
}

const merge = (a: ConntrackFilter, b: ConntrackFilter): ConntrackFilter => ({
  ...a,
  ...b,
  ...((a.original ?? b.original) && { original: { ...a.original, ...b.original } }),
  ...((a.reply ?? b.reply) && { reply: { ...a.reply, ...b.reply } }),
});

type Reader = (value: string | undefined, option: string) => ConntrackFilter;

/** An option under its names. */
const named = (names: string, read: Reader): Record<string, Reader> =>
  Object.fromEntries(names.split(' ').map((name) => [name, read]));

const OPTIONS: Readonly<Record<string, Reader>> = {
  ...named('-p --proto', (value, option) => ({ protocol: readProtocol(value, option) })),
  ...named('-s --orig-src --src', (value, option) => ({ original: { src: readPrefix(value, option) } })),
  ...named('-d --orig-dst --dst', (value, option) => ({ original: { dst: readPrefix(value, option) } })),
  ...named('-r --reply-src', (value, option) => ({ reply: { src: readPrefix(value, option) } })),
  ...named('-q --reply-dst', (value, option) => ({ reply: { dst: readPrefix(value, option) } })),
  ...named('--sport --orig-port-src', (value, option) => ({
    original: { srcPort: readNumber(value, option, 65_535) },
  })),
  ...named('--dport --orig-port-dst', (value, option) => ({
    original: { dstPort: readNumber(value, option, 65_535) },
  })),
  ...named('--reply-port-src', (value, option) => ({ reply: { srcPort: readNumber(value, option, 65_535) } })),
  ...named('--reply-port-dst', (value, option) => ({ reply: { dstPort: readNumber(value, option, 65_535) } })),
  ...named('-f --family', (value, option) => ({ family: readFamily(value, option) })),
  ...named('-m --mark', (value, option) => ({ mark: readMark(value, option) })),
  ...named('-w --zone', (value, option) => ({ zone: readNumber(value, option, 65_535) })),
  ...named('--state', (value, option) => ({ state: readState(value, option) })),
  ...named('-u --status', (value, option) => readStatus(value, option)),
  ...named('-n --src-nat', (value, option) => ({ srcNat: readNat(value, option) })),
  ...named('-g --dst-nat', (value, option) => ({ dstNat: readNat(value, option) })),
  ...named('-j --any-nat', (value, option) => ({ anyNat: readNat(value, option) })),
};

function unexpected(value: string | undefined, option: string, expected: string): RangeError {
  return new RangeError(`${option} ${value ?? 'without a value'}; expected ${expected}`);
}

function readPrefix(value: string | undefined, option: string): Prefix {
  try {
    if (value !== undefined) return parseAnyPrefix(value);
  } catch {
    // what is wrong with it is said below
  }
  throw unexpected(value, option, 'an address, or ADDRESS/LENGTH');
}

const readNat = (value: string | undefined, option: string): Prefix | 'any' =>
  value === undefined ? 'any' : readPrefix(value, option);

function readNumber(value: string | undefined, option: string, last: number): number {
  const number = Number(value);
  if (value === undefined || !/^(\d+|0x[\da-f]+)$/i.test(value) || number > last) {
    throw unexpected(value, option, `a number from 0 to ${last}`);
  }
  return number;
}

function readProtocol(value: string | undefined, option: string): number {
  const known = Object.entries(PROTOCOL_NUMBERS).find(([name]) => name === value?.toLowerCase());
  return known === undefined ? readNumber(value, option, 255) : known[1];
}

function readFamily(value: string | undefined, option: string): IpFamily {
  if (value === 'ipv4') return 4;
  if (value === 'ipv6') return 6;
  throw unexpected(value, option, 'ipv4 or ipv6');
}

function readMark(value: string | undefined, option: string): { value: number; mask: number } {
  const [mark, mask = '0xffffffff'] = value?.split('/') ?? [];
  return {
    value: readNumber(mark, option, 0xffff_ffff) | 0,
    mask: readNumber(mask, option, 0xffff_ffff) | 0,
  };
}

function readState(value: string | undefined, option: string): TcpState {
  const state = TCP_STATES.find((name) => name === value);
  if (state === undefined) throw unexpected(value, option, `a state of TCP: ${TCP_STATES.join(', ')}`);
  return state;
}

function readStatus(value: string | undefined, option: string): ConntrackFilter {
  const names = value?.split(',') ?? [];
  const unknown = names.find((name) => !STATUSES.includes(name));
  if (names.length === 0 || unknown !== undefined) throw unexpected(value, option, `some of ${STATUSES.join(',')}`);
  return {
    ...(names.includes('ASSURED') && { assured: true }),
    ...(names.includes('SEEN_REPLY') && { seenReply: true }),
  };
}

const STATUSES: readonly string[] = ['ASSURED', 'SEEN_REPLY'];
