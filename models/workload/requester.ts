// How one request is made: over a new TCP connection, over kept ones, or over UDP. Arrival patterns (client.ts) call
// `request` and are told when it has ended, well or badly; the Load learns the details.

import { after, type Duration, type Instant, s } from '../../engine/time.ts';
import { Timer } from '../../engine/timer.ts';
import type { Process } from '../host/process.ts';
import type { Message } from '../packet/frame.ts';
import type { SctpAssociation } from '../transport/sctp-association.ts';
import type { TcpCloseReason, TcpConnection } from '../transport/tcp-connection.ts';
import type { SocketAddress } from '../transport/transport-stack.ts';
import { NoFreePortError, type UdpSocket } from '../transport/udp.ts';
import type { HttpRequest } from './http.ts';
import type { Failure, Load } from './load.ts';
import { isResponse, type Request } from './message.ts';

export interface Requester {
  /** Makes one request now; calls `done` once, when it is answered or has failed. */
  request(done: () => void): void;
}

/** A server by its name, which is looked up for each request, or for each connection that is opened. */
export interface NamedTarget {
  /** `web.shop:80`. */
  readonly name: string;
  /** undefined: there is no address. */
  resolve(done: (address: SocketAddress | undefined) => void): void;
}

export interface RequestSettings {
  readonly to: SocketAddress | NamedTarget;
  readonly requestBytes: number;
  /** undefined: what the server sends by default. */
  readonly responseBytes: number | undefined;
  /** What requests of HTTP say; undefined: they say nothing that a proxy could route by. */
  readonly http: HttpRequest | undefined;
  /** The client gives up on a request, connect included, after so long. */
  readonly timeout: Duration;
  /** UDP: one socket for all requests, so that they are one conntrack flow. */
  readonly keepSocket: boolean;
}

export const DEFAULT_REQUEST = { requestBytes: 256, responseBytes: undefined, timeout: s(10) } as const;

/** One request under way. */
interface Exchange {
  readonly id: number;
  readonly began: Instant;
  resolved: Instant | undefined;
  sent: Instant;
  readonly done: () => void;
}

abstract class BaseRequester implements Requester {
  protected readonly process: Process;
  protected readonly load: Load;
  protected readonly settings: RequestSettings;
  /** Under way, oldest first. */
  readonly #exchanges = new Map<number, Exchange>();
  /** For the oldest: all wait equally long, so one timer does for all. */
  readonly #timer: Timer;
  #lastId = 0;

  constructor(process: Process, load: Load, settings: RequestSettings) {
    this.process = process;
    this.load = load;
    this.settings = settings;
    this.#timer = new Timer(process.place, () => this.#giveUp());
  }

  abstract request(done: () => void): void;

  protected begin(done: () => void): Exchange {
    const { now } = this.process.place;
    const exchange: Exchange = { id: ++this.#lastId, began: now, resolved: undefined, sent: now, done };
    this.#exchanges.set(exchange.id, exchange);
    this.load.begin(now);
    if (!this.#timer.armed) this.#timer.start(this.settings.timeout);
    return exchange;
  }

  /** Goes on with the server's address: at once, or when its name is resolved, unless the client has given up by then. */
  protected locate(exchange: Exchange, proceed: (to: SocketAddress) => void): void {
    const { to } = this.settings;
    if (!('resolve' in to)) return proceed(to);
    to.resolve((address) => {
      if (!this.#exchanges.has(exchange.id)) return;
      if (address === undefined) return this.fail(exchange.id, 'name not resolved');
      exchange.resolved = exchange.sent = this.process.place.now;
      proceed(address);
    });
  }

  /** The timer was set for an exchange that may have ended since. */
  #giveUp(): void {
    const { now } = this.process.place;
    for (const { id, began } of this.#exchanges.values()) {
      const deadline = after(began, this.settings.timeout);
      if (deadline > now) return this.#timer.startAt(deadline);
      this.fail(id, 'timed out');
    }
  }

  protected messageOf({ id }: Exchange): Request {
    const { requestBytes: sizeBytes, responseBytes, http } = this.settings;
    return { kind: 'request', id, sizeBytes, responseBytes, http };
  }

  /** An answer has come in; one to a request that has been given up on is ignored. Returns whether it was awaited. */
  protected answered(message: Message): boolean {
    const exchange = isResponse(message) ? this.#end(message.id) : undefined;
    if (exchange === undefined || !isResponse(message)) return false;
    const { began, resolved, sent } = exchange;
    const { http: { status } = ANSWERED } = message;
    if (status >= 400) this.load.fail(began, `HTTP ${status}`);
    else this.load.complete({ began, resolved, sent, now: this.process.place.now, response: message });
    exchange.done();
    return true;
  }

  protected fail(id: number, failure: Failure): void {
    const exchange = this.#end(id);
    if (exchange === undefined) return;
    this.load.fail(exchange.began, failure);
    this.abandon(id);
    exchange.done();
  }

  /** The client gave up on a request, or it failed: lets go of what it held. */
  protected abstract abandon(id: number): void;

  #end(id: number): Exchange | undefined {
    const exchange = this.#exchanges.get(id);
    this.#exchanges.delete(id);
    return exchange;
  }
}

/** An answer that is not of HTTP is a good one. */
const ANSWERED = { status: 200 } as const;

/** A connection per request: connect, ask, read, close. */
export class NewConnectionRequester extends BaseRequester {
  readonly #connections = new Map<number, TcpConnection>();

  override request(done: () => void): void {
    const exchange = this.begin(done);
    this.locate(exchange, (to) => this.#connect(exchange, to));
  }

  #connect(exchange: Exchange, to: SocketAddress): void {
    const { namespace, place, cpu } = this.process;
    const connection = namespace.tcp.connect(
      { to, cpu },
      {
        onConnected: (established) => {
          exchange.sent = place.now;
          established.send(this.messageOf(exchange));
        },
        onMessage: (open, message) => {
          this.#connections.delete(exchange.id);
          this.answered(message);
          open.close();
        },
        onPeerClosed: (open) => open.close(),
        onClosed: (_closed, reason) => this.fail(exchange.id, failureOf(reason)),
      },
    );
    this.#connections.set(exchange.id, connection);
  }

  protected override abandon(id: number): void {
    this.#connections.get(id)?.abort();
    this.#connections.delete(id);
  }
}

/** An association per request. */
export class SctpRequester extends BaseRequester {
  readonly #associations = new Map<number, SctpAssociation>();

  override request(done: () => void): void {
    const exchange = this.begin(done);
    this.locate(exchange, (to) => this.#connect(exchange, to));
  }

  #connect(exchange: Exchange, to: SocketAddress): void {
    const { namespace, place, cpu } = this.process;
    const association = namespace.sctp.connect(
      { to, cpu },
      {
        onConnected: (established) => {
          exchange.sent = place.now;
          established.send(this.messageOf(exchange));
        },
        onMessage: (open, message) => {
          this.#associations.delete(exchange.id);
          this.answered(message);
          open.close();
        },
        onClosed: (_closed, reason) => this.fail(exchange.id, reason === 'closed' ? 'closed early' : reason),
      },
    );
    this.#associations.set(exchange.id, association);
  }

  protected override abandon(id: number): void {
    this.#associations.get(id)?.abort();
    this.#associations.delete(id);
  }
}

/** Connections are kept and used again: a request takes an idle one, or opens another when none is. */
export class KeptAliveRequester extends BaseRequester {
  readonly #idle: KeptConnection[] = [];
  readonly #busy = new Map<number, KeptConnection>();

  override request(done: () => void): void {
    const exchange = this.begin(done);
    const idle = this.#idle.pop();
    if (idle === undefined) return this.locate(exchange, (to) => this.#open(exchange, to));
    idle.exchange = exchange;
    this.#busy.set(exchange.id, idle);
    idle.connection!.send(this.messageOf(exchange));
  }

  /** How many connections are open now. */
  get connections(): number {
    return this.#idle.length + this.#busy.size;
  }

  protected override abandon(id: number): void {
    this.#busy.get(id)?.connection?.abort(); // an answer may still be under way on it: not to be used again
    this.#busy.delete(id);
  }

  #open(exchange: Exchange, to: SocketAddress): void {
    const { namespace, place, cpu } = this.process;
    const kept: KeptConnection = { connection: undefined, exchange };
    this.#busy.set(exchange.id, kept);
    kept.connection = namespace.tcp.connect(
      { to, cpu },
      {
        onConnected: (established) => {
          exchange.sent = place.now;
          established.send(this.messageOf(exchange));
        },
        onMessage: (_open, message) => this.#answer(kept, message),
        onPeerClosed: (open) => open.close(),
        onClosed: (_closed, reason) => this.#closed(kept, reason),
      },
    );
  }

  #answer(kept: KeptConnection, message: Message): void {
    const { exchange } = kept;
    if (exchange === undefined || message.id !== exchange.id) return;
    kept.exchange = undefined;
    this.#busy.delete(exchange.id);
    this.#idle.push(kept); // before the client is told: its next request may follow at once
    this.answered(message);
  }

  #closed(kept: KeptConnection, reason: TcpCloseReason): void {
    const position = this.#idle.indexOf(kept);
    if (position >= 0) this.#idle.splice(position, 1);
    if (kept.exchange !== undefined) this.fail(kept.exchange.id, failureOf(reason));
  }
}

interface KeptConnection {
  connection: TcpConnection | undefined;
  exchange: Exchange | undefined;
}

/** A datagram each way: from a new port per request, or always from the same. */
export class UdpRequester extends BaseRequester {
  readonly #keepSocket: boolean;
  readonly #sockets = new Map<number, UdpSocket>();
  #kept: UdpSocket | undefined;
  #known: SocketAddress | undefined;
  #latestId = 0;

  constructor(process: Process, load: Load, settings: RequestSettings) {
    super(process, load, settings);
    this.#keepSocket = settings.keepSocket;
  }

  override request(done: () => void): void {
    const exchange = this.begin(done);
    if (this.#known !== undefined) return this.#send(exchange, this.#known);
    this.locate(exchange, (to) => {
      // A socket that is kept goes on to where it went first.
      if (this.#keepSocket) this.#known = to;
      this.#send(exchange, to);
    });
  }

  #send(exchange: Exchange, to: SocketAddress): void {
    this.#latestId = exchange.id;
    const socket = this.#keepSocket ? (this.#kept ??= this.#bind(undefined, to)) : this.#bind(exchange.id, to);
    if (socket === undefined) this.fail(exchange.id, 'no free port');
    else socket.send(to, this.messageOf(exchange));
  }

  #bind(id: number | undefined, to: SocketAddress): UdpSocket | undefined {
    const { namespace, cpu } = this.process;
    try {
      const socket = namespace.udp.bind(
        { family: to.family ?? 4, port: 0, cpu },
        {
          onDatagram: (message) => {
            if (this.answered(message) && id !== undefined) this.abandon(id);
          },
          // An error tells a socket, not a request: the latest one is the likeliest to have caused it.
          onError: (error) => this.fail(id ?? this.#latestId, error),
        },
      );
      if (id !== undefined) this.#sockets.set(id, socket);
      return socket;
    } catch (error) {
      if (error instanceof NoFreePortError) return undefined;
      throw error;
    }
  }

  protected override abandon(id: number): void {
    this.#sockets.get(id)?.close();
    this.#sockets.delete(id);
  }
}

const failureOf = (reason: TcpCloseReason): Failure => (reason === 'closed' ? 'closed early' : reason);
