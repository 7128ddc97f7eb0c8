// The sending half of a TCP connection: which bytes go out when, within the peer's window and the congestion window, and
// again when they are lost (RFC 9293 3.7 and 3.8, RFC 5681, loss recovery by RFC 6582).
//
// Bytes are counted, not segments: what is written while the windows are closed goes out in full segments, as the kernel
// fills up the last segment of its queue. Not modelled: SACK, so recovery takes a round trip per lost segment; RACK and
// tail loss probes; pacing; a limit of the send buffer (an application may write any amount).

import { after, between, type Duration, type Instant } from '../../engine/time.ts';
import type { CpuSet } from '../cpu/cpu-set.ts';
import { type Frame, type Message, TCP_ACK, TCP_FIN, TCP_PSH } from '../packet/frame.ts';
import { isAfter, isBefore } from './sequence.ts';
import { CongestionWindow } from './tcp-congestion.ts';
import { RetransmissionTimeout, retryPeriod } from './tcp-rto.ts';
import { TcpSendQueue } from './tcp-send-queue.ts';
import type { TcpSettings } from './tcp-settings.ts';
import type { TcpTimer } from './tcp-timer.ts';

/** The connection, as its sending half sees it: gives and takes segments. */
export interface SegmentOutput {
  readonly cpus: CpuSet;
  readonly settings: TcpSettings;
  /** A frame with the connection's addresses and ports. */
  newSegment(): Frame;
  /** Adds acknowledgment, window and timestamps, and sends. */
  sendSegment(frame: Frame): void;
  /** Since the segment left whose timestamp this one echoes; in whole milliseconds, at least one. */
  timeSinceEcho(frame: Frame): Duration;
  countRetransmission(): void;
}

/** What an acknowledgment was: of new data, of nothing new, out of date, or of data that was never sent. */
export type AckKind = 'new' | 'same' | 'old' | 'unsent';

export class TcpSender {
  // Names of RFC 9293 3.3.1: SND.UNA and SND.NXT. `max` is the highest SND.NXT so far; after a timeout `next` falls back.
  una: number;
  next: number;
  max: number;
  mssBytes: number;
  readonly queue: TcpSendQueue;
  congestion: CongestionWindow;
  readonly timeout: RetransmissionTimeout;
  retransmissions = 0;
  readonly #output: SegmentOutput;
  readonly #timer: TcpTimer;
  #finQueued = false;

  #windowBytes = 0;
  #largestWindowBytes = 0;
  /** SND.WL1 and SND.WL2: the segment that set the window. */
  #windowSequence = 0;
  #windowAcknowledgment = 0;

  #duplicateAcks = 0;
  #recovering = false;
  /** Highest `max` when the last loss was found: nothing up to it may cause another fast retransmission. */
  #recover: number;
  /** What duplicate acknowledgments say has left the network: may be in flight beyond the congestion window. */
  #inflationBytes = 0;

  /** One segment at a time is timed. */
  #timedEnd = 0;
  #timedAt: Instant | undefined;
  #lastSentAt: Instant | undefined;
  #firstTimeoutAt: Instant | undefined;
  #timeouts = 0;
  #probes = 0;
  #unansweredProbes = 0;
  /** End of the last segment that was not full (Minshall's variant of Nagle's algorithm). */
  #smallEnd: number;

  /** SND.NXT starts behind the SYN, which is the connection's business. */
  constructor(
    output: SegmentOutput,
    timer: TcpTimer,
    { initialSequence, mssBytes }: { initialSequence: number; mssBytes: number },
  ) {
    const { settings } = output;
    this.#output = output;
    this.#timer = timer;
    this.una = initialSequence;
    this.next = (initialSequence + 1) | 0;
    this.max = this.next;
    this.mssBytes = mssBytes;
    this.queue = new TcpSendQueue(this.next);
    this.congestion = new CongestionWindow({ mssBytes, initialSegments: settings.initialWindowSegments });
    this.timeout = new RetransmissionTimeout(settings);
    this.#recover = initialSequence;
    this.#smallEnd = initialSequence;
  }

  // ── from the application ───────────────────────────────────────────────────────────────────────────────────────────

  write(message: Message): void {
    this.queue.write(message);
  }

  /** A FIN follows the last byte written. */
  finish(): void {
    this.#finQueued = true;
  }

  /** Sends what the windows allow. */
  transmit(): void {
    this.#noticeIdleness();
    while (this.#transmitNext());
  }

  // ── from the peer ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** The handshake is over: the peer's first window, and the size of segments that both sides take. */
  open(frame: Frame, { windowBytes, mssBytes }: { windowBytes: number; mssBytes: number }): void {
    this.#timer.cancel();
    this.una = frame.acknowledgment;
    this.mssBytes = mssBytes;
    this.congestion = new CongestionWindow({ mssBytes, initialSegments: this.#output.settings.initialWindowSegments });
    this.#setWindow(frame, windowBytes);
  }

  /** Takes the acknowledgment and the window of a segment; sends only retransmissions. */
  acknowledge(frame: Frame, windowBytes: number): AckKind {
    const { acknowledgment } = frame;
    if (isAfter(acknowledgment, this.max)) return 'unsent';
    if (isBefore(acknowledgment, this.una)) return 'old';
    this.#unansweredProbes = 0;
    const oldWindowBytes = this.#windowBytes;
    if (this.#isNewerWindow(frame)) this.#setWindow(frame, windowBytes);
    if (acknowledgment !== this.una) {
      this.#advance(frame);
      return 'new';
    }
    const bare = frame.payloadBytes === 0 && (frame.tcpFlags & TCP_FIN) === 0;
    if (bare && this.una !== this.max && this.#windowBytes === oldWindowBytes) this.#countDuplicate();
    return 'same';
  }

  get isFinishing(): boolean {
    return this.#finQueued;
  }

  /** Our FIN has been acknowledged. */
  get finAcknowledged(): boolean {
    return this.#finQueued && this.queue.bytesFrom(this.una) < 0;
  }

  /** Is something out that the peer has not acknowledged? */
  get outstanding(): boolean {
    return this.una !== this.max;
  }

  /** The path takes smaller packets than we sent: sends everything outstanding again, in smaller segments. */
  shrinkSegments(mssBytes: number): void {
    this.mssBytes = mssBytes;
    this.congestion.setMss(mssBytes);
    this.#goBack();
    this.transmit();
  }

  /** The retransmission timer has fired. False if the peer has been silent for too long. */
  timerFired(retries: number): boolean {
    if (this.outstanding) return this.#timedOut(retries);
    return this.queue.bytesFrom(this.next) > 0 ? this.#probe(retries) : true;
  }

  // ── acknowledgments ────────────────────────────────────────────────────────────────────────────────────────────────

  #advance(frame: Frame): void {
    const { acknowledgment } = frame;
    const ackedBytes = (acknowledgment - this.una) | 0;
    const inFlightBytes = (this.next - this.una) | 0;
    this.#measureRoundTrip(frame);
    this.una = acknowledgment;
    if (isBefore(this.next, acknowledgment)) this.next = acknowledgment;
    this.queue.acknowledge(acknowledgment);
    this.#timeouts = 0;
    this.#firstTimeoutAt = undefined;
    if (this.outstanding) this.#startTimer(this.timeout.current);
    else this.#timer.stop();
    if (this.#recovering) return this.#advanceInRecovery(ackedBytes);
    this.#duplicateAcks = 0;
    this.#inflationBytes = 0;
    if (!this.#wasHeldBack(inFlightBytes)) return;
    const smoothedRtt = this.timeout.smoothedRtt ?? this.#output.settings.initialTimeout;
    this.congestion.acknowledged({ ackedBytes, now: this.#output.cpus.instant, smoothedRtt });
  }

  /** Was the congestion window the limit? One that is not used does not grow (tcp_is_cwnd_limited). */
  #wasHeldBack(inFlightBytes: number): boolean {
    const { congestion } = this;
    if (congestion.inSlowStart) return congestion.bytes < 2 * inFlightBytes;
    return inFlightBytes + this.mssBytes > congestion.bytes;
  }

  #advanceInRecovery(ackedBytes: number): void {
    if (isBefore(this.una, this.#recover)) {
      // A partial acknowledgment: the next hole starts here.
      this.#inflationBytes = Math.max(this.#inflationBytes - ackedBytes, 0) + this.mssBytes;
      return this.#retransmitFirst();
    }
    this.#recovering = false;
    this.#duplicateAcks = 0;
    this.#inflationBytes = 0;
    this.congestion.leaveRecovery((this.next - this.una) | 0);
  }

  #countDuplicate(): void {
    this.#duplicateAcks++;
    if (this.#recovering) {
      this.#inflationBytes += this.mssBytes;
      return;
    }
    if (this.#duplicateAcks < DUPLICATE_ACKS) {
      // Limited transmit (RFC 3042): keeps acknowledgments coming when the window is small.
      if (this.next === this.max) this.#inflationBytes = this.#duplicateAcks * this.mssBytes;
      return;
    }
    // Retransmissions after a timeout cause duplicates too (RFC 6582 4.1).
    if (this.#duplicateAcks > DUPLICATE_ACKS || !isAfter(this.una, this.#recover)) return;
    this.#recovering = true;
    this.#recover = this.max;
    this.congestion.reduce();
    this.#inflationBytes = DUPLICATE_ACKS * this.mssBytes;
    this.#retransmitFirst();
  }

  #measureRoundTrip(frame: Frame): void {
    if (this.#timedAt !== undefined && !isBefore(frame.acknowledgment, this.#timedEnd)) {
      this.timeout.measured(between(this.#timedAt, this.#output.cpus.instant));
      this.#timedAt = undefined;
    } else if (this.timeout.backedOff && frame.timestampEcho !== 0) {
      // The echo tells which transmission was acknowledged, to the millisecond: enough to end the backoff.
      this.timeout.measured(this.#output.timeSinceEcho(frame));
    }
  }

  #isNewerWindow({ sequence, acknowledgment }: Frame): boolean {
    if (sequence === this.#windowSequence) return !isBefore(acknowledgment, this.#windowAcknowledgment);
    return isAfter(sequence, this.#windowSequence);
  }

  #setWindow(frame: Frame, windowBytes: number): void {
    this.#windowSequence = frame.sequence;
    this.#windowAcknowledgment = frame.acknowledgment;
    this.#windowBytes = windowBytes;
    if (windowBytes > this.#largestWindowBytes) this.#largestWindowBytes = windowBytes;
  }

  // ── transmission ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** Sends one segment if there is one and the windows allow it. */
  #transmitNext(): boolean {
    const unsentBytes = this.queue.bytesFrom(this.next); // -1 when the FIN is out
    if (unsentBytes < 0 || (unsentBytes === 0 && !this.#finQueued)) return false;
    const inFlightBytes = (this.next - this.una) | 0;
    let bytes = Math.min(unsentBytes, this.mssBytes);
    if (inFlightBytes + bytes > this.congestion.bytes + this.#inflationBytes) return false;
    const usableBytes = (this.una + this.#windowBytes - this.next) | 0;
    if (bytes > usableBytes) {
      // A sliver of window is left alone (RFC 9293 3.8.6.2.1); if nothing is out that could open it, the timer will.
      if (usableBytes <= 0 || usableBytes * 2 < this.#largestWindowBytes) {
        if (!this.outstanding && !this.#timer.armed) this.#startTimer(this.timeout.after(this.#probes));
        return false;
      }
      bytes = usableBytes;
    }
    if (bytes < this.mssBytes && !this.#maySendSmall(unsentBytes - bytes)) return false;
    this.#sendFrom(this.next, bytes);
    return true;
  }

  /** Nagle's algorithm holds back a small segment while an earlier small one is unacknowledged; a FIN goes anyway. */
  #maySendSmall(bytesLeft: number): boolean {
    if (this.#output.settings.noDelay || (this.#finQueued && bytesLeft === 0)) return true;
    return !isAfter(this.#smallEnd, this.una);
  }

  #sendFrom(sequence: number, bytes: number): void {
    const now = this.#output.cpus.instant;
    const dataEnd = (sequence + bytes) | 0;
    const withFin = this.#finQueued && this.queue.bytesFrom(dataEnd) === 0;
    const end = withFin ? (dataEnd + 1) | 0 : dataEnd;
    const frame = this.#output.newSegment();
    frame.sequence = sequence;
    frame.payloadBytes = bytes;
    frame.messageEnds = this.queue.endsWithin(frame);
    frame.tcpFlags = TCP_ACK;
    if (withFin) frame.tcpFlags |= TCP_FIN;
    if (frame.messageEnds !== undefined) frame.tcpFlags |= TCP_PSH;

    if (isBefore(sequence, this.max)) {
      this.retransmissions++;
      this.#output.countRetransmission();
      this.#timedAt = undefined; // Karn: an acknowledgment could be of either transmission
    } else if (this.#timedAt === undefined) {
      this.#timedEnd = end;
      this.#timedAt = now;
    }
    if (bytes < this.mssBytes) this.#smallEnd = dataEnd;
    if (!this.outstanding || !this.#timer.armed) this.#startTimer(this.timeout.current);
    if (isAfter(end, this.next)) this.next = end;
    if (isAfter(end, this.max)) this.max = end;
    this.#lastSentAt = now;
    this.#probes = 0;
    // Last, because an answer from the same machine may come back before this returns.
    this.#output.sendSegment(frame);
  }

  /** What the peer waits for, one segment. */
  #retransmitFirst(): void {
    const sentBytes = Math.min((this.max - this.una) | 0, this.queue.bytesFrom(this.una));
    this.#sendFrom(this.una, Math.min(sentBytes, this.mssBytes));
  }

  #goBack(): void {
    this.next = this.una;
    this.#recover = this.max;
    this.#recovering = false;
    this.#duplicateAcks = 0;
    this.#inflationBytes = 0;
    this.#timedAt = undefined;
  }

  #noticeIdleness(): void {
    if (this.#lastSentAt === undefined || this.outstanding || !this.#output.settings.slowStartAfterIdle) return;
    const idle = between(this.#lastSentAt, this.#output.cpus.instant);
    if (idle > this.timeout.current) this.congestion.idle(idle, this.timeout.current);
  }

  // ── timer ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  #timedOut(retries: number): boolean {
    const now = this.#output.cpus.instant;
    this.#firstTimeoutAt ??= now;
    if (now - this.#firstTimeoutAt >= retryPeriod(retries)) return false;
    if (this.#timeouts++ === 0) this.congestion.collapse();
    else this.congestion.restart();
    this.timeout.backOff();
    this.#goBack();
    this.#startTimer(this.timeout.current);
    if (!this.#transmitNext()) this.#retransmitFirst(); // even if the peer has taken its window back
    return true;
  }

  /**
   * The window has been too small for a while: what fits goes out. If nothing does, a segment from before the window, which
   * the peer must answer with its window (tcp_write_wakeup).
   */
  #probe(retries: number): boolean {
    const usableBytes = (this.una + this.#windowBytes - this.next) | 0;
    if (usableBytes > 0) {
      this.#sendFrom(this.next, Math.min(this.queue.bytesFrom(this.next), usableBytes, this.mssBytes));
      return true;
    }
    if (this.#unansweredProbes >= retries) return false;
    this.#unansweredProbes++;
    this.#probes++;
    this.#startTimer(this.timeout.after(this.#probes));
    const frame = this.#output.newSegment();
    frame.sequence = (this.una - 1) | 0;
    frame.tcpFlags = TCP_ACK;
    this.#output.sendSegment(frame);
    return true;
  }

  #startTimer(delay: Duration): void {
    this.#timer.startAt(after(this.#output.cpus.instant, delay));
  }
}

/** DupThresh of RFC 5681. */
const DUPLICATE_ACKS = 3;
