// The window that a receiver offers: room in its buffer, which grows with what the application reads per round trip.
//
// Not modelled: memory pressure, SO_RCVBUF (set both buffer sizes to one value for a fixed window).

import type { Duration, Instant } from '../../engine/time.ts';
import { isAfter } from './sequence.ts';
import type { TcpSettings } from './tcp-settings.ts';

/** Largest value of the window field. */
const FIELD_MAX = 65_535;
/** RFC 7323 2.3. */
const MAX_SCALE = 14;

export class TcpReceiveWindow {
  /** Offered in our SYN: shifts the window field so that the largest buffer fits. */
  readonly scaleOption: number;
  readonly #maxBytes: number;
  readonly #mssBytes: number;
  #sizeBytes: number;
  #scale = 0;
  /** The highest sequence number ever offered, exclusive: a window never shrinks below it. */
  #rightEdge = 0;

  // Growth: what the application read in this round trip, and in the best one so far.
  #readBytes = 0;
  #bestBytes: number;
  #measuredSince: Instant | undefined;

  constructor(settings: TcpSettings, mssBytes: number) {
    this.#mssBytes = mssBytes;
    this.#maxBytes = settings.receiveBufferMaxBytes >>> 1;
    this.#sizeBytes = Math.min(settings.receiveBufferBytes, settings.receiveBufferMaxBytes) >>> 1;
    this.#bestBytes = settings.initialWindowSegments * mssBytes;
    let scale = 0;
    while (scale < MAX_SCALE && FIELD_MAX * 2 ** scale < settings.receiveBufferMaxBytes) scale++;
    this.scaleOption = scale;
  }

  /** The window field of a SYN, which is never scaled: whole segments, 64,240 bytes with Ethernet's MSS. */
  get initialField(): number {
    const bytes = Math.min(this.#sizeBytes, FIELD_MAX);
    return bytes > this.#mssBytes ? bytes - (bytes % this.#mssBytes) : bytes;
  }

  /** The peer's data begins at `next`. */
  begin(next: number): void {
    this.#rightEdge = (next + this.initialField) | 0;
  }

  /** Both sides have offered the scale option. */
  useScale(): void {
    this.#scale = this.scaleOption;
  }

  /** The window field of a segment that acknowledges up to `next`. */
  field(next: number, unreadBytes: number): number {
    const field = Math.min(this.#offer(next, unreadBytes) >> this.#scale, FIELD_MAX);
    const edge = (next + (field << this.#scale)) | 0;
    if (isAfter(edge, this.#rightEdge)) this.#rightEdge = edge;
    return field;
  }

  /** Has this sequence number been offered? */
  includes(sequence: number): boolean {
    return !isAfter(sequence, this.#rightEdge);
  }

  /** The application has read: is the window so much larger now that the peer should hear of it? */
  shouldUpdate(next: number, unreadBytes: number): boolean {
    const offered = (this.#rightEdge - next) | 0;
    const offer = this.#offer(next, unreadBytes);
    return offered * 2 <= this.#sizeBytes && offer > 0 && offer >= 2 * offered;
  }

  /**
   * Dynamic right-sizing as in Linux (tcp_rcv_space_adjust): after each round trip with a new record of bytes read, the
   * window becomes twice that plus 16 segments, more if the record was broken by much.
   */
  read(bytes: number, now: Instant, roundTrip: Duration | undefined): void {
    this.#readBytes += bytes;
    this.#measuredSince ??= now;
    if (roundTrip === undefined || now - this.#measuredSince < roundTrip) return;
    if (this.#readBytes > this.#bestBytes) {
      const base = 2 * this.#readBytes + 16 * this.#mssBytes;
      const growth = 2 * Math.floor((base * (this.#readBytes - this.#bestBytes)) / this.#bestBytes);
      this.#sizeBytes = Math.max(this.#sizeBytes, Math.min(base + growth, this.#maxBytes));
      this.#bestBytes = this.#readBytes;
    }
    this.#readBytes = 0;
    this.#measuredSince = now;
  }

  /** Bytes from `next` on: free room, or what was promised already; no sliver at the end (RFC 9293 3.8.6.2.2). */
  #offer(next: number, unreadBytes: number): number {
    const promised = (this.#rightEdge - next) | 0;
    const free = this.#sizeBytes - unreadBytes;
    const worthwhile = Math.min(this.#mssBytes, this.#sizeBytes >> 1);
    if (free - promised >= worthwhile) return free;
    const unit = 1 << this.#scale;
    const expressible = (promised + unit - 1) & -unit;
    return Math.max(expressible <= free ? expressible : promised, 0);
  }
}
