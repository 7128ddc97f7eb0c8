// How IPVS sees a TCP connection that it forwards: by the flags of the segments alone, without sequence numbers
// (ip_vs_proto_tcp.c). The state decides how long an idle connection is remembered, and whether it counts as active.
//
// Not modelled: the stricter tables of `secure_tcp`, and the one for servers whose answers do not come by here.

import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../../packet/frame.ts';

export const NONE = 0;
export const ESTABLISHED = 1;
export const SYN_SENT = 2;
export const SYN_RECV = 3;
export const FIN_WAIT = 4;
export const TIME_WAIT = 5;
export const CLOSE = 6;
export const CLOSE_WAIT = 7;
export const LAST_ACK = 8;
export const LISTEN = 9;
export const SYNACK = 10;

/** As `ipvsadm -Lc` prints them. */
export const TCP_STATE_NAMES = [
  'NONE',
  'ESTABLISHED',
  'SYN_SENT',
  'SYN_RECV',
  'FIN_WAIT',
  'TIME_WAIT',
  'CLOSE',
  'CLOSE_WAIT',
  'LAST_ACK',
  'LISTEN',
  'SYNACK',
] as const;

/** Seconds without a packet after which a connection is forgotten, by state. */
export const TCP_TIMEOUTS_S: readonly number[] = [2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120];

const ACTIVE: ReadonlySet<number> = new Set([ESTABLISHED, SYN_SENT, SYN_RECV, SYNACK]);

/** Counted under ActiveConn and not under InActConn. */
export const isActive = (state: number): boolean => ACTIVE.has(state);

/** The segment's row in the tables below; undefined for one without any of the four flags. */
function rowOf(tcpFlags: number): number | undefined {
  if ((tcpFlags & TCP_RST) !== 0) return 3;
  if ((tcpFlags & TCP_SYN) !== 0) return 0;
  if ((tcpFlags & TCP_FIN) !== 0) return 1;
  return (tcpFlags & TCP_ACK) !== 0 ? 2 : undefined;
}

const CODES = ['NO', 'ES', 'SS', 'SR', 'FW', 'TW', 'CL', 'CW', 'LA', 'LI', 'SA'];
const table = (...rows: readonly string[]): readonly (readonly number[])[] =>
  rows.map((row) => row.split(' ').map((code) => CODES.indexOf(code)));

/** Of segments from the client: rows SYN, FIN, ACK, RST; columns the states before, in their order. */
const FROM_CLIENT = table(
  'SR ES ES SR SR SR SR SR SR SR SR',
  'CL CW SS TW TW TW CL CW LA LI TW',
  'ES ES SS ES FW TW CL CW CL LI ES',
  'CL CL CL SR CL CL CL CL LA LI SR',
);

const FROM_SERVER = table(
  'SS ES SS SR SS SS SS SS SS LI SR',
  'TW FW SS TW FW TW CL TW LA LI TW',
  'ES ES SS ES FW TW CL CW LA ES ES',
  'CL CL SS CL CL TW CL CL CL CL CL',
);

/** The state after a segment. */
export function nextTcpState(state: number, tcpFlags: number, { fromServer }: { fromServer: boolean }): number {
  const row = rowOf(tcpFlags);
  return row === undefined ? state : (fromServer ? FROM_SERVER : FROM_CLIENT)[row]![state]!;
}
