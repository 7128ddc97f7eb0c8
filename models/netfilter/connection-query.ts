// What rules may ask about the connection of a frame (`-m conntrack`, `-m connmark`, `ct` in nftables), and the one thing
// that they may change: its mark. Conntrack answers. A frame without a connection has marks, addresses and status 0; what
// makes the difference to a rule is `frame.conntrackEntry`. The frame's own direction is `frame.conntrackReply`, and how
// conntrack sees it `frame.conntrackState`.

import type { Duration } from '../../engine/time.ts';
import type { Frame } from '../packet/frame.ts';
import { ANY_IP, type Ip, type IpFamily } from '../packet/ip-address.ts';
import type { Direction } from './conntrack-table.ts';

export interface ConnectionQuery {
  /** The connmark. */
  mark(frame: Frame): number;
  setMark(frame: Frame, mark: number): void;
  /** Bits of enum ip_conntrack_status (conntrack-table.ts): SEEN_REPLY, ASSURED, CONFIRMED, SRC_NAT, DST_NAT, … */
  status(frame: Frame): number;
  /** The number of the zone that counts in this direction. */
  zone(frame: Frame, direction: Direction): number;
  /** Until the entry ends, if nothing comes by; 0 before it is confirmed. */
  expiration(frame: Frame): Duration;
  family(frame: Frame): IpFamily;
  protocol(frame: Frame): number;
  srcIp(frame: Frame, direction: Direction): Ip;
  dstIp(frame: Frame, direction: Direction): Ip;
  /** ICMP: the identifier. */
  srcPort(frame: Frame, direction: Direction): number;
  /** ICMP: `type * 256 + code`. */
  dstPort(frame: Frame, direction: Direction): number;

  // For those who count connections:

  /** The tuple by which the frame's connection began; of a frame without a connection its own. Written to `tuple`. */
  readTuple(frame: Frame, tuple: ZonedTuple): void;
  /** The handle of the confirmed connection with that tuple in either direction, or 0 (nf_conntrack_find_get). */
  find(tuple: Readonly<ZonedTuple>): number;
  isAssured(handle: number): boolean;
  /** A TCP connection in TIME_WAIT or CLOSE. */
  isClosed(handle: number): boolean;
}

export interface ZonedTuple {
  srcIp: number;
  dstIp: number;
  /** As in connection-tuple.ts: packed ports, and the protocol with its family. */
  ports: number;
  kind: number;
  /** As in connection-zone.ts. */
  zone: number;
}

/** Where nothing is tracked. */
export const NO_CONNECTIONS: ConnectionQuery = {
  mark: () => 0,
  setMark: () => {},
  status: () => 0,
  zone: () => 0,
  expiration: () => 0 as Duration,
  family: () => 4,
  protocol: () => 0,
  srcIp: () => ANY_IP,
  dstIp: () => ANY_IP,
  srcPort: () => 0,
  dstPort: () => 0,
  readTuple: () => {},
  find: () => 0,
  isAssured: () => false,
  isClosed: () => false,
};
