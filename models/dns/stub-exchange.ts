// What the two C libraries have in common where they send queries and hear answers: one or two questions at a time, over
// sockets of a process, every query noted.

import { type Instant, ns } from '../../engine/time.ts';
import type { Process } from '../host/process.ts';
import type { Message } from '../packet/frame.ts';
import type { TcpConnection } from '../transport/tcp-connection.ts';
import type { SocketAddress } from '../transport/transport-stack.ts';
import { NoFreePortError, type UdpSocket } from '../transport/udp.ts';
import { carry, type DnsProtocol, receivedMessage } from './dns-transport.ts';
import { sameName } from './domain-name.ts';
import { type DnsMessage, type Question, queryFor } from './message.ts';

export type ServerAddress = Required<SocketAddress>;

/** A query on its way, and what became of it. */
export interface SentQuery {
  readonly question: Question;
  readonly server: ServerAddress;
  readonly protocol: DnsProtocol;
  /** undefined: of a TCP connection. */
  readonly sourcePort: number | undefined;
  readonly sentAt: Instant;
  answeredAt: Instant | undefined;
  answer: DnsMessage | undefined;
  /** Why there is no answer; undefined while one may come. */
  failure: 'timed out' | 'refused' | 'no connection' | undefined;
}

/** What came of the questions. */
export interface Replies {
  /** In the order of the questions; undefined: none that counts. */
  readonly messages: readonly (DnsMessage | undefined)[];
  /** Nobody listens at any server: glibc gives up at once. */
  readonly isRefused: boolean;
  /** A server could not answer: glibc looks on where it would otherwise stop. */
  readonly hasFailed: boolean;
}

export interface ExchangeContext {
  readonly process: Process;
  /** The thread is moved to another CPU between two queries that it sends at once. */
  readonly migrates: boolean;
  readonly servers: readonly ServerAddress[];
  nextId(): number;
  note(query: SentQuery): void;
}

/** Sends, and tells answers from what else comes. */
export class QueryBook {
  readonly queries: readonly DnsMessage[];
  readonly #context: ExchangeContext;
  readonly #sent: SentQuery[] = [];

  constructor(context: ExchangeContext, questions: readonly Question[], udpPayloadBytes: number | undefined) {
    this.#context = context;
    this.queries = questions.map((question) => queryFor(question, { id: context.nextId(), udpPayloadBytes }));
  }

  sendTo(socket: UdpSocket, server: ServerAddress, i: number): void {
    socket.send(server, carry(this.queries[i]!, 'UDP'));
    this.#note(i, server, { protocol: 'UDP', sourcePort: socket.localPort });
  }

  /** All questions at once: sendmmsg(2). */
  sendAllTo(socket: UdpSocket, server: ServerAddress, which: readonly number[]): void {
    const { migrates, process } = this.#context;
    const { cpus } = process.namespace;
    const [first, ...others] = which;
    if (first !== undefined) this.sendTo(socket, server, first);
    if (!migrates) {
      for (const i of others) this.sendTo(socket, server, i);
      return;
    }
    // The first one is in the backlog of its CPU by then, and goes on there while the thread is elsewhere.
    for (const i of others) {
      const again = (): void => {
        socket.send(server, carry(this.queries[i]!, 'UDP'), (process.cpu + 1) % cpus.count);
        this.#note(i, server, { protocol: 'UDP', sourcePort: socket.localPort });
      };
      process.place.schedule(ns(cpus.costs.socketSendNs), again, undefined);
    }
  }

  sendOver(connection: TcpConnection, server: ServerAddress, i: number): void {
    connection.send(carry(this.queries[i]!, 'TCP'));
    this.#note(i, server, { protocol: 'TCP', sourcePort: undefined });
  }

  /** Which question the message answers, from a server that was asked; undefined: none. */
  receive(
    message: Message,
    from: SocketAddress,
    protocol: DnsProtocol,
  ): { readonly i: number; readonly answer: DnsMessage } | undefined {
    const answer = receivedMessage(message, protocol);
    if (answer?.isResponse !== true) return undefined;
    const [of] = answer.questions;
    const i = this.queries.findIndex(
      ({ id, questions: [asked] }) =>
        id === answer.id && of !== undefined && of.type === asked!.type && sameName(of.name, asked!.name),
    );
    const sent = this.#sent.findLast(
      (query) => query.question === this.queries[i]?.questions[0] && isFrom(query, from),
    );
    if (sent === undefined) return undefined;
    if (sent.answer === undefined) {
      sent.answer = answer;
      sent.answeredAt = this.#context.process.place.now;
      sent.failure = undefined;
    }
    return { i, answer };
  }

  /** Queries to the server that still wait, wait in vain. */
  fail(server: ServerAddress, failure: NonNullable<SentQuery['failure']>): void {
    for (const query of this.#sent)
      if (query.server === server && query.answer === undefined) query.failure ??= failure;
  }

  #note(i: number, server: ServerAddress, over: Pick<SentQuery, 'protocol' | 'sourcePort'>): void {
    const query: SentQuery = {
      question: this.queries[i]!.questions[0]!,
      server,
      ...over,
      sentAt: this.#context.process.place.now,
      answeredAt: undefined,
      answer: undefined,
      failure: undefined,
    };
    this.#sent.push(query);
    this.#context.note(query);
  }
}

const isFrom = ({ server }: SentQuery, { ip, port, family = 4 }: SocketAddress): boolean =>
  server.ip === ip && server.port === port && server.family === family;

/** undefined: every port is taken. */
export function bindOrNothing(
  { namespace, cpu }: Process,
  options: { readonly family: 4 | 6; readonly isConnected: boolean },
  handlers: Parameters<Process['namespace']['udp']['bind']>[1],
): UdpSocket | undefined {
  try {
    return namespace.udp.bind({ ...options, cpu }, handlers);
  } catch (error) {
    if (error instanceof NoFreePortError) return undefined;
    throw error;
  }
}
