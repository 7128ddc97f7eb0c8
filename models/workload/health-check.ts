// Health checks over TCP, as a load balancer makes them: a connection, a request, an answer of 200 or something else. A
// target is healthy after so many good answers in a row, and unhealthy after so many that were bad or did not come in time.

import { type Duration, ns, s } from '../../engine/time.ts';
import { Timer } from '../../engine/timer.ts';
import type { Process } from '../host/process.ts';
import type { Message } from '../packet/frame.ts';
import type { IpFamily } from '../packet/ip-address.ts';
import type { TcpConnection } from '../transport/tcp-connection.ts';
import type { TcpListener } from '../transport/tcp-layer.ts';
import type { SocketAddress } from '../transport/transport-stack.ts';

export interface HealthCheckSettings {
  /** From the beginning of a check to that of the next. */
  readonly interval: Duration;
  readonly timeout: Duration;
  readonly healthyThreshold: number;
  readonly unhealthyThreshold: number;
}

/** What cloud-provider-gcp configures (gceHcCheckIntervalSeconds, gceHcTimeoutSeconds, gceHcHealthyThreshold, …). */
export const DEFAULT_HEALTH_CHECK: HealthCheckSettings = {
  interval: s(8),
  timeout: s(1),
  healthyThreshold: 1,
  unhealthyThreshold: 3,
};

/** HTTP's status code. */
export type HealthStatus = 200 | 503;

/** What a server says of itself. */
export interface HealthReport {
  readonly status: HealthStatus;
  /** Of the Service that was asked about, on the server's node: a weight, for who wants one. */
  readonly readyEndpoints: number | undefined;
}

interface HealthAnswer extends Message, HealthReport {
  readonly kind: 'health';
}

const isHealthAnswer = (message: Message): message is HealthAnswer => 'kind' in message && message.kind === 'health';

/** `GET /healthz HTTP/1.1` with three headers, and an answer with a line of JSON: about so long. */
const REQUEST_BYTES = 120;
const ANSWER_BYTES = 250;

/** A server whose answer is what `report` says when it is asked. */
export function serveHealth(
  { namespace, cpu }: Process,
  { family, port }: { readonly family: IpFamily; readonly port: number },
  report: () => HealthReport,
): TcpListener {
  return namespace.tcp.listen({ family, isIpv6Only: family === 6, port, cpu }, () => ({
    onMessage(connection, { id }) {
      const answer: HealthAnswer = { kind: 'health', id, sizeBytes: ANSWER_BYTES, ...report() };
      connection.send(answer);
    },
    onPeerClosed: (connection) => connection.close(),
  }));
}

export class HealthChecker {
  readonly #process: Process;
  readonly #to: SocketAddress;
  readonly #settings: HealthCheckSettings;
  readonly #onChange: () => void;
  readonly #timeout: Timer;
  readonly #next: Timer;
  #connection: TcpConnection | undefined;
  #isHealthy: boolean;
  #latest: HealthReport | undefined;
  /** Results in a row that speak against what is believed. */
  #contradictions = 0;

  /** Checks from now on, at its own moments within the interval. */
  constructor(
    process: Process,
    {
      to,
      settings,
      isHealthy,
      phase,
      onChange,
    }: {
      readonly to: SocketAddress;
      readonly settings: HealthCheckSettings;
      /** What is believed until checks say otherwise. */
      readonly isHealthy: boolean;
      /** When the first check begins: a part of the interval. */
      readonly phase: number;
      readonly onChange: () => void;
    },
  ) {
    this.#process = process;
    this.#to = to;
    this.#settings = settings;
    this.#isHealthy = isHealthy;
    this.#onChange = onChange;
    this.#timeout = new Timer(process.place, () => this.#end(undefined));
    this.#next = new Timer(process.place, () => this.#check());
    this.#next.start(ns(Math.round(phase * settings.interval)));
  }

  get isHealthy(): boolean {
    return this.#isHealthy;
  }

  /** The latest answer; undefined after a check that had none. */
  get latest(): HealthReport | undefined {
    return this.#latest;
  }

  stop(): void {
    this.#next.stop();
    this.#timeout.stop();
    this.#connection?.abort();
    this.#connection = undefined;
  }

  #check(): void {
    const { namespace, cpu } = this.#process;
    this.#next.start(this.#settings.interval);
    this.#timeout.start(this.#settings.timeout);
    const connection = namespace.tcp.connect(
      { to: this.#to, cpu },
      {
        onConnected: (established) => established.send({ id: 0, sizeBytes: REQUEST_BYTES }),
        onMessage: (_open, message) => this.#end(isHealthAnswer(message) ? message : undefined),
        onPeerClosed: (open) => open.close(),
        onClosed: (closed) => {
          if (closed === this.#connection) this.#end(undefined);
        },
      },
    );
    this.#connection = connection;
  }

  /** A check has ended, or its time is over. */
  #end(answer: HealthAnswer | undefined): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    this.#connection = undefined;
    this.#timeout.stop();
    this.#latest = answer && { status: answer.status, readyEndpoints: answer.readyEndpoints };
    if (answer === undefined) connection.abort();
    else connection.close();
    this.#count(answer?.status === 200);
  }

  #count(isGood: boolean): void {
    if (isGood === this.#isHealthy) {
      this.#contradictions = 0;
      return;
    }
    const { healthyThreshold, unhealthyThreshold } = this.#settings;
    if (++this.#contradictions < (isGood ? healthyThreshold : unhealthyThreshold)) return;
    this.#contradictions = 0;
    this.#isHealthy = isGood;
    this.#onChange();
  }
}
