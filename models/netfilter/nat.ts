// Address translation (nf_nat_core.c). The first packet of a connection decides, once for its source and once for its
// destination; the decision is the connection's reply tuple. All later packets, of both directions, are rewritten from
// the tuples alone: whatever travels one way must look like the inverse of the other way's tuple.
//
// No two connections may have the same reply tuple, or an answer could not be told apart. Where the wanted one is taken,
// the source gets another port, even when no rule asked for a translation.
//
// Not modelled: protocol helpers.

import type { RandomStream } from '../../engine/random.ts';
import { type DeviceRef, type Frame, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from '../packet/frame.ts';
import { ICMP_REDIRECT } from '../packet/icmp.ts';
import { ICMPV6_REDIRECT } from '../packet/icmpv6.ts';
import { ANY_IP, type Ip } from '../packet/ip-address.ts';
import {
  dstPortOf,
  familyOf,
  hasPorts,
  invertPorts,
  isIcmp,
  packPorts,
  protocolOf,
  srcPortOf,
} from './connection-tuple.ts';
import { zoneIdOf, zoneNumberOf } from './connection-zone.ts';
import { type Conntrack, natState } from './conntrack.ts';
import {
  BYTES_PER_ENTRY,
  CONFIRMED,
  DST_NAT,
  DST_NAT_DONE,
  DYING,
  FIXED_TIMEOUT,
  indexOf,
  KIND,
  ORIGINAL,
  REPLY_TUPLE,
  SRC_NAT,
  SRC_NAT_DONE,
  STATUS,
  TCP_STATE,
  TUPLE_WORDS,
  TUPLES,
  WORDS_PER_ENTRY,
  ZONE,
} from './conntrack-table.ts';
import { beginsAbove, SYN_SENT, TIME_WAIT } from './conntrack-tcp.ts';
import { type AddressRange, addressFrom, isInRange } from './nat-address.ts';
import type { NatRange } from './targets/nat-range.ts';

/** Which end of a packet a hook rewrites: PREROUTING and OUTPUT its destination, POSTROUTING and INPUT its source. */
export const DESTINATION = 0;
export const SOURCE = 1;
export type NatSide = typeof DESTINATION | typeof SOURCE;

/** Where to, as a rule says it: addresses of the frame's family. */
export interface NatMapping extends NatRange {
  /** Ports of the range belong one by one to those from here on (`--to-destination 10.0.0.1:8000-8009/80`). */
  readonly basePort?: number;
  /** MASQUERADE: the index of the device that has the address. */
  readonly deviceIndex?: number;
  /** Every connection gets a random port, even if its own is free. */
  readonly random?: boolean;
  readonly randomFully?: boolean;
  /** The address of a range depends on the source alone, not on source and destination. */
  readonly persistent?: boolean;
}

/** NF_NAT_MAX_ATTEMPTS: ports tried from one random start. */
const FIRST_ATTEMPTS = 128;
/** Each further random start tries half as many ports; the search ends when it would be fewer than this. */
const LEAST_ATTEMPTS = 16;
/** NF_NAT_HARDER_THRESH: the last attempts of a start may take a port from a connection that is over. */
const HARDER_ATTEMPTS = 32;

export class Nat {
  readonly #conntrack: Conntrack;
  readonly #random: RandomStream;
  // While decide() looks for a free tuple: the entry, and the packet as it will look.
  #index = 0;
  #kind = 0;
  #protocol = 0;
  #srcIp = ANY_IP;
  #dstIp = ANY_IP;
  #ports = 0;

  constructor(conntrack: Conntrack, random: RandomStream) {
    this.#conntrack = conntrack;
    this.#random = random;
  }

  /** Rules have nothing more to say about this side of the frame's connection. */
  isDecided(frame: Frame, side: NatSide): boolean {
    return (this.#statusOf(indexOf(frame.conntrackEntry)) & (side === SOURCE ? SRC_NAT_DONE : DST_NAT_DONE)) !== 0;
  }

  /**
   * Sets the translation of a new connection: to the mapping if there is one, else only to what keeps tuples unique. May
   * find no free tuple; the frame then fails its confirmation. A confirmed connection stays as it is.
   */
  decide(frame: Frame, side: NatSide, mapping: NatMapping): void {
    const { table } = this.#conntrack;
    const index = indexOf(frame.conntrackEntry);
    const { words } = table;
    const at = index * WORDS_PER_ENTRY;
    if ((words[at + STATUS]! & (CONFIRMED | DYING)) !== 0) return;
    const protocol = protocolOf(words[at + KIND]!);
    // What the packet looks like now is the inverse of the reply tuple, whatever was done to it before.
    const srcIp = words[at + REPLY_TUPLE + 1]! as Ip;
    const dstIp = words[at + REPLY_TUPLE]! as Ip;
    const ports = invertPorts(protocol, words[at + REPLY_TUPLE + 2]!);
    this.#index = index;
    this.#kind = words[at + KIND]!;
    this.#protocol = protocol;
    this.#propose(srcIp, dstIp, ports);
    this.#choose(side, mapping);

    if (mapping.deviceIndex !== undefined) this.#conntrack.bindToDevice(index, mapping.deviceIndex);
    words[at + STATUS]! |= side === SOURCE ? SRC_NAT_DONE : DST_NAT_DONE;
    if (this.#srcIp === srcIp && this.#dstIp === dstIp && this.#ports === ports) return;
    words[at + REPLY_TUPLE] = this.#dstIp;
    words[at + REPLY_TUPLE + 1] = this.#srcIp;
    words[at + REPLY_TUPLE + 2] = invertPorts(protocol, this.#ports);
    words[at + STATUS]! |= side === SOURCE ? SRC_NAT : DST_NAT;
    if (side === SOURCE) table.linkSource(index);
    frame.conntrackState |= natState(words[at + STATUS]!);
  }

  /**
   * The connection was masqueraded by another device than the one that its packets leave by now: routes have changed,
   * and its address is the wrong one there (nf_nat_oif_changed). It ends, so that the next packet begins another.
   */
  endIfMoved(frame: Frame, outDevice: DeviceRef): boolean {
    if (frame.conntrackReply) return false;
    const index = indexOf(frame.conntrackEntry);
    const bound = this.#conntrack.boundDevice(index);
    if (bound === 0 || bound === outDevice.index) return false;
    if ((this.#statusOf(index) & (CONFIRMED | DYING)) === CONFIRMED) this.#conntrack.kill(index);
    return true;
  }

  /** Rewrites one side of the frame as its connection says; false if nothing was to be done. */
  translate(frame: Frame, side: NatSide): boolean {
    const { words } = this.#conntrack.table;
    const at = indexOf(frame.conntrackEntry) * WORDS_PER_ENTRY;
    const isReply = frame.conntrackReply;
    if ((words[at + STATUS]! & natBit(side, isReply)) === 0) return false;
    const opposite = at + (isReply ? TUPLES : REPLY_TUPLE);
    const ports = words[opposite + 2]!;
    if (side === SOURCE) frame.srcIp = words[opposite + 1]! as Ip;
    else frame.dstIp = words[opposite]! as Ip;
    // The datagram's own checksum is finished by then (lco_csum), but NAT sees an open one (inet_proto_csum_replace4).
    if (frame.inner?.isChecksumOpen === true && frame.protocol === PROTOCOL_UDP) frame.isChecksumWrong = true;
    const { protocol } = frame;
    if (isIcmp(protocol)) frame.icmpIdentifier = srcPortOf(ports);
    else if (!hasPorts(protocol)) return true;
    else if (side === SOURCE) frame.srcPort = dstPortOf(ports);
    else frame.dstPort = srcPortOf(ports);
    return true;
  }

  /**
   * The same for an ICMP error about a packet of the connection, and for the packet that it quotes: the receiver must
   * recognize what it has sent. The quoted packet went the other way, so its opposite side is rewritten. False: a
   * redirect must not pass a translation, because it would make the two hosts talk past it.
   */
  translateError(frame: Frame, side: NatSide): boolean {
    const { words } = this.#conntrack.table;
    const at = indexOf(frame.conntrackEntry) * WORDS_PER_ENTRY;
    const status = words[at + STATUS]!;
    const bothDone = SRC_NAT_DONE | DST_NAT_DONE;
    const isRedirect = frame.icmpType === (frame.protocol === PROTOCOL_ICMP ? ICMP_REDIRECT : ICMPV6_REDIRECT);
    if (isRedirect && ((status & bothDone) !== bothDone || natState(status) !== 0)) return false;
    const isReply = frame.conntrackReply;
    if ((status & natBit(side, isReply)) === 0) return true;
    const opposite = at + (isReply ? TUPLES : REPLY_TUPLE);
    const ports = words[opposite + 2]!;
    const quoted = frame.quoted!;
    if (side === SOURCE) {
      frame.srcIp = words[opposite + 1]! as Ip;
      quoted.dstIp = frame.srcIp;
    } else {
      frame.dstIp = words[opposite]! as Ip;
      quoted.srcIp = frame.dstIp;
    }
    if (isIcmp(quoted.protocol)) quoted.icmpIdentifier = srcPortOf(ports);
    else if (!hasPorts(quoted.protocol)) return true;
    else if (side === SOURCE) quoted.dstPort = dstPortOf(ports);
    else quoted.srcPort = srcPortOf(ports);
    return true;
  }

  // ── the choice of a tuple ──────────────────────────────────────────────────────────────────────────────────────────

  /** get_unique_tuple: leaves its choice in the proposal. */
  #choose(side: NatSide, mapping: NatMapping): void {
    const isRandom = mapping.random === true || mapping.randomFully === true;
    if (side === SOURCE && !isRandom) {
      if (this.#sourceIn(mapping)) {
        const item = this.#takenBy();
        if (item === 0 || this.#isMirrored(item >> 1)) return;
      } else if (this.#adoptMappingOfSource(mapping)) return;
    }
    this.#moveAddress(side, mapping);
    if (!isRandom) {
      const { minPort, maxPort = minPort } = mapping;
      if (minPort === undefined) {
        if (!this.#isTaken()) return;
      } else if (mapping.basePort === undefined && (!this.#hasNumbers() || portIn(this.#portOf(side), mapping))) {
        if (minPort === maxPort || !this.#isTaken()) return;
      }
    }
    this.#searchPort(side, mapping);
  }

  /**
   * Neither this nor the other connection is translated, and each is the other's answer: both ends of one UDP flow have
   * begun it at once. The tuple stays; confirmation drops the loser (nf_nat_used_tuple_new).
   */
  #isMirrored(other: number): boolean {
    if (this.#protocol !== PROTOCOL_UDP) return false;
    const { words } = this.#conntrack.table;
    const own = this.#index * WORDS_PER_ENTRY;
    const at = other * WORDS_PER_ENTRY;
    if (((words[own + STATUS]! | words[at + STATUS]!) & (SRC_NAT | DST_NAT)) !== 0) return false;
    for (let word = 0; word < TUPLE_WORDS; word++) {
      if (words[own + TUPLES + word] !== words[at + REPLY_TUPLE + word]) return false;
      if (words[own + REPLY_TUPLE + word] !== words[at + TUPLES + word]) return false;
    }
    return true;
  }

  /**
   * Endpoint-independent mapping: a source that is translated for another destination already gets the same address and
   * port again, if that is unique.
   */
  #adoptMappingOfSource(mapping: NatMapping): boolean {
    const { table } = this.#conntrack;
    const { words } = table;
    const kind = this.#kind;
    const srcIp = this.#srcIp;
    const ports = this.#ports;
    const srcPort = srcPortOf(ports);
    const zoneId = zoneIdOf(this.#zone(), ORIGINAL);
    for (let other = table.firstBySource(srcIp, srcPort, kind); other !== 0; other = table.nextBySource(other)) {
      const at = other * WORDS_PER_ENTRY;
      if (words[at + TUPLES] !== srcIp || srcPortOf(words[at + TUPLES + 2]!) !== srcPort) continue;
      if (words[at + KIND] !== kind || zoneIdOf(words[at + ZONE]!, ORIGINAL) !== zoneId) continue;
      if (this.#conntrack.isExpired(other)) continue;
      const mapped = srcPortOf(invertPorts(this.#protocol, words[at + REPLY_TUPLE + 2]!));
      this.#propose(words[at + REPLY_TUPLE + 1]! as Ip, this.#dstIp, packPorts(mapped, dstPortOf(ports)));
      if (!this.#sourceIn(mapping)) continue;
      if (!this.#isTaken()) return true;
      break;
    }
    this.#propose(srcIp, this.#dstIp, ports);
    return false;
  }

  #moveAddress(side: NatSide, mapping: NatMapping): void {
    const range = this.#addressRange(mapping);
    if (range === undefined) return;
    const ip = addressFrom(range, {
      srcIp: this.#srcIp,
      dstIp: this.#dstIp,
      zoneId: zoneNumberOf(this.#zone()),
      persistent: mapping.persistent === true,
      isDestination: side === DESTINATION,
    });
    if (side === SOURCE) this.#srcIp = ip;
    else this.#dstIp = ip;
  }

  /** nf_nat_l4proto_unique_tuple. When nothing is free, the last port tried stays in the proposal. */
  #searchPort(side: NatSide, mapping: NatMapping): void {
    if (!this.#hasNumbers()) return;
    const port = this.#portOf(side);
    const range = portRange(port, this.#protocol, side, mapping);
    if (range === undefined) return;
    const { first, count } = range;
    let offset = this.#firstOffset(side, port, mapping);
    let attempts = Math.min(count, FIRST_ATTEMPTS);
    for (;;) {
      for (let left = attempts; left > 0; left--, offset = (offset + 1) & 0xffff) {
        this.#setPort(side, first + (offset % count));
        if (!this.#isTakenForGood(left)) return;
      }
      if (attempts >= count || attempts < LEAST_ATTEMPTS) return;
      attempts >>= 1;
      offset = this.#random.int(65_536);
    }
  }

  #firstOffset(side: NatSide, port: number, { basePort, random, randomFully }: NatMapping): number {
    if (basePort !== undefined) return (port - basePort) & 0xffff;
    return random === true || randomFully === true || side === SOURCE ? this.#random.int(65_536) : 0;
  }

  /** Another connection has the answer's tuple of the proposal. */
  #isTaken(): boolean {
    return this.#takenBy() !== 0;
  }

  /**
   * When few attempts are left, a closed connection gives way to a new one whose sequence numbers are above its own, as
   * the receiver's TIME_WAIT would (RFC 6191).
   */
  #isTakenForGood(attemptsLeft: number): boolean {
    const item = this.#takenBy();
    if (item === 0) return false;
    const { table } = this.#conntrack;
    const index = this.#index;
    const holder = item >> 1;
    const mayGiveWay =
      attemptsLeft <= HARDER_ATTEMPTS &&
      this.#protocol === PROTOCOL_TCP &&
      (item & 1) !== ORIGINAL &&
      table.tcpBytes[index * BYTES_PER_ENTRY + TCP_STATE] === SYN_SENT &&
      table.tcpBytes[holder * BYTES_PER_ENTRY + TCP_STATE]! >= TIME_WAIT &&
      (this.#statusOf(holder) & (SRC_NAT | FIXED_TIMEOUT)) === SRC_NAT &&
      beginsAbove(table, index, holder);
    if (mayGiveWay) this.#conntrack.kill(holder);
    return !mayGiveWay;
  }

  #takenBy(): number {
    const answer = invertPorts(this.#protocol, this.#ports);
    return this.#conntrack.takenBy(this.#index, this.#dstIp, this.#srcIp, answer);
  }

  #sourceIn(mapping: NatMapping): boolean {
    const range = this.#addressRange(mapping);
    if (range !== undefined && !isInRange(this.#srcIp, range)) return false;
    return !this.#hasNumbers() || portIn(this.#portOf(SOURCE), mapping);
  }

  #addressRange({ minIp, maxIp = minIp }: NatMapping): AddressRange | undefined {
    if (minIp === undefined || maxIp === undefined) return undefined;
    return { family: familyOf(this.#kind), minIp, maxIp };
  }

  #zone(): number {
    return this.#conntrack.table.words[this.#index * WORDS_PER_ENTRY + ZONE]!;
  }

  #hasNumbers(): boolean {
    return hasPorts(this.#protocol) || isIcmp(this.#protocol);
  }

  /** ICMP has only one number, its identifier. */
  #portOf(side: NatSide): number {
    return side === SOURCE || isIcmp(this.#protocol) ? srcPortOf(this.#ports) : dstPortOf(this.#ports);
  }

  #setPort(side: NatSide, port: number): void {
    this.#ports =
      side === SOURCE || isIcmp(this.#protocol)
        ? packPorts(port, dstPortOf(this.#ports))
        : packPorts(srcPortOf(this.#ports), port);
  }

  #propose(srcIp: Ip, dstIp: Ip, ports: number): void {
    this.#srcIp = srcIp;
    this.#dstIp = dstIp;
    this.#ports = ports;
  }

  #statusOf(index: number): number {
    return this.#conntrack.table.words[index * WORDS_PER_ENTRY + STATUS]!;
  }
}

/** What is done to the source of one direction is undone at the destination of the other. */
const natBit = (side: NatSide, isReply: boolean): number => ((side === SOURCE) !== isReply ? SRC_NAT : DST_NAT);

const portIn = (port: number, { minPort, maxPort = minPort }: NatMapping): boolean =>
  minPort === undefined || maxPort === undefined || (port >= minPort && port <= maxPort);

/**
 * Where to look for a free port. Without a range in the rule, a source port stays in its class (below 512 it may prove a
 * privileged sender to old services), and a destination port cannot change at all.
 */
function portRange(
  port: number,
  protocol: number,
  side: NatSide,
  { minPort, maxPort = minPort }: NatMapping,
): { first: number; count: number } | undefined {
  if (minPort !== undefined && maxPort !== undefined) return { first: minPort, count: maxPort - minPort + 1 };
  if (isIcmp(protocol)) return { first: 0, count: 65_536 };
  if (side === DESTINATION) return undefined;
  if (port < 512) return { first: 1, count: 511 };
  if (port < 1_024) return { first: 600, count: 424 };
  return { first: 1_024, count: 64_512 };
}
