// The memory of conntrack: one fixed-size record per connection, an index of tuples over them, and an index of translated
// sources for NAT. What the fields mean to a protocol, and when an entry ends, is the business of its users.
//
// Everything is a typed array: a lookup allocates nothing, an idle namespace costs 2 KB, a million entries 140 MB. Each
// record is one stretch of an ArrayBuffer that three views read, as 8-byte instants, 4-byte words and single bytes. What
// only some connections need stands apart, and takes no memory before the first of them: a second record for TCP (a million
// entries: 67 MB more), and the links of translated sources.
//
// The tuple index uses open addressing with linear probing, at most half full, and repeats the tuple in its slots: a
// lookup reads one place of memory (bench/conntrack.bench.ts). Slots are ordered by the upper bits of the hash, so that
// the entries of neighboring hash buckets of the kernel are neighbors here too (see itemsInBucket). Removal shifts later
// slots back instead of leaving tombstones: a table never degrades, however long it lives.
//
// IPv6 addresses are compared as handles, but hashed by their words: where an entry stands, and which one is evicted from
// a full table, must not depend on what else was interned before. Zones are not hashed, because few tables have any.

import type { Ip } from '../packet/ip-address.ts';
import { hashIpv6 } from '../packet/ipv6-address.ts';
import { IPV6_KIND, packPorts, srcPortOf } from './connection-tuple.ts';
import { zoneIdOf } from './connection-zone.ts';

// Layout of a record, one line of the processor's cache. Instants, in units of 8 bytes:
export const EXPIRES_AT = 0;
export const CONFIRMED_AT = 1;
export const TIMES_PER_ENTRY = 8;

// Words of 4 bytes. A tuple is three words: source, destination, ports; the reply tuple stands after the original one.
export const TUPLES = 4;
export const TUPLE_WORDS = 3;
export const REPLY_TUPLE = TUPLES + TUPLE_WORDS;
/** Of an unused record: the next unused one. */
const NEXT_FREE = TUPLES;
export const STATUS = 10;
const GENERATION = 11;
/** The protocol with its family (packProtocol). */
export const KIND = 12;
/** The connmark. */
export const MARK = 13;
/** As in connection-zone.ts. */
export const ZONE = 14;
export const WORDS_PER_ENTRY = 16;

// Bytes.
/** Two bytes, low one first: the index of the device for whose address MASQUERADE has mapped the source; 0 if none. */
export const MASQUERADE_DEVICE = 60;
export const BYTES_PER_ENTRY = 64;

// The second record, of TCP, is as long. Four words per direction, original first: the window tracking.
export const WINDOWS = 0;
export const WINDOW_WORDS = 4;
/** What the TCP tracker remembers of the last segment. */
export const LAST_SEQUENCE = 8;
export const LAST_ACKNOWLEDGMENT = 9;
export const LAST_END = 10;
export const LAST_WINDOW = 11;

// Bytes.
export const TCP_STATE = 48;
/** Two bytes each: original, reply. */
export const TCP_FLAGS = 49;
export const TCP_SCALE = 51;
export const LAST_KIND = 53;
export const LAST_DIRECTION = 54;
export const LAST_FLAGS = 55;
export const LAST_SCALE = 56;
export const RETRANSMISSIONS = 57;

export const ORIGINAL = 0;
export const REPLY = 1;
export type Direction = typeof ORIGINAL | typeof REPLY;

// Status bits, with the kernel's values (enum ip_conntrack_status): `ct status` shows them to rules.
export const SEEN_REPLY = 1 << 1;
/** Never evicted when the table is full. */
export const ASSURED = 1 << 2;
/** Its tuples are in the index. */
export const CONFIRMED = 1 << 3;
export const SRC_NAT = 1 << 4;
export const DST_NAT = 1 << 5;
/** NAT has decided about the connection's source (destination), perhaps to leave it as it is. */
export const SRC_NAT_DONE = 1 << 7;
export const DST_NAT_DONE = 1 << 8;
/** Out of the index; a frame on its way still uses the record. */
export const DYING = 1 << 9;
/** Packets do not prolong its life. */
export const FIXED_TIMEOUT = 1 << 10;
/** Lost the race for its original tuple: found by its reply tuple only. */
export const NAT_CLASH = 1 << 12;

/**
 * A handle names one use of a record: its index, and above it how often the record has been reused. Frames keep handles,
 * so that a frame that waited cannot take another connection for its own. 31 bits: a small integer in V8.
 */
const INDEX_BITS = 22;
const INDEX_MASK = 2 ** INDEX_BITS - 1;
const GENERATION_MASK = 2 ** 9 - 1;
/** Entries of one namespace; the largest nf_conntrack_max seen in the field is 3,145,728. */
export const ENTRY_LIMIT = INDEX_MASK;

const FIRST_CAPACITY = 16;

/** Log2 of the words of a slot. */
const SLOT_SHIFT = 2;
const SLOT_WORDS = 1 << SLOT_SHIFT;
/** Which of them is the item; the first three are the tuple. */
const ITEM = 3;
const ITEM_BITS = INDEX_BITS + 1;
const ITEM_MASK = 2 ** ITEM_BITS - 1;

/** Two words for each entry: the next and the previous one in its by-source list. */
const LINK_SHIFT = 1;
const NEXT_BY_SOURCE = 0;
const PREVIOUS_BY_SOURCE = 1;

export class ConntrackTable {
  times: Float64Array;
  words: Int32Array;
  bytes: Uint8Array;
  /** The second records: empty before {@link makeRoomForTcp}. */
  tcpWords = new Int32Array(0);
  tcpBytes = new Uint8Array(0);
  /** Records in use. */
  count = 0;
  /** Records that have ever been used: indexes run from 1 to here. */
  lastIndex = 0;
  #capacity = FIRST_CAPACITY;
  #firstFree = 0;
  /** Four words each: source, destination, ports, and the item with its kind above it; item 0 is an empty slot. */
  #slots: Int32Array;
  #slotMask: number;
  #hashShift: number;
  #items = 0;
  /** Some entry has been in a zone other than 0. */
  hasZones = false;
  /** First entry of each by-source list, by hash of the original source; empty, as the links, without any. */
  #sources = new Int32Array(0);
  #sourceLinks = new Int32Array(0);

  constructor() {
    const buffer = new ArrayBuffer(FIRST_CAPACITY * BYTES_PER_ENTRY);
    this.times = new Float64Array(buffer);
    this.words = new Int32Array(buffer);
    this.bytes = new Uint8Array(buffer);
    const slotCount = 4 * FIRST_CAPACITY; // two items per record, half full
    this.#slots = new Int32Array(SLOT_WORDS * slotCount);
    this.#slotMask = SLOT_WORDS * slotCount - 1;
    this.#hashShift = 32 - Math.log2(slotCount);
  }

  // ── records ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The index of a blank record. Throws a RangeError beyond {@link ENTRY_LIMIT}. */
  allocate(): number {
    this.count++;
    const free = this.#firstFree;
    if (free !== 0) {
      const at = free * WORDS_PER_ENTRY + NEXT_FREE;
      this.#firstFree = this.words[at]!;
      this.words[at] = 0;
      return free;
    }
    if (this.lastIndex + 1 === this.#capacity) this.#growRecords();
    return ++this.lastIndex;
  }

  /** Gives the record back; its tuples must have left the index. Handles to it are stale from now on. */
  free(index: number): void {
    const { words } = this;
    const at = index * WORDS_PER_ENTRY;
    const generation = (words[at + GENERATION]! + 1) & GENERATION_MASK;
    words.fill(0, at, at + WORDS_PER_ENTRY);
    if (this.tcpWords.length > 0) this.tcpWords.fill(0, at, at + WORDS_PER_ENTRY);
    words[at + GENERATION] = generation;
    words[at + NEXT_FREE] = this.#firstFree;
    this.#firstFree = index;
    this.count--;
  }

  handleOf(index: number): number {
    return (this.words[index * WORDS_PER_ENTRY + GENERATION]! << INDEX_BITS) | index;
  }

  /** The handle's record still belongs to the connection that it was given for. */
  isCurrent(handle: number): boolean {
    return isCurrentIn(this.words, handle);
  }

  /** Every record has a second one from now on. */
  makeRoomForTcp(): void {
    if (this.tcpWords.length > 0) return;
    const buffer = new ArrayBuffer(this.#capacity * BYTES_PER_ENTRY);
    this.tcpBytes = new Uint8Array(buffer);
    this.tcpWords = new Int32Array(buffer);
  }

  #growRecords(): void {
    if (this.#capacity > ENTRY_LIMIT)
      throw new RangeError(`more than ${ENTRY_LIMIT} conntrack entries in one namespace`);
    this.#capacity *= 2;
    this.bytes = this.#grown(this.bytes);
    this.words = new Int32Array(this.bytes.buffer);
    this.times = new Float64Array(this.bytes.buffer);
    if (this.tcpWords.length > 0) {
      this.tcpBytes = this.#grown(this.tcpBytes);
      this.tcpWords = new Int32Array(this.tcpBytes.buffer);
    }
    if (this.#sources.length > 0) this.#growSources();
  }

  #grown(before: Uint8Array): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.#capacity * BYTES_PER_ENTRY);
    bytes.set(before);
    return bytes;
  }

  // ── tuples ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The item with this tuple, or 0, in a table without zones. An item is `index * 2 + direction`. */
  find(srcIp: number, dstIp: number, ports: number, kind: number): number {
    const slots = this.#slots;
    const mask = this.#slotMask;
    let slot = (hashTuple(srcIp, dstIp, ports, kind) >>> this.#hashShift) << SLOT_SHIFT;
    for (;;) {
      const tagged = slots[slot + ITEM]!;
      if (tagged === 0) return 0;
      if (
        slots[slot] === srcIp &&
        slots[slot + 1] === dstIp &&
        slots[slot + 2] === ports &&
        tagged >>> ITEM_BITS === kind
      ) {
        return tagged & ITEM_MASK;
      }
      slot = (slot + SLOT_WORDS) & mask;
    }
  }

  /**
   * The item with this tuple in the zone, or 0. In the kernel the zone's number for `direction` belongs to what is
   * hashed; beside it, the zones must agree in the item's own direction.
   */
  findInZone(srcIp: number, dstIp: number, ports: number, kind: number, zone: number, direction: Direction): number {
    const slots = this.#slots;
    const hashedId = zoneIdOf(zone, direction);
    let slot = this.#homeOf(hashTuple(srcIp, dstIp, ports, kind));
    for (; slots[slot + ITEM] !== 0; slot = (slot + SLOT_WORDS) & this.#slotMask) {
      if (slots[slot] !== srcIp || slots[slot + 1] !== dstIp || slots[slot + 2] !== ports) continue;
      const tagged = slots[slot + ITEM]!;
      if (tagged >>> ITEM_BITS === kind && this.#isInZone(tagged & ITEM_MASK, zone, hashedId))
        return tagged & ITEM_MASK;
    }
    return 0;
  }

  #isInZone(item: number, zone: number, hashedId: number): boolean {
    const own = zoneIdOf(this.words[(item >> 1) * WORDS_PER_ENTRY + ZONE]!, item & 1);
    return own === hashedId && own === zoneIdOf(zone, item & 1);
  }

  /** The item with the same tuple as the entry has in that direction, or 0; finds the entry itself if it is indexed. */
  findTuple(index: number, direction: Direction): number {
    const { words } = this;
    const at = index * WORDS_PER_ENTRY;
    const tuple = at + TUPLES + direction * TUPLE_WORDS;
    const srcIp = words[tuple]!;
    const dstIp = words[tuple + 1]!;
    const ports = words[tuple + 2]!;
    const kind = words[at + KIND]!;
    const zone = words[at + ZONE]!;
    if (zone === 0 && !this.hasZones) return this.find(srcIp, dstIp, ports, kind);
    return this.findInZone(srcIp, dstIp, ports, kind, zone, direction);
  }

  /** Makes the entry findable by its tuple of that direction, which no other item of its zone may have. */
  insertTuple(index: number, direction: Direction): void {
    if (2 * SLOT_WORDS * ++this.#items > this.#slots.length) this.#growSlots();
    const { words } = this;
    const at = index * WORDS_PER_ENTRY;
    const tuple = at + TUPLES + direction * TUPLE_WORDS;
    if (words[at + ZONE] !== 0) this.hasZones = true;
    const tagged = (words[at + KIND]! << ITEM_BITS) | (index * 2 + direction);
    this.#place(words[tuple]!, words[tuple + 1]!, words[tuple + 2]!, tagged);
  }

  /** Undoes {@link insertTuple}. */
  removeTuple(index: number, direction: Direction): void {
    const slots = this.#slots;
    const mask = this.#slotMask;
    const item = index * 2 + direction;
    let hole = this.#homeOf(this.#hashOf(index, direction));
    while ((slots[hole + ITEM]! & ITEM_MASK) !== item) hole = (hole + SLOT_WORDS) & mask;
    // Shifts back every later item of the run that would be found in the hole's place too.
    for (let slot = (hole + SLOT_WORDS) & mask; slots[slot + ITEM] !== 0; slot = (slot + SLOT_WORDS) & mask) {
      const home = this.#homeOf(hashSlot(slots, slot));
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      slots[hole] = slots[slot]!;
      slots[hole + 1] = slots[slot + 1]!;
      slots[hole + 2] = slots[slot + 2]!;
      slots[hole + ITEM] = slots[slot + ITEM]!;
      hole = slot;
    }
    slots[hole + ITEM] = 0;
    this.#items--;
  }

  /**
   * Items whose hash falls into one of `bucketCount` equal parts of the range of hashes, as the kernel divides it among
   * its buckets. Allocates: for a table that is full.
   */
  itemsInBucket(bucket: number, bucketCount: number): number[] {
    const slots = this.#slots;
    const mask = this.#slotMask;
    const first = Math.ceil((bucket * 2 ** 32) / bucketCount);
    const last = Math.ceil(((bucket + 1) * 2 ** 32) / bucketCount) - 1;
    const lastHome = last >>> this.#hashShift;
    const items: number[] = [];
    for (let home = first >>> this.#hashShift; ; home++) {
      const slot = (home << SLOT_SHIFT) & mask;
      const tagged = slots[slot + ITEM]!;
      if (tagged === 0) {
        if (home >= lastHome) return items;
        continue;
      }
      const hash = hashSlot(slots, slot) >>> 0;
      if (hash >= first && hash <= last) items.push(tagged & ITEM_MASK);
    }
  }

  bucketOf(index: number, bucketCount: number): number {
    return Math.floor(((this.#hashOf(index, ORIGINAL) >>> 0) * bucketCount) / 2 ** 32);
  }

  #hashOf(index: number, direction: Direction): number {
    const { words } = this;
    const at = index * WORDS_PER_ENTRY;
    const tuple = at + TUPLES + direction * TUPLE_WORDS;
    return hashTuple(words[tuple]!, words[tuple + 1]!, words[tuple + 2]!, words[at + KIND]!);
  }

  #homeOf(hash: number): number {
    return (hash >>> this.#hashShift) << SLOT_SHIFT;
  }

  #place(srcIp: number, dstIp: number, ports: number, tagged: number): void {
    const slots = this.#slots;
    let slot = this.#homeOf(hashTuple(srcIp, dstIp, ports, tagged >>> ITEM_BITS));
    while (slots[slot + ITEM] !== 0) slot = (slot + SLOT_WORDS) & this.#slotMask;
    slots[slot] = srcIp;
    slots[slot + 1] = dstIp;
    slots[slot + 2] = ports;
    slots[slot + ITEM] = tagged;
  }

  #growSlots(): void {
    const before = this.#slots;
    this.#slots = new Int32Array(2 * before.length);
    this.#slotMask = this.#slots.length - 1;
    this.#hashShift--;
    for (let slot = 0; slot < before.length; slot += SLOT_WORDS) {
      const tagged = before[slot + ITEM]!;
      if (tagged !== 0) this.#place(before[slot]!, before[slot + 1]!, before[slot + 2]!, tagged);
    }
  }

  // ── translated sources ─────────────────────────────────────────────────────────────────────────────────────────────

  /** Adds the entry to the list of its original source, in front. */
  linkSource(index: number): void {
    if (this.#sources.length === 0) this.#growSources();
    const links = this.#sourceLinks;
    const list = this.#sourceListOf(index);
    const next = this.#sources[list]!;
    links[(index << LINK_SHIFT) + NEXT_BY_SOURCE] = next;
    links[(index << LINK_SHIFT) + PREVIOUS_BY_SOURCE] = 0;
    if (next !== 0) links[(next << LINK_SHIFT) + PREVIOUS_BY_SOURCE] = index;
    this.#sources[list] = index;
  }

  unlinkSource(index: number): void {
    const links = this.#sourceLinks;
    const next = links[(index << LINK_SHIFT) + NEXT_BY_SOURCE]!;
    const previous = links[(index << LINK_SHIFT) + PREVIOUS_BY_SOURCE]!;
    if (next !== 0) links[(next << LINK_SHIFT) + PREVIOUS_BY_SOURCE] = previous;
    if (previous !== 0) links[(previous << LINK_SHIFT) + NEXT_BY_SOURCE] = next;
    else this.#sources[this.#sourceListOf(index)] = next;
  }

  /** The latest linked entry of the list in which connections from this source are, among others; 0 if it is empty. */
  firstBySource(srcIp: Ip, srcPort: number, kind: number): number {
    return this.#sources.length === 0 ? 0 : this.#sources[this.#sourceList(srcIp, srcPort, kind)]!;
  }

  nextBySource(index: number): number {
    return this.#sourceLinks[(index << LINK_SHIFT) + NEXT_BY_SOURCE]!;
  }

  #sourceListOf(index: number): number {
    const { words } = this;
    const at = index * WORDS_PER_ENTRY;
    return this.#sourceList(words[at + TUPLES]! as Ip, srcPortOf(words[at + TUPLES + 2]!), words[at + KIND]!);
  }

  #sourceList(srcIp: Ip, srcPort: number, kind: number): number {
    return hashTuple(srcIp, 0, packPorts(srcPort, 0), kind) & (this.#sources.length - 1);
  }

  /** Lists are taken over from back to front, so that their order stays. */
  #growSources(): void {
    const before = this.#sources;
    const links = new Int32Array(this.#capacity << LINK_SHIFT);
    links.set(this.#sourceLinks);
    this.#sourceLinks = links;
    this.#sources = new Int32Array(this.#capacity);
    for (const first of before) {
      const list: number[] = [];
      for (let index = first; index !== 0; index = this.nextBySource(index)) list.push(index);
      for (const index of list.reverse()) this.linkSource(index);
    }
  }
}

export const indexOf = (handle: number): number => handle & INDEX_MASK;

/** {@link ConntrackTable.isCurrent}, for who has the table's words. */
export const isCurrentIn = (words: Int32Array, handle: number): boolean =>
  words[indexOf(handle) * WORDS_PER_ENTRY + GENERATION] === handle >>> INDEX_BITS;

/**
 * Three products that a CPU computes side by side, and one round that spreads every bit over the upper ones, which choose
 * the slot. Odd constants from splitmix and murmur3.
 */
function hashTuple(srcIp: number, dstIp: number, ports: number, kind: number): number {
  if ((kind & IPV6_KIND) !== 0) return hashIpv6Tuple(srcIp as Ip, dstIp as Ip, ports, kind);
  const mixed = Math.imul(srcIp, 0x9e3779b1) ^ Math.imul(dstIp + kind, 0x85ebca6b) ^ Math.imul(ports, 0xc2b2ae35);
  return Math.imul(mixed ^ (mixed >>> 15), 0x7feb352d);
}

const hashIpv6Tuple = (srcIp: Ip, dstIp: Ip, ports: number, kind: number): number =>
  hashTuple(hashIpv6(srcIp), hashIpv6(dstIp) + kind, ports, 0);

const hashSlot = (slots: Int32Array, slot: number): number =>
  hashTuple(slots[slot]!, slots[slot + 1]!, slots[slot + 2]!, slots[slot + ITEM]! >>> ITEM_BITS);
