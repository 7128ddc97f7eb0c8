// A listening socket: connections whose handshake is over wait in its queue until the application accepts them.
//
// Half-open connections are not limited: beyond the limit the kernel goes on with SYN cookies, which are not modelled.
// Neither are tcp_abort_on_overflow and TCP_DEFER_ACCEPT.

import type { CpuSet } from '../cpu/cpu-set.ts';
import type { Ip, IpFamily } from '../packet/ip-address.ts';
import type { BoundSocket, PortTable } from './socket-table.ts';
import type { TcpConnection, TcpHandlers } from './tcp-connection.ts';

export interface ListenOptions {
  /** Default: IPv4. A listener of IPv6 on any address takes connections of both, unless it is for IPv6 only. */
  readonly family?: IpFamily;
  readonly isIpv6Only?: boolean;
  /** Default: any address. */
  readonly ip?: Ip;
  readonly port: number;
  /** Where the application runs. */
  readonly cpu: number;
  /** As of listen(2); default and limit are net.core.somaxconn. */
  readonly backlog?: number;
}

/** Says who handles a connection; no function: who handles all of them. */
export type ConnectionAcceptor = TcpHandlers | ((connection: TcpConnection) => TcpHandlers);

export class TcpListener implements BoundSocket {
  readonly family: IpFamily;
  readonly isIpv6Only: boolean;
  readonly localIp: Ip;
  readonly localPort: number;
  readonly cpu: number;
  readonly backlog: number;
  readonly #cpus: CpuSet;
  readonly #onConnection: ConnectionAcceptor;
  readonly #listeners: PortTable<TcpListener>;
  /** Made for the first connection: most listeners of a large cluster never get one. */
  #queue: TcpConnection[] | undefined;
  #acceptingPaused = false;
  #closed = false;

  /** Use TcpLayer.listen. */
  constructor(options: {
    readonly family: IpFamily;
    readonly isIpv6Only: boolean;
    readonly localIp: Ip;
    readonly localPort: number;
    readonly cpu: number;
    readonly backlog: number;
    readonly cpus: CpuSet;
    readonly onConnection: ConnectionAcceptor;
    /** Where it is found, while it is open. */
    readonly listeners: PortTable<TcpListener>;
  }) {
    this.family = options.family;
    this.isIpv6Only = options.isIpv6Only;
    this.localIp = options.localIp;
    this.localPort = options.localPort;
    this.cpu = options.cpu;
    this.backlog = options.backlog;
    this.#cpus = options.cpus;
    this.#onConnection = options.onConnection;
    this.#listeners = options.listeners;
  }

  get protocol(): 'TCP' {
    return 'TCP';
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Then neither SYNs nor last segments of handshakes are taken. One more than the backlog fits (sk_acceptq_is_full). */
  get isFull(): boolean {
    return this.#queue !== undefined && this.#queue.length > this.backlog;
  }

  /** For a connection whose handshake is over. */
  enqueue(connection: TcpConnection): void {
    this.#queue ??= [];
    this.#queue.push(connection);
    if (!this.#acceptingPaused) this.#wakeApplication();
  }

  /** The application is busy and does not accept; up to the backlog, handshakes succeed nevertheless. */
  pauseAccepting(): void {
    this.#acceptingPaused = true;
  }

  resumeAccepting(): void {
    if (!this.#acceptingPaused) return;
    this.#acceptingPaused = false;
    for (let waiting = this.#queue?.length ?? 0; waiting > 0; waiting--) this.#wakeApplication();
  }

  /** Frees the port; connections that were not accepted are reset. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#listeners.delete(this);
    for (const connection of this.#queue?.splice(0) ?? []) connection.abort();
  }

  #wakeApplication(): void {
    this.#cpus.schedule(TcpListener.#accept, this);
  }

  static readonly #accept = (listener: TcpListener): void => {
    if (listener.#acceptingPaused) return;
    const connection = listener.#queue?.shift();
    if (connection === undefined) return;
    const accept = listener.#onConnection;
    connection.accepted(typeof accept === 'function' ? accept(connection) : accept);
  };
}
