// What clients saw of a service: latencies, who answered, what failed and why.

import type { Measure } from '../../engine/simulator.ts';
import { Histogram, type HistogramSnapshot } from '../../engine/stats/histogram.ts';
import { between, type Instant, START } from '../../engine/time.ts';
import { formatIp, type Ip, parseAddress } from '../packet/ip-address.ts';
import type { TcpCloseReason } from '../transport/tcp-connection.ts';
import type { SocketError } from '../transport/udp.ts';
import type { Response } from './message.ts';

/** Why a request got no answer, as its client sees it. */
export type Failure =
  | Exclude<TcpCloseReason, 'closed'>
  | SocketError
  | 'closed early'
  | 'name not resolved'
  | `HTTP ${number}`;

/** An answered request. */
export interface Completion {
  /** The lookup of the server's name, or else the first system call: connect, where there is one. */
  readonly began: Instant;
  /** The server's name was resolved; absent for a client that knew the address. */
  readonly resolved?: Instant | undefined;
  /** The request was sent; on a new TCP connection, once that was established. */
  readonly sent: Instant;
  readonly now: Instant;
  readonly response: Response;
}

interface LatenciesSnapshot {
  readonly latency: HistogramSnapshot;
  readonly connect: HistogramSnapshot;
  readonly request: HistogramSnapshot;
}

/** Counts by name, as plain data. */
type Counts = readonly (readonly [name: string, count: number])[];

interface LoadSnapshot {
  readonly all: LatenciesSnapshot;
  readonly groups: readonly (readonly [name: string, LatenciesSnapshot])[];
  readonly perServer: Counts;
  readonly perSource: Counts;
  readonly perForwardedFor: Counts;
  readonly lookup: HistogramSnapshot;
  readonly failures: readonly (readonly [Failure, count: number])[];
  readonly started: number;
  readonly completed: number;
  readonly failed: number;
}

/** Latencies of answered requests. */
export class Latencies {
  /** From the first system call to the last byte of the answer. */
  latency = new Histogram();
  /** connect() until it is established; nothing on kept connections and over UDP. */
  connect = new Histogram();
  /** send() of the request to the last byte of the answer. */
  request = new Histogram();

  record({ began, resolved = began, sent, now }: Completion): void {
    this.latency.record(between(began, now));
    if (sent > resolved) this.connect.record(between(resolved, sent));
    this.request.record(between(sent, now));
  }

  merge(other: Latencies): void {
    this.latency.merge(other.latency);
    this.connect.merge(other.connect);
    this.request.merge(other.request);
  }

  latenciesSnapshot(): LatenciesSnapshot {
    const { latency, connect, request } = this;
    return { latency: latency.snapshot(), connect: connect.snapshot(), request: request.snapshot() };
  }

  addLatencies({ latency, connect, request }: LatenciesSnapshot): void {
    this.latency.merge(Histogram.of(latency));
    this.connect.merge(Histogram.of(connect));
    this.request.merge(Histogram.of(request));
  }

  reset(): void {
    this.latency = new Histogram();
    this.connect = new Histogram();
    this.request = new Histogram();
  }
}

/**
 * The results of one or more clients. Requests that began before measuring began do not count. Whatever is told by name is
 * in the order of names, which does not depend on who was first.
 */
export class Load extends Latencies implements Measure {
  /** Lookups of the server's name, of requests that were answered. */
  lookup = new Histogram();
  readonly #groupOf: ((response: Response) => string) | undefined;
  readonly #groups = new Map<string, Latencies>();
  readonly #perServer = new Map<string, number>();
  /** By address, IPv4 and IPv6: a number may be one of each. */
  readonly #perSource = { 4: new Map<Ip, number>(), 6: new Map<Ip, number>() } as const;
  readonly #perForwardedFor = new Map<string, number>();
  readonly #failures = new Map<Failure, number>();
  #since = START;
  #started = 0;
  #completed = 0;
  #failed = 0;

  /** `groupBy` names the group under which the latencies of an answer are also kept. */
  constructor({ groupBy }: { groupBy?: (response: Response) => string } = {}) {
    super();
    this.#groupOf = groupBy;
  }

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

  /** Latencies by group. */
  get groups(): ReadonlyMap<string, Latencies> {
    return inOrder(this.#groups);
  }

  /** Answers by server. */
  get perServer(): ReadonlyMap<string, number> {
    return inOrder(this.#perServer);
  }

  /** Answers by the source address that the server saw, as text. */
  get perSource(): ReadonlyMap<string, number> {
    const families = [4, 6] as const;
    return inOrder(
      new Map(
        families.flatMap((family) => [...this.#perSource[family]].map(([ip, count]) => [formatIp(ip, family), count])),
      ),
    );
  }

  /** Answers by the client that X-Forwarded-For named to the server; without those of requests that had none. */
  get perForwardedFor(): ReadonlyMap<string, number> {
    return inOrder(this.#perForwardedFor);
  }

  get failures(): ReadonlyMap<Failure, number> {
    return inOrder(this.#failures);
  }

  /** Forgets what was seen so far: the warm-up is over. */
  startMeasuring(now: Instant): void {
    this.#since = now;
    this.#started = this.#completed = this.#failed = 0;
    this.reset();
    this.lookup = new Histogram();
    const { 4: perIpv4, 6: perIpv6 } = this.#perSource;
    for (const counts of [this.#groups, this.#perServer, this.#perForwardedFor, this.#failures, perIpv4, perIpv6])
      counts.clear();
  }

  /** A request begins at `at`; what ends it is told the same instant. */
  begin(at: Instant): void {
    if (at >= this.#since) this.#started++;
  }

  complete(completion: Completion): void {
    if (completion.began < this.#since) return;
    this.#completed++;
    this.record(completion);
    const { began, resolved } = completion;
    if (resolved !== undefined) this.lookup.record(between(began, resolved));
    const { server, sourceSeen, sourceFamily, forwardedFor } = completion.response;
    count(this.#perServer, server);
    count(this.#perSource[sourceFamily], sourceSeen);
    if (forwardedFor !== undefined) count(this.#perForwardedFor, forwardedFor);
    if (this.#groupOf !== undefined) this.#group(this.#groupOf(completion.response)).record(completion);
  }

  fail(began: Instant, failure: Failure): void {
    if (began < this.#since) return;
    this.#failed++;
    count(this.#failures, failure);
  }

  /** Answered requests per second of virtual time since measuring began. */
  throughputPerSecond(now: Instant): number {
    const elapsed = between(this.#since, now);
    return elapsed === 0 ? 0 : (this.#completed * 1e9) / elapsed;
  }

  #group(name: string): Latencies {
    let group = this.#groups.get(name);
    if (group === undefined) this.#groups.set(name, (group = new Latencies()));
    return group;
  }

  snapshot(): LoadSnapshot {
    return {
      all: this.latenciesSnapshot(),
      groups: [...this.#groups].map(([name, latencies]) => [name, latencies.latenciesSnapshot()]),
      perServer: [...this.#perServer],
      perSource: [...this.perSource],
      perForwardedFor: [...this.#perForwardedFor],
      lookup: this.lookup.snapshot(),
      failures: [...this.#failures],
      started: this.#started,
      completed: this.#completed,
      failed: this.#failed,
    };
  }

  add(snapshot: LoadSnapshot): void {
    const { all, groups, perServer, perSource, perForwardedFor, failures, started, completed, failed } = snapshot;
    this.addLatencies(all);
    for (const [name, latencies] of groups) this.#group(name).addLatencies(latencies);
    for (const [server, answers] of perServer) count(this.#perServer, server, answers);
    for (const [source, answers] of perSource) {
      const { family, ip } = parseAddress(source);
      count(this.#perSource[family], ip, answers);
    }
    for (const [client, answers] of perForwardedFor) count(this.#perForwardedFor, client, answers);
    this.lookup.merge(Histogram.of(snapshot.lookup));
    for (const [failure, requests] of failures) count(this.#failures, failure, requests);
    this.#started += started;
    this.#completed += completed;
    this.#failed += failed;
  }
}

function count<Name>(counts: Map<Name, number>, name: Name, amount = 1): void {
  counts.set(name, (counts.get(name) ?? 0) + amount);
}

const inOrder = <Name extends string, Value>(map: ReadonlyMap<Name, Value>): ReadonlyMap<Name, Value> =>
  new Map([...map].sort(([a], [b]) => (a < b ? -1 : 1)));
