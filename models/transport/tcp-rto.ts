// When to send again: the retransmission timeout from measured round trips (RFC 6298, with Linux' bounds), and how long
// to keep trying.
//
// Not modelled: tail loss probes, RACK's reordering timer, F-RTO.

import { type Duration, ms } from '../../engine/time.ts';
import type { TcpSettings } from './tcp-settings.ts';

export class RetransmissionTimeout {
  readonly #settings: TcpSettings;
  /** How long to wait for an acknowledgment now. */
  current: Duration;
  /** Undefined before the first measurement. */
  smoothedRtt: Duration | undefined;
  #variation = 0;
  #unbacked: Duration;
  #backoffs = 0;

  constructor(settings: TcpSettings) {
    this.#settings = settings;
    this.#unbacked = settings.initialTimeout;
    this.current = settings.initialTimeout;
  }

  /** A round trip of a segment that was sent once (Karn). Ends the backoff. */
  measured(roundTrip: Duration): void {
    if (this.smoothedRtt === undefined) {
      this.smoothedRtt = roundTrip;
      this.#variation = roundTrip / 2;
    } else {
      this.#variation += (Math.abs(roundTrip - this.smoothedRtt) - this.#variation) / 4;
      this.smoothedRtt = Math.round(this.smoothedRtt + (roundTrip - this.smoothedRtt) / 8) as Duration;
    }
    // Linux bounds the variation from below, not the sum (tcp_set_rto).
    const margin = Math.max(Math.round(4 * this.#variation), this.#settings.minTimeout);
    this.#unbacked = Math.min(this.smoothedRtt + margin, this.#settings.maxTimeout) as Duration;
    this.#backoffs = 0;
    this.current = this.#unbacked;
  }

  /** The next timeout is twice as long. */
  backOff(): void {
    this.current = this.after(++this.#backoffs);
  }

  get backedOff(): boolean {
    return this.#backoffs > 0;
  }

  /** The timeout after that many doublings. */
  after(doublings: number): Duration {
    return Math.min(this.#unbacked * 2 ** doublings, this.#settings.maxTimeout) as Duration;
  }
}

/**
 * How long after the first retransmission Linux gives up, for a limit in retries (tcp_model_timeout): the time that
 * many doublings of the minimum take, 924.6 s for 15. A limit in time, because real timeouts differ.
 */
export function retryPeriod(retries: number): Duration {
  const doublings = Math.min(retries, LONGEST_DOUBLINGS);
  return ms((2 ** (doublings + 1) - 1) * 200 + (retries - doublings) * 120_000);
}

/** ilog2(TCP_RTO_MAX / TCP_RTO_MIN): 200 ms can be doubled 9 times below 120 s. */
const LONGEST_DOUBLINGS = 9;
