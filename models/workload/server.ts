// A server program: answers every request after its service time, so many at once, the rest in order of arrival.
//
// The service time is the application's own (a database, a sleep): it does not occupy the CPUs that carry packets.

import type { RandomStream } from '../../engine/random.ts';
import { type Duration, us } from '../../engine/time.ts';
import type { Process } from '../host/process.ts';
import type { Message } from '../packet/frame.ts';
import type { Ip, IpFamily } from '../packet/ip-address.ts';
import type { SctpListener } from '../transport/sctp-layer.ts';
import type { TcpListener } from '../transport/tcp-layer.ts';
import type { UdpSocket } from '../transport/udp.ts';
import { asDistribution, type DurationDistribution } from './duration-distribution.ts';
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

const OK = { status: 200, headers: {} } as const;

export type ServerProtocol = 'TCP' | 'UDP' | 'SCTP';

interface Job {
  readonly request: Request;
  readonly from: Ip;
  readonly family: IpFamily;
  readonly respond: (response: Response) => void;
}

export class Server {
  readonly process: Process;
  readonly #concurrency: number;
  readonly #responseBytes: number;
  readonly #serviceTime: DurationDistribution;
  /** Asked for with the first request. */
  #random: RandomStream | undefined;
  readonly #waiting: Job[] = [];
  /** By protocol and port. */
  readonly #sockets = new Map<string, TcpListener | UdpSocket | SctpListener>();
  /** TCP ports that it has ever listened on: its connections outlive its listeners. */
  #ports: readonly number[] = [];
  #hasSctp = false;
  #busy = 0;
  #served = 0;
  /** Who waits for the last request in service; set by SIGTERM. */
  #exit: (() => void) | undefined;
  #hasExited = false;

  constructor(process: Process, settings: ServerSettings = echo()) {
    this.process = process;
    this.#concurrency = settings.concurrency;
    this.#responseBytes = settings.responseBytes;
    this.#serviceTime = asDistribution(settings.serviceTime);
  }

  /** Requests answered so far. */
  get served(): number {
    return this.#served;
  }

  listensOn(protocol: ServerProtocol, port: number): boolean {
    return this.#sockets.has(`${protocol} ${port}`);
  }

  /** Has it a port at all? */
  get listens(): boolean {
    return this.#sockets.size > 0;
  }

  /** Nothing happens if it listens there already. */
  listen(protocol: ServerProtocol, port: number): void {
    if (this.listensOn(protocol, port) || this.#exit !== undefined || this.#hasExited) return;
    if (protocol === 'TCP' && !this.#ports.includes(port)) this.#ports = this.#ports.concat(port);
    this.#sockets.set(`${protocol} ${port}`, this.#open(protocol, port));
  }

  /** `[::]` where there is IPv6, as servers do, which is both families; else 0.0.0.0. */
  get #family(): IpFamily {
    return this.process.namespace.stack.ipv6 === undefined ? 4 : 6;
  }

  #open(protocol: ServerProtocol, port: number): TcpListener | UdpSocket | SctpListener {
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
    return namespace.tcp.listen({ family: this.#family, port, cpu }, () => ({
      onMessage: (connection, message) => {
        const { remoteIp: from, family } = connection;
        this.#take({ message, from, family, respond: (response) => connection.send(response) });
      },
      onPeerClosed: (connection) => connection.close(),
    }));
  }

  #bindUdp(port: number): UdpSocket {
    const { namespace, cpu } = this.process;
    return namespace.udp.bind(
      { family: this.#family, port, cpu },
      {
        onDatagram: (message, from, socket) => {
          const { ip, family = 4 } = from;
          this.#take({ message, from: ip, family, respond: (response) => socket.send(from, response) });
        },
      },
    );
  }

  /** Stops listening; requests in service are still answered. */
  close(): void {
    for (const socket of this.#sockets.values()) socket.close();
    this.#sockets.clear();
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
    this.#waiting.length = 0;
    for (const connection of this.process.namespace.tcp.connections)
      if (this.#ports.includes(connection.localPort)) connection.close();
    if (this.#hasSctp) for (const association of this.process.namespace.sctp.associations) association.close();
  }

  #exitIfIdle(): void {
    if (this.#busy > 0 || this.#exit === undefined) return;
    const exited = this.#exit;
    this.exit();
    exited();
  }

  #take({ message, from, family, respond }: Omit<Job, 'request'> & { readonly message: Message }): void {
    if (!isRequest(message) || this.#hasExited) return;
    const job = { request: message, from, family, respond };
    if (this.#busy < this.#concurrency) this.#serve(job);
    else this.#waiting.push(job);
  }

  #serve(job: Job): void {
    this.#busy++;
    this.#random ??= this.process.place.random(`server/${this.process.name}`);
    this.process.place.schedule(this.#serviceTime(this.#random), this.#finish, job);
  }

  readonly #finish = ({ request, from, family, respond }: Job): void => {
    this.#busy--;
    if (this.#hasExited) return;
    this.#served++;
    const sizeBytes = request.responseBytes ?? this.#responseBytes;
    const { name: server } = this.process;
    const { id, http } = request;
    const response: Response = { kind: 'response', id, sizeBytes, server, sourceSeen: from, sourceFamily: family };
    respond(http === undefined ? response : { ...response, http: OK, forwardedFor: http.headers[X_FORWARDED_FOR] });
    const next = this.#waiting.shift();
    if (next !== undefined) this.#serve(next);
    else this.#exitIfIdle();
  };
}
