// One Service port as a proxy sees it: the addresses of its endpoints, who of them gets the next request, and a pool of
// kept connections to each. This is where a proxy differs from kube-proxy: requests are balanced, not connections.
//
// Not modelled: health checks of the proxy's own, outlier detection, slow start, weights of endpoints, flow control of
// HTTP/2 streams.

import type { RandomStream } from '../../../engine/random.ts';
import { type Duration, s } from '../../../engine/time.ts';
import { Timer } from '../../../engine/timer.ts';
import type { Process } from '../../host/process.ts';
import type { Message } from '../../packet/frame.ts';
import { formatSocketAddress } from '../../packet/ip-address.ts';
import type { TcpCloseReason, TcpConnection } from '../../transport/tcp-connection.ts';
import type { SocketAddress } from '../../transport/transport-stack.ts';
import { isResponse, type Request, type Response } from '../message.ts';

/**
 * Who gets the next request: endpoints in turn; of two drawn at random the one with fewer requests under way, as Envoy's
 * LEAST_REQUEST does; or one drawn at random.
 */
export type ProxyBalancing = 'round robin' | 'least request' | 'random';

export interface PoolSettings {
  readonly balancing: ProxyBalancing;
  /** Requests at the same time on one connection: 1 is HTTP/1.1, more are streams of HTTP/2. */
  readonly streamsPerConnection: number;
  /** To one endpoint; what comes beyond waits. */
  readonly maxConnections: number;
  /** Idle ones beyond so many are closed: 0 is a connection per request. */
  readonly maxIdleConnections: number;
  readonly idleTimeout: Duration;
  readonly connectTimeout: Duration;
}

/**
 * As ingress-nginx configures nginx: round robin (load-balance), 320 idle connections kept for 60 s
 * (upstream-keepalive-connections, -timeout), 5 s to connect (proxy-connect-timeout). nginx has no limit of connections.
 */
export const DEFAULT_POOL: PoolSettings = {
  balancing: 'round robin',
  streamsPerConnection: 1,
  maxConnections: Number.POSITIVE_INFINITY,
  maxIdleConnections: 320,
  idleTimeout: s(60),
  connectTimeout: s(5),
};

/** Why there is no response. `isUnsent`: the server has not had the request, so that another may have it. */
export interface UpstreamFailure {
  readonly reason: TcpCloseReason;
  readonly isUnsent: boolean;
}

export interface Exchange {
  readonly request: Request;
  readonly onResponse: (response: Response) => void;
  readonly onFailure: (failure: UpstreamFailure) => void;
}

export class Upstream {
  readonly #process: Process;
  readonly #settings: PoolSettings;
  readonly #random: RandomStream;
  /** In the order of the configuration. */
  #endpoints: readonly EndpointPool[] = [];
  #turn = 0;

  /** `random` decides where balancing does, and where a round begins, so that proxies do not march in step. */
  constructor(process: Process, random: RandomStream, settings: PoolSettings) {
    this.#process = process;
    this.#random = random;
    this.#settings = settings;
  }

  /** Those that stay keep their connections; what is under way at one that goes may end. */
  set endpoints(addresses: readonly Required<SocketAddress>[]) {
    const before = new Map(this.#endpoints.map((pool) => [pool.key, pool]));
    if (before.size === 0 && addresses.length > 0) this.#turn = this.#random.int(addresses.length);
    this.#endpoints = addresses.map((address) => {
      const known = before.get(keyOf(address));
      before.delete(keyOf(address));
      return known ?? new EndpointPool(this.#process, address, this.#settings);
    });
    for (const gone of before.values()) gone.drain();
  }

  get isEmpty(): boolean {
    return this.#endpoints.length === 0;
  }

  /** Connections that are open now, or being opened. */
  get connections(): number {
    return this.#endpoints.reduce((sum, { connections }) => sum + connections, 0);
  }

  /** Makes the request at one of the endpoints, of which there must be one. Call the answer to give up on it. */
  send(exchange: Exchange): () => void {
    return this.#choose().send(exchange);
  }

  #choose(): EndpointPool {
    const endpoints = this.#endpoints;
    switch (this.#settings.balancing) {
      case 'round robin':
        this.#turn = (this.#turn + 1) % endpoints.length;
        return endpoints[this.#turn]!;
      case 'random':
        return this.#draw();
      case 'least request': {
        const [one, other] = [this.#draw(), this.#draw()];
        return other.underWay < one.underWay ? other : one;
      }
    }
  }

  #draw(): EndpointPool {
    return this.#endpoints[this.#random.int(this.#endpoints.length)]!;
  }
}

const keyOf = ({ family, ip, port }: Required<SocketAddress>): string => formatSocketAddress(ip, port, family);

/** The connections to one endpoint. */
class EndpointPool {
  readonly key: string;
  readonly #process: Process;
  readonly #address: Required<SocketAddress>;
  readonly #settings: PoolSettings;
  readonly #pooled = new Set<PooledConnection>();
  readonly #waiting: Exchange[] = [];
  #isDraining = false;

  constructor(process: Process, address: Required<SocketAddress>, settings: PoolSettings) {
    this.key = keyOf(address);
    this.#process = process;
    this.#address = address;
    this.#settings = settings;
  }

  get connections(): number {
    return this.#pooled.size;
  }

  /** Requests that have no response yet. */
  get underWay(): number {
    let sum = this.#waiting.length;
    for (const pooled of this.#pooled) sum += pooled.underWay;
    return sum;
  }

  send(exchange: Exchange): () => void {
    const pooled = this.#freeConnection();
    if (pooled !== undefined) {
      pooled.send(exchange);
      return () => pooled.giveUp(exchange);
    }
    this.#waiting.push(exchange);
    return () => {
      const position = this.#waiting.indexOf(exchange);
      if (position >= 0) this.#waiting.splice(position, 1);
      else for (const candidate of this.#pooled) candidate.giveUp(exchange);
    };
  }

  /** No new requests come: idle connections are closed, others when they get idle. */
  drain(): void {
    this.#isDraining = true;
    for (const pooled of [...this.#pooled]) if (pooled.underWay === 0) pooled.close();
  }

  /** An open one first, the latest that was used, as nginx's stack of idle connections has it. */
  #freeConnection(): PooledConnection | undefined {
    const { streamsPerConnection, maxConnections } = this.#settings;
    let best: PooledConnection | undefined;
    for (const pooled of this.#pooled) if (pooled.underWay < streamsPerConnection && !pooled.isClosed) best = pooled;
    if (best !== undefined || this.#pooled.size >= maxConnections) return best;
    const opened = new PooledConnection(this.#process, this.#address, {
      settings: this.#settings,
      onFree: (pooled) => this.#onFree(pooled),
      onClosed: (pooled) => this.#onClosed(pooled),
    });
    this.#pooled.add(opened);
    return opened;
  }

  #onFree(pooled: PooledConnection): void {
    const next = this.#waiting.shift();
    if (next !== undefined) return pooled.send(next);
    if (pooled.underWay > 0) return;
    this.#pooled.delete(pooled);
    this.#pooled.add(pooled); // the latest one stands last
    let idle = 0;
    for (const { underWay } of this.#pooled) if (underWay === 0) idle++;
    if (this.#isDraining || idle > this.#settings.maxIdleConnections) pooled.close();
    else pooled.rest();
  }

  #onClosed(pooled: PooledConnection): void {
    this.#pooled.delete(pooled);
    const next = this.#waiting.shift();
    if (next !== undefined) this.#freeConnection()?.send(next);
  }
}

interface PooledConnectionOptions {
  readonly settings: PoolSettings;
  readonly onFree: (pooled: PooledConnection) => void;
  readonly onClosed: (pooled: PooledConnection) => void;
}

class PooledConnection {
  isClosed = false;
  readonly #connection: TcpConnection;
  readonly #options: PooledConnectionOptions;
  /** By the number that the request has on this connection. */
  readonly #exchanges = new Map<number, Exchange>();
  readonly #connecting: Timer;
  readonly #idle: Timer;
  #isConnected = false;
  #hasAnswered = false;
  #lastId = 0;

  constructor({ place, namespace, cpu }: Process, to: SocketAddress, options: PooledConnectionOptions) {
    this.#options = options;
    this.#connecting = new Timer(place, () => this.#abort('timed out'));
    this.#idle = new Timer(place, () => this.close());
    this.#connecting.start(options.settings.connectTimeout);
    this.#connection = namespace.tcp.connect(
      { to, cpu },
      {
        onConnected: () => {
          this.#isConnected = true;
          this.#connecting.stop();
        },
        onMessage: (_connection, message) => this.#onMessage(message),
        onPeerClosed: () => this.#abort('reset'),
        onClosed: (_connection, reason) => this.#ended(reason),
      },
    );
  }

  get underWay(): number {
    return this.#exchanges.size;
  }

  send(exchange: Exchange): void {
    this.#idle.stop();
    const id = ++this.#lastId;
    this.#exchanges.set(id, exchange);
    this.#connection.send({ ...exchange.request, id });
  }

  /** Of HTTP/1.1 the connection is lost with it: its response may still come. A stream of HTTP/2 is reset alone. */
  giveUp(exchange: Exchange): void {
    for (const [id, candidate] of this.#exchanges) {
      if (candidate !== exchange) continue;
      this.#exchanges.delete(id);
      if (this.#options.settings.streamsPerConnection === 1) this.#abort('closed');
      return;
    }
  }

  rest(): void {
    this.#idle.start(this.#options.settings.idleTimeout);
  }

  close(): void {
    this.#connection.close();
    this.#ended('closed');
  }

  #onMessage(message: Message): void {
    const exchange = this.#exchanges.get(message.id);
    if (exchange === undefined || !isResponse(message)) return;
    this.#exchanges.delete(message.id);
    this.#hasAnswered = true;
    this.#options.onFree(this);
    exchange.onResponse(message);
  }

  #abort(reason: TcpCloseReason): void {
    this.#connection.abort();
    this.#ended(reason);
  }

  /**
   * A kept connection that ends before any of the response has come may have ended before the request came: nginx and
   * others make it once more (RFC 9110 9.2.2 lets them, where the method is idempotent).
   */
  #ended(reason: TcpCloseReason): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#connecting.stop();
    this.#idle.stop();
    this.#options.onClosed(this);
    const lost = [...this.#exchanges.values()];
    this.#exchanges.clear();
    for (const exchange of lost) {
      const isStale = this.#hasAnswered && isIdempotent(exchange.request);
      exchange.onFailure({ reason, isUnsent: !this.#isConnected || isStale });
    }
  }
}

/** RFC 9110 9.2.2. */
const isIdempotent = ({ http }: Request): boolean =>
  http === undefined || !/^(?:POST|PATCH|CONNECT)$/.test(http.method);
