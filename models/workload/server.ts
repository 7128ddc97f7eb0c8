// A server program: answers every request after its service time, so many at once, the rest in order of arrival.
//
// The service time is the application's own (a database, a sleep): it does not occupy the CPUs that carry packets.

import { appended } from '../../engine/appended.ts';
import type { RandomStream } from '../../engine/random.ts';
import { type Duration, us } from '../../engine/time.ts';
import type { Process } from '../host/process.ts';
import type { Message } from '../packet/frame.ts';
import type { Ip, IpFamily } from '../packet/ip-address.ts';
import type { SctpListener } from '../transport/sctp-layer.ts';
import type { TcpConnection, TcpHandlers } from '../transport/tcp-connection.ts';
import type { TcpListener } from '../transport/tcp-layer.ts';
import type { SocketAddress } from '../transport/transport-stack.ts';
import type { UdpHandlers, UdpSocket } from '../transport/udp.ts';
import type { DurationDistribution } from './duration-distribution.ts';
import { X_FORWARDED_FOR } from './http.ts';
import { isRequest, type Request, type Response } from './message.ts';

export interface ServerSettings {
  readonly serviceTime: Duration | DurationDistribution;
  /** Requests served at the same time; Infinity: as many as come. */
  readonly concurrency: number;
  /** For requests that do not say how much they want. */
  readonly responseBytes: number;
}

const DEFAULT_SERVER: ServerSettings = {
  serviceTime: us(50),
  concurrency: Number.POSITIVE_INFINITY,
  responseBytes: 512,
};

/** A server that tells who answered and whom it saw: what experiments use behind a Service. */
export const echo = (settings: Partial<ServerSettings> = {}): ServerSettings => {
  const complete = { ...DEFAULT_SERVER, ...settings };
  if (!(complete.concurrency >= 1)) throw new RangeError(`concurrency ${complete.concurrency}; expected at least 1`);
  return complete;
};

const DEFAULT_ECHO = echo();

const OK = { status: 200, headers: {} } as const;

export type ServerProtocol = 'TCP' | 'UDP' | 'SCTP';

interface Job {
  readonly server: Server;
  readonly request: Request;
  readonly from: Ip;
  readonly family: IpFamily;
  readonly respond: (response: Response) => void;
}

type Listening = TcpListener | UdpSocket | SctpListener;

const NO_LISTENING: readonly Listening[] = [];
const NO_PORTS: readonly number[] = [];

// There are as many as pods: what they need for requests only is made with the first one.
export class Server implements TcpHandlers, UdpHandlers {
  readonly process: Process;
  readonly #settings: ServerSettings;
  #random: RandomStream | undefined;
  #waiting: Job[] | undefined;
  #listening: readonly Listening[] = NO_LISTENING;
  /** TCP ports on which it no longer listens: its connections outlive its listeners. */
  #formerPorts: readonly number[] = NO_PORTS;
  #hasSctp = false;
  #busy = 0;
  #served = 0;
  /** Who waits for the last request in service; set by SIGTERM. */
  #exit: (() => void) | undefined;
  #hasExited = false;

  constructor(process: Process, settings: ServerSettings = DEFAULT_ECHO) {
    this.process = process;
    this.#settings = settings;
  }

  /** Requests answered so far. */
  get served(): number {
    return this.#served;
  }

  listensOn(protocol: ServerProtocol, port: number): boolean {
    return this.#listening.some((listening) => listening.protocol === protocol && listening.localPort === port);
  }

  /** Has it a port at all? */
  get listens(): boolean {
    return this.#listening.length > 0;
  }

  /** Nothing happens if it listens there already. */
  listen(protocol: ServerProtocol, port: number): void {
    if (this.listensOn(protocol, port) || this.#exit !== undefined || this.#hasExited) return;
    this.#listening = appended(this.#listening, this.#open(protocol, port));
  }

  /** `[::]` where there is IPv6, as servers do, which is both families; else 0.0.0.0. */
  get #family(): IpFamily {
    return this.process.namespace.stack.ipv6 === undefined ? 4 : 6;
  }

  #open(protocol: ServerProtocol, port: number): Listening {
    switch (protocol) {
      case 'TCP':
        return this.#listenTcp(port);
      case 'UDP':
        return this.#bindUdp(port);
      case 'SCTP':
        return this.#listenSctp(port);
    }
  }

  #listenSctp(port: number): SctpListener {
    this.#hasSctp = true;
    const { namespace, cpu } = this.process;
    return namespace.sctp.listen(
      { family: this.#family, port, cpu },
      {
        onMessage: (association, message) => {
          const { remoteIp: from, family } = association;
          this.#take({ message, from, family, respond: (response) => association.send(response) });
        },
      },
    );
  }

  #listenTcp(port: number): TcpListener {
    const { namespace, cpu } = this.process;
    return namespace.tcp.listen({ family: this.#family, port, cpu }, this);
  }

  /** For its TCP connections. */
  onMessage(connection: TcpConnection, message: Message): void {
    const { remoteIp: from, family } = connection;
    this.#take({ message, from, family, respond: (response) => connection.send(response) });
  }

  /** For its TCP connections. */
  onPeerClosed(connection: TcpConnection): void {
    connection.close();
  }

  #bindUdp(port: number): UdpSocket {
    const { namespace, cpu } = this.process;
    return namespace.udp.bind({ family: this.#family, port, cpu }, this);
  }

  /** For its UDP sockets. */
  onDatagram(message: Message, from: SocketAddress, socket: UdpSocket): void {
    const { ip, family = 4 } = from;
    this.#take({ message, from: ip, family, respond: (response) => socket.send(from, response) });
  }

  /** Stops listening; requests in service are still answered. */
  close(): void {
    for (const socket of this.#listening) socket.close();
    const ports = this.#listening.filter(({ protocol }) => protocol === 'TCP').map(({ localPort }) => localPort);
    this.#formerPorts = [...new Set([...this.#formerPorts, ...ports])];
    this.#listening = NO_LISTENING;
  }

  /**
   * SIGTERM, as a well-behaved server takes it: no new connections, and `exited` is called when all requests that have come
   * are answered. Requests on connections that stay open are answered as well until then.
   */
  terminate(exited: () => void): void {
    this.close();
    this.#exit = exited;
    this.#exitIfIdle();
  }

  /** The process is gone: the kernel closes its sockets, and nothing is answered any more. */
  exit(): void {
    if (this.#hasExited) return;
    this.close();
    this.#hasExited = true;
    this.#exit = undefined;
    this.#waiting = undefined;
    for (const connection of this.process.namespace.tcp.connections)
      if (this.#formerPorts.includes(connection.localPort)) connection.close();
    if (this.#hasSctp) for (const association of this.process.namespace.sctp.associations) association.close();
  }

  #exitIfIdle(): void {
    if (this.#busy > 0 || this.#exit === undefined) return;
    const exited = this.#exit;
    this.exit();
    exited();
  }

  #take({ message, from, family, respond }: Omit<Job, 'server' | 'request'> & { readonly message: Message }): void {
    if (!isRequest(message) || this.#hasExited) return;
    const job = { server: this, request: message, from, family, respond };
    if (this.#busy < this.#settings.concurrency) return this.#serve(job);
    this.#waiting ??= [];
    this.#waiting.push(job);
  }

  #serve(job: Job): void {
    this.#busy++;
    this.#random ??= this.process.place.random(`server/${this.process.name}`);
    const { serviceTime } = this.#settings;
    const delay = typeof serviceTime === 'function' ? serviceTime(this.#random) : serviceTime;
    this.process.place.schedule(delay, Server.#onFinished, job);
  }

  static readonly #onFinished = (job: Job): void => job.server.#finish(job);

  #finish({ request, from, family, respond }: Job): void {
    this.#busy--;
    if (this.#hasExited) return;
    this.#served++;
    const sizeBytes = request.responseBytes ?? this.#settings.responseBytes;
    const { name: server } = this.process;
    const { id, http } = request;
    const response: Response = { kind: 'response', id, sizeBytes, server, sourceSeen: from, sourceFamily: family };
    respond(http === undefined ? response : { ...response, http: OK, forwardedFor: http.headers[X_FORWARDED_FOR] });
    const next = this.#waiting?.shift();
    if (next !== undefined) this.#serve(next);
    else this.#exitIfIdle();
  }
}
