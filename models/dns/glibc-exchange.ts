// How glibc asks: one server after the other, A and AAAA at once from one socket, a timeout for both (res_send.c,
// send_dg and send_vc).
//
// A timeout with one of two answers makes glibc ask one after the other from then on, and another one from two sockets:
// some name servers and firewalls cannot do otherwise. The thread remembers that.

import { s } from '../../engine/time.ts';
import { Timer } from '../../engine/timer.ts';
import type { TcpConnection } from '../transport/tcp-connection.ts';
import type { UdpSocket } from '../transport/udp.ts';
import type { DnsMessage, Question } from './message.ts';
import type { StubSettings } from './resolv-conf.ts';
import { bindOrNothing, type ExchangeContext, QueryBook, type Replies, type ServerAddress } from './stub-exchange.ts';

/** What the thread has learnt: RES_SNGLKUP and RES_SNGLKUPREOP. */
export interface GlibcState {
  isSequential: boolean;
  reopensSocket: boolean;
}

/** RESOLV_EDNS_BUFFER_SIZE. */
const EDNS_BYTES = 1200;

export class GlibcExchange {
  readonly #context: ExchangeContext;
  readonly #settings: StubSettings;
  readonly #state: GlibcState;
  readonly #book: QueryBook;
  readonly #done: (replies: Replies) => void;
  readonly #timer: Timer;
  readonly #sockets = new Map<ServerAddress, UdpSocket>();
  #connection: TcpConnection | undefined;
  #attempt = 0;
  #next = 0;
  #overTcp: boolean;
  #hasHeardOrWaited = false;
  #hasFailed = false;
  #isOver = false;
  /** Per question: nothing yet, an answer, or one that does not count. */
  #replies: (DnsMessage | 'of no use' | undefined)[] = [];

  constructor(
    context: ExchangeContext,
    settings: StubSettings,
    state: GlibcState,
    questions: readonly Question[],
    done: (replies: Replies) => void,
  ) {
    this.#context = context;
    this.#settings = settings;
    this.#state = state;
    this.#overTcp = settings.usesTcp;
    this.#book = new QueryBook(context, questions, settings.usesEdns ? EDNS_BYTES : undefined);
    this.#done = done;
    this.#timer = new Timer(context.process.place, () => this.#onTimeout());
    this.#askServer();
  }

  get #server(): ServerAddress {
    return this.#context.servers[this.#next]!;
  }

  #askServer(): void {
    this.#replies = this.#book.queries.map(() => undefined);
    if (this.#overTcp) this.#askOverTcp();
    else this.#askOverUdp();
  }

  #nextServer(): void {
    this.#timer.stop();
    this.#next++;
    if (this.#next === this.#context.servers.length) {
      this.#next = 0;
      this.#attempt++;
    }
    if (this.#attempt < this.#settings.attempts) return this.#askServer();
    this.#end();
  }

  #end(): void {
    this.#isOver = true;
    this.#timer.stop();
    for (const socket of this.#sockets.values()) socket.close();
    this.#connection?.close();
    const messages = this.#replies.map((reply) => (reply === 'of no use' ? undefined : reply));
    const isRefused = !this.#overTcp && !this.#hasHeardOrWaited;
    this.#done({ messages, isRefused, hasFailed: this.#hasFailed });
  }

  // ── UDP ────────────────────────────────────────────────────────────────────────────────────────────────────────────

  #askOverUdp(): void {
    const socket = this.#socketFor(this.#server);
    if (socket === undefined) return this.#nextServer();
    const { servers } = this.#context;
    // retrans << ns, shared among the servers but for the first one's.
    const seconds = Math.floor((this.#settings.timeoutSeconds << this.#next) / (this.#next === 0 ? 1 : servers.length));
    this.#timer.start(s(Math.max(1, seconds)));
    const all = [...this.#book.queries.keys()];
    this.#book.sendAllTo(socket, this.#server, this.#state.isSequential ? [0] : all);
  }

  /** A socket per server, as long as the question lasts: attempts are one flow. */
  #socketFor(server: ServerAddress): UdpSocket | undefined {
    const known = this.#sockets.get(server);
    if (known !== undefined) return known;
    const socket = bindOrNothing(
      this.#context.process,
      { family: server.family, isConnected: true },
      {
        onDatagram: (message, from) => {
          const received = this.#book.receive(message, from, 'UDP');
          if (received !== undefined && server === this.#server && !this.#isOver) this.#onAnswer(received);
        },
        onError: () => {
          if (server !== this.#server || this.#isOver) return;
          this.#book.fail(server, 'refused');
          this.#nextServer();
        },
      },
    );
    if (socket !== undefined) this.#sockets.set(server, socket);
    return socket;
  }

  #reopen(server: ServerAddress): void {
    this.#sockets.get(server)?.close();
    this.#sockets.delete(server);
  }

  #onAnswer({ i, answer }: { readonly i: number; readonly answer: DnsMessage }): void {
    if (this.#replies[i] !== undefined) return;
    this.#hasHeardOrWaited = true;
    if (answer.isTruncated) {
      this.#overTcp = true;
      this.#timer.stop();
      return this.#askServer();
    }
    const isFailure = answer.rcode === 'SERVFAIL' || answer.rcode === 'NOTIMP' || answer.rcode === 'REFUSED';
    this.#hasFailed = answer.rcode === 'SERVFAIL';
    this.#replies[i] = isFailure || isLame(answer) ? 'of no use' : answer;
    const open = this.#replies.indexOf(undefined);
    if (open >= 0 && this.#state.isSequential) {
      if (this.#replies[i] !== 'of no use') return this.#askSecond(open);
      // The other question waits for the next server.
      this.#reopen(this.#server);
      return this.#nextServer();
    }
    if (open >= 0) return;
    if (this.#replies.every((reply) => reply === 'of no use')) this.#nextServer();
    else this.#end();
  }

  #askSecond(i: number): void {
    if (this.#state.reopensSocket) this.#reopen(this.#server);
    const socket = this.#socketFor(this.#server);
    if (socket !== undefined) this.#book.sendTo(socket, this.#server, i);
  }

  #onTimeout(): void {
    this.#hasHeardOrWaited = true;
    this.#book.fail(this.#server, 'timed out');
    const hasHalf = this.#replies.some((reply) => reply !== undefined);
    if (!hasHalf) return this.#nextServer();
    if (!this.#state.isSequential) this.#state.isSequential = true;
    else if (!this.#state.reopensSocket) {
      this.#state.reopensSocket = true;
      this.#reopen(this.#server);
    } else if (this.#replies.some((reply) => reply !== undefined && reply !== 'of no use')) return this.#end();
    else return this.#nextServer();
    this.#askServer();
  }

  // ── TCP ────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** All questions over one connection; it takes as long as TCP takes. */
  #askOverTcp(): void {
    const server = this.#server;
    const { namespace, cpu } = this.#context.process;
    const connection = namespace.tcp.connect(
      { to: server, cpu },
      {
        onMessage: (_connection, message) => {
          const received = this.#book.receive(message, server, 'TCP');
          if (received === undefined || this.#connection !== connection || this.#isOver) return;
          this.#hasHeardOrWaited = true;
          this.#hasFailed = received.answer.rcode === 'SERVFAIL';
          this.#replies[received.i] = received.answer;
          if (!this.#replies.includes(undefined)) this.#end();
        },
        onPeerClosed: (own) => own.close(),
        onClosed: () => {
          if (this.#connection !== connection || this.#isOver) return;
          this.#connection = undefined;
          this.#book.fail(server, 'no connection');
          this.#nextServer();
        },
      },
    );
    this.#connection = connection;
    for (const i of this.#book.queries.keys()) this.#book.sendOver(connection, server, i);
  }
}

/** Neither an answer nor a reason: a server that knows nothing of the zone, and does not ask for others. */
const isLame = ({ rcode, answers, additional, isAuthoritative, recursionAvailable }: DnsMessage): boolean =>
  rcode === 'NOERROR' && answers.length === 0 && additional.length === 0 && !isAuthoritative && !recursionAvailable;
