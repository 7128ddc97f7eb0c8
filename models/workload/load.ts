// What clients saw of a service: latencies, who answered, what failed and why.

import { Histogram } from '../../engine/stats/histogram.ts';
import { between, type Duration, type Instant, START } from '../../engine/time.ts';
import type { Response } from './message.ts';

export const FAILURES = ['refused', 'reset', 'unreachable', 'timed out', 'closed early', 'too big'] as const;
/** Why a request got no answer, as its client sees it. */
export type Failure = (typeof FAILURES)[number];

/** Collects the results of one or more clients. Requests that began before measuring began do not count. */
export class Load {
  /** From the first system call of a request (connect, where there is one) to the last byte of its answer. */
  readonly latency = new Histogram();
  /** connect() until it is established, of TCP requests on a new connection. */
  readonly connect = new Histogram();
  /** send() of the request to the last byte of its answer. */
  readonly request = new Histogram();
  readonly #perServer = new Map<string, number>();
  readonly #perSource = new Map<number, number>();
  readonly #failures = new Map<Failure, number>();
  #since = START;
  #started = 0;
  #completed = 0;
  #failed = 0;

  get started(): number {
    return this.#started;
  }

  get completed(): number {
    return this.#completed;
  }

  get failed(): number {
    return this.#failed;
  }

  /** Started, and neither answered nor failed yet. */
  get outstanding(): number {
    return this.#started - this.#completed - this.#failed;
  }

  /** Answers by server, in the order in which servers first answered. */
  get perServer(): ReadonlyMap<string, number> {
    return this.#perServer;
  }

  /** Answers by the source address that the server saw. */
  get perSource(): ReadonlyMap<number, number> {
    return this.#perSource;
  }

  get failures(): ReadonlyMap<Failure, number> {
    return this.#failures;
  }

  /** Forgets what was seen so far: the warm-up is over. */
  startMeasuring(now: Instant): void {
    this.#since = now;
    this.#started = this.#completed = this.#failed = 0;
    for (const histogram of [this.latency, this.connect, this.request]) histogram.reset();
    for (const counts of [this.#perServer, this.#perSource, this.#failures]) counts.clear();
  }

  /** A request begins at `at`; pass the same instant to what ends it. */
  begin(at: Instant): void {
    if (at >= this.#since) this.#started++;
  }

  connected({ began, now }: { began: Instant; now: Instant }): void {
    if (began >= this.#since) this.connect.record(between(began, now));
  }

  complete({ began, sent, now, response }: { began: Instant; sent: Instant; now: Instant; response: Response }): void {
    if (began < this.#since) return;
    this.#completed++;
    this.latency.record(between(began, now));
    this.request.record(between(sent, now));
    this.#perServer.set(response.server, (this.#perServer.get(response.server) ?? 0) + 1);
    this.#perSource.set(response.sourceSeen, (this.#perSource.get(response.sourceSeen) ?? 0) + 1);
  }

  fail(began: Instant, failure: Failure): void {
    if (began < this.#since) return;
    this.#failed++;
    this.#failures.set(failure, (this.#failures.get(failure) ?? 0) + 1);
  }

  /** Answered requests per second of virtual time since measuring began. */
  throughputPerSecond(now: Instant): number {
    const elapsed: Duration = between(this.#since, now);
    return elapsed === 0 ? 0 : (this.#completed * 1e9) / elapsed;
  }
}
