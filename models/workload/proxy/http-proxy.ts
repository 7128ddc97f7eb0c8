// A proxy of HTTP (an ingress controller's nginx, the Envoy of a Gateway): takes requests on its ports, finds the route of
// each in a table, and makes it again at an endpoint of the Service that the route names, over connections of its own. The
// server sees the proxy's address, and the client's in X-Forwarded-For.
//
// Not modelled: TLS, the CPU time of the proxy itself, bodies that come in parts (a request is taken whole before it is
// passed on, a response likewise), limits of its listeners, reloads that close connections.

import { type Duration, ns, s } from '../../../engine/time.ts';
import { Timer } from '../../../engine/timer.ts';
import type { Process } from '../../host/process.ts';
import type { Message } from '../../packet/frame.ts';
import { formatIp, type IpFamily } from '../../packet/ip-address.ts';
import type { TcpConnection } from '../../transport/tcp-connection.ts';
import type { TcpListener } from '../../transport/tcp-layer.ts';
import type { SocketAddress } from '../../transport/transport-stack.ts';
import { type HttpRequest, type HttpResponse, withAddedHeader, X_FORWARDED_FOR } from '../http.ts';
import { isRequest, type Request, type Response } from '../message.ts';
import {
  editedHeaders,
  editedPath,
  type Redirect,
  type RequestEdits,
  type Route,
  type RouteTable,
  type WeightedBackend,
} from './route-table.ts';
import { type PoolSettings, Upstream, type UpstreamFailure } from './upstream.ts';

export interface ProxySettings {
  /** Until a response must have come, unless the route says otherwise; then the client gets 504. */
  readonly requestTimeout: Duration;
  /** Endpoints that are tried for one request, as long as none has got it. */
  readonly tries: number;
  /** False: what a client says in X-Forwarded-For is thrown away, as nobody vouches for it. */
  readonly trustsForwardedFor: boolean;
}

/** As ingress-nginx has it: proxy-read-timeout 60 s, proxy-next-upstream-tries 3, use-forwarded-headers false. */
export const DEFAULT_PROXY: ProxySettings = { requestTimeout: s(60), tries: 3, trustsForwardedFor: false };

/** What a proxy knows of the cluster. It is replaced as a whole, and what has not changed is the same object. */
export interface ProxyConfiguration {
  /** By port. */
  readonly tables: ReadonlyMap<number, RouteTable>;
  /** By name. */
  readonly upstreams: ReadonlyMap<string, UpstreamConfiguration>;
}

export interface UpstreamConfiguration {
  readonly endpoints: readonly Required<SocketAddress>[];
  readonly pool: PoolSettings;
}

export class HttpProxy {
  readonly process: Process;
  readonly #settings: ProxySettings;
  readonly #listeners = new Map<number, TcpListener>();
  /** Clients, with how to give up on what each has asked for. */
  readonly #clients = new Map<TcpConnection, Set<() => void>>();
  readonly #upstreams = new Map<string, { readonly upstream: Upstream; configuration: UpstreamConfiguration }>();
  #tables: ProxyConfiguration['tables'] = new Map();
  #underWay = 0;
  #exit: (() => void) | undefined;
  #hasExited = false;

  constructor(process: Process, settings: ProxySettings = DEFAULT_PROXY) {
    this.process = process;
    this.#settings = settings;
  }

  /** Connections to endpoints that are open now. */
  get upstreamConnections(): number {
    let sum = 0;
    for (const { upstream } of this.#upstreams.values()) sum += upstream.connections;
    return sum;
  }

  listensOn(protocol: 'TCP' | 'UDP', port: number): boolean {
    return protocol === 'TCP' && this.#listeners.has(port);
  }

  /** Takes effect for the next request; those under way end as they began. */
  configure({ tables, upstreams }: ProxyConfiguration): void {
    if (this.#hasExited || this.#exit !== undefined) return;
    this.#tables = tables;
    for (const [port, listener] of this.#listeners) {
      if (tables.has(port)) continue;
      listener.close();
      this.#listeners.delete(port);
    }
    for (const port of tables.keys()) if (!this.#listeners.has(port)) this.#listeners.set(port, this.#listen(port));
    for (const [name, { upstream }] of this.#upstreams) {
      if (upstreams.has(name)) continue;
      upstream.endpoints = [];
      this.#upstreams.delete(name);
    }
    for (const [name, configuration] of upstreams) this.#configureUpstream(name, configuration);
  }

  #configureUpstream(name: string, configuration: UpstreamConfiguration): void {
    const known = this.#upstreams.get(name);
    if (known?.configuration === configuration) return;
    if (known !== undefined && isSamePool(known.configuration.pool, configuration.pool)) {
      known.configuration = configuration;
      known.upstream.endpoints = configuration.endpoints;
      return;
    }
    if (known !== undefined) known.upstream.endpoints = [];
    const random = this.process.place.random(`http-proxy/${this.process.name}/${name}`);
    const upstream = new Upstream(this.process, random, configuration.pool);
    upstream.endpoints = configuration.endpoints;
    this.#upstreams.set(name, { upstream, configuration });
  }

  /** SIGTERM: no new connections, and `exited` is called when all requests that have come are answered. */
  terminate(exited: () => void): void {
    this.#closeListeners();
    this.#exit = exited;
    this.#exitIfIdle();
  }

  /** The process is gone, and its sockets with it. */
  exit(): void {
    if (this.#hasExited) return;
    this.#hasExited = true;
    this.#exit = undefined;
    this.#closeListeners();
    for (const client of this.#clients.keys()) client.close();
    for (const { upstream } of this.#upstreams.values()) upstream.endpoints = [];
  }

  #closeListeners(): void {
    for (const listener of this.#listeners.values()) listener.close();
    this.#listeners.clear();
  }

  #exitIfIdle(): void {
    if (this.#underWay > 0 || this.#exit === undefined) return;
    const exited = this.#exit;
    this.exit();
    exited();
  }

  #listen(port: number): TcpListener {
    const { namespace, cpu } = this.process;
    const family: IpFamily = namespace.stack.ipv6 === undefined ? 4 : 6;
    return namespace.tcp.listen({ family, port, cpu }, (accepted) => {
      this.#clients.set(accepted, new Set());
      return {
        onMessage: (client, message) => this.#take(client, port, message),
        onPeerClosed: (client) => {
          client.close();
          this.#forget(client);
        },
        onClosed: (client) => this.#forget(client),
      };
    });
  }

  /** Nobody waits for its responses any more (nginx: proxy_ignore_client_abort off). */
  #forget(client: TcpConnection): void {
    const underWay = this.#clients.get(client) ?? [];
    this.#clients.delete(client);
    for (const giveUp of underWay) giveUp();
  }

  // ── one request ────────────────────────────────────────────────────────────────────────────────────────────────────

  #take(client: TcpConnection, port: number, message: Message): void {
    if (!isRequest(message) || this.#hasExited) return;
    const forwarding: Forwarding = {
      client,
      given: message,
      http: message.http ?? ANY_REQUEST,
      triesLeft: this.#settings.tries,
    };
    const route = this.#tables.get(port)?.routeOf(forwarding.http);
    if (route === undefined) return this.#answer(forwarding, 404);
    if (route.redirect !== undefined) return this.#redirect(forwarding, route, route.redirect);
    const backend = this.#draw(route.backends);
    if (backend === undefined) return this.#answer(forwarding, 500);
    if (backend.missing !== undefined) return this.#answer(forwarding, backend.missing);
    this.#forward(forwarding, route, backend);
  }

  #redirect({ client, given, http }: Forwarding, route: Route, redirect: Redirect): void {
    const { scheme = 'http', hostname = http.host, path, port, statusCode } = redirect;
    const to = `${scheme}://${hostname}${port === undefined ? '' : `:${port}`}${editedPath(path, route.match, http.path)}`;
    client.send(this.#own(given, client, { status: statusCode, headers: { location: to } }));
  }

  #answer({ client, given }: Pick<Forwarding, 'client' | 'given'>, status: number): void {
    client.send(this.#own(given, client, { status, headers: {} }));
  }

  /** A response of the proxy itself. */
  #own({ id }: Request, client: TcpConnection, http: HttpResponse): Response {
    const { name: server } = this.process;
    const { remoteIp: sourceSeen, family: sourceFamily } = client;
    return { kind: 'response', id, sizeBytes: OWN_RESPONSE_BYTES, server, sourceSeen, sourceFamily, http };
  }

  /** By weight; undefined if no backend has any. */
  #draw(backends: readonly WeightedBackend[]): WeightedBackend | undefined {
    if (backends.length === 1 && backends[0]!.weight > 0) return backends[0];
    const total = backends.reduce((sum, { weight }) => sum + weight, 0);
    if (total === 0) return undefined;
    let left = this.process.place.random(`http-proxy/${this.process.name}/weights`).int(total);
    return backends.find(({ weight }) => {
      left -= weight;
      return left < 0;
    });
  }

  #forward(forwarding: Forwarding, route: Route, backend: WeightedBackend): void {
    const { given, client } = forwarding;
    const http = this.#edited(forwarding, route, backend.edits);
    const request: Request = { ...given, http, sizeBytes: given.sizeBytes + forwardedForBytes(http) };
    this.#underWay++;
    let giveUp = (): void => {};
    const abandon = (): void => {
      giveUp();
      end(undefined);
    };
    this.#clients.get(client)?.add(abandon);
    const end = (response: Response | undefined): void => {
      timer.stop();
      if (response !== undefined) client.send(response);
      this.#clients.get(client)?.delete(abandon);
      this.#underWay--;
      this.#exitIfIdle();
    };
    const timer = new Timer(this.process.place, () => {
      giveUp();
      end(this.#own(given, client, { status: 504, headers: {} }));
    });
    const timeout = route.requestTimeoutNs ?? this.#settings.requestTimeout;
    if (timeout > 0) timer.start(ns(timeout));
    const tryOnce = (): void => {
      const upstream = this.#upstreams.get(backend.upstream)?.upstream;
      if (upstream === undefined || upstream.isEmpty)
        return end(this.#own(given, client, { status: 503, headers: {} }));
      forwarding.triesLeft--;
      giveUp = upstream.send({
        request,
        onResponse: (response) => end(editedResponse(response, given.id, [route.edits, backend.edits])),
        onFailure: (failure: UpstreamFailure) => {
          if (failure.isUnsent && forwarding.triesLeft > 0) return tryOnce();
          end(this.#own(given, client, { status: failure.reason === 'timed out' ? 504 : 502, headers: {} }));
        },
      });
    };
    tryOnce();
  }

  #edited({ client, http }: Forwarding, { match, edits }: Route, own: RequestEdits): HttpRequest {
    const { [X_FORWARDED_FOR]: claimed, ...headers } = http.headers;
    const trusted =
      this.#settings.trustsForwardedFor && claimed !== undefined ? { ...headers, [X_FORWARDED_FOR]: claimed } : headers;
    const forwarded = withAddedHeader(trusted, X_FORWARDED_FOR, formatIp(client.remoteIp, client.family));
    return {
      ...http,
      host: own.hostname ?? edits.hostname ?? http.host,
      path: editedPath(own.path ?? edits.path, match, http.path),
      headers: editedHeaders(editedHeaders(forwarded, edits.headers), own.headers),
    };
  }
}

interface Forwarding {
  readonly client: TcpConnection;
  readonly given: Request;
  readonly http: HttpRequest;
  triesLeft: number;
}

/** A client that does not speak HTTP asks for nothing in particular. */
const ANY_REQUEST: HttpRequest = { method: 'GET', host: '', path: '/', query: {}, headers: {} };

/** A status line, five headers and a short page. */
const OWN_RESPONSE_BYTES = 300;

/** The header's line: name, colon, blank, value and line end. */
const forwardedForBytes = ({ headers }: HttpRequest): number =>
  X_FORWARDED_FOR.length + 4 + (headers[X_FORWARDED_FOR]?.length ?? 0);

function editedResponse(response: Response, id: number, edits: readonly RequestEdits[]): Response {
  const { http } = response;
  if (http === undefined) return { ...response, id };
  const headers = edits.reduce((before, { responseHeaders }) => editedHeaders(before, responseHeaders), http.headers);
  return { ...response, id, http: { ...http, headers } };
}

const isSamePool = (a: PoolSettings, b: PoolSettings): boolean =>
  a === b || (Object.keys(a) as (keyof PoolSettings)[]).every((field) => a[field] === b[field]);
