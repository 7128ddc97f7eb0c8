// What TCP and UDP ask of the IP stack below them. IpStack satisfies it; tests put a scripted wire in its place.

import type { CpuSet } from '../cpu/cpu-set.ts';
import type { SendError } from '../ip/send-error.ts';
import type { ProtocolHandler } from '../ip/stack.ts';
import type { DropReason } from '../packet/drop-reason.ts';
import type { Frame } from '../packet/frame.ts';
import type { FrameStore } from '../packet/frame-store.ts';
import type { Ip, IpFamily } from '../packet/ip-address.ts';

export interface TransportStack {
  /** The network namespace's name. */
  readonly name: string;
  readonly cpus: CpuSet;
  readonly frames: FrameStore;
  register(protocol: number, handler: ProtocolHandler): void;
  /** The frame is no longer the caller's, whatever comes back. */
  send(frame: Frame): SendError | undefined;
  /** The same for a datagram that may be cut here if it is too large for the path, but nowhere else (IP_PMTUDISC_WANT). */
  sendOrCut(frame: Frame): SendError | undefined;
  /** Undefined without a route. */
  sourceFor(dst: Ip, family: IpFamily): Ip | undefined;
  /** Why connections to the address fail, by its route; undefined if they may come about. */
  routeError(dst: Ip, family: IpFamily): SendError | undefined;
  isLocal(ip: Ip, family: IpFamily): boolean;
  /** MTU of the first hop. */
  mtuTo(dst: Ip, family: IpFamily): number;
  /** A router on the way to `dst` takes packets of this size only. */
  updatePathMtu(dst: Ip, mtuBytes: number, family: IpFamily): void;
  drop(frame: Frame, reason: DropReason): void;
  /** Answers a datagram for which there is no socket. */
  portUnreachable(frame: Frame): void;
}

export interface SocketAddress {
  /** IPv4 if absent. */
  readonly family?: IpFamily;
  readonly ip: Ip;
  readonly port: number;
}
