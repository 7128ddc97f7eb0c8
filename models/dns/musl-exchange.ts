// How musl asks: all servers at once, all questions from one socket; the first answer to each counts, whoever gives it
// (src/network/res_msend.c of musl 1.2.4 and later, which takes truncated answers again over TCP).

import { type Instant, s } from '../../engine/time.ts';
import { Timer } from '../../engine/timer.ts';
import type { TcpConnection } from '../transport/tcp-connection.ts';
import type { UdpSocket } from '../transport/udp.ts';
import type { DnsMessage, Question } from './message.ts';
import type { StubSettings } from './resolv-conf.ts';
import { bindOrNothing, type ExchangeContext, QueryBook, type Replies, type ServerAddress } from './stub-exchange.ts';

export class MuslExchange {
  readonly #context: ExchangeContext;
  readonly #settings: StubSettings;
  readonly #book: QueryBook;
  readonly #done: (replies: Replies) => void;
  readonly #timer: Timer;
  readonly #socket: UdpSocket | undefined;
  readonly #connections: TcpConnection[] = [];
  readonly #replies: (DnsMessage | undefined)[];
  /** Answers that are being fetched again, whole. */
  readonly #truncated = new Set<number>();
  readonly #ends: Instant;
  #servfailRetries = 0;
  #isOver = false;

  constructor(
    context: ExchangeContext,
    settings: StubSettings,
    questions: readonly Question[],
    done: (replies: Replies) => void,
  ) {
    this.#context = context;
    this.#settings = settings;
    this.#book = new QueryBook(context, questions, undefined);
    this.#done = done;
    this.#replies = questions.map(() => undefined);
    const { place } = context.process;
    this.#ends = (place.now + s(settings.timeoutSeconds)) as Instant;
    this.#timer = new Timer(place, () => this.#onTimer());
    const family = context.servers.some((server) => server.family === 6) ? 6 : 4;
    // Not connected: it hears of no errors, and what nobody takes is waited for.
    this.#socket = bindOrNothing(
      context.process,
      { family, isConnected: false },
      { onDatagram: (message, from) => this.#onDatagram(this.#book.receive(message, from, 'UDP'), from) },
    );
    if (this.#socket === undefined) this.#timer.startAt(place.now);
    else this.#sendAll();
  }

  #sendAll(): void {
    const open = [...this.#book.queries.keys()].filter((i) => this.#replies[i] === undefined);
    for (const server of this.#context.servers) this.#book.sendAllTo(this.#socket!, server, open);
    this.#servfailRetries = 2 * this.#book.queries.length;
    const { timeoutSeconds, attempts } = this.#settings;
    const again = (this.#context.process.place.now + s(timeoutSeconds / attempts)) as Instant;
    this.#timer.startAt(again < this.#ends ? again : this.#ends);
  }

  #onTimer(): void {
    if (this.#socket !== undefined && this.#context.process.place.now < this.#ends) return this.#sendAll();
    for (const server of this.#context.servers) this.#book.fail(server, 'timed out');
    this.#end();
  }

  #onDatagram(
    received: ReturnType<QueryBook['receive']>,
    from: Partial<ServerAddress> & Pick<ServerAddress, 'ip' | 'port'>,
  ): void {
    if (received === undefined || this.#isOver || this.#replies[received.i] !== undefined) return;
    const { i, answer } = received;
    const server = this.#context.servers.find(({ ip, port }) => ip === from.ip && port === from.port)!;
    if (answer.rcode === 'SERVFAIL' && this.#servfailRetries > 0) {
      this.#servfailRetries--;
      return this.#book.sendTo(this.#socket!, server, i);
    }
    if (answer.rcode !== 'NOERROR' && answer.rcode !== 'NXDOMAIN') return;
    this.#replies[i] = answer;
    if (answer.isTruncated) this.#fetchWhole(i, server);
    this.#endIfComplete();
  }

  #fetchWhole(i: number, server: ServerAddress): void {
    this.#truncated.add(i);
    const { namespace, cpu } = this.#context.process;
    const connection = namespace.tcp.connect(
      { to: server, cpu },
      {
        onMessage: (_connection, message) => {
          const received = this.#book.receive(message, server, 'TCP');
          if (received === undefined || this.#isOver) return;
          this.#replies[i] = received.answer;
          this.#truncated.delete(i);
          this.#endIfComplete();
        },
        onPeerClosed: (own) => own.close(),
        // What was cut is better than nothing.
        onClosed: () => {
          if (this.#isOver || !this.#truncated.delete(i)) return;
          this.#endIfComplete();
        },
      },
    );
    this.#connections.push(connection);
    this.#book.sendOver(connection, server, i);
  }

  #endIfComplete(): void {
    if (this.#truncated.size === 0 && !this.#replies.includes(undefined)) this.#end();
  }

  #end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#timer.stop();
    this.#socket?.close();
    for (const connection of this.#connections) connection.close();
    this.#done({ messages: this.#replies, isRefused: false, hasFailed: false });
  }
}
