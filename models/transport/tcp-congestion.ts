// The congestion window: CUBIC (RFC 9438), the default of Linux, over slow start (RFC 5681).
//
// CUBIC rather than NewReno because that is what pods run. The two agree inside a cluster: with round trips below a
// millisecond and windows of some hundred segments CUBIC stays in its Reno-friendly region.
// Not modelled: HyStart, ECN, undoing a reduction that turns out to be spurious, pacing.

import type { Duration, Instant } from '../../engine/time.ts';

/** RFC 9438 4.1: segments per second cubed, and the factor of a reduction. */
const C = 0.4;
const BETA = 0.7;
/** RFC 9438 4.3: growth per round trip that gives Reno's average window with a factor of 0.7. */
const ALPHA = (3 * (1 - BETA)) / (1 + BETA);

export interface Acknowledgment {
  readonly ackedBytes: number;
  readonly now: Instant;
  readonly smoothedRtt: Duration;
}

export class CongestionWindow {
  #mssBytes: number;
  readonly #initialBytes: number;
  #windowBytes: number;
  #slowStartThresholdBytes = Number.POSITIVE_INFINITY;

  // One epoch of congestion avoidance, from a reduction to the next. In segments and seconds, as the RFC has it.
  #epochStart: Instant | undefined;
  /** Seconds after which the cubic reaches its origin. */
  #originTime = 0;
  /** Where the cubic levels off: the window before the last reduction. */
  #originSegments = 0;
  /** What Reno would have by now. */
  #renoSegments = 0;
  /** The window at the last reduction. */
  #priorSegments = 0;

  constructor({ mssBytes, initialSegments }: { mssBytes: number; initialSegments: number }) {
    this.#mssBytes = mssBytes;
    this.#initialBytes = initialSegments * mssBytes;
    this.#windowBytes = this.#initialBytes;
  }

  /** How much may be in flight. Fractional while it grows. */
  get bytes(): number {
    return this.#windowBytes;
  }

  get slowStartThresholdBytes(): number {
    return this.#slowStartThresholdBytes;
  }

  get inSlowStart(): boolean {
    return this.#windowBytes < this.#slowStartThresholdBytes;
  }

  /** New data was acknowledged outside of recovery, and the window was what held the sender back. */
  acknowledged({ ackedBytes, now, smoothedRtt }: Acknowledgment): void {
    if (this.inSlowStart) {
      const room = this.#slowStartThresholdBytes - this.#windowBytes;
      this.#windowBytes += Math.min(ackedBytes, room);
      if (ackedBytes <= room) return;
      ackedBytes -= room;
    }
    this.#avoidCongestion(ackedBytes / this.#mssBytes, now, smoothedRtt);
  }

  /** Three duplicate acknowledgments: down to 0.7 of the window. */
  reduce(): void {
    this.#rememberWindow();
    this.#slowStartThresholdBytes = Math.max(this.#windowBytes * BETA, 2 * this.#mssBytes);
    this.#windowBytes = this.#slowStartThresholdBytes;
  }

  /** A retransmission timed out: slow start from one segment. */
  collapse(): void {
    this.#rememberWindow();
    this.#slowStartThresholdBytes = Math.max(this.#windowBytes * BETA, 2 * this.#mssBytes);
    this.#windowBytes = this.#mssBytes;
  }

  /** From one segment, with the threshold as it is: a further timeout, or a handshake with lost SYNs (RFC 5681 3.1). */
  restart(): void {
    this.#windowBytes = this.#mssBytes;
  }

  /** Recovery ends with little in flight: no burst up to the threshold (RFC 6582 3.2 step 3). */
  leaveRecovery(inFlightBytes: number): void {
    const gentle = Math.max(inFlightBytes, this.#mssBytes) + this.#mssBytes;
    this.#windowBytes = Math.min(this.#slowStartThresholdBytes, gentle);
  }

  /** The sender was idle: the window halves per timeout, down to the initial one (RFC 2861, tcp_cwnd_restart). */
  idle(duration: Duration, timeout: Duration): void {
    const floor = Math.min(this.#initialBytes, this.#windowBytes);
    this.#slowStartThresholdBytes = Math.max(this.#slowStartThresholdBytes, this.#windowBytes * 0.75);
    for (let left = duration - timeout; left > 0 && this.#windowBytes > floor; left -= timeout) this.#windowBytes /= 2;
    this.#windowBytes = Math.max(this.#windowBytes, floor);
    this.#epochStart = undefined;
  }

  /** The path's MTU has shrunk. */
  setMss(mssBytes: number): void {
    this.#mssBytes = mssBytes;
  }

  #rememberWindow(): void {
    const segments = this.#windowBytes / this.#mssBytes;
    this.#priorSegments = segments;
    // Fast convergence (4.7): a flow that shrinks twice leaves room to others.
    this.#originSegments = segments < this.#originSegments ? (segments * (1 + BETA)) / 2 : segments;
    this.#epochStart = undefined;
  }

  #avoidCongestion(ackedSegments: number, now: Instant, smoothedRtt: Duration): void {
    const segments = this.#windowBytes / this.#mssBytes;
    if (this.#epochStart === undefined) this.#startEpoch(segments, now);
    const time = (now - this.#epochStart!) / 1e9;
    const alpha = this.#renoSegments >= this.#priorSegments ? 1 : ALPHA;
    this.#renoSegments += (alpha * ackedSegments) / segments;
    if (this.#cubic(time) < this.#renoSegments) {
      this.#windowBytes = Math.max(segments, this.#renoSegments) * this.#mssBytes;
      return;
    }
    const target = Math.min(Math.max(this.#cubic(time + smoothedRtt / 1e9), segments), 1.5 * segments);
    this.#windowBytes += ((target - segments) / segments) * ackedSegments * this.#mssBytes;
  }

  #startEpoch(segments: number, now: Instant): void {
    this.#epochStart = now;
    this.#renoSegments = segments;
    if (this.#originSegments < segments) this.#originSegments = segments; // never reduced: the cubic starts flat
    this.#originTime = Math.cbrt((this.#originSegments - segments) / C);
  }

  #cubic(time: number): number {
    return C * (time - this.#originTime) ** 3 + this.#originSegments;
  }
}
