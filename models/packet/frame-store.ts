// The life of frames: every frame of a run is made here, and ends here. `sent = delivered + dropped + in flight` holds
// at every instant, with "in flight" counted where frames wait (wires, CPU backlogs, neighbor queues), not derived.
//
// Ended frames are pooled: nothing is allocated per frame in steady state.

import assert from 'node:assert/strict';
import type { Instant } from '../../engine/time.ts';
import { DROP_REASONS, type DropReason } from './drop-reason.ts';
import { FlowRecorder } from './flow-recorder.ts';
import { Frame } from './frame.ts';
import { Journey } from './journey.ts';

/** Something in which frames wait between two visits. */
export interface FrameHolder {
  /** Name for the message of a failed check: `wire node-1/eth0`. */
  readonly holderName: string;
  readonly heldFrames: number;
}

export interface FrameTotals {
  readonly sent: number;
  readonly delivered: number;
  readonly dropped: number;
  readonly inFlight: number;
}

/**
 * A broadcast to 5,000 nodes is as many frames at once, which are never needed again: of a large pool one half goes from time
 * to time, which costs nothing where its frames are in use.
 */
const LARGE_POOL = 1_024;
const FRAMES_PER_TRIM = 2 ** 16;

const NOTHING: FrameTotals = { sent: 0, delivered: 0, dropped: 0, inFlight: 0 };

export class FrameStore {
  readonly recorder = new FlowRecorder();
  /** What other workers count, where there are any: as of their last meeting. */
  elsewhere: FrameTotals = NOTHING;
  readonly #pool: Frame[] = [];
  readonly #holders: FrameHolder[] = [];
  readonly #drops = new Map<DropReason, number>(DROP_REASONS.map((reason) => [reason, 0]));
  readonly #journeys: Journey[] = [];
  #lastId = 0;
  #sent = 0;
  #delivered = 0;
  #dropped = 0;
  /** To other workers, and from them. */
  #handedOver = 0;
  #takenOver = 0;
  #following = false;

  /** From now on every new frame keeps a {@link Journey}. For traces: costs memory per step. */
  followAll(): void {
    this.#following = true;
  }

  /** Journeys so far, in the order in which their frames were made. */
  get journeys(): readonly Journey[] {
    return this.#journeys;
  }

  /** A blank frame; it counts as sent. */
  allocate(): Frame {
    this.#sent++;
    this.recorder.spoil(); // whatever makes frames, its reason is not the flow
    const frame = this.#take();
    if (this.#following) this.#journeys.push((frame.journey = new Journey(frame.id)));
    return frame;
  }

  /** A second frame with the same packet and what the kernel knows of it (skb_clone), to flood; it counts as sent. */
  copy(original: Frame): Frame {
    const frame = this.allocate();
    frame.copyPacketFrom(original);
    frame.copyMetadataFrom(original);
    if (frame.inner !== undefined) frame.inner.journey = frame.journey;
    if (frame.journey !== undefined && original.journey !== undefined) {
      frame.journey.title = original.journey.title;
      for (const step of original.journey.steps) frame.journey.add(step);
    }
    return frame;
  }

  /**
   * A frame around `inner`, which lives and ends in it from now on. The kernel puts more headers before the same skb, so
   * this is one frame in the books, and one journey.
   */
  encapsulate(inner: Frame): Frame {
    const outer = this.#take();
    outer.inner = inner;
    outer.flowHash = inner.flowHash;
    outer.hasPortlessHash = inner.hasPortlessHash;
    outer.journey = inner.journey;
    return outer;
  }

  /** The frame inside goes on alone. Call only for a frame with `inner`. */
  decapsulate(outer: Frame): Frame {
    const inner = outer.inner!;
    inner.flowHash = outer.hasPortlessHash ? 0 : outer.flowHash; // __iptunnel_pull_header
    inner.hasPortlessHash = false;
    outer.inner = undefined;
    this.#release(outer);
    return inner;
  }

  /** The frame has reached its end: a socket, or the stack that consumed it (ARP, ICMP). */
  deliver(frame: Frame): void {
    this.#delivered++;
    this.#release(frame);
    if (this.#pool.length > LARGE_POOL && this.#delivered % FRAMES_PER_TRIM === 0) this.#pool.length >>= 1;
  }

  /** `where` is the network namespace; journeys show it. */
  drop(frame: Frame, reason: DropReason, at: Instant, where: string): void {
    this.#dropped++;
    this.#drops.set(reason, this.#drops.get(reason)! + 1);
    if (frame.journey !== undefined) frame.journey.add({ at, namespace: where, stage: 'drop', text: reason });
    this.#release(frame);
  }

  /** The frame goes on at another worker. */
  handOver(frame: Frame): void {
    this.#handedOver++;
    this.#release(frame);
  }

  /** A blank frame for one that comes from another worker, where it was sent. */
  takeOver(): Frame {
    this.#takenOver++;
    return this.#take();
  }

  /** Wires, backlogs and queues register once, when they are built. */
  addHolder(holder: FrameHolder): void {
    this.#holders.push(holder);
  }

  totals(): FrameTotals {
    const { sent, delivered, dropped, inFlight } = this.elsewhere;
    const own = this.ownTotals();
    return {
      sent: own.sent + sent,
      delivered: own.delivered + delivered,
      dropped: own.dropped + dropped,
      inFlight: own.inFlight + inFlight,
    };
  }

  /** Of this worker. */
  ownTotals(): FrameTotals {
    const inFlight = this.#holders.reduce((sum, holder) => sum + holder.heldFrames, 0);
    return { sent: this.#sent, delivered: this.#delivered, dropped: this.#dropped, inFlight };
  }

  /** Frames dropped so far by reason, only reasons that occurred, in the order of the list of reasons. */
  drops(): ReadonlyMap<DropReason, number> {
    return new Map([...this.#drops].filter(([, count]) => count > 0));
  }

  /** What another worker's {@link drops} are counts here, too. */
  addDrops(drops: ReadonlyMap<DropReason, number>): void {
    for (const [reason, count] of drops) this.#drops.set(reason, this.#drops.get(reason)! + count);
  }

  /** Throws an Error that lists the holders when the books do not balance. Call between events. */
  assertConserved(): void {
    this.#assertBalance();
    const { sent, delivered, dropped, inFlight } = this.totals();
    const missing = sent - delivered - dropped - inFlight;
    assert(missing === 0, `what one worker hands over is taken over by another: ${missing} frames are missing`);
  }

  /** The books of each worker balance by themselves. */
  #assertBalance(): void {
    const { sent, delivered, dropped, inFlight } = this.ownTotals();
    if (sent + this.#takenOver === delivered + dropped + inFlight + this.#handedOver) return;
    const holders = this.#holders.filter(({ heldFrames }) => heldFrames !== 0);
    const others =
      this.#handedOver + this.#takenOver === 0
        ? ''
        : `, ${this.#handedOver} handed over to other workers, ${this.#takenOver} taken over from them`;
    throw new Error(
      `frames are not conserved: ${sent} sent, but ${delivered} delivered + ${dropped} dropped + ${inFlight} in flight` +
        ` (${holders.map(({ holderName, heldFrames }) => `${holderName}: ${heldFrames}`).join(', ') || 'none held'})${others}`,
    );
  }

  #take(): Frame {
    const frame = this.#pool.pop() ?? new Frame();
    frame.id = ++this.#lastId;
    return frame;
  }

  #release(frame: Frame): void {
    if (frame.inner !== undefined) this.#release(frame.inner);
    frame.reset();
    frame.journey = undefined;
    this.#pool.push(frame);
  }
}
