// A DNS server's process: sockets, cores, a queue. CoreDNS in a pod, an upstream resolver, a cache on a node.
//
// Each question takes time of one of the server's cores, and another time when an upstream has answered; while all cores
// are busy, questions wait in order. When too many wait, the server does not read any more: datagrams fill the socket's
// buffer, and what does not fit there is dropped. The cores are the server's own (a CPU limit): they do not take time
// from those that carry packets, like the service times of other servers (models/workload/server.ts).
//
// Not modelled: memory, and what happens to a server that runs out of it; the idle timeout of TCP connections.

import type { RandomStream } from '../../engine/random.ts';
import { type Duration, ms, ns, s, us } from '../../engine/time.ts';
import type { Process } from '../host/process.ts';
import type { Message } from '../packet/frame.ts';
import type { IpAddress } from '../packet/ip-address.ts';
import type { TcpConnection } from '../transport/tcp-connection.ts';
import type { TcpListener } from '../transport/tcp-listener.ts';
import type { UdpSocket } from '../transport/udp.ts';
import { bytesOf, carry, DNS_PORT, type DnsProtocol, datagramOf } from './dns-transport.ts';
import { DomainNameError } from './domain-name.ts';
import { type Answer, CLASSIC_UDP_BYTES, type DnsMessage, emptyAnswer, type Question, responseTo } from './message.ts';

import { DnsFormatError, decodeMessage, encodeMessage, messageIdOf } from './wire-format.ts';

export interface DnsServerSettings {
  /** Questions that are worked on at the same time. */
  readonly cores: number;
  /** Of a question: reading, looking, writing. */
  readonly serviceTime: Duration;
  /** On top of that when an answer comes from an upstream. */
  readonly forwardServiceTime: Duration;
  /** Questions that may wait in the process; more wait in the socket's buffer, as far as that reaches. */
  readonly queueLimit: number;
  /** After SIGTERM it answers for so long (plugin health, kubeadm's Corefile). */
  readonly lameduck: Duration;
  /** From a question to the answer, beside the above: the way to servers that are further away. */
  readonly answerDelay: Duration;
  /** Answers that are lost on that way. */
  readonly lossFraction: number;
}

/**
 * 860 cached questions per second on 50 millicores, and 180 to an upstream without cache (KEP-1024): 50 ms / 860 and
 * 50 ms / 180 of CPU time. A question that waits takes a few kilobytes, so that some ten thousand fit into the 170 MiB that
 * kubeadm allows.
 */
export const COREDNS: DnsServerSettings = {
  cores: 1,
  serviceTime: us(58),
  forwardServiceTime: us(278 - 58),
  queueLimit: 10_000,
  lameduck: s(5),
  answerDelay: ms(0),
  lossFraction: 0,
};

/** What a core does next: a new question, or the answer of an upstream to an earlier one. */
interface Work {
  readonly time: Duration;
  readonly action: () => void;
}

/** What knows the answers: a name server's plugins. */
export interface Answering {
  answer(question: Question, done: (answer: Answer) => void): void;
}

type SocketPlace = Partial<IpAddress> & { readonly port: number };

interface Job {
  readonly message: Message;
  readonly protocol: DnsProtocol;
  readonly respond: (response: Message) => void;
}

export class DnsServer {
  readonly process: Process;
  readonly #names: Answering;
  readonly #settings: DnsServerSettings;
  readonly #random: RandomStream;
  readonly #at: readonly IpAddress[] | undefined;
  readonly #waiting: Work[] = [];
  readonly #udpSockets: UdpSocket[] = [];
  readonly #listeners: TcpListener[] = [];
  readonly #connections = new Set<TcpConnection>();
  readonly #onExit: () => void;
  #busy = 0;
  #isReading = true;
  #hasExited = false;

  /** Questions read so far, and answered so far. */
  received = 0;
  answered = 0;
  /** The most questions that ever waited. */
  longestQueue = 0;

  /** `at`: addresses; absent: any. `onExit` closes what the name server holds. */
  constructor(
    process: Process,
    names: Answering,
    {
      settings = {},
      at,
      onExit = () => {},
    }: {
      readonly settings?: Partial<DnsServerSettings>;
      readonly at?: readonly IpAddress[];
      readonly onExit?: () => void;
    } = {},
  ) {
    this.process = process;
    this.#names = names;
    this.#settings = { ...COREDNS, ...settings };
    if (!(this.#settings.cores >= 1)) throw new RangeError(`cores ${this.#settings.cores}; expected at least 1`);
    this.#random = process.place.random(`dns-server/${process.name}`);
    this.#at = at;
    this.#onExit = onExit;
  }

  /** Where it listens, if not at any address. */
  get addresses(): readonly IpAddress[] {
    return this.#at ?? [];
  }

  /** Questions that are waiting or in work. */
  get pending(): number {
    return this.#waiting.length + this.#busy;
  }

  listensOn(protocol: 'TCP' | 'UDP' | 'SCTP', port: number): boolean {
    if (protocol === 'SCTP') return false;
    const sockets = protocol === 'TCP' ? this.#listeners : this.#udpSockets;
    return sockets.some(({ localPort }) => localPort === port);
  }

  /** On the port of DNS; others (metrics, health) are not its business here. */
  listen(protocol: 'TCP' | 'UDP', port = DNS_PORT): void {
    if (port !== DNS_PORT || this.#hasExited || this.listensOn(protocol, port)) return;
    // `[::]` where there is IPv6, which is both families.
    const anyAddress = [{ family: this.process.namespace.stack.ipv6 === undefined ? 4 : 6 } as const];
    for (const address of this.#at ?? anyAddress)
      if (protocol === 'TCP') this.#listeners.push(this.#listenTcp({ ...address, port }));
      else this.#udpSockets.push(this.#bindUdp({ ...address, port }));
  }

  /** SIGTERM: it answers on until the lameduck time is over, since clients hear of its end later than it does. */
  terminate(exited: () => void): void {
    this.process.place.schedule(
      this.#settings.lameduck,
      () => {
        if (this.#hasExited) return;
        this.exit();
        exited();
      },
      undefined,
    );
  }

  /** The process is gone, with its sockets and all that waited. */
  exit(): void {
    if (this.#hasExited) return;
    this.#hasExited = true;
    for (const socket of [...this.#udpSockets.splice(0), ...this.#listeners.splice(0)]) socket.close();
    for (const connection of this.#connections) connection.close();
    this.#connections.clear();
    this.#waiting.length = 0;
    this.#onExit();
  }

  #bindUdp(at: SocketPlace): UdpSocket {
    const { namespace, cpu } = this.process;
    return namespace.udp.bind(
      { ...at, cpu },
      {
        onDatagram: (message, from, socket) =>
          this.#take({ message, protocol: 'UDP', respond: (response) => socket.send(from, response) }),
      },
    );
  }

  #listenTcp(at: SocketPlace): TcpListener {
    const { namespace, cpu } = this.process;
    return namespace.tcp.listen({ ...at, cpu }, (accepted) => {
      this.#connections.add(accepted);
      return {
        onMessage: (connection, message) =>
          this.#take({ message, protocol: 'TCP', respond: (response) => connection.send(response) }),
        onPeerClosed: (connection) => connection.close(),
        onClosed: (connection) => this.#connections.delete(connection),
      };
    });
  }

  #take(job: Job): void {
    if (this.#hasExited) return;
    this.received++;
    this.#submit({ time: this.#settings.serviceTime, action: () => this.#answer(job) });
    if (this.#waiting.length >= this.#settings.queueLimit) this.#setReading(false);
  }

  #setReading(isReading: boolean): void {
    if (this.#isReading === isReading) return;
    this.#isReading = isReading;
    for (const socket of this.#udpSockets)
      if (isReading) socket.resumeReading();
      else socket.pauseReading();
  }

  #submit(work: Work): void {
    if (this.#busy < this.#settings.cores) return this.#begin(work);
    this.#waiting.push(work);
    this.longestQueue = Math.max(this.longestQueue, this.#waiting.length);
  }

  #begin(work: Work): void {
    this.#busy++;
    this.process.place.schedule(work.time, this.#finish, work);
  }

  readonly #finish = ({ action }: Work): void => {
    this.#busy--;
    if (this.#hasExited) return;
    action();
    const next = this.#waiting.shift();
    if (next !== undefined) this.#begin(next);
    if (this.#waiting.length < this.#settings.queueLimit) this.#setReading(true);
  };

  #answer(job: Job): void {
    const query = this.#queryOf(job);
    if (query === undefined) return;
    const [question] = query.questions;
    if (question === undefined || query.questions.length > 1) return this.#respond(job, query, emptyAnswer('FORMERR'));
    let isAtOnce = true;
    this.#names.answer(question, (answer) => {
      const respond = (): void => this.#respond(job, query, answer);
      if (isAtOnce) respond();
      else this.#submit({ time: this.#settings.forwardServiceTime, action: respond });
    });
    isAtOnce = false;
  }

  /** undefined: nothing that can be answered. Half a message is told so. */
  #queryOf({ message, protocol, respond }: Job): DnsMessage | undefined {
    const bytes = bytesOf(message, protocol);
    try {
      const query = decodeMessage(bytes);
      return query.isResponse ? undefined : query;
    } catch (error) {
      if (!(error instanceof DnsFormatError)) throw error;
      const id = messageIdOf(bytes);
      if (id === undefined || (bytes[2]! & 0x80) !== 0) return undefined;
      const complaint = { ...emptyAnswer('FORMERR'), id, isResponse: true, isTruncated: false } as const;
      const response = { ...complaint, recursionDesired: false, recursionAvailable: false, questions: [] };
      respond(protocol === 'UDP' ? datagramOf(id, encodeMessage(response)) : carry(response, 'TCP'));
      return undefined;
    }
  }

  #respond({ protocol, respond }: Job, query: DnsMessage, answer: Answer): void {
    if (this.#hasExited) return;
    this.answered++;
    const limitBytes = Math.max(query.udpPayloadBytes ?? 0, CLASSIC_UDP_BYTES);
    const response = encoded(responseTo(query, answer), protocol, protocol === 'UDP' ? limitBytes : undefined);
    const { answerDelay, lossFraction } = this.#settings;
    if (lossFraction > 0 && this.#random.uniform() < lossFraction) return;
    if (answerDelay === 0) return respond(response);
    this.process.place.schedule(ns(answerDelay), respond, response);
  }
}

/** A record of a name that no message can carry (an externalName with a label of 64 bytes) is a failure of the server. */
function encoded(response: DnsMessage, protocol: DnsProtocol, limitBytes: number | undefined): Message {
  try {
    return carry(response, protocol, limitBytes);
  } catch (error) {
    if (!(error instanceof DomainNameError)) throw error;
    return carry(responseTo(response, emptyAnswer('SERVFAIL')), protocol, limitBytes);
  }
}
