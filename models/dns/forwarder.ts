// Questions handed on to other servers: CoreDNS's forward plugin. Sockets and connections are kept for a while and used
// again, so that many questions are one flow. An upstream that does not answer is asked for its health until it does.
//
// Not modelled: TLS, next, failfast_all_unhealthy_upstreams, and the doubling of read timeouts by measured RTT.

import type { RandomStream } from '../../engine/random.ts';
import { type Duration, type Instant, ms, s } from '../../engine/time.ts';
import { Timer } from '../../engine/timer.ts';
import type { Process } from '../host/process.ts';
import type { TcpConnection } from '../transport/tcp-connection.ts';
import type { SocketAddress } from '../transport/transport-stack.ts';
import { NoFreePortError, type UdpSocket } from '../transport/udp.ts';
import { carry, type DnsProtocol, receivedMessage } from './dns-transport.ts';
import { sameName } from './domain-name.ts';
import { type Answer, type DnsMessage, emptyAnswer, type Question, queryFor } from './message.ts';
import type { Upstream } from './name-server.ts';

export interface ForwardSettings {
  /** In the order of the file; which is asked, `policy` says. */
  readonly upstreams: readonly Required<SocketAddress>[];
  readonly protocol: DnsProtocol;
  readonly policy: 'random' | 'round_robin' | 'sequential';
  /** Of one upstream; then the next is asked. */
  readonly readTimeout: Duration;
  /** Of a question; then the answer is SERVFAIL. */
  readonly deadline: Duration;
  /** Sockets and connections that nobody uses are kept for so long. */
  readonly expire: Duration;
  readonly healthCheckInterval: Duration;
  /** Health checks in a row that fail until an upstream is not asked any more; 0: it is always asked. */
  readonly maxFails: number;
  /** Questions under way; others are refused. */
  readonly maxConcurrent: number;
  /** EDNS size of queries; CoreDNS hands on what the client sent, a cache of its own says this. */
  readonly udpPayloadBytes: number;
}

/** plugin/forward: defaults, and kubeadm's max_concurrent. */
export const DEFAULT_FORWARD: Omit<ForwardSettings, 'upstreams'> = {
  protocol: 'UDP',
  policy: 'random',
  readTimeout: s(2),
  deadline: s(5),
  expire: s(10),
  healthCheckInterval: ms(500),
  maxFails: 2,
  maxConcurrent: 1000,
  udpPayloadBytes: 1232,
};

export class Forwarder implements Upstream {
  readonly #process: Process;
  readonly #settings: ForwardSettings;
  readonly #random: RandomStream;
  readonly #hosts: readonly UpstreamHost[];
  #underWay = 0;
  #next = 0;

  constructor(process: Process, settings: ForwardSettings) {
    this.#process = process;
    this.#settings = settings;
    this.#random = process.place.random(`dns-forward/${process.name}`);
    this.#hosts = settings.upstreams.map((address) => new UpstreamHost(process, address, settings));
  }

  /** Questions that were handed on, health checks not counted. */
  forwarded = 0;

  ask(question: Question, done: (answer: Answer | undefined) => void): void {
    const { maxConcurrent, deadline } = this.#settings;
    if (this.#underWay >= maxConcurrent) return done(emptyAnswer('REFUSED'));
    this.#underWay++;
    this.forwarded++;
    const ends = (this.#process.place.now + deadline) as Instant;
    this.#ask(question, { ends, hosts: this.#order(), next: 0 }, (answer) => {
      this.#underWay--;
      done(answer);
    });
  }

  close(): void {
    for (const host of this.#hosts) host.close();
  }

  #ask(
    question: Question,
    { ends, hosts, next }: { readonly ends: Instant; readonly hosts: readonly UpstreamHost[]; readonly next: number },
    done: (answer: Answer | undefined) => void,
  ): void {
    const { now } = this.#process.place;
    if (now >= ends || hosts.length === 0) return done(undefined);
    const healthy = hosts.filter((host) => !host.isDown);
    // All down: the health check may be what is broken.
    const pool = healthy.length > 0 ? healthy : hosts;
    const host = pool[next % pool.length]!;
    const id = this.#random.int(65_536);
    const query = queryFor(question, { id, udpPayloadBytes: this.#settings.udpPayloadBytes });
    host.exchange(query, (answer) => {
      if (answer !== undefined) return done(answer);
      host.check();
      this.#ask(question, { ends, hosts, next: next + 1 }, done);
    });
  }

  #order(): readonly UpstreamHost[] {
    switch (this.#settings.policy) {
      case 'random':
        return this.#hosts.length < 2 ? this.#hosts : this.#random.shuffle(this.#hosts);
      case 'round_robin': {
        const first = this.#next++ % this.#hosts.length;
        return [...this.#hosts.slice(first), ...this.#hosts.slice(0, first)];
      }
      case 'sequential':
        return this.#hosts;
    }
  }
}

/** One question at a time, over one socket or connection. */
interface Line {
  /** `done` is called once; without an answer if the line is broken, or nothing came in time. */
  exchange(query: DnsMessage, done: (answer: DnsMessage | undefined) => void): void;
  readonly isOpen: boolean;
  /** Since when nobody uses it. */
  idleSince: Instant;
  close(): void;
}

class UpstreamHost {
  readonly #process: Process;
  readonly #address: Required<SocketAddress>;
  readonly #settings: ForwardSettings;
  /** The one used last stands last, and is used first. */
  readonly #idle: Line[] = [];
  readonly #busy = new Set<Line>();
  readonly #checkTimer: Timer;
  #fails = 0;
  #isChecking = false;

  constructor(process: Process, address: Required<SocketAddress>, settings: ForwardSettings) {
    this.#process = process;
    this.#address = address;
    this.#settings = settings;
    this.#checkTimer = new Timer(process.place, () => this.#probe());
  }

  get isDown(): boolean {
    const { maxFails } = this.#settings;
    return maxFails > 0 && this.#fails >= maxFails;
  }

  exchange(query: DnsMessage, done: (answer: DnsMessage | undefined) => void): void {
    const line = this.#take();
    if (line === undefined) return done(undefined);
    this.#busy.add(line);
    line.exchange(query, (answer) => {
      this.#busy.delete(line);
      if (answer === undefined || !line.isOpen) line.close();
      else {
        line.idleSince = this.#process.place.now;
        this.#idle.push(line);
      }
      done(answer);
    });
  }

  /** Asks for its health from now on, until it is well. */
  check(): void {
    if (this.#isChecking || this.#settings.maxFails === 0) return;
    this.#isChecking = true;
    this.#probe();
  }

  close(): void {
    this.#checkTimer.stop();
    for (const line of [...this.#idle.splice(0), ...this.#busy]) line.close();
    this.#busy.clear();
  }

  /** `. NS`, as CoreDNS asks: any answer is a sign of life. */
  #probe(): void {
    this.exchange(queryFor({ name: '.', type: 'NS' }, { id: 0 }), (answer) => {
      if (answer !== undefined) {
        this.#fails = 0;
        this.#isChecking = false;
        return;
      }
      this.#fails++;
      this.#checkTimer.start(this.#settings.healthCheckInterval);
    });
  }

  #take(): Line | undefined {
    const { now } = this.#process.place;
    const tooOld = now - this.#settings.expire;
    while (this.#idle.length > 0) {
      const line = this.#idle.pop()!;
      if (line.isOpen && line.idleSince > tooOld) return line;
      line.close();
    }
    return this.#settings.protocol === 'TCP'
      ? new TcpLine(this.#process, this.#address, this.#settings.readTimeout)
      : UdpLine.open(this.#process, this.#address, this.#settings.readTimeout);
  }
}

abstract class BaseLine implements Line {
  idleSince: Instant;
  isOpen = true;
  readonly #timer: Timer;
  readonly #readTimeout: Duration;
  #query: DnsMessage | undefined;
  #done: ((answer: DnsMessage | undefined) => void) | undefined;

  constructor({ place }: Process, readTimeout: Duration) {
    this.idleSince = place.now;
    this.#readTimeout = readTimeout;
    this.#timer = new Timer(place, () => this.end(undefined));
  }

  exchange(query: DnsMessage, done: (answer: DnsMessage | undefined) => void): void {
    this.#query = query;
    this.#done = done;
    this.#timer.start(this.#readTimeout);
    this.send(query);
  }

  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.#timer.stop();
    this.shut();
  }

  protected abstract send(query: DnsMessage): void;
  protected abstract shut(): void;

  /** What answers another question, as it comes too late, is not looked at. */
  protected received(answer: DnsMessage | undefined): void {
    const asked = this.#query?.questions[0];
    const of = answer?.questions[0];
    if (answer?.isResponse !== true || answer.id !== this.#query?.id || asked === undefined || of === undefined) return;
    if (of.type === asked.type && sameName(of.name, asked.name)) this.end(answer);
  }

  protected end(answer: DnsMessage | undefined): void {
    const done = this.#done;
    this.#done = undefined;
    this.#query = undefined;
    this.#timer.stop();
    done?.(answer);
  }
}

class UdpLine extends BaseLine {
  readonly #to: Required<SocketAddress>;
  #socket: UdpSocket | undefined;

  /** undefined: no port is free. */
  static open(process: Process, to: Required<SocketAddress>, readTimeout: Duration): UdpLine | undefined {
    const line = new UdpLine(process, to, readTimeout);
    try {
      const { namespace, cpu } = process;
      line.#socket = namespace.udp.bind(
        { family: to.family, cpu, isConnected: true },
        {
          onDatagram: (message) => line.received(receivedMessage(message, 'UDP')),
          onError: () => line.end(undefined),
        },
      );
      return line;
    } catch (error) {
      if (error instanceof NoFreePortError) return undefined;
      throw error;
    }
  }

  private constructor(process: Process, to: Required<SocketAddress>, readTimeout: Duration) {
    super(process, readTimeout);
    this.#to = to;
  }

  protected override send(query: DnsMessage): void {
    this.#socket?.send(this.#to, carry(query, 'UDP'));
  }

  protected override shut(): void {
    this.#socket?.close();
  }
}

class TcpLine extends BaseLine {
  readonly #connection: TcpConnection;

  constructor(process: Process, to: Required<SocketAddress>, readTimeout: Duration) {
    super(process, readTimeout);
    const { namespace, cpu } = process;
    this.#connection = namespace.tcp.connect(
      { to, cpu },
      {
        onMessage: (_connection, message) => this.received(receivedMessage(message, 'TCP')),
        onPeerClosed: () => this.close(),
        onClosed: () => {
          this.isOpen = false;
          this.end(undefined);
        },
      },
    );
  }

  /** What is written before the handshake is over waits for it. */
  protected override send(query: DnsMessage): void {
    this.#connection.send(carry(query, 'TCP'));
  }

  protected override shut(): void {
    this.#connection.close();
  }
}
