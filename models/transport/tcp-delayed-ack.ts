// When received data is acknowledged: at once, or later together with an answer (RFC 9293 3.8.6.3, with Linux' heuristics).
//
// A connection starts with quick acknowledgments, because the peer's slow start lives on them. An application that
// answers within the delay turns the connection "interactive": then the answer carries the acknowledgment.
// Not modelled: delays that adapt to the sender's pace (the delay is TCP_DELACK_MIN), TCP_QUICKACK.

import type { Duration, Instant } from '../../engine/time.ts';

/** TCP_MAX_QUICKACKS. */
const QUICK_ACKS = 16;
/** TCP_MSS_DEFAULT: until a larger segment comes, two of this size count as full ones. */
const SMALLEST_FULL_SEGMENT_BYTES = 536;

export class DelayedAck {
  readonly #delay: Duration;
  #quickAcks = 0;
  #interactive = false;
  #fullSegmentBytes = SMALLEST_FULL_SEGMENT_BYTES;
  #lastReceived: Instant | undefined;

  constructor(delay: Duration) {
    this.#delay = delay;
  }

  received(payloadBytes: number, now: Instant): void {
    if (this.#lastReceived === undefined) this.#quickAcks = QUICK_ACKS;
    if (payloadBytes > this.#fullSegmentBytes) this.#fullSegmentBytes = payloadBytes;
    this.#lastReceived = now;
  }

  /** Data went out: soon after data came in, it was an answer. */
  sentData(now: Instant): void {
    if (this.#lastReceived !== undefined && now - this.#lastReceived < this.#delay) this.#interactive = true;
  }

  sentAck(): void {
    if (this.#quickAcks > 0) this.#quickAcks--;
  }

  /** The delay has passed and no answer came. */
  expired(): void {
    this.#interactive = false;
  }

  /** The peer has sent FIN: ours will probably follow and acknowledge it. */
  expectFin(): void {
    this.#interactive = true;
  }

  /** Must so much unacknowledged data be acknowledged now? Every second full segment is. */
  isDue(unacknowledgedBytes: number): boolean {
    return unacknowledgedBytes > this.#fullSegmentBytes || (this.#quickAcks > 0 && !this.#interactive);
  }
}
