// How conntrack sees a frame, as `frame.conntrackState`: a bit set, so that a rule's `--ctstate` is one AND. Conntrack
// sets exactly one of the first five, and beside it CT_SNAT or CT_DNAT for a connection that NAT has rewritten. 0 means
// that conntrack has not seen the frame: it is off in this namespace, or the frame is still before it (table raw).

import type { Frame } from '../packet/frame.ts';

export const CT_INVALID = 1;
export const CT_ESTABLISHED = 2;
export const CT_RELATED = 4;
export const CT_NEW = 8;
export const CT_UNTRACKED = 16;
/** The connection's reply destination differs from its original source. */
export const CT_SNAT = 32;
/** The connection's reply source differs from its original destination. */
export const CT_DNAT = 64;

export type ConntrackState = 'INVALID' | 'NEW' | 'RELATED' | 'ESTABLISHED' | 'UNTRACKED' | 'SNAT' | 'DNAT';

/** In the order in which iptables-save lists the states of one match. */
export const CONNTRACK_STATES: readonly ConntrackState[] = [
  'INVALID',
  'NEW',
  'RELATED',
  'ESTABLISHED',
  'UNTRACKED',
  'SNAT',
  'DNAT',
];

export const CONNTRACK_STATE_BITS: Readonly<Record<ConntrackState, number>> = {
  INVALID: CT_INVALID,
  NEW: CT_NEW,
  RELATED: CT_RELATED,
  ESTABLISHED: CT_ESTABLISHED,
  UNTRACKED: CT_UNTRACKED,
  SNAT: CT_SNAT,
  DNAT: CT_DNAT,
};

/**
 * nf_ct_attach: an answer made here belongs to the connection of the packet it answers, so NAT is undone on it. One to an
 * UNTRACKED packet is RELATED to no connection, which is INVALID for rules, and no longer to be changed by a CT target.
 */
export function attachConntrack(answer: Frame, about: Frame): void {
  if (about.conntrackEntry === 0) {
    if (about.conntrackState === CT_UNTRACKED) answer.conntrackState = CT_INVALID;
    return;
  }
  answer.conntrackEntry = about.conntrackEntry;
  answer.conntrackReply = !about.conntrackReply;
  answer.conntrackState = CT_RELATED | (about.conntrackState & (CT_SNAT | CT_DNAT));
}
