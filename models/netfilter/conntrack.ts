// Connection tracking of one network namespace (nf_conntrack): which connection does a frame belong to, and in which
// direction does it travel?
//
// An entry is allocated when the first packet of a connection comes by, and known to that frame alone until the packet
// has passed the last hook, where it is confirmed. Two CPUs can therefore allocate an entry each for the same
// connection, and one of them is the loser at its confirmation. Their visits overlap in virtual time though they execute
// one after the other: an entry is found from the instant of its confirmation on, and of two losers the one whose visit
// executes second loses.
//
// Entries end by themselves: an expired entry is gone for every lookup, and its record is reclaimed by the next lookup
// that comes across it or by a sweep of two records per new entry, so that a table holds at most about twice its live
// entries. There are no events.
//
// Not modelled: helpers and expectations, accounting, event listeners, checksums, the state machine of SCTP (tracked like
// an unknown protocol, but with ports), chains that are too long, and the garbage collector's preference for closing
// connections in a nearly full table.

import { after, type Duration, type Instant, START, s } from '../../engine/time.ts';
import { FREE, interpolateNs, type PiecewiseLinear } from '../cpu/cost-model.ts';
import type { ConnectionTracker } from '../packet/flow-recorder.ts';
import { type Frame, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP } from '../packet/frame.ts';
import { ICMPV6_REDIRECT } from '../packet/icmpv6.ts';
import { type Ip, type IpAddress, type IpFamily, isIpv6LinkLocal } from '../packet/ip-address.ts';
import type { ConnectionQuery, ZonedTuple } from './connection-query.ts';
import {
  type ConnectionTuple,
  dstPortOf,
  familyOf,
  invertPorts,
  isIcmp,
  isIcmpError,
  isIcmpQuery,
  isIcmpQueryOrAnswer,
  isKnownIcmp,
  isNeverTracked,
  PROTOCOL_GRE,
  packPorts,
  packProtocol,
  portsOf,
  protocolOf,
  srcPortOf,
} from './connection-tuple.ts';
import { zoneIdOf } from './connection-zone.ts';
import { CT_DNAT, CT_ESTABLISHED, CT_INVALID, CT_NEW, CT_RELATED, CT_SNAT, CT_UNTRACKED } from './conntrack-state.ts';
import {
  ASSURED,
  BYTES_PER_ENTRY,
  CONFIRMED,
  CONFIRMED_AT,
  ConntrackTable,
  type Direction,
  DST_NAT,
  DST_NAT_DONE,
  DYING,
  ENTRY_LIMIT,
  EXPIRES_AT,
  FIXED_TIMEOUT,
  indexOf,
  isCurrentIn,
  KIND,
  MARK,
  MASQUERADE_DEVICE,
  NAT_CLASH,
  ORIGINAL,
  REPLY,
  REPLY_TUPLE,
  SEEN_REPLY,
  SRC_NAT,
  SRC_NAT_DONE,
  STATUS,
  TCP_STATE,
  TIMES_PER_ENTRY,
  TUPLE_WORDS,
  TUPLES,
  WORDS_PER_ENTRY,
  ZONE,
} from './conntrack-table.ts';
import {
  CLOSE,
  FOLLOWED,
  KEEP,
  REFUSED,
  REOPENED,
  TCP_DEFAULTS,
  TCP_STATES,
  type TcpState,
  TcpTracking,
  type TcpTrackingSettings,
  TIME_WAIT,
  UNFIT,
} from './conntrack-tcp.ts';

export interface ConntrackSettings extends TcpTrackingSettings {
  /** net.netfilter.nf_conntrack_max; kube-proxy sets 32,768 per core, at least 131,072. */
  readonly maxEntries: number;
  /** net.netfilter.nf_conntrack_buckets: how far a full table looks for an entry to evict. */
  readonly buckets: number;
  /**
   * What becomes of a UDP packet whose entry loses the race for its tuple to that of another CPU. Linux 5.7 and later
   * `always` let it go on; from 5.0 on it had to be translated like the `identical` winner, or was dropped; before, it
   * was dropped if it was translated at all.
   */
  readonly clashResolution: 'always' | 'identical' | 'untranslated';
  /** net.netfilter.nf_conntrack_*_timeout. */
  readonly udpTimeout: Duration;
  readonly udpStreamTimeout: Duration;
  readonly icmpTimeout: Duration;
  readonly icmpv6Timeout: Duration;
  readonly greTimeout: Duration;
  readonly greStreamTimeout: Duration;
  readonly genericTimeout: Duration;
}

/** Linux 6.18 on a machine with more than 4 GB of memory. */
export const CONNTRACK_DEFAULTS: ConntrackSettings = {
  ...TCP_DEFAULTS,
  maxEntries: 262_144,
  buckets: 262_144,
  clashResolution: 'always',
  udpTimeout: s(30),
  udpStreamTimeout: s(120),
  icmpTimeout: s(30),
  icmpv6Timeout: s(30),
  greTimeout: s(30),
  greStreamTimeout: s(180),
  genericTimeout: s(600),
};

/**
 * Events so far, by the names of `conntrack -S`. Not counted, because they do not happen here: entries added by hand,
 * lookups disturbed by a growing table, and chains that are too long.
 */
export interface ConntrackStatistics {
  /** NAT asked for a tuple that another connection has. */
  found: number;
  /** Frames that belong to no connection. */
  invalid: number;
  /** Entries that lost at their confirmation, and their frames with them. */
  insert_failed: number;
  /** Frames dropped for want of an entry. */
  drop: number;
  /** Entries evicted from a full table. */
  early_drop: number;
  /** ICMP errors about nothing known, and ICMP of unknown types: they belong to no connection either. */
  error: number;
  /** Entries that lost at their confirmation, but whose frame went on. */
  clash_resolve: number;
}

/** What {@link Conntrack.track} did; the frame's conntrack fields say the rest. */
export const TRACKED = 0;
/** The frame has an entry of its own, not confirmed yet. */
export const ALLOCATED = 1;
/** Nothing: the frame was seen before, or is not to be tracked. */
export const SKIPPED = 2;
/** There is no room for another entry: the frame is to be dropped. */
export const TABLE_FULL = 3;
export type TrackOutcome = typeof TRACKED | typeof ALLOCATED | typeof SKIPPED | typeof TABLE_FULL;

/** What {@link Conntrack.confirm} did. */
export const UNCHANGED = 0;
/** The frame's entry is found from now on, by both tuples. */
export const CONFIRMED_NEW = 1;
/** Another CPU has confirmed the same connection before; the frame belongs to that entry now. */
export const JOINED = 2;
/** Another CPU has confirmed the same original tuple with another translation: only the frame's answer will be found. */
export const FOR_ITS_ANSWER = 3;
/** Another connection has one of its tuples: the frame is to be dropped. */
export const LOST = 4;
export type ConfirmOutcome =
  | typeof UNCHANGED
  | typeof CONFIRMED_NEW
  | typeof JOINED
  | typeof FOR_ITS_ANSWER
  | typeof LOST;

/** The running visit of a CPU (CpuSet): time as it sees it, and which CPU that is. */
export interface ConntrackClock {
  readonly instant: Instant;
  readonly current: number;
}

/** A snapshot of one entry. */
export interface ConntrackEntry {
  readonly original: ConnectionTuple;
  readonly reply: ConnectionTuple;
  /** An answer has been seen; `conntrack -L` prints [UNREPLIED] until then. */
  readonly seenReply: boolean;
  readonly assured: boolean;
  readonly srcNat: boolean;
  readonly dstNat: boolean;
  readonly tcpState: TcpState | undefined;
  readonly expiresAt: Instant;
  readonly mark: number;
  /** As in connection-zone.ts; 0 is the default zone. */
  readonly zone: number;
}

/** UDP: both sides still talk this long after the first packet: it is a stream (nf_conntrack_proto_udp.c). */
const UDP_STREAM_AGE = s(2);
/** nf_ct_resolve_clash_harder: the loser of a race for the original tuple lives just long enough for its answer. */
const CLASH_TIMEOUT = s(1);
/** NF_CT_EVICTION_RANGE: hash buckets that a full table searches for an entry to evict. */
const EVICTION_BUCKETS = 8;
/** GC_SCAN_INTERVAL_MIN: the collector runs at most this often when a table is full. */
const COLLECTION_INTERVAL = s(1);
/** Instead of a cost. */
const UNKNOWN = -1;
/** Records looked at for each new entry. */
const SWEPT_PER_ENTRY = 2;

export class Conntrack implements ConnectionQuery, ConnectionTracker {
  // First what every packet of an established connection needs, in one line of the processor's cache.
  /** Read wherever it is needed: an instant handed on as an argument would be boxed, once per packet. */
  readonly #clock: ConntrackClock;
  // The table's, which has others when it has grown: in a large cluster the table itself is one more wait for main memory.
  #times: Float64Array;
  #words: Int32Array;
  #settings: ConntrackSettings;
  /** What a lookup costs with as many entries as there are now; UNKNOWN since their number has changed. */
  #lookupNs = UNKNOWN;
  /** The records themselves: for NAT. */
  readonly table = new ConntrackTable();
  readonly #lookupCosts: PiecewiseLinear;
  readonly #tcp: TcpTracking;
  /** Records that only a frame refers to: not confirmed yet, or dying. Same index: the frame of the handle. */
  readonly #heldHandles: number[] = [];
  readonly #holders: Frame[] = [];
  /** By CPU, as far as CPUs have counted something. */
  readonly #statistics: ConntrackStatistics[] = [];
  #sweepIndex = 0;
  #nextCollection = START;

  constructor(
    clock: ConntrackClock,
    settings: Partial<ConntrackSettings> = {},
    lookupCosts: PiecewiseLinear = FREE.conntrackLookupNs,
  ) {
    this.#clock = clock;
    // Most nodes have the defaults: all of them read the same object.
    this.#settings =
      Object.keys(settings).length === 0 ? CONNTRACK_DEFAULTS : checked({ ...CONNTRACK_DEFAULTS, ...settings });
    this.#lookupCosts = lookupCosts;
    this.#times = this.table.times;
    this.#words = this.table.words;
    this.#tcp = new TcpTracking(this.table, this.#settings);
  }

  get settings(): ConntrackSettings {
    return this.#settings;
  }

  /** Interpolated once per change of the count, which established packets do not change. */
  get lookupNs(): number {
    if (this.#lookupNs === UNKNOWN) this.#lookupNs = interpolateNs(this.#lookupCosts, this.table.count);
    return this.#lookupNs;
  }

  /** Like writing to the sysctls: entries keep the times that they have. */
  configure(changes: Partial<ConntrackSettings>): void {
    this.#settings = checked({ ...this.#settings, ...changes });
    this.#tcp.configure(this.#settings);
  }

  /** Of all CPUs together. */
  get statistics(): ConntrackStatistics {
    const sum = noEvents();
    for (const events of this.#statistics) {
      for (const name of Object.keys(sum) as (keyof ConntrackStatistics)[]) sum[name] += events[name];
    }
    return sum;
  }

  /** Of one CPU. */
  statisticsOf(cpu: number): ConntrackStatistics {
    while (this.#statistics.length <= cpu) this.#statistics.push(noEvents());
    return this.#statistics[cpu]!;
  }

  get #events(): ConntrackStatistics {
    return this.statisticsOf(this.#clock.current);
  }

  /** net.netfilter.nf_conntrack_count: entries, with those that have expired but are not reclaimed yet. */
  get count(): number {
    this.#releaseAbandoned();
    return this.table.count;
  }

  // ── the first and the last hook ────────────────────────────────────────────────────────────────────────────────────

  /** Finds or makes the frame's entry and sets the frame's conntrack fields: priority -200 of PREROUTING and OUTPUT. */
  track(frame: Frame): TrackOutcome {
    // A frame with an entry came by loopback, or answers one that had it (REJECT); so did one that had an entry until it
    // ended. An invalid one gets another chance.
    if (frame.conntrackEntry !== 0 || (frame.conntrackState & ~CT_INVALID) !== 0) return SKIPPED;
    const { protocol } = frame;
    if (frame.isChecksumWrong && frame.hasWrongChecksum) return this.#invalid(frame);
    if (isIcmp(protocol) && !isIcmpQueryOrAnswer(protocol, frame.icmpType)) return this.#trackIcmpMessage(frame);
    const kind = packProtocol(protocol, frame.family);
    const zone = frame.conntrackZone;
    const item =
      zone === 0
        ? this.#find(frame.srcIp, frame.dstIp, portsOf(frame), kind, 0, ORIGINAL)
        : this.#lookUp(frame.srcIp, frame.dstIp, portsOf(frame), kind, zone);
    if (item === 0) return this.#allocate(frame);

    const index = item >> 1;
    const isReply = (item & 1) === REPLY;
    const { words } = this.table;
    const at = index * WORDS_PER_ENTRY + STATUS;
    const seenReply = isReply || (words[at]! & SEEN_REPLY) !== 0;
    switch (protocol) {
      case PROTOCOL_TCP:
        switch (this.#tcp.follow(index, frame, isReply ? REPLY : ORIGINAL)) {
          case FOLLOWED:
            if (this.#tcp.timeout !== KEEP) this.#prolong(index, this.#tcp.timeout);
            break;
          case UNFIT:
            if (this.#tcp.timeout !== KEEP) this.#shorten(index, this.#tcp.timeout);
            return this.#invalid(frame);
          case REOPENED:
            this.#delete(index);
            return this.#allocate(frame);
          case REFUSED:
            this.#letDie(index, frame);
            break;
        }
        break;
      case PROTOCOL_UDP:
        this.#followUdp(index);
        break;
      case PROTOCOL_GRE:
        this.#followGre(index);
        break;
      default:
        this.#prolong(index, this.#timeoutOf(protocol));
        break;
    }
    if (isReply) words[at]! |= SEEN_REPLY;
    frame.conntrackEntry = this.table.handleOf(index);
    frame.conntrackReply = isReply;
    frame.conntrackState = (seenReply ? CT_ESTABLISHED : CT_NEW) | natState(words[at]!);
    return TRACKED;
  }

  /**
   * {@link track} for a packet of an established connection whose entry is known from an earlier packet of that direction.
   * False, with nothing done: the entry has ended, or the packet is one that could end it or not belong to it.
   */
  trackAgain(frame: Frame, handle: number, isReply: boolean): boolean {
    const index = indexOf(handle);
    const times = this.#times;
    const at = index * TIMES_PER_ENTRY;
    const now = this.#clock.instant;
    if (times[at + EXPIRES_AT]! <= now || times[at + CONFIRMED_AT]! > now) return false;
    if (!isCurrentIn(this.#words, handle)) return false;
    if ((this.#statusOf(index) & (CONFIRMED | SEEN_REPLY | DYING)) !== (CONFIRMED | SEEN_REPLY)) return false;
    const { protocol } = frame;
    if (protocol === PROTOCOL_UDP) {
      this.#followUdp(index);
      return true;
    }
    const direction = isReply ? REPLY : ORIGINAL;
    if (protocol !== PROTOCOL_TCP || !this.#tcp.isOrdinary(index, frame, direction)) return false;
    this.#tcp.follow(index, frame, direction);
    if (this.#tcp.timeout !== KEEP) this.#prolong(index, this.#tcp.timeout);
    return true;
  }

  /** Makes the frame's new entry findable: last of all in POSTROUTING and INPUT. */
  confirm(frame: Frame): ConfirmOutcome {
    const handle = frame.conntrackEntry;
    // What answers a frame (REJECT) has that frame's entry, and never confirms it.
    if (handle === 0 || frame.conntrackReply) return UNCHANGED;
    const { table } = this;
    const index = indexOf(handle);
    if ((this.#statusOf(index) & (CONFIRMED | DYING)) !== 0) return UNCHANGED;
    const rival = this.#liveTuple(index, ORIGINAL) || this.#liveTuple(index, REPLY);
    if (rival !== 0) return this.#resolveClash(frame, index, rival >> 1);
    this.#insert(index);
    table.insertTuple(index, ORIGINAL);
    table.insertTuple(index, REPLY);
    return CONFIRMED_NEW;
  }

  /**
   * A rule answers the segment by a reset: its connection is over, whatever the two ends have yet to hear
   * (nf_conntrack_tcp_set_closing).
   */
  closeByReset({ conntrackEntry }: Frame): void {
    const index = indexOf(conntrackEntry);
    if ((this.#statusOf(index) & (CONFIRMED | DYING)) !== CONFIRMED) return;
    const at = index * BYTES_PER_ENTRY + TCP_STATE;
    if (this.table.tcpBytes[at] === CLOSE) return;
    this.table.tcpBytes[at] = CLOSE;
    this.#prolong(index, this.#settings.tcpTimeouts.CLOSE);
  }

  /** A copy of a new connection's first packet: its connection may have been translated for another copy since. */
  refreshCopy(frame: Frame): void {
    if ((frame.conntrackState & CT_NEW) === 0 || !this.isCurrent(frame.conntrackEntry)) return;
    frame.conntrackState |= natState(this.#statusOf(indexOf(frame.conntrackEntry)));
  }

  /** The entry of a frame that waited has not ended in the meantime. */
  isCurrent(handle: number): boolean {
    return this.table.isCurrent(handle);
  }

  // ── for NAT ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * The item of another connection that has this tuple, so that NAT cannot use it for entry `index`, or 0. A connection
   * with the same original tuple does not count: it is the same flow on another CPU, and confirmation will settle it.
   */
  takenBy(index: number, srcIp: Ip, dstIp: Ip, ports: number): number {
    const { words } = this.table;
    const own = index * WORDS_PER_ENTRY;
    const item = this.#find(srcIp, dstIp, ports, words[own + KIND]!, words[own + ZONE]!, REPLY);
    if (item === 0 || this.#isSameFlow(own, (item >> 1) * WORDS_PER_ENTRY)) return 0;
    this.#events.found++;
    return item;
  }

  /** The entries with their words from `own` and from `other` on have the same original tuple in the same zone. */
  #isSameFlow(own: number, other: number): boolean {
    const { words } = this.table;
    return (
      words[own + TUPLES] === words[other + TUPLES] &&
      words[own + TUPLES + 1] === words[other + TUPLES + 1] &&
      words[own + TUPLES + 2] === words[other + TUPLES + 2] &&
      zoneIdOf(words[own + ZONE]!, ORIGINAL) === zoneIdOf(words[other + ZONE]!, ORIGINAL)
    );
  }

  /** Its time is over, though its record may not be reclaimed yet. */
  isExpired(index: number): boolean {
    return (
      (this.#statusOf(index) & (CONFIRMED | DYING)) === CONFIRMED &&
      this.table.times[index * TIMES_PER_ENTRY + EXPIRES_AT]! <= this.#clock.instant
    );
  }

  /** The entry's source is mapped to an address of this device, and is to end with it. */
  bindToDevice(index: number, deviceIndex: number): void {
    const { bytes } = this.table;
    const at = index * BYTES_PER_ENTRY + MASQUERADE_DEVICE;
    bytes[at] = deviceIndex;
    bytes[at + 1] = deviceIndex >>> 8;
  }

  /** Index of the device to which the entry is bound, or 0. */
  boundDevice(index: number): number {
    const { bytes } = this.table;
    const at = index * BYTES_PER_ENTRY + MASQUERADE_DEVICE;
    return bytes[at]! | (bytes[at + 1]! << 8);
  }

  /** The device went down, or lost one address: connections that are masqueraded by it end (nf_nat_masquerade.c). */
  endMasqueraded(deviceIndex: number, lost?: IpAddress): void {
    const { words } = this.table;
    for (let index = 1; index <= this.table.lastIndex; index++) {
      if ((this.#statusOf(index) & (CONFIRMED | DYING)) !== CONFIRMED) continue;
      if (this.boundDevice(index) !== deviceIndex) continue;
      const at = index * WORDS_PER_ENTRY;
      const usesLost =
        lost === undefined || (words[at + REPLY_TUPLE + 1] === lost.ip && familyOf(words[at + KIND]!) === lost.family);
      if (usesLost) this.#delete(index);
    }
  }

  /**
   * IPVS sends the frame's connection to this server, which will answer it (ip_vs_update_conntrack). Only before the
   * connection is confirmed; it does not count as translated.
   */
  expectAnswerFrom({ conntrackEntry, conntrackReply }: Frame, ip: Ip, port: number): void {
    const index = indexOf(conntrackEntry);
    if (conntrackEntry === 0 || conntrackReply || (this.#statusOf(index) & (CONFIRMED | DYING)) !== 0) return;
    const { words } = this.table;
    const at = index * WORDS_PER_ENTRY + REPLY_TUPLE;
    words[at] = ip;
    words[at + 2] = packPorts(port, dstPortOf(words[at + 2]!));
  }

  /** Ends the entry at once; frames that still have its handle find out when they are tracked again. */
  kill(index: number): void {
    this.#delete(index);
  }

  // ── for rules ──────────────────────────────────────────────────────────────────────────────────────────────────────

  // Record 0 belongs to no connection and is blank: what a frame without a connection is asked for is 0.

  mark({ conntrackEntry }: Frame): number {
    return this.table.words[indexOf(conntrackEntry) * WORDS_PER_ENTRY + MARK]!;
  }

  setMark({ conntrackEntry }: Frame, mark: number): void {
    if (conntrackEntry !== 0) this.table.words[indexOf(conntrackEntry) * WORDS_PER_ENTRY + MARK] = mark;
  }

  status({ conntrackEntry }: Frame): number {
    return this.#statusOf(indexOf(conntrackEntry));
  }

  zone({ conntrackEntry }: Frame, direction: Direction): number {
    return zoneIdOf(this.table.words[indexOf(conntrackEntry) * WORDS_PER_ENTRY + ZONE]!, direction);
  }

  expiration({ conntrackEntry }: Frame): Duration {
    const index = indexOf(conntrackEntry);
    if ((this.#statusOf(index) & CONFIRMED) === 0) return 0 as Duration;
    const left = this.table.times[index * TIMES_PER_ENTRY + EXPIRES_AT]! - this.#clock.instant;
    return Math.max(0, left) as Duration;
  }

  family({ conntrackEntry }: Frame): IpFamily {
    return familyOf(this.table.words[indexOf(conntrackEntry) * WORDS_PER_ENTRY + KIND]!);
  }

  protocol({ conntrackEntry }: Frame): number {
    return protocolOf(this.table.words[indexOf(conntrackEntry) * WORDS_PER_ENTRY + KIND]!);
  }

  srcIp({ conntrackEntry }: Frame, direction: Direction): Ip {
    return this.#tupleWord(conntrackEntry, direction, 0) as Ip;
  }

  dstIp({ conntrackEntry }: Frame, direction: Direction): Ip {
    return this.#tupleWord(conntrackEntry, direction, 1) as Ip;
  }

  srcPort({ conntrackEntry }: Frame, direction: Direction): number {
    return srcPortOf(this.#tupleWord(conntrackEntry, direction, 2));
  }

  dstPort({ conntrackEntry }: Frame, direction: Direction): number {
    return dstPortOf(this.#tupleWord(conntrackEntry, direction, 2));
  }

  #tupleWord(handle: number, direction: Direction, word: number): number {
    return this.table.words[indexOf(handle) * WORDS_PER_ENTRY + TUPLES + direction * TUPLE_WORDS + word]!;
  }

  readTuple(frame: Frame, tuple: ZonedTuple): void {
    const { conntrackEntry } = frame;
    if (conntrackEntry === 0) {
      tuple.srcIp = frame.srcIp;
      tuple.dstIp = frame.dstIp;
      tuple.ports = portsOf(frame);
      tuple.kind = packProtocol(frame.protocol, frame.family);
      // What is INVALID or UNTRACKED has lost the template that named its zone (nf_conntrack_in).
      tuple.zone = frame.conntrackState === 0 ? frame.conntrackZone : 0;
      return;
    }
    const { words } = this.table;
    const at = indexOf(conntrackEntry) * WORDS_PER_ENTRY;
    tuple.srcIp = words[at + TUPLES]!;
    tuple.dstIp = words[at + TUPLES + 1]!;
    tuple.ports = words[at + TUPLES + 2]!;
    tuple.kind = words[at + KIND]!;
    tuple.zone = words[at + ZONE]!;
  }

  find({ srcIp, dstIp, ports, kind, zone }: Readonly<ZonedTuple>): number {
    const item = this.#lookUp(srcIp, dstIp, ports, kind, zone);
    return item === 0 ? 0 : this.table.handleOf(item >> 1);
  }

  isAssured(handle: number): boolean {
    return (this.#statusOf(indexOf(handle)) & ASSURED) !== 0;
  }

  isClosed(handle: number): boolean {
    const state = this.table.tcpBytes[indexOf(handle) * BYTES_PER_ENTRY + TCP_STATE]!;
    return state === TIME_WAIT || state === CLOSE;
  }

  // ── tools: conntrack -L, -D, -F ────────────────────────────────────────────────────────────────────────────────────

  /** The entries alive, as `conntrack -L` shows them: without losers of races, which have no original tuple. */
  list(): ConntrackEntry[] {
    const entries: ConntrackEntry[] = [];
    for (let index = 1; index <= this.table.lastIndex; index++) {
      if (this.#isListed(index)) entries.push(this.#snapshot(index));
    }
    return entries;
  }

  /** `conntrack -D`: returns how many were deleted. */
  delete(matches: (entry: ConntrackEntry) => boolean): number {
    let deleted = 0;
    for (let index = 1; index <= this.table.lastIndex; index++) {
      if (!this.#isListed(index) || !matches(this.#snapshot(index))) continue;
      this.#delete(index);
      deleted++;
    }
    return deleted;
  }

  /** `conntrack -F`. */
  flush(): void {
    for (let index = 1; index <= this.table.lastIndex; index++) {
      if ((this.#statusOf(index) & (CONFIRMED | DYING)) === CONFIRMED) this.#delete(index);
    }
  }

  // ── lookup ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The item of a frame, which may come from either side (nf_conntrack_find_get). */
  #lookUp(srcIp: number, dstIp: number, ports: number, kind: number, zone: number): number {
    const item = this.#find(srcIp, dstIp, ports, kind, zone, ORIGINAL);
    if (item !== 0 || zone === 0 || zoneIdOf(zone, ORIGINAL) === zoneIdOf(zone, REPLY)) return item;
    return this.#find(srcIp, dstIp, ports, kind, zone, REPLY);
  }

  /** The item with that tuple in that zone that is confirmed and alive at this instant, or 0. */
  #find(srcIp: number, dstIp: number, ports: number, kind: number, zone: number, direction: Direction): number {
    const { table } = this;
    const item =
      zone === 0 && !table.hasZones
        ? table.find(srcIp, dstIp, ports, kind)
        : table.findInZone(srcIp, dstIp, ports, kind, zone, direction);
    if (item === 0) return 0;
    const { times } = this.table;
    const at = (item >> 1) * TIMES_PER_ENTRY;
    const now = this.#clock.instant;
    if (times[at + EXPIRES_AT]! <= now) {
      this.#delete(item >> 1);
      return 0;
    }
    return times[at + CONFIRMED_AT]! <= now ? item : 0;
  }

  /** An item with the same tuple as the entry has in that direction, or 0; also one that is confirmed later. */
  #liveTuple(index: number, direction: Direction): number {
    const item = this.table.findTuple(index, direction);
    if (item === 0) return 0;
    if (this.table.times[(item >> 1) * TIMES_PER_ENTRY + EXPIRES_AT]! > this.#clock.instant) return item;
    this.#delete(item >> 1);
    return 0;
  }

  /** An ICMP error belongs to the connection of the packet that it quotes, and goes the other way. */
  #trackIcmpMessage(frame: Frame): TrackOutcome {
    const { quoted } = frame;
    if (isNeverTracked(frame.protocol, frame.icmpType)) {
      frame.conntrackState = CT_UNTRACKED;
      return SKIPPED;
    }
    if (!isIcmpError(frame.protocol, frame.icmpType) && !isIpv6Redirect(frame))
      return isKnownIcmp(frame.protocol, frame.icmpType) ? this.#invalid(frame) : this.#erroneous(frame);
    if (quoted === undefined) return this.#erroneous(frame);
    const { protocol } = quoted;
    // A later fragment shows no ports; an error or a stray message has no answer to look for.
    if (quoted.fragmentOffset > 0) return this.#erroneous(frame);
    if (isIcmp(protocol) && !isIcmpQueryOrAnswer(protocol, quoted.icmpType)) return this.#erroneous(frame);
    const ports = invertPorts(protocol, portsOf(quoted));
    const kind = packProtocol(protocol, frame.family);
    const item = this.#lookUp(quoted.dstIp, quoted.srcIp, ports, kind, frame.conntrackZone);
    if (item === 0) return this.#erroneous(frame);
    const index = item >> 1;
    const { words } = this.table;
    // Its receiver is the sender of the quoted packet, else somebody is making it up.
    if (words[index * WORDS_PER_ENTRY + TUPLES + (item & 1) * TUPLE_WORDS + 1] !== frame.dstIp)
      return this.#erroneous(frame);
    frame.conntrackEntry = this.table.handleOf(index);
    frame.conntrackReply = (item & 1) === REPLY;
    frame.conntrackState = CT_RELATED | natState(words[index * WORDS_PER_ENTRY + STATUS]!);
    return TRACKED;
  }

  #invalid(frame: Frame): TrackOutcome {
    this.#events.invalid++;
    return this.#untied(frame);
  }

  #erroneous(frame: Frame): TrackOutcome {
    this.#events.error++;
    return this.#untied(frame);
  }

  #untied(frame: Frame): TrackOutcome {
    frame.conntrackEntry = 0;
    frame.conntrackReply = false;
    frame.conntrackState = CT_INVALID;
    return TRACKED;
  }

  #followUdp(index: number): void {
    const words = this.#words;
    const times = this.#times;
    const status = words[index * WORDS_PER_ENTRY + STATUS]!;
    const isStream =
      (status & SEEN_REPLY) !== 0 &&
      this.#clock.instant > times[index * TIMES_PER_ENTRY + CONFIRMED_AT]! + UDP_STREAM_AGE;
    // In any case: when code is reached that never was before, after two seconds, V8 compiles all around it anew.
    const isClash = (status & NAT_CLASH) !== 0;
    words[index * WORDS_PER_ENTRY + STATUS] = status | (isStream && !isClash ? ASSURED : 0);
    const { udpTimeout, udpStreamTimeout } = this.#settings;
    this.#prolong(index, isStream ? udpStreamTimeout : udpTimeout);
  }

  /** nf_conntrack_gre_packet */
  #followGre(index: number): void {
    const { words } = this.table;
    const isStream = (words[index * WORDS_PER_ENTRY + STATUS]! & SEEN_REPLY) !== 0;
    if (isStream) words[index * WORDS_PER_ENTRY + STATUS]! |= ASSURED;
    this.#prolong(index, isStream ? this.#settings.greStreamTimeout : this.#settings.greTimeout);
  }

  #timeoutOf(protocol: number): Duration {
    switch (protocol) {
      case PROTOCOL_UDP:
        return this.#settings.udpTimeout;
      case PROTOCOL_ICMP:
        return this.#settings.icmpTimeout;
      case PROTOCOL_ICMPV6:
        return this.#settings.icmpv6Timeout;
      case PROTOCOL_GRE:
        return this.#settings.greTimeout;
      default:
        return this.#settings.genericTimeout;
    }
  }

  /** The entry lives so long from now on. */
  #prolong(index: number, timeout: Duration): void {
    if ((this.#statusOf(index) & FIXED_TIMEOUT) !== 0) return;
    this.#times[index * TIMES_PER_ENTRY + EXPIRES_AT] = this.#clock.instant + timeout;
  }

  /** It lives at most so long from now on. */
  #shorten(index: number, timeout: Duration): void {
    const at = index * TIMES_PER_ENTRY + EXPIRES_AT;
    if (this.table.times[at]! > this.#clock.instant + timeout) this.#prolong(index, timeout);
  }

  #statusOf(index: number): number {
    return this.#words[index * WORDS_PER_ENTRY + STATUS]!;
  }

  // ── new entries ────────────────────────────────────────────────────────────────────────────────────────────────────

  #allocate(frame: Frame): TrackOutcome {
    this.#releaseAbandoned();
    this.#sweep();
    const { protocol } = frame;
    const { table } = this;
    if (table.count >= this.#settings.maxEntries) this.#collect();
    const index = this.#newRecord();
    const { words, times } = table;
    const at = index * WORDS_PER_ENTRY;
    const ports = portsOf(frame);
    words[at + TUPLES] = frame.srcIp;
    words[at + TUPLES + 1] = frame.dstIp;
    words[at + TUPLES + 2] = ports;
    words[at + REPLY_TUPLE] = frame.dstIp;
    words[at + REPLY_TUPLE + 1] = frame.srcIp;
    words[at + REPLY_TUPLE + 2] = invertPorts(protocol, ports);
    words[at + KIND] = packProtocol(protocol, frame.family);
    words[at + ZONE] = frame.conntrackZone;

    if (table.count > this.#settings.maxEntries && !this.#evict(index)) {
      this.#free(index);
      this.#events.drop++;
      return TABLE_FULL;
    }
    if (!this.#mayBegin(frame)) {
      this.#free(index);
      return this.#invalid(frame);
    }
    let timeout = this.#timeoutOf(protocol);
    if (protocol === PROTOCOL_TCP) {
      this.#tcp.open(index, frame);
      this.#tcp.follow(index, frame, ORIGINAL);
      timeout = this.#tcp.timeout;
    }
    // Until its confirmation, how long it will live from then on.
    times[index * TIMES_PER_ENTRY + EXPIRES_AT] = timeout;
    frame.conntrackEntry = table.handleOf(index);
    frame.conntrackReply = false;
    frame.conntrackState = CT_NEW;
    this.#hold(frame);
    return ALLOCATED;
  }

  #newRecord(): number {
    const { table } = this;
    const index = table.allocate();
    this.#times = table.times;
    this.#words = table.words;
    this.#lookupNs = UNKNOWN;
    return index;
  }

  #free(index: number): void {
    this.table.free(index);
    this.#lookupNs = UNKNOWN;
  }

  #mayBegin(frame: Frame): boolean {
    switch (frame.protocol) {
      case PROTOCOL_TCP:
        return this.#tcp.mayOpen(frame);
      case PROTOCOL_ICMP:
      case PROTOCOL_ICMPV6:
        return isIcmpQuery(frame.protocol, frame.icmpType);
      default:
        return true;
    }
  }

  #insert(index: number): void {
    const { words, times } = this.table;
    words[index * WORDS_PER_ENTRY + STATUS]! |= CONFIRMED;
    const now = this.#clock.instant;
    times[index * TIMES_PER_ENTRY + EXPIRES_AT]! += now;
    times[index * TIMES_PER_ENTRY + CONFIRMED_AT] = now;
  }

  /** nf_ct_resolve_clash. Only UDP takes part, because its packets do not depend on each other. */
  #resolveClash(frame: Frame, loser: number, winner: number): ConfirmOutcome {
    const { table } = this;
    const events = this.#events;
    if (frame.protocol === PROTOCOL_UDP) {
      const { clashResolution } = this.#settings;
      const isUntranslated = (this.#statusOf(winner) & (SRC_NAT_DONE | DST_NAT_DONE)) === 0;
      if (isUntranslated || (clashResolution !== 'untranslated' && this.#sameTuples(loser, winner))) {
        frame.conntrackEntry = table.handleOf(winner);
        this.#discard(loser);
        events.clash_resolve++;
        return JOINED;
      }
      if (clashResolution === 'always' && this.#liveTuple(loser, REPLY) === 0) {
        // Another destination was chosen for the same original tuple: later packets follow the winner, but this one's
        // answer must find its way back.
        this.#insert(loser);
        table.words[loser * WORDS_PER_ENTRY + STATUS]! |= FIXED_TIMEOUT | NAT_CLASH;
        table.times[loser * TIMES_PER_ENTRY + EXPIRES_AT] = after(this.#clock.instant, CLASH_TIMEOUT);
        table.insertTuple(loser, REPLY);
        events.clash_resolve++;
        return FOR_ITS_ANSWER;
      }
    }
    events.drop++;
    events.insert_failed++;
    return LOST;
  }

  #sameTuples(a: number, b: number): boolean {
    const { words } = this.table;
    for (let word = TUPLES; word < TUPLES + 2 * TUPLE_WORDS; word++) {
      if (words[a * WORDS_PER_ENTRY + word] !== words[b * WORDS_PER_ENTRY + word]) return false;
    }
    return true;
  }

  // ── the end of entries ─────────────────────────────────────────────────────────────────────────────────────────────

  /** Out of the index, and the record is free. */
  #delete(index: number): void {
    this.#unindex(index);
    this.#discard(index);
  }

  /** Out of the index; the record stays as long as the frame is under way, for its translation. */
  #letDie(index: number, frame: Frame): void {
    this.#releaseAbandoned(); // first: the frame that began the connection has gone, and gives up nothing any more
    this.#unindex(index);
    this.table.words[index * WORDS_PER_ENTRY + STATUS]! |= DYING;
    frame.conntrackEntry = this.table.handleOf(index);
    this.#hold(frame);
  }

  #unindex(index: number): void {
    if ((this.#statusOf(index) & NAT_CLASH) === 0) this.table.removeTuple(index, ORIGINAL);
    this.table.removeTuple(index, REPLY);
  }

  #discard(index: number): void {
    if ((this.#statusOf(index) & SRC_NAT) !== 0) this.table.unlinkSource(index);
    this.#free(index);
  }

  #hold(frame: Frame): void {
    this.#heldHandles.push(frame.conntrackEntry);
    this.#holders.push(frame);
  }

  /** Frames that ended before they were confirmed do not report it; what they held is found here. */
  #releaseAbandoned(): void {
    const handles = this.#heldHandles;
    const holders = this.#holders;
    let kept = 0;
    for (let i = 0; i < handles.length; i++) {
      const handle = handles[i]!;
      const holder = holders[i]!;
      if (!this.table.isCurrent(handle)) continue;
      const status = this.#statusOf(indexOf(handle));
      if ((status & (CONFIRMED | DYING)) === CONFIRMED) continue;
      if (holder.conntrackEntry === handle) {
        handles[kept] = handle;
        holders[kept++] = holder;
      } else {
        this.#discard(indexOf(handle));
      }
    }
    handles.length = kept;
    holders.length = kept;
  }

  #sweep(): void {
    for (let i = 0; i < SWEPT_PER_ENTRY; i++) {
      if (++this.#sweepIndex > this.table.lastIndex) this.#sweepIndex = 1;
      if (this.isExpired(this.#sweepIndex)) this.#delete(this.#sweepIndex);
    }
  }

  /** The garbage collector's run over the whole table, for one that is full. */
  #collect(): void {
    const now = this.#clock.instant;
    if (now < this.#nextCollection) return;
    this.#nextCollection = after(now, COLLECTION_INTERVAL);
    for (let index = 1; index <= this.table.lastIndex; index++) if (this.isExpired(index)) this.#delete(index);
  }

  /** Makes room for entry `index` by ending the entries of a bucket near its own that are not assured. */
  #evict(index: number): boolean {
    const { buckets } = this.#settings;
    const first = this.table.bucketOf(index, buckets);
    for (let i = 0; i < EVICTION_BUCKETS; i++) {
      const items = this.table.itemsInBucket((first + i) % buckets, buckets);
      let evicted = 0;
      for (const candidate of new Set(items.map((item) => item >> 1))) {
        const isExpired = this.isExpired(candidate);
        if (!isExpired && (this.#statusOf(candidate) & ASSURED) !== 0) continue;
        if (!isExpired) evicted++;
        this.#delete(candidate);
      }
      // early_drop: what had expired is cleared away by the way, but only an eviction makes room for this entry.
      this.#events.early_drop += evicted;
      if (evicted > 0) return true;
    }
    return false;
  }

  // ── snapshots ──────────────────────────────────────────────────────────────────────────────────────────────────────

  #isListed(index: number): boolean {
    const { times } = this.table;
    const now = this.#clock.instant;
    return (
      (this.#statusOf(index) & (CONFIRMED | DYING | NAT_CLASH)) === CONFIRMED &&
      times[index * TIMES_PER_ENTRY + CONFIRMED_AT]! <= now &&
      times[index * TIMES_PER_ENTRY + EXPIRES_AT]! > now
    );
  }

  #snapshot(index: number): ConntrackEntry {
    const status = this.#statusOf(index);
    const tcpState = TCP_STATES[this.table.tcpBytes[index * BYTES_PER_ENTRY + TCP_STATE] ?? 0]!;
    return {
      original: this.#tuple(index, ORIGINAL),
      reply: this.#tuple(index, REPLY),
      seenReply: (status & SEEN_REPLY) !== 0,
      assured: (status & ASSURED) !== 0,
      srcNat: (status & SRC_NAT) !== 0,
      dstNat: (status & DST_NAT) !== 0,
      tcpState: tcpState === 'NONE' ? undefined : tcpState,
      expiresAt: this.table.times[index * TIMES_PER_ENTRY + EXPIRES_AT]! as Instant,
      mark: this.table.words[index * WORDS_PER_ENTRY + MARK]!,
      zone: this.table.words[index * WORDS_PER_ENTRY + ZONE]!,
    };
  }

  #tuple(index: number, direction: Direction): ConnectionTuple {
    const { words } = this.table;
    const kind = words[index * WORDS_PER_ENTRY + KIND]!;
    const at = index * WORDS_PER_ENTRY + TUPLES + direction * TUPLE_WORDS;
    return {
      family: familyOf(kind),
      protocol: protocolOf(kind),
      srcIp: words[at]! as Ip,
      dstIp: words[at + 1]! as Ip,
      srcPort: srcPortOf(words[at + 2]!),
      dstPort: dstPortOf(words[at + 2]!),
    };
  }
}

const noEvents = (): ConntrackStatistics => ({
  found: 0,
  invalid: 0,
  insert_failed: 0,
  drop: 0,
  early_drop: 0,
  error: 0,
  clash_resolve: 0,
});

/**
 * Tracked as an error about what it quotes (nf_conntrack_icmpv6_redirect); without a use where the quotation is not the
 * first option, which it is not if the neighbor's address is known.
 */
const isIpv6Redirect = ({ protocol, icmpType, icmpCode, ttl, srcIp, discovery }: Frame): boolean =>
  protocol === PROTOCOL_ICMPV6 &&
  icmpType === ICMPV6_REDIRECT &&
  icmpCode === 0 &&
  ttl === 255 &&
  isIpv6LinkLocal(srcIp) &&
  discovery?.linkLayer === undefined;

/** Its connection has another source or destination at the other end. */
export const isTranslated = (frame: Frame): boolean => (frame.conntrackState & (CT_SNAT | CT_DNAT)) !== 0;

/** The bits that tell rules of a translated connection. */
export const natState = (status: number): number =>
  ((status & SRC_NAT) !== 0 ? CT_SNAT : 0) | ((status & DST_NAT) !== 0 ? CT_DNAT : 0);

function checked(settings: ConntrackSettings): ConntrackSettings {
  const { maxEntries, buckets } = settings;
  if (!(maxEntries >= 1 && maxEntries <= ENTRY_LIMIT)) {
    throw new RangeError(`nf_conntrack_max ${maxEntries}; expected 1 to ${ENTRY_LIMIT}`);
  }
  if (!(buckets >= 1 && buckets <= 2 ** 31))
    throw new RangeError(`nf_conntrack_buckets ${buckets}; expected 1 to 2^31`);
  return settings;
}
