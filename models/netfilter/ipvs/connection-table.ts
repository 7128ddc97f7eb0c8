// The connections that IPVS forwards, found by either end's packets, and the templates that bind clients to servers.
//
// There are no events: connections are filed under the second in which their time is over, and whoever is about to look at
// the table lets those go whose time has come. A connection that is used again stays where it is filed, and is filed anew
// when that second is over, so that a packet costs nothing but a new deadline.

import { type Duration, END_OF_TIME, type Instant, inSeconds, s } from '../../../engine/time.ts';
import type { Ip } from '../../packet/ip-address.ts';
import { packProtocol } from '../connection-tuple.ts';
import type { RealServer, VirtualServer } from './virtual-server.ts';

export interface ConnectionEnds {
  readonly clientIp: Ip;
  /** Of a template: 0. */
  readonly clientPort: number;
  readonly virtual: VirtualServer;
  readonly server: RealServer;
}

export class IpvsConnection implements ConnectionEnds {
  /** Protocol and IP family, packed. */
  readonly kind: number;
  readonly clientIp: Ip;
  readonly clientPort: number;
  readonly virtual: VirtualServer;
  readonly server: RealServer;
  /** Binds a client to a server, and is no connection itself. */
  readonly isTemplate: boolean;
  /** The template by which it came to its server. */
  readonly template: IpvsConnection | undefined;
  /** Of TCP, as in tcp-states.ts; 0 otherwise. */
  state = 0;
  /** Counted under ActiveConn of its server. */
  isActive = false;
  /** How long it is remembered after its last packet. */
  timeout: Duration;
  expiresAt: Instant;
  /** Connections that it holds as a template. */
  held = 0;
  /** conntrack has an entry for it, which ends with it. */
  isTracked = true;

  constructor(
    { clientIp, clientPort, virtual, server }: ConnectionEnds,
    {
      isTemplate = false,
      template,
      timeout,
      now,
    }: { isTemplate?: boolean; template?: IpvsConnection | undefined; timeout: Duration; now: Instant },
  ) {
    this.kind = packProtocol(virtual.protocol, virtual.family);
    this.clientIp = clientIp;
    this.clientPort = clientPort;
    this.virtual = virtual;
    this.server = server;
    this.isTemplate = isTemplate;
    this.template = template;
    this.timeout = timeout;
    this.expiresAt = (now + timeout) as Instant;
  }
}

/** One side's key and its connections: those that share a hash follow one another, the latest first. */
type Index = Map<number, Filed>;

interface Filed {
  readonly connection: IpvsConnection;
  readonly next: Filed | undefined;
}

export class ConnectionTable {
  readonly #byClient: Index = new Map();
  readonly #byServer: Index = new Map();
  readonly #all = new Set<IpvsConnection>();
  /** By the second in which to look at them; a connection may be in a later bucket, too, where it is not looked at. */
  readonly #bySecond = new Map<number, IpvsConnection[]>();
  readonly #secondOf = new Map<IpvsConnection, number>();
  /** All seconds before it have been looked at. */
  #nextSecond = 0;
  /** Nothing ends before this instant. */
  #earliestEnd: Instant = END_OF_TIME;

  get size(): number {
    return this.#all.size;
  }

  /** In the order in which they were made. */
  [Symbol.iterator](): IterableIterator<IpvsConnection> {
    return this.#all[Symbol.iterator]();
  }

  /** That a packet from the client belongs to; `kind` is as packProtocol makes it. */
  find(kind: number, clientIp: Ip, clientPort: number, virtualIp: Ip, virtualPort: number) {
    let filed = this.#byClient.get(hashOf(kind, clientIp, clientPort, virtualIp, virtualPort));
    for (; filed !== undefined; filed = filed.next) {
      const { connection } = filed;
      const { virtual } = connection;
      if (
        connection.clientPort === clientPort &&
        connection.clientIp === clientIp &&
        virtual.port === virtualPort &&
        virtual.ip === virtualIp &&
        connection.kind === kind
      )
        return connection;
    }
    return undefined;
  }

  /** That a packet from the real server belongs to. */
  findByAnswer(kind: number, serverIp: Ip, serverPort: number, clientIp: Ip, clientPort: number) {
    let filed = this.#byServer.get(hashOf(kind, clientIp, clientPort, serverIp, serverPort));
    for (; filed !== undefined; filed = filed.next) {
      const { connection } = filed;
      const { server } = connection;
      if (
        connection.clientPort === clientPort &&
        connection.clientIp === clientIp &&
        server.port === serverPort &&
        server.ip === serverIp &&
        connection.kind === kind
      )
        return connection;
    }
    return undefined;
  }

  add(connection: IpvsConnection): void {
    this.#all.add(connection);
    insert(this.#byClient, clientHash(connection), connection);
    if (!connection.isTemplate) insert(this.#byServer, serverHash(connection), connection);
    this.#file(connection);
  }

  remove(connection: IpvsConnection): void {
    if (!this.#all.delete(connection)) return;
    remove(this.#byClient, clientHash(connection), connection);
    if (!connection.isTemplate) remove(this.#byServer, serverHash(connection), connection);
    this.#secondOf.delete(connection);
  }

  /** The connection's time begins anew. */
  prolong(connection: IpvsConnection, now: Instant): void {
    connection.expiresAt = (now + connection.timeout) as Instant;
    if (secondIn(connection.expiresAt) < this.#secondOf.get(connection)!) this.#file(connection);
  }

  /** Calls `end` with every connection whose time is over; it removes the connection, or prolongs it. */
  sweep(now: Instant, end: (connection: IpvsConnection) => void): void {
    if (now < this.#earliestEnd) return;
    const last = secondIn(now);
    this.#earliestEnd = this.#all.size === 0 ? END_OF_TIME : (((last + 1) * s(1)) as Instant);
    for (let second = this.#nextSecond; second <= last; second++) {
      this.#nextSecond = second;
      const due = this.#bySecond.get(second) ?? NOTHING_DUE;
      this.#bySecond.delete(second);
      for (const connection of due) {
        if (this.#secondOf.get(connection) !== second) continue; // it has ended, or is filed elsewhere
        if (connection.expiresAt <= now) end(connection);
        if (this.#all.has(connection)) this.#file(connection);
      }
    }
  }

  #file(connection: IpvsConnection): void {
    const second = Math.max(secondIn(connection.expiresAt), this.#nextSecond);
    this.#secondOf.set(connection, second);
    if (connection.expiresAt < this.#earliestEnd) this.#earliestEnd = connection.expiresAt;
    const bucket = this.#bySecond.get(second);
    if (bucket === undefined) this.#bySecond.set(second, [connection]);
    else bucket.push(connection);
  }
}

const NOTHING_DUE: readonly IpvsConnection[] = [];

const secondIn = (instant: Instant): number => Math.floor(instant / s(1));

/** What `ipvsadm -Lc` says is left. */
export const secondsLeft = ({ expiresAt }: IpvsConnection, now: Instant): number =>
  Math.max(0, Math.floor(inSeconds((expiresAt - now) as Duration)));

const clientHash = ({ kind, clientIp, clientPort, virtual }: IpvsConnection): number =>
  hashOf(kind, clientIp, clientPort, virtual.ip, virtual.port);
const serverHash = ({ kind, clientIp, clientPort, server }: IpvsConnection): number =>
  hashOf(kind, clientIp, clientPort, server.ip, server.port);

/** Small integers, which Map keeps without boxing. */
function hashOf(kind: number, ip: number, port: number, otherIp: number, otherPort: number): number {
  let hash = Math.imul(ip ^ Math.imul(otherIp, 0x9e3779b1), 0x85ebca6b) ^ ((port << 16) | otherPort) ^ kind;
  hash = Math.imul(hash ^ (hash >>> 15), 0xc2b2ae35);
  return (hash ^ (hash >>> 13)) >> 2;
}

function insert(index: Index, hash: number, connection: IpvsConnection): void {
  index.set(hash, { connection, next: index.get(hash) });
}

function remove(index: Index, hash: number, connection: IpvsConnection): void {
  const others: IpvsConnection[] = [];
  for (let filed = index.get(hash); filed !== undefined; filed = filed.next)
    if (filed.connection !== connection) others.push(filed.connection);
  index.delete(hash);
  for (const other of others.reverse()) insert(index, hash, other);
}
