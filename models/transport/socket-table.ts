// Where a received packet finds its socket: connected sockets by their four addresses, then bound ones by local port.
//
// Not modelled: SO_REUSEPORT groups (one socket per address and port), sockets bound to a device.

import { appended } from '../../engine/appended.ts';
import { ANY_IP, type Ip, type IpFamily } from '../packet/ip-address.ts';
import { hashIpv6 } from '../packet/ipv6-address.ts';

export interface ConnectedSocket {
  readonly family: IpFamily;
  readonly localIp: Ip;
  readonly localPort: number;
  readonly remoteIp: Ip;
  readonly remotePort: number;
}

/**
 * Connected sockets by (local, remote) address and port: open addressing with linear probing over integers, because this
 * lookup runs for every segment.
 */
export class ConnectionTable<S extends ConnectedSocket> {
  #sockets: (S | undefined)[] = NO_SLOTS;
  #size = 0;

  find(family: IpFamily, localIp: Ip, localPort: number, remoteIp: Ip, remotePort: number): S | undefined {
    const sockets = this.#sockets;
    const mask = sockets.length - 1;
    let slot = hashOf(family, localIp, localPort, remoteIp, remotePort) & mask;
    for (;;) {
      const socket = sockets[slot];
      if (
        socket === undefined ||
        (socket.remoteIp === remoteIp &&
          socket.remotePort === remotePort &&
          socket.localPort === localPort &&
          socket.localIp === localIp &&
          socket.family === family)
      ) {
        return socket;
      }
      slot = (slot + 1) & mask;
    }
  }

  /** No socket with the same four addresses may be in the table. */
  add(socket: S): void {
    this.#size++;
    if (this.#size * 2 > this.#sockets.length) this.#grow();
    this.#put(socket);
  }

  /** False if this very socket is not in the table. */
  delete(socket: S): boolean {
    const sockets = this.#sockets;
    const mask = sockets.length - 1;
    let hole = homeOf(socket) & mask;
    while (sockets[hole] !== socket) {
      if (sockets[hole] === undefined) return false;
      hole = (hole + 1) & mask;
    }
    this.#size--;
    // Later sockets of the same run move up into the hole unless that would put them before their home slot.
    for (let slot = (hole + 1) & mask; ; slot = (slot + 1) & mask) {
      const next = sockets[slot];
      if (next === undefined) break;
      if (((slot - homeOf(next)) & mask) < ((slot - hole) & mask)) continue;
      sockets[hole] = next;
      hole = slot;
    }
    sockets[hole] = undefined;
    return true;
  }

  get size(): number {
    return this.#size;
  }

  /** A snapshot, in the order of the slots: the same in every run. */
  all(): S[] {
    return this.#sockets.filter((socket) => socket !== undefined);
  }

  #put(socket: S): void {
    const sockets = this.#sockets;
    const mask = sockets.length - 1;
    let slot = homeOf(socket) & mask;
    while (sockets[slot] !== undefined) slot = (slot + 1) & mask;
    sockets[slot] = socket;
  }

  #grow(): void {
    const old = this.#sockets;
    this.#sockets = new Array(Math.max(INITIAL_SLOTS, old.length * 2)).fill(undefined);
    for (const socket of old) if (socket !== undefined) this.#put(socket);
  }
}

const INITIAL_SLOTS = 8; // most pods have few sockets, and there are many pods
/** Of every table without sockets: one slot that stays empty. */
const NO_SLOTS: undefined[] = [undefined];

const homeOf = ({ family, localIp, localPort, remoteIp, remotePort }: ConnectedSocket): number =>
  hashOf(family, localIp, localPort, remoteIp, remotePort);

/**
 * Multiplicative hash of the remote and local address; the low bits are well mixed. Of IPv6 addresses their bits count,
 * not their handles, so that sockets stand in the same order in every run.
 */
export function hashOf(family: IpFamily, localIp: Ip, localPort: number, remoteIp: Ip, remotePort: number): number {
  const local = family === 6 ? hashIpv6(localIp) : localIp;
  const remote = family === 6 ? hashIpv6(remoteIp) : remoteIp;
  let hash = Math.imul(remote ^ Math.imul(local, 0x9e3779b1), 0x85ebca6b);
  hash ^= hash >>> 15;
  hash = Math.imul(hash ^ ((localPort << 16) | remotePort), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

export interface BoundSocket {
  readonly family: IpFamily;
  /** ANY_IP: every address of the namespace; of an IPv6 socket those of IPv4 as well, unless it is for IPv6 only. */
  readonly localIp: Ip;
  readonly localPort: number;
  /** IPV6_V6ONLY */
  readonly isIpv6Only: boolean;
}

const isDualStack = ({ family, localIp, isIpv6Only }: BoundSocket): boolean =>
  family === 6 && localIp === ANY_IP && !isIpv6Only;

/**
 * Bound sockets by local port. A socket of one address goes before one of any address, and for IPv4 a socket of IPv4
 * before one of both families, as in the kernel's scoring (compute_score).
 */
export class PortTable<S extends BoundSocket> {
  /**
   * While they are few, a list of sockets, those of one port side by side. Replaced, never grown, so that it has no room to
   * spare: most pods bind one port, and there are many pods.
   */
  #few: readonly S[] = NO_SOCKETS;
  /** All of them, once they are many. */
  #byPort: Map<number, S[]> | undefined;

  find(family: IpFamily, ip: Ip, port: number): S | undefined {
    const sockets = this.#byPort === undefined ? this.#few : (this.#byPort.get(port) ?? NO_SOCKETS);
    let found: S | undefined;
    let highest = 0;
    for (const socket of sockets) {
      if (socket.localPort !== port) continue;
      const own = score(socket, family, ip);
      if (own <= highest) continue;
      found = socket;
      highest = own;
    }
    return found;
  }

  /** May a socket be bound there? Not where one is already, and any address clashes with each. */
  isFree(wanted: BoundSocket): boolean {
    const candidates = this.#byPort === undefined ? this.#few : (this.#byPort.get(wanted.localPort) ?? []);
    return !candidates.some((socket) => socket.localPort === wanted.localPort && clash(socket, wanted));
  }

  has(port: number): boolean {
    return this.#byPort?.has(port) ?? this.#few.some(({ localPort }) => localPort === port);
  }

  add(socket: S): void {
    if (this.#byPort !== undefined) return addTo(this.#byPort, socket);
    const last = this.#few.findLastIndex(({ localPort }) => localPort === socket.localPort);
    this.#few = last < 0 ? appended(this.#few, socket) : this.#few.toSpliced(last + 1, 0, socket);
    if (this.#few.length <= FEW_PORTS || new Set(this.#few.map(({ localPort }) => localPort)).size <= FEW_PORTS) return;
    this.#byPort = new Map();
    for (const each of this.#few) addTo(this.#byPort, each);
    this.#few = NO_SOCKETS;
  }

  delete(socket: S): void {
    if (this.#byPort === undefined) {
      this.#few = this.#few.filter((other) => other !== socket).slice(); // filter() leaves room for more
      return;
    }
    const { localPort } = socket;
    const others = this.#byPort.get(localPort)?.filter((other) => other !== socket) ?? [];
    if (others.length > 0) this.#byPort.set(localPort, others);
    else this.#byPort.delete(localPort);
    if (this.#byPort.size > FEW_PORTS) return;
    this.#few = this.all().slice();
    this.#byPort = undefined;
  }

  /** A snapshot, in the order of ports first bound. */
  all(): S[] {
    return this.#byPort === undefined ? [...this.#few] : [...this.#byPort.values()].flat();
  }
}

function addTo<S extends BoundSocket>(byPort: Map<number, S[]>, socket: S): void {
  const sockets = byPort.get(socket.localPort);
  if (sockets === undefined) byPort.set(socket.localPort, [socket]);
  else sockets.push(socket);
}

const FEW_PORTS = 6;
const NO_SOCKETS: readonly never[] = [];

/** compute_score: 0 for a socket that the packet is not for. */
function score(socket: BoundSocket, family: IpFamily, ip: Ip): number {
  if (socket.family !== family) return isDualStack(socket) ? 1 : 0;
  if (socket.localIp === ip) return 3;
  return socket.localIp === ANY_IP ? 2 : 0;
}

/** ipv6_rcv_saddr_equal: an IPv6 socket for everybody takes the port in IPv4, too. */
function clash(a: BoundSocket, b: BoundSocket): boolean {
  if (a.family !== b.family) return isDualStack(a) || isDualStack(b);
  return a.localIp === ANY_IP || b.localIp === ANY_IP || a.localIp === b.localIp;
}
