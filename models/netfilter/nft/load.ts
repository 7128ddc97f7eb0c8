// What an expression of a rule says about a packet, as functions: a header field, metadata, something of its connection.

import { type Frame, PROTOCOL_ICMP, PROTOCOL_ICMPV6 } from '../../packet/frame.ts';
import type { Ip, IpFamily } from '../../packet/ip-address.ts';
import { hashIpv6 } from '../../packet/ipv6-address.ts';
import { BROADCAST_MAC, ZERO_MAC } from '../../packet/mac.ts';
import { CT_INVALID, CT_UNTRACKED } from '../conntrack-state.ts';
import { ORIGINAL, REPLY } from '../conntrack-table.ts';
import { jhash2 } from '../jhash.ts';
import { bytesOf, type Datatype, FIB_ADDRTYPE, INTEGER, type Value } from './datatype.ts';
import { partsOf, typeOf } from './read-expression.ts';
import type { Selector } from './selectors.ts';
import type { Expression, FibInput, FibResult, NftFamily, NftRule } from './syntax.ts';
import type { NftWalk } from './walk.ts';

/** The packet has nothing of the kind: the rule does not match (NFT_BREAK). */
export const NOTHING = undefined;

export type Load = (frame: Frame, walk: NftWalk) => Value | typeof NOTHING;

export interface LoadSite {
  readonly family: NftFamily;
  readonly rule: NftRule;
  /** Takes two numbers of what the rule remembers. */
  readonly remember: () => number;
}

export function compileLoad(expression: Expression, site: LoadSite): Load {
  switch (expression.kind) {
    case 'selector':
      return selectorLoad(expression.selector);
    case 'value': {
      const { value } = expression;
      return () => value;
    }
    case 'bitwise': {
      const left = compileLoad(expression.left, site);
      const { operator, right } = expression;
      const isUnsigned = typeOf(expression)?.name !== 'ipv4_addr';
      return (frame, walk) => {
        const value = left(frame, walk);
        if (value === NOTHING) return NOTHING;
        const bits = Number(value);
        const result = operator === '&' ? bits & right : operator === '|' ? bits | right : bits ^ right;
        return isUnsigned ? result >>> 0 : result;
      };
    }
    case 'fib':
      return fibLoad(expression.inputs, expression.result);
    case 'numgen': {
      const { mode, modulus, offset } = expression;
      if (mode === 'random') return (_frame, walk) => walk.random.int(modulus) + offset;
      const at = site.remember();
      const { rule } = site;
      return (_frame, walk) => {
        const memory = walk.memoryOf(rule);
        const value = memory[at]!;
        memory[at] = value + 1 < modulus ? value + 1 : 0;
        return value + offset;
      };
    }
    case 'jhash': {
      const parts = partsOf(expression.input ?? { kind: 'value', type: INTEGER, value: 0 });
      const loads = parts.map((part) => compileLoad(part, site));
      const types = parts.map((part) => typeOf(part) ?? INTEGER);
      const { modulus, seed = 0, offset } = expression;
      return (frame, walk) => {
        const words: number[] = [];
        for (let i = 0; i < loads.length; i++) {
          const value = loads[i]!(frame, walk);
          if (value === NOTHING) return NOTHING;
          words.push(...registerWords(types[i]!, value));
        }
        return bucketOf(jhash2(words, seed), modulus) + offset;
      };
    }
    case 'symhash': {
      const { modulus, offset } = expression;
      return (frame) => bucketOf(symmetricHash(frame), modulus) + offset;
    }
    case 'concat':
    case 'map':
      throw new Error(`a ${expression.kind} where one value is expected; validation lets none through`);
  }
}

/** reciprocal_scale() */
const bucketOf = (hash: number, modulus: number): number => Math.floor(((hash >>> 0) * modulus) / 2 ** 32);

/** A value as it lies in 32-bit registers, read by a little-endian machine. */
function registerWords(type: Datatype, value: Value): number[] {
  const bytes = bytesOf(type, value);
  return Array.from(
    { length: Math.ceil(bytes.length / 4) },
    (_, i) =>
      (bytes[4 * i] ?? 0) |
      ((bytes[4 * i + 1] ?? 0) << 8) |
      ((bytes[4 * i + 2] ?? 0) << 16) |
      ((bytes[4 * i + 3] ?? 0) << 24),
  );
}

/** Both directions of a flow have one. Which is arbitrary: the kernel's has a secret. */
function symmetricHash({ family, srcIp, dstIp, srcPort, dstPort, protocol }: Frame): number {
  const fold = (ip: Ip): number => (family === 6 ? hashIpv6(ip) : ip);
  return jhash2([fold(srcIp) ^ fold(dstIp), (srcPort ^ dstPort) | 0, protocol], 0);
}

// ── selectors ────────────────────────────────────────────────────────────────────────────────────────────────────────

function selectorLoad(selector: Selector): Load {
  const load = LOADS[selector.name];
  if (load === undefined) throw new Error(`${selector.name} has no value; every selector needs one`);
  const { family, protocol, isTransport } = selector;
  if (selector.needsConntrack && selector.name !== 'ct state') return ofConnection(load, family);
  if (protocol !== undefined) {
    return (frame, walk) => (frame.protocol === protocol && frame.fragmentOffset === 0 ? load(frame, walk) : NOTHING);
  }
  if (isTransport) return (frame, walk) => (frame.fragmentOffset === 0 ? load(frame, walk) : NOTHING);
  return family === undefined ? load : (frame, walk) => (frame.family === family ? load(frame, walk) : NOTHING);
}

/** Only packets that have a connection, of that family. */
const ofConnection =
  (load: Load, family: IpFamily | undefined): Load =>
  (frame, walk) =>
    frame.conntrackEntry !== 0 && (family === undefined || walk.connections.family(frame) === family)
      ? load(frame, walk)
      : NOTHING;

/** nft's bit of untracked packets. */
const STATE_UNTRACKED = 64;
const STATES = 15;
/** enum ip_conntrack_status, as far as rules may ask. */
const STATUS_BITS = 0x3ff;
const NFPROTO_IPV4 = 2;
const NFPROTO_IPV6 = 10;
const DONT_FRAGMENT = 0x4000;
const MORE_FRAGMENTS = 0x2000;

const networkLength = ({ sizeBytes }: Frame): number => sizeBytes - 14;

const LOADS: Readonly<Record<string, Load>> = {
  'meta l4proto': ({ protocol }) => protocol,
  iif: (_frame, { context }) => context.inName,
  oif: (_frame, { context }) => context.outName,
  iifname: (_frame, { context }) => context.inName,
  oifname: (_frame, { context }) => context.outName,
  'meta mark': ({ mark }) => mark >>> 0,
  'meta nfproto': ({ family }) => (family === 6 ? NFPROTO_IPV6 : NFPROTO_IPV4),
  'meta protocol': ({ etherType }) => etherType,
  'meta length': networkLength,
  'meta pkttype': ({ group }) => (group === ZERO_MAC ? 0 : group === BROADCAST_MAC ? 1 : 2),
  // Local processes are root's; other packets have no owner.
  'meta skuid': (_frame, { context }) => (context.hook === 'OUTPUT' ? 0 : NOTHING),
  'meta cpu': (_frame, { cpu }) => cpu,

  'ct state': ({ conntrackState }) =>
    (conntrackState & CT_UNTRACKED) !== 0 ? STATE_UNTRACKED : conntrackState & STATES || CT_INVALID,
  'ct status': (frame, { connections }) => connections.status(frame) & STATUS_BITS,
  'ct direction': ({ conntrackReply }) => (conntrackReply ? REPLY : ORIGINAL),
  'ct mark': (frame, { connections }) => connections.mark(frame) >>> 0,
  'ct expiration': (frame, { connections }) => Math.floor(connections.expiration(frame) / 1e6),
  'ct protocol': (frame, { connections }) => connections.protocol(frame),
  'ct zone': (frame, { connections }) => connections.zone(frame, ORIGINAL),
  ...Object.fromEntries(
    ([ORIGINAL, REPLY] as const).flatMap((direction) => {
      const name = direction === ORIGINAL ? 'ct original' : 'ct reply';
      const loads: [string, Load][] = [
        [`${name} proto-src`, (frame, { connections }) => connections.srcPort(frame, direction)],
        [`${name} proto-dst`, (frame, { connections }) => connections.dstPort(frame, direction)],
        [`${name} protocol`, (frame, { connections }) => connections.protocol(frame)],
      ];
      for (const family of ['ip', 'ip6']) {
        loads.push([`${name} ${family} saddr`, (frame, { connections }) => connections.srcIp(frame, direction)]);
        loads.push([`${name} ${family} daddr`, (frame, { connections }) => connections.dstIp(frame, direction)]);
      }
      return loads;
    }),
  ),

  'ip saddr': ({ srcIp }) => srcIp,
  'ip daddr': ({ dstIp }) => dstIp,
  'ip protocol': ({ protocol }) => protocol,
  'ip ttl': ({ ttl }) => ttl,
  'ip length': networkLength,
  'ip id': ({ identification }) => identification,
  'ip dscp': ({ typeOfService }) => typeOfService >> 2,
  'ip ecn': ({ typeOfService }) => typeOfService & 3,
  'ip frag-off': ({ dontFragment, moreFragments, fragmentOffset }) =>
    (dontFragment ? DONT_FRAGMENT : 0) | (moreFragments ? MORE_FRAGMENTS : 0) | (fragmentOffset >> 3),
  'ip6 saddr': ({ srcIp }) => srcIp,
  'ip6 daddr': ({ dstIp }) => dstIp,
  'ip6 nexthdr': ({ protocol }) => protocol,
  'ip6 hoplimit': ({ ttl }) => ttl,
  'ip6 length': (frame) => networkLength(frame) - 40,
  'ip6 dscp': ({ typeOfService }) => typeOfService >> 2,
  'exthdr frag': ({ isFragment }) => (isFragment ? 1 : 0),

  'th sport': (frame) => firstHalf(frame),
  'th dport': (frame) => secondHalf(frame),
  'tcp sport': ({ srcPort }) => srcPort,
  'tcp dport': ({ dstPort }) => dstPort,
  'udp sport': ({ srcPort }) => srcPort,
  'udp dport': ({ dstPort }) => dstPort,
  'sctp sport': ({ srcPort }) => srcPort,
  'sctp dport': ({ dstPort }) => dstPort,
  'tcp flags': ({ tcpFlags }) => tcpFlags,
  'icmp type': ({ icmpType }) => icmpType,
  'icmp code': ({ icmpCode }) => icmpCode,
  'icmpv6 type': ({ icmpType }) => icmpType,
  'icmpv6 code': ({ icmpCode }) => icmpCode,
};

const isIcmp = (protocol: number): boolean => protocol === PROTOCOL_ICMP || protocol === PROTOCOL_ICMPV6;

/** The first 16 bits of the transport header, whatever it is. */
const firstHalf = ({ protocol, srcPort, icmpType, icmpCode }: Frame): number =>
  isIcmp(protocol) ? icmpType * 256 + icmpCode : srcPort;

/** The next 16: of ICMP a checksum, which equals nothing that a rule could mean. */
const secondHalf = ({ protocol, dstPort }: Frame): number => (isIcmp(protocol) ? -1 : dstPort);

// ── routing ──────────────────────────────────────────────────────────────────────────────────────────────────────────

function fibLoad(inputs: readonly FibInput[], result: FibResult): Load {
  const ofSource = inputs.includes('saddr');
  const byIn = inputs.includes('iif');
  const byOut = inputs.includes('oif');
  return (frame, walk) => {
    const { context } = walk;
    const ip = ofSource ? frame.srcIp : frame.dstIp;
    const device = byIn ? context.inDevice : byOut ? context.outDevice : undefined;
    if (result === 'type') {
      const type = context.addressType(ip, frame.family, device);
      return FIB_ADDRTYPE.symbols?.get(type.toLowerCase()) ?? 0;
    }
    // Not the host's own addresses, and with a device only a route by it (nft_fib4_eval).
    const route = context.routeTo(ip, frame.family);
    if (route?.device === undefined || route.isLocal) return '';
    return device === undefined || device.index === route.device.index ? route.device.name : '';
  };
}
