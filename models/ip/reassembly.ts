// Putting fragments together (net/ipv4/ip_fragment.c, net/ipv6/reassembly.c, nf_conntrack_reasm.c): for a packet that ends here, and for connection tracking,
// which sees whole packets only. Fragments wait for each other for net.ipv4.ipfrag_time and in net.ipv4.ipfrag_high_thresh
// bytes of memory; a packet whose fragments overlap is dropped (RFC 5722), a fragment that comes again is ignored.
//
// Not modelled: ipfrag_max_dist, and ECN marks that contradict each other.

import { s } from '../../engine/time.ts';
import { Timer } from '../../engine/timer.ts';
import type { CpuSet } from '../cpu/cpu-set.ts';
import type { DropReason } from '../packet/drop-reason.ts';
import type { Frame } from '../packet/frame.ts';
import type { FrameHolder, FrameStore } from '../packet/frame-store.ts';
import { truesizeBytes } from '../packet/truesize.ts';

export interface ReassemblyLimits {
  /** Seconds that fragments wait for each other. */
  readonly timeS: number;
  /** Beyond it no new packet is begun. */
  readonly memoryBytes: number;
}

/** What reassembly needs of the IP stack it belongs to. */
export interface ReassemblyStack {
  readonly name: string;
  readonly cpus: CpuSet;
  readonly frames: FrameStore;
  readonly reassemblyLimits: ReassemblyLimits;
  drop(frame: Frame, reason: DropReason): void;
  /** The rest of this packet did not come in time; `frame` is its first fragment. */
  reassemblyTimedOut(frame: Frame, purpose: string): void;
}

export class Reassembly implements FrameHolder {
  readonly #stack: ReassemblyStack;
  readonly #queues = new Map<string, Queue>();
  #heldFrames = 0;
  #heldBytes = 0;

  constructor(stack: ReassemblyStack) {
    this.#stack = stack;
    stack.frames.addHolder(this);
  }

  get holderName(): string {
    return `fragments in ${this.#stack.name}`;
  }

  get heldFrames(): number {
    return this.#heldFrames;
  }

  /**
   * Takes a fragment in. True: it was the last one missing, and the frame is the whole packet now. False: it waits for
   * others, or has been dropped. Fragments taken in for different purposes do not meet.
   */
  add(frame: Frame, purpose: string): boolean {
    this.#stack.cpus.charge(this.#stack.cpus.costs.reassemblyNs);
    const { identification, srcIp, dstIp, protocol } = frame;
    const key = `${purpose} ${identification} ${srcIp} ${dstIp} ${protocol}`;
    const queue = this.#queues.get(key) ?? this.#newQueue(key, purpose);
    if (queue === undefined) return this.#refuse(frame, 'NOMEM');
    switch (queue.place(frame)) {
      case DUPLICATE:
        return this.#refuse(frame, 'DUP_FRAG');
      case INCONSISTENT:
        return this.#refuse(frame, 'FRAG_INCONSISTENT');
      case OVERLAPPING:
        this.#refuse(frame, 'FRAG_INCONSISTENT');
        this.#discard(queue, 'FRAG_INCONSISTENT');
        return false;
      case PLACED:
        break;
    }
    this.#heldFrames++;
    this.#heldBytes += truesizeBytes(frame.sizeBytes);
    if (!queue.isComplete) return false;
    this.#remove(queue);
    if (queue.dataBytes + frame.ipHeaderBytes() > 0xffff) {
      for (const part of queue.parts) this.#stack.drop(part, 'FRAG_INCONSISTENT');
      return false;
    }
    this.#join(queue.parts, frame);
    return true;
  }

  #newQueue(key: string, purpose: string): Queue | undefined {
    const { memoryBytes, timeS } = this.#stack.reassemblyLimits;
    if (this.#heldBytes > memoryBytes) return undefined;
    const { cpus } = this.#stack;
    const queue = new Queue(key, purpose, new Timer(cpus.place, () => cpus.submit(0, this.#onTimeout, queue)));
    queue.timer.start(s(timeS));
    this.#queues.set(key, queue);
    return queue;
  }

  readonly #onTimeout = (queue: Queue): void => {
    if (this.#queues.get(queue.key) !== queue) return; // completed while this waited for the CPU
    const first = queue.parts[0]!;
    if (first.fragmentOffset === 0) this.#stack.reassemblyTimedOut(first, queue.purpose);
    this.#discard(queue, 'FRAG_REASM_TIMEOUT');
  };

  #discard(queue: Queue, reason: DropReason): void {
    this.#remove(queue);
    for (const part of queue.parts) this.#stack.drop(part, reason);
  }

  #remove(queue: Queue): void {
    queue.timer.stop();
    this.#queues.delete(queue.key);
    this.#heldFrames -= queue.parts.length;
    for (const { sizeBytes } of queue.parts) this.#heldBytes -= truesizeBytes(sizeBytes);
  }

  #refuse(frame: Frame, reason: DropReason): false {
    this.#stack.drop(frame, reason);
    return false;
  }

  /** `latest`, one of the parts, becomes the packet; the others have arrived in it. */
  #join(parts: readonly Frame[], latest: Frame): void {
    const first = parts[0]!;
    const dataBytes = parts.map((part) => part.ipBytes() - part.ipHeaderBytes());
    const largestBytes = Math.max(...parts.map((part) => part.ipBytes()));
    const forbidding = parts.filter(({ dontFragment }) => dontFragment).map((part) => part.ipBytes());
    const { whole } = first;
    const isUntouched = whole !== undefined && parts.every((part) => part.whole === whole);
    if (latest !== first) {
      latest.copyPacketFrom(first);
      latest.mark = first.mark;
      latest.flowHash = first.flowHash;
      latest.hasPortlessHash = first.hasPortlessHash;
    }
    latest.moreFragments = latest.isAtomicFragment = false;
    // Fragments that could not be cut further make a packet that cannot, if they were not merely small ones.
    latest.dontFragment = forbidding.includes(largestBytes);
    latest.fragments = { dataBytes, largestBytes };
    latest.whole = undefined;
    if (isUntouched) {
      latest.message = whole.message;
      latest.messageEnds = whole.messageEnds;
      latest.copyInnerFrom(whole);
    }
    latest.payloadBytes = dataBytes.reduce((sum, size) => sum + size, 0) - latest.transportHeaderBytes();
    latest.updateSize();
    for (const part of parts) if (part !== latest) this.#stack.frames.deliver(part);
  }
}

const PLACED = 0;
/** What it carries is there already. */
const DUPLICATE = 1;
/** It contradicts what is known of the packet's length, or carries nothing. */
const INCONSISTENT = 2;
/** It carries in part what is there already. */
const OVERLAPPING = 3;
type Placement = typeof PLACED | typeof DUPLICATE | typeof INCONSISTENT | typeof OVERLAPPING;

/** The fragments of one packet. */
class Queue {
  /** By rising offset. */
  readonly parts: Frame[] = [];
  /** Of the whole packet after its header, as far as is known. */
  dataBytes = 0;
  #hasLast = false;
  #presentBytes = 0;

  constructor(
    readonly key: string,
    readonly purpose: string,
    readonly timer: Timer,
  ) {}

  get isComplete(): boolean {
    return this.#hasLast && this.#presentBytes === this.dataBytes;
  }

  /** ip_frag_queue and inet_frag_queue_insert. */
  place(frame: Frame): Placement {
    if (frame.moreFragments && endOf(frame) % 8 !== 0) {
      frame.payloadBytes -= endOf(frame) % 8; // more than the next one's offset can say is cut off
      frame.updateSize();
    }
    const start = frame.fragmentOffset;
    const end = endOf(frame);
    if (!frame.moreFragments) {
      if (end < this.dataBytes || (this.#hasLast && end !== this.dataBytes)) return INCONSISTENT;
    } else if (this.#hasLast && end > this.dataBytes) return INCONSISTENT;
    if (end === start) return INCONSISTENT;
    const next = this.parts.findIndex((part) => endOf(part) > start);
    const at = next === -1 ? this.parts.length : next;
    const follower = this.parts[at];
    if (follower !== undefined && follower.fragmentOffset < end) {
      return this.#covers(at, start, end) ? DUPLICATE : OVERLAPPING;
    }
    this.parts.splice(at, 0, frame);
    this.dataBytes = Math.max(this.dataBytes, end);
    this.#hasLast ||= !frame.moreFragments;
    this.#presentBytes += end - start;
    return PLACED;
  }

  /** Do the parts from `at` on carry all of these bytes? */
  #covers(at: number, start: number, end: number): boolean {
    let reached = start;
    for (let i = at; i < this.parts.length && this.parts[i]!.fragmentOffset <= reached; i++)
      reached = endOf(this.parts[i]!);
    return this.parts[at]!.fragmentOffset <= start && reached >= end;
  }
}

const endOf = (part: Frame): number => part.fragmentOffset + part.ipBytes() - part.ipHeaderBytes();
