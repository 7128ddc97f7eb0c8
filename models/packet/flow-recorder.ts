// What the stages of a frame's way report while a flow cache (ip/flow-cache.ts) writes that way down: all that they do
// beside changing the frame and charging the CPU, and how long their decisions hold. A stage that decides by a coin, a
// count or the time spoils the recording; so does, by itself, whatever schedules an event or makes another frame.
//
// One per run: visits run one after the other, so at most one way is being written down at a time.

import { UNBOXED } from '../../engine/number-table.ts';
import { END_OF_TIME, type Instant } from '../../engine/time.ts';
import type { CpuSet } from '../cpu/cpu-set.ts';
import type { Frame } from './frame.ts';

/** Connection tracking of one network namespace. */
export interface ConnectionTracker {
  /** What looking a connection up costs now. */
  readonly lookupNs: number;
  /** Tracks another packet of a connection. False: it is not what it was, and nothing has been done. */
  trackAgain(frame: Frame, entry: number, isReply: boolean): boolean;
}

/** Somebody counts for it, to be asked to {@link UnsettledCounts.settle} before anybody reads. */
export interface Expecting {
  expect(counts: UnsettledCounts): void;
}

/** The counters of a chain. */
export interface PacketCounters extends Expecting {
  add(ruleIndex: number, packets: number, sizeBytes: number): void;
}

/** Netfilter of one network namespace, which counts the rules that packets have been compared with. */
export interface RuleVisits extends Expecting {
  addVisited(rules: number): void;
}

export interface UnsettledCounts {
  settle(): void;
}

/** A wire's device. */
export interface FrameSender {
  readonly up: boolean;
  transmit(frame: Frame): void;
}

/** A transport protocol, or its socket. */
export interface FrameTaker {
  /** It takes no more frames. Absent: it always does. */
  readonly isClosed?: boolean;
  receive(frame: Frame): void;
}

/** Where ways end: one of both. */
export interface WayEnd {
  readonly device?: FrameSender;
  readonly receiver?: FrameTaker;
}

/** Who writes ways down. */
export interface WayWriter {
  /** The frame is at the end of its way: before it leaves by a device, or before a transport protocol takes it. */
  store(frame: Frame, end: WayEnd, cpus: CpuSet): void;
}

export class FlowRecorder {
  /** Off: no flow is remembered, as if there were no cache. For the tests that say that this makes no difference. */
  isOff = false;
  isRecording = false;
  /** How long the decisions on the way hold if nothing changes. */
  until: Instant = END_OF_TIME;
  /** A bridge has seen the frame's source, which was no news: the number where it says when, and after how much work on the way. */
  seenAt: number | undefined;
  seenNs = 0;
  isSeenAfterLookup = false;
  /** Whose rules the frame has passed. */
  visited: RuleVisits | undefined;
  rulesVisited = 0;
  /** Who found the frame's connection, and when. */
  tracker: ConnectionTracker | undefined;
  trackedNs = 0;
  entry = 0;
  isReply = false;
  #lookupNs = 0;
  /** The rules and policies that counted the frame, as pairs. */
  readonly counters: PacketCounters[] = [];
  readonly ruleIndexes: number[] = [];

  #cpus: CpuSet | undefined;
  #writer: WayWriter | undefined;
  #frame: Frame | undefined;
  #start = UNBOXED;
  #generation = 0;
  #scheduledEvents = 0;

  /** `frame` begins its way. A way within another one, as that of a tunnel's packet, spoils that. */
  begin(frame: Frame, cpus: CpuSet, writer: WayWriter): void {
    if (this.isRecording) return this.spoil();
    this.isRecording = true;
    this.until = END_OF_TIME;
    this.seenAt = undefined;
    this.tracker = undefined;
    this.visited = undefined;
    this.#lookupNs = 0;
    this.rulesVisited = 0;
    this.counters.length = 0;
    this.ruleIndexes.length = 0;
    this.#cpus = cpus;
    this.#writer = writer;
    this.#frame = frame;
    this.#start = cpus.instant;
    this.#generation = cpus.generation;
    this.#scheduledEvents = cpus.place.scheduledEvents;
  }

  /** This way is not to be remembered, or it has ended somewhere else than at an end. */
  spoil(): void {
    this.isRecording = false;
  }

  /** CPU time that the way has taken so far, without the lookup, which costs by how many connections there are. */
  get spentNs(): number {
    return this.#cpus!.instant - this.#start - this.#lookupNs;
  }

  /** A decision on the way holds until then. */
  holdsUntil(instant: Instant): void {
    if (instant < this.until) this.until = instant;
  }

  /** By one bridge that learns: more are for the slow path. */
  seenBy(seenAt: number): void {
    if (this.seenAt !== undefined) return this.spoil();
    this.seenAt = seenAt;
    this.seenNs = this.spentNs;
    this.isSeenAfterLookup = this.tracker !== undefined;
  }

  /** Just before the lookup is charged. One lookup per way, and only for connections on which both ends have spoken. */
  trackedBy(tracker: ConnectionTracker, frame: Frame, isEstablished: boolean): void {
    if (this.tracker !== undefined || !isEstablished) return this.spoil();
    this.tracker = tracker;
    this.entry = frame.conntrackEntry;
    this.isReply = frame.conntrackReply;
    this.trackedNs = this.spentNs;
    this.#lookupNs = tracker.lookupNs;
  }

  /** Rules of that network namespace have been looked at: of one per way. */
  visitedRules(netfilter: RuleVisits, rules: number): void {
    if (this.visited !== undefined && this.visited !== netfilter) return this.spoil();
    this.visited = netfilter;
    this.rulesVisited += rules;
  }

  /** The chain's counters have been told of the frame. */
  countedBy(counters: PacketCounters, ruleIndex: number): void {
    this.counters.push(counters);
    this.ruleIndexes.push(ruleIndex);
  }

  /** The frame has come to an end: what comes now is done for every frame. */
  leaves(frame: Frame, end: WayEnd): void {
    const cpus = this.#cpus!;
    const isWhole =
      frame === this.#frame &&
      cpus.generation === this.#generation &&
      cpus.place.scheduledEvents === this.#scheduledEvents;
    if (isWhole) this.#writer!.store(frame, end, cpus);
    this.isRecording = false;
  }
}
