// What a machine remembers of the ways that frames of established connections take through it, so that the next frame of
// a flow is brought to the end of its way at once: from a socket's send() to a wire, from a wire to a socket. It serves
// the computing only. All that the stages in between would do happens: headers are rewritten, CPU time is charged, rules
// and policies count, conntrack follows, bridges see the source; by property test (flow-cache.property.test.ts) every
// counter, time and fingerprint is the same without it.
//
// A way is written down while a frame takes it: the stages report to the FlowRecorder what they do beside changing the
// frame. It is remembered, from the second frame of a flow on, if the frame came to an end of it (a wire, a transport
// protocol), no other frame was made and no event scheduled meanwhile, and no stage spoiled the recording: a coin, a count
// or the time decided (rules with such matches, targets that change the packet), a tap or a journey watched, the
// connection was new or invalid. Of a flow's first frame a hash is kept, because many flows have no other.
//
// It is forgotten
//   - when anything changes that decides where frames go on this machine (CpuSet.forgetWays): a device's state, MTU, tap
//     or receiver, bridge ports, what a bridge knows of MACs, addresses, routes, neighbors, rules, sysctls;
//   - when a decision's time is over: a neighbor is reachable, a MAC is known for so long;
//   - when the connection is not what it was: conntrack itself looks at its entry, for every frame;
// and a frame takes the long way when it differs in more than addresses, ports and size: a mark, a fragment, a larger
// frame than the way was written down for, a TTL that does not last.
//
// Not remembered: IPv6, other protocols than UDP and TCP, tunnels, ways through two tracking namespaces or two bridges
// that learn.

import { ms } from '../../engine/time.ts';
import type { CpuSet } from '../cpu/cpu-set.ts';
import type {
  ConnectionTracker,
  FlowRecorder,
  FrameSender,
  FrameTaker,
  PacketCounters,
  RuleVisits,
  UnsettledCounts,
  WayEnd,
  WayWriter,
} from '../packet/flow-recorder.ts';
import { ETHERNET_HEADER_BYTES, ETHERTYPE_IPV4, type Frame, PROTOCOL_TCP, PROTOCOL_UDP } from '../packet/frame.ts';
import type { FrameStore } from '../packet/frame-store.ts';
import type { Ip } from '../packet/ip-address.ts';

// A record is 64 bytes, a line of the processor's cache: what a lookup compares, then what the frame becomes. All that
// differs between flows is here, so that flows share their ways, and few ways are all that a machine has.
const WORDS_PER_RECORD = 16;
/** Where the way begins, with the protocol in the lower 8 bits; 0 is a free record. */
const INGRESS = 0;
const SRC_IP = 1;
const DST_IP = 2;
const PORTS = 3;
/** Of the machine, when the way was written down. */
const GENERATION = 4;
/** The first tick of 2^23 ns (8 ms) in which it does not hold any more. */
const END_TICK = 5;
const LARGEST = 6;
/** Conntrack's handle. */
const ENTRY = 7;
const FLAGS = 8;
/** The number of the run that says when a bridge has heard of the source; NONE: no bridge learns. */
const SEEN_AT = 9;
const NEW_SRC_IP = 10;
const NEW_DST_IP = 11;
const NEW_PORTS = 12;
/** The number of the way. */
const WAY = 13;
/** The lower 32 bits of the MAC that it is for in the end; the others stand with the flags. */
const NEW_DST_MAC = 14;
/** Where its objects begin; 0: it has none so far. */
const OBJECTS = 15;

/**
 * Flags: the frame is of the connection's reply direction; it leaves with its entry, and with the state in the bits above;
 * it ends on this machine. The upper half are the upper 16 bits of a MAC.
 */
const IS_REPLY = 1;
const KEEPS_ENTRY = 2;
const ENDS_HERE = 4;
const STATE_SHIFT = 3;
const STATE_MASK = 0xff;
const MAC_SHIFT = 16;

// The objects of a flow that has a way, side by side, so that the processor fetches all of them at once: in a large cluster
// each of them comes from main memory, and one that only another leads to comes after it.
const OBJECTS_PER_FLOW = 4;
const ITS_WAY = 0;
const ITS_TRACKER = 1;
/** The device or receiver at the end. */
const ITS_END = 2;
/** For a receiver: the device by which the frame has come to it. */
const ITS_DEVICE = 3;

const TICK_NS = 2 ** 23;
const tickOf = (instant: number): number => Math.min(Math.floor(instant / TICK_NS), 2 ** 31 - 1);

/** V8 keeps such a number without a box, if it is told. */
const isSmall = (whole: number): boolean => (whole | 0) === whole;

/** 2 s: longer than most flows that go on are silent. */
const MOMENT_TICKS = 256;

/** Instead of a generation: the flow has no way yet; it had no good one when the records were tidied. */
const NEW = -1;
const IDLE = -2;
const NONE = -1;
const FIRST_CAPACITY = 1_024;
const FIRST_SEEN = 4_096;
/** 256 MB. Half as many flows at once, and all are forgotten: 5,000 nodes of 30 pods have a fifth of that. */
const LARGEST_CAPACITY = 2 ** 22;
/** So that they fit a word of the record beside the protocol. */
const MOST_INGRESSES = 2 ** 23 - 1;

/**
 * Decisions are looked at once for the whole way, when it begins, and visits of several CPUs overlap: they hold for that
 * much less.
 */
const MARGIN = ms(100);

/** Of different ways of one machine and generation: with more, something makes each flow's another one. */
const MOST_WAYS = 4_096;

const caches = new WeakMap<FrameStore, FlowCache>();

/** One for all machines of a run, so that what looks a flow up is in the processor's cache whichever machine asks. */
export function flowCacheOf(frames: FrameStore): FlowCache {
  let cache = caches.get(frames);
  if (cache === undefined) caches.set(frames, (cache = new FlowCache(frames.recorder)));
  return cache;
}

export class FlowCache implements WayWriter {
  readonly #recorder: FlowRecorder;
  #ingresses = 0;
  #capacity = FIRST_CAPACITY;
  #used = 0;
  #words = new Int32Array(FIRST_CAPACITY * WORDS_PER_RECORD);
  #tidiedAt = 0;
  /** Hashes of flows of which a frame has come and that have no record; 0: nobody's place. */
  #seen = new Int32Array(FIRST_SEEN);
  #seenCount = 0;
  #seenSince = 0;
  #coin = 0;
  /** By number. */
  readonly #ways: Way[] = [];
  /** Numbers of ways that are no longer taken. */
  readonly #freeWays: number[] = [];
  #objects: unknown[] = noObjects();
  /** The different ways of each machine: its flows share a handful. */
  readonly #knownWays = new Map<CpuSet, KnownWays>();
  /** The record that the running recording is for, and the frame as it began. */
  #record = 0;
  #sizeBytes = 0;
  #ttl = 0;
  #dontFragment = false;
  #typeOfService = 0;
  #flowHash = 0;

  constructor(recorder: FlowRecorder) {
    this.#recorder = recorder;
  }

  /** Records that there is room for, used or not. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Records in use: of flows that have sent more than one frame. */
  get flows(): number {
    return this.#used;
  }

  /** A number for a place where ways begin: a stack's sockets, or one of its devices. */
  newIngress(): number {
    if (this.#ingresses === MOST_INGRESSES)
      throw new RangeError(`more than ${MOST_INGRESSES} network namespaces in one run`);
    return ++this.#ingresses;
  }

  /**
   * True: the frame has been brought to the end of its way, and is no longer the caller's. False: the caller brings it on
   * its way, and calls {@link finish} when it has returned.
   */
  repeat(ingress: number, frame: Frame, cpus: CpuSet): boolean {
    if (!this.#serves(frame) || cpus.isBatching || cpus.tunnelDepth > 0) return false;
    const record = this.#find(ingress, frame, cpus);
    if (record === NONE) return false;
    if (this.#words[record * WORDS_PER_RECORD + GENERATION] === cpus.generation && this.#go(record, frame, cpus))
      return true;
    this.#writeDown(record, frame, cpus);
    return false;
  }

  /** The frame has gone the long way. */
  finish(): void {
    this.#recorder.spoil();
  }

  #serves(frame: Frame): boolean {
    return (
      (frame.protocol === PROTOCOL_UDP || frame.protocol === PROTOCOL_TCP) &&
      frame.etherType === ETHERTYPE_IPV4 &&
      !frame.moreFragments &&
      frame.fragmentOffset === 0 &&
      frame.inner?.isChecksumOpen !== true && // NAT does to it what it does not to others of the flow
      frame.journey === undefined &&
      frame.mark === 0 &&
      frame.conntrackState === 0 &&
      frame.conntrackEntry === 0 &&
      !this.#recorder.isOff
    );
  }

  /** The flow's record; NONE for its first frame. */
  #find(ingress: number, frame: Frame, cpus: CpuSet): number {
    const words = this.#words;
    const mask = this.#capacity - 1;
    const { srcIp, dstIp } = frame;
    const from = (ingress << 8) | frame.protocol;
    const ports = (frame.srcPort << 16) | frame.dstPort;
    const hash = hashOf(from, srcIp, dstIp, ports);
    let record = hash & mask;
    for (;;) {
      const at = record * WORDS_PER_RECORD;
      if (words[at + INGRESS] === 0) break;
      if (
        words[at + PORTS] === ports &&
        words[at + DST_IP] === dstIp &&
        words[at + SRC_IP] === srcIp &&
        words[at + INGRESS] === from
      ) {
        return record;
      }
      record = (record + 1) & mask;
    }
    return this.#isSeen(hash, cpus) ? this.#enter({ from, srcIp, dstIp, ports }, hash, cpus) : NONE;
  }

  /** Whether a frame of the flow has come lately, or of another one with its hash, which does no harm. */
  #isSeen(hash: number, cpus: CpuSet): boolean {
    const seen = this.#seen;
    const at = hash & (seen.length - 1);
    if (seen[at] === hash) {
      seen[at] = 0;
      return true;
    }
    // Now and then the newcomer gives way: two flows that share a place and take turns would never be seen twice.
    if (seen[at] !== 0 && (this.#coin = (Math.imul(this.#coin, 0x19660d) + 0x3c6ef35f) | 0) < 0) return false;
    seen[at] = hash;
    if (++this.#seenCount * 2 > seen.length) this.#tidySeen(tickOf(cpus.instant));
    return false;
  }

  /** As {@link #tidy}: what comes in a moment has room. */
  #tidySeen(now: number): void {
    const before = this.#seen;
    if (now - this.#seenSince < MOMENT_TICKS && before.length < LARGEST_CAPACITY) {
      this.#seen = new Int32Array(before.length * 2);
      for (const hash of before) this.#seen[hash & (this.#seen.length - 1)] = hash;
    } else {
      before.fill(0);
    }
    this.#seenCount = 0;
    this.#seenSince = now;
  }

  /** A record for a flow that has none. */
  #enter({ from, srcIp, dstIp, ports }: FlowKey, hash: number, cpus: CpuSet): number {
    if ((this.#used + 1) * 2 > this.#capacity) this.#tidy(tickOf(cpus.instant));
    this.#used++;
    const words = this.#words;
    const record = this.#freeRecord(hash);
    const at = record * WORDS_PER_RECORD;
    words[at + INGRESS] = from;
    words[at + SRC_IP] = srcIp;
    words[at + DST_IP] = dstIp;
    words[at + PORTS] = ports;
    words[at + GENERATION] = NEW;
    return record;
  }

  #freeRecord(hash: number): number {
    const mask = this.#capacity - 1;
    let record = hash & mask;
    while (this.#words[record * WORDS_PER_RECORD + INGRESS] !== 0) record = (record + 1) & mask;
    return record;
  }

  /** False: something is not as it was, and nothing has been done. */
  #go(record: number, frame: Frame, cpus: CpuSet): boolean {
    const words = this.#words;
    const at = record * WORDS_PER_RECORD;
    const objects = this.#objects;
    const own = words[at + OBJECTS]!;
    const way = objects[own + ITS_WAY] as Way;
    const tracker = objects[own + ITS_TRACKER] as ConnectionTracker | undefined;
    const end = objects[own + ITS_END];
    const flags = words[at + FLAGS]!;
    const endsHere = (flags & ENDS_HERE) !== 0;
    const start = cpus.instant;
    if (start >= words[at + END_TICK]! * TICK_NS || frame.sizeBytes > words[at + LARGEST]! || frame.ttl <= way.ttlLoss)
      return false;
    // A device that is down has no ways, and a closed receiver would say so itself: asked here, it is fetched now.
    if (endsHere ? (end as FrameTaker).isClosed : !(end as FrameSender).up) return false;
    const isReply = (flags & IS_REPLY) !== 0;
    let lookupNs = 0;
    if (tracker !== undefined) {
      cpus.charge(way.trackedNs);
      if (!tracker.trackAgain(frame, words[at + ENTRY]!, isReply)) {
        cpus.charge(0 - way.trackedNs); // never -0, which V8 boxes
        return false;
      }
      lookupNs = tracker.lookupNs;
      cpus.charge(lookupNs - way.trackedNs);
    }
    cpus.charge(way.spentNs);
    const seenAt = words[at + SEEN_AT]!;
    if (seenAt !== NONE) {
      const { values } = cpus.numbers;
      values[seenAt] = start;
      values[seenAt]! += way.seenNs + (way.isSeenAfterLookup ? lookupNs : 0); // there: as in WireDirection.carry
    }
    way.count(frame.sizeBytes - ETHERNET_HEADER_BYTES);

    frame.srcIp = words[at + NEW_SRC_IP]! as Ip;
    frame.dstIp = words[at + NEW_DST_IP]! as Ip;
    const ports = words[at + NEW_PORTS]!;
    frame.srcPort = ports >>> 16;
    frame.dstPort = ports & 0xffff;
    if ((flags & KEEPS_ENTRY) !== 0) {
      frame.conntrackEntry = words[at + ENTRY]!;
      frame.conntrackReply = isReply;
      frame.conntrackState = (flags >>> STATE_SHIFT) & STATE_MASK;
    }
    frame.ttl -= way.ttlLoss;
    // Also here: nobody is told of an error about a frame for a group of stations.
    frame.dstMacHigh = flags >>> MAC_SHIFT;
    frame.dstMacLow = words[at + NEW_DST_MAC]!;
    if (endsHere) {
      frame.receiveOnOneOf(objects, own + ITS_DEVICE);
      (end as FrameTaker).receive(frame);
    } else {
      frame.srcMacHigh = way.srcMacHigh;
      frame.srcMacLow = way.srcMacLow;
      (end as FrameSender).transmit(frame);
    }
    return true;
  }

  // ── writing down ───────────────────────────────────────────────────────────────────────────────────────────────────

  #writeDown(record: number, frame: Frame, cpus: CpuSet): void {
    this.#record = record;
    this.#sizeBytes = frame.sizeBytes;
    this.#ttl = frame.ttl;
    this.#dontFragment = frame.dontFragment;
    this.#typeOfService = frame.typeOfService;
    this.#flowHash = frame.flowHash;
    this.#recorder.begin(frame, cpus, this);
  }

  store(frame: Frame, end: WayEnd, cpus: CpuSet): void {
    const recorder = this.#recorder;
    const endTick = tickOf(recorder.until - MARGIN);
    if (!this.#isRepeatable(frame, end) || cpus.instant >= endTick * TICK_NS || !isSmall(recorder.spentNs)) return;
    const way = this.#wayOf(new Way(recorder, { ttlLoss: this.#ttl - frame.ttl, frame, end, cpus }), cpus);
    if (way === undefined) return;
    const words = this.#words;
    const at = this.#record * WORDS_PER_RECORD;
    words[at + GENERATION] = cpus.generation;
    words[at + END_TICK] = endTick;
    words[at + LARGEST] = this.#sizeBytes;
    words[at + ENTRY] = recorder.entry;
    words[at + FLAGS] =
      (recorder.isReply ? IS_REPLY : 0) |
      (end.device === undefined ? ENDS_HERE : 0) |
      (frame.conntrackState === 0 ? 0 : KEEPS_ENTRY | (frame.conntrackState << STATE_SHIFT)) |
      (frame.dstMacHigh << MAC_SHIFT);
    words[at + SEEN_AT] = recorder.seenAt ?? NONE;
    words[at + NEW_SRC_IP] = frame.srcIp;
    words[at + NEW_DST_IP] = frame.dstIp;
    words[at + NEW_PORTS] = (frame.srcPort << 16) | frame.dstPort;
    words[at + WAY] = way;
    words[at + NEW_DST_MAC] = frame.dstMacLow;
    this.#keepObjects(at, [this.#ways[way], recorder.tracker, end.device ?? end.receiver, frame.receivedOn]);
  }

  /** The number of the same way as it is known already; of the given one if it is new, or undefined if there are too many. */
  #wayOf(wanted: Way, cpus: CpuSet): number | undefined {
    const { generation } = cpus;
    let known = this.#knownWays.get(cpus);
    if (known?.generation !== generation) {
      for (const old of known?.ways ?? []) this.#ways[old]!.settle(); // what is left of another generation are counts
      if (known !== undefined) this.#freeWays.push(...known.ways);
      this.#knownWays.set(cpus, (known = { generation, ways: [] }));
    }
    const same = known.ways.find((way) => this.#ways[way]!.equals(wanted));
    if (same !== undefined || known.ways.length === MOST_WAYS) return same;
    const way = this.#freeWays.pop() ?? this.#ways.length;
    this.#ways[way] = wanted;
    known.ways.push(way);
    return way;
  }

  #keepObjects(at: number, objects: readonly unknown[]): void {
    const own = this.#words[at + OBJECTS] || this.#objects.length;
    this.#words[at + OBJECTS] = own;
    for (const [i, object] of objects.entries()) this.#objects[own + i] = object;
  }

  /** Nothing else is different from how the frame began than what there is room for. */
  #isRepeatable(frame: Frame, end: WayEnd): boolean {
    return (
      frame.sizeBytes === this.#sizeBytes &&
      frame.dontFragment === this.#dontFragment &&
      frame.typeOfService === this.#typeOfService &&
      frame.flowHash === this.#flowHash &&
      frame.mark === 0 &&
      frame.conntrackZone === 0 &&
      frame.fragments === undefined &&
      // An entry without a lookup, or a state without an entry, is of connections that are being made, or of none.
      frame.conntrackEntry === (frame.conntrackState === 0 ? 0 : this.#recorder.entry) &&
      // On a wire nobody sees what the machine knows of a frame; a socket may have an error to send about it.
      (end.device !== undefined || (frame.physIn === undefined && !frame.preRoutingDone))
    );
  }

  /**
   * Half full: leaves out flows that have had no good way since the last time, and grows if most have, and that was a moment
   * ago. Flows that come and go fill it again and again, but it need not hold more of them than come in that time.
   */
  #tidy(now: number): void {
    const words = this.#words;
    const kept: number[] = [];
    for (let record = 0; record < this.#capacity; record++) {
      const at = record * WORDS_PER_RECORD;
      if (words[at + INGRESS] === 0 || words[at + GENERATION] === IDLE) continue;
      kept.push(record);
      const isGood =
        words[at + END_TICK]! > now && this.#ways[words[at + WAY]!]?.cpus.generation === words[at + GENERATION];
      if (!isGood) words[at + GENERATION] = IDLE;
    }
    if (kept.length * 4 > this.#capacity && now - this.#tidiedAt < MOMENT_TICKS) this.#capacity *= 2;
    this.#tidiedAt = now;
    if (this.#capacity > LARGEST_CAPACITY) {
      this.#capacity = FIRST_CAPACITY;
      kept.length = 0;
    }
    this.#words = new Int32Array(this.#capacity * WORDS_PER_RECORD);
    this.#used = kept.length;
    for (const record of kept) {
      const at = record * WORDS_PER_RECORD;
      const hash = hashOf(words[at + INGRESS]!, words[at + SRC_IP]!, words[at + DST_IP]!, words[at + PORTS]!);
      this.#words.set(words.subarray(at, at + WORDS_PER_RECORD), this.#freeRecord(hash) * WORDS_PER_RECORD);
    }
    this.#keepObjectsOfOthers();
  }

  /** Lets go of those of flows that are idle, or left out. */
  #keepObjectsOfOthers(): void {
    const before = this.#objects;
    this.#objects = noObjects();
    for (let at = 0; at < this.#words.length; at += WORDS_PER_RECORD) {
      const own = this.#words[at + OBJECTS]!;
      this.#words[at + OBJECTS] = 0;
      if (own === 0 || this.#words[at + GENERATION] === IDLE) continue;
      this.#keepObjects(at, before.slice(own, own + OBJECTS_PER_FLOW));
    }
  }
}

/** 0 is no flow's place. */
const noObjects = (): unknown[] => [undefined, undefined, undefined, undefined];

interface FlowKey {
  readonly from: number;
  readonly srcIp: Ip;
  readonly dstIp: Ip;
  readonly ports: number;
}

interface KnownWays {
  readonly generation: number;
  /** By number. */
  readonly ways: number[];
}

/** What happens on a way, beside what is of the flow. */
class Way implements UnsettledCounts {
  // First what every frame needs.
  readonly ttlLoss: number;
  readonly tracker: ConnectionTracker | undefined;
  readonly trackedNs: number;
  readonly spentNs: number;
  // Counted here, and given to the rules when somebody asks them.
  #packets = 0;
  #bytes = 0;
  /** By which the frame leaves; none: it ends on this machine. */
  readonly device: WayEnd['device'];
  /** On the wire. */
  readonly srcMacHigh: number;
  readonly srcMacLow: number;
  readonly seenNs: number;
  readonly isSeenAfterLookup: boolean;
  readonly cpus: CpuSet;
  readonly #visited: RuleVisits | undefined;
  readonly #rulesVisited: number;
  readonly #counters: readonly PacketCounters[];
  readonly #ruleIndexes: readonly number[];

  constructor(
    recorder: FlowRecorder,
    { ttlLoss, frame, end, cpus }: { ttlLoss: number; frame: Frame; end: WayEnd; cpus: CpuSet },
  ) {
    const { tracker, seenAt } = recorder;
    this.cpus = cpus;
    this.tracker = tracker;
    // All of them small, which V8 does not know: in a box each would be one more line of the processor's cache.
    this.trackedNs = tracker === undefined ? 0 : recorder.trackedNs | 0;
    this.spentNs = recorder.spentNs | 0;
    this.seenNs = seenAt === undefined ? 0 : recorder.seenNs | 0;
    this.isSeenAfterLookup = seenAt !== undefined && recorder.isSeenAfterLookup;
    this.ttlLoss = ttlLoss;
    this.device = end.device;
    this.srcMacHigh = end.device === undefined ? 0 : frame.srcMacHigh;
    this.srcMacLow = end.device === undefined ? 0 : frame.srcMacLow;
    this.#visited = recorder.visited;
    this.#rulesVisited = recorder.rulesVisited;
    this.#counters = [...recorder.counters];
    this.#ruleIndexes = [...recorder.ruleIndexes];
  }

  equals(other: Way): boolean {
    return (
      other.tracker === this.tracker &&
      other.trackedNs === this.trackedNs &&
      other.spentNs === this.spentNs &&
      other.seenNs === this.seenNs &&
      other.isSeenAfterLookup === this.isSeenAfterLookup &&
      other.ttlLoss === this.ttlLoss &&
      other.device === this.device &&
      other.srcMacHigh === this.srcMacHigh &&
      other.srcMacLow === this.srcMacLow &&
      other.#visited === this.#visited &&
      other.#rulesVisited === this.#rulesVisited &&
      isSameList(other.#counters, this.#counters) &&
      isSameList(other.#ruleIndexes, this.#ruleIndexes)
    );
  }

  count(sizeBytes: number): void {
    if (this.#packets === 0) this.#announce();
    this.#packets++;
    this.#bytes += sizeBytes;
  }

  #announce(): void {
    this.#visited?.expect(this);
    for (const counters of this.#counters) counters.expect(this);
  }

  settle(): void {
    this.#visited?.addVisited(this.#packets * this.#rulesVisited);
    for (const [i, counters] of this.#counters.entries())
      counters.add(this.#ruleIndexes[i]!, this.#packets, this.#bytes);
    this.#packets = 0;
    this.#bytes = 0;
  }
}

const isSameList = <T>(a: readonly T[], b: readonly T[]): boolean =>
  a.length === b.length && a.every((item, i) => item === b[i]);

function hashOf(from: number, srcIp: number, dstIp: number, ports: number): number {
  const ips = Math.imul(srcIp, 0x9e3779b1) ^ Math.imul(dstIp, 0x85ebca6b);
  const mixed = ips ^ Math.imul(ports, 0xc2b2ae35) ^ Math.imul(from, 0x27d4eb2f);
  return Math.imul(mixed ^ (mixed >>> 15), 0x7feb352d) >>> 8;
}
