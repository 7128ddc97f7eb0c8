// Where a received packet finds its socket: connected sockets by their four addresses, then bound ones by local port.
//
// Not modelled: SO_REUSEPORT groups (one socket per address and port), sockets bound to a device.

import { ANY_IP, type Ip } from '../packet/ip-address.ts';

export interface ConnectedSocket {
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
  #sockets: (S | undefined)[] = new Array(INITIAL_SLOTS).fill(undefined);
  #size = 0;

  find(localIp: Ip, localPort: number, remoteIp: Ip, remotePort: number): S | undefined {
    const sockets = this.#sockets;
    const mask = sockets.length - 1;
    let slot = hashOf(localIp, localPort, remoteIp, remotePort) & mask;
    for (;;) {
      const socket = sockets[slot];
      if (
        socket === undefined ||
        (socket.remoteIp === remoteIp &&
          socket.remotePort === remotePort &&
          socket.localPort === localPort &&
          socket.localIp === localIp)
      ) {
        return socket;
      }
      slot = (slot + 1) & mask;
    }
  }

  /** No socket with the same four addresses may be in the table. */
  add(socket: S): void {
    if (this.#size * 2 >= this.#sockets.length) this.#grow();
    this.#size++;
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
    this.#sockets = new Array(old.length * 2).fill(undefined);
    for (const socket of old) if (socket !== undefined) this.#put(socket);
  }
}

const INITIAL_SLOTS = 8; // most pods have few sockets, and there are many pods

const homeOf = ({ localIp, localPort, remoteIp, remotePort }: ConnectedSocket): number =>
  hashOf(localIp, localPort, remoteIp, remotePort);

/** Multiplicative hash of the remote and local address; the low bits are well mixed. */
export function hashOf(localIp: number, localPort: number, remoteIp: number, remotePort: number): number {
  let hash = Math.imul(remoteIp ^ Math.imul(localIp, 0x9e3779b1), 0x85ebca6b);
  hash ^= hash >>> 15;
  hash = Math.imul(hash ^ ((localPort << 16) | remotePort), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

export interface BoundSocket {
  /** ANY_IP: every address of the namespace. */
  readonly localIp: Ip;
  readonly localPort: number;
}

/** Bound sockets by local port. A socket of one address goes before one of any address, as in the kernel's scoring. */
export class PortTable<S extends BoundSocket> {
  readonly #byPort = new Map<number, S[]>();

  find(ip: Ip, port: number): S | undefined {
    const sockets = this.#byPort.get(port);
    if (sockets === undefined) return undefined;
    let wildcard: S | undefined;
    for (const socket of sockets) {
      if (socket.localIp === ip) return socket;
      if (socket.localIp === ANY_IP) wildcard = socket;
    }
    return wildcard;
  }

  /** May a socket be bound there? Not where one is already, and any address clashes with each. */
  isFree(ip: Ip, port: number): boolean {
    const sockets = this.#byPort.get(port);
    if (sockets === undefined) return true;
    return sockets.every(({ localIp }) => ip !== ANY_IP && localIp !== ANY_IP && localIp !== ip);
  }

  has(port: number): boolean {
    return this.#byPort.has(port);
  }

  add(socket: S): void {
    const sockets = this.#byPort.get(socket.localPort);
    if (sockets === undefined) this.#byPort.set(socket.localPort, [socket]);
    else sockets.push(socket);
  }

  delete(socket: S): void {
    const others = this.#byPort.get(socket.localPort)?.filter((other) => other !== socket) ?? [];
    if (others.length === 0) this.#byPort.delete(socket.localPort);
    else this.#byPort.set(socket.localPort, others);
  }

  /** A snapshot, in the order of ports first bound. */
  all(): S[] {
    return [...this.#byPort.values()].flat();
  }
}
