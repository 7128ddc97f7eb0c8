// `-j REJECT`: drops the frame and tells its sender. The stack sends the answer; this is what it is to say.

import { TARGET } from '../action.ts';
import type { TargetKind } from './target.ts';

/** ICMP types 3/0, 3/1, 3/3, 3/2, 3/9, 3/10, 3/13, and a TCP segment with RST. */
export const REJECT_TYPES = [
  'icmp-net-unreachable',
  'icmp-host-unreachable',
  'icmp-port-unreachable',
  'icmp-proto-unreachable',
  'icmp-net-prohibited',
  'icmp-host-prohibited',
  'icmp-admin-prohibited',
  'tcp-reset',
] as const;

export type RejectType = (typeof REJECT_TYPES)[number];

export interface RejectTarget {
  readonly target: 'REJECT';
  /** Absent: icmp-port-unreachable. */
  readonly rejectWith?: RejectType;
}

export const DEFAULT_REJECT_TYPE: RejectType = 'icmp-port-unreachable';

export const reject: TargetKind<RejectTarget> = {
  name: 'REJECT',
  action: TARGET,
  tables: ['filter'],
  print: ({ rejectWith = DEFAULT_REJECT_TYPE }) => ` --reject-with ${rejectWith}`,
  options: { '--reject-with': (words) => ({ rejectWith: words.takeOneOf(REJECT_TYPES) }) },
  complete: (fields) => ({ ...fields, target: 'REJECT' }),
  problem: ({ rejectWith }, rule) =>
    rejectWith === 'tcp-reset' && (rule.protocol !== 'tcp' || rule.protocolNegated)
      ? 'tcp-reset needs -p tcp'
      : undefined,
};
