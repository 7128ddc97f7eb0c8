// `-j REJECT`: drops the frame and tells its sender. The stack sends the answer; this is what it is to say.

import type { IpFamily } from '../../packet/ip-address.ts';
import { TARGET } from '../action.ts';
import type { TargetKind } from './target.ts';

/** ICMP types 3/0, 3/1, 3/2, 3/3, 3/9, 3/10, 3/13, and a TCP segment with RST. */
const TYPES_4 = [
  'icmp-net-unreachable',
  'icmp-host-unreachable',
  'icmp-proto-unreachable',
  'icmp-port-unreachable',
  'icmp-net-prohibited',
  'icmp-host-prohibited',
  'tcp-reset',
  'icmp-admin-prohibited',
] as const;

/** ICMPv6 types 1/0, 1/1, 1/3, 1/4, 1/5, 1/6, and a TCP segment with RST. */
const TYPES_6 = [
  'icmp6-no-route',
  'icmp6-adm-prohibited',
  'icmp6-addr-unreachable',
  'icmp6-port-unreachable',
  'tcp-reset',
  'icmp6-policy-fail',
  'icmp6-reject-route',
] as const;

export type RejectType = (typeof TYPES_4)[number] | (typeof TYPES_6)[number];

/** Shorter names that iptables accepts. */
const ALIASES_4 = {
  'net-unreach': 'icmp-net-unreachable',
  'host-unreach': 'icmp-host-unreachable',
  'proto-unreach': 'icmp-proto-unreachable',
  'port-unreach': 'icmp-port-unreachable',
  'net-prohib': 'icmp-net-prohibited',
  'host-prohib': 'icmp-host-prohibited',
  'tcp-rst': 'tcp-reset',
  'admin-prohib': 'icmp-admin-prohibited',
} as const satisfies Record<string, RejectType>;
const ALIASES_6 = {
  'no-route': 'icmp6-no-route',
  'adm-prohibited': 'icmp6-adm-prohibited',
  'addr-unreach': 'icmp6-addr-unreachable',
  'port-unreach': 'icmp6-port-unreachable',
  'policy-fail': 'icmp6-policy-fail',
  'reject-route': 'icmp6-reject-route',
} as const satisfies Record<string, RejectType>;

export interface RejectTarget {
  readonly target: 'REJECT';
  /** Absent: port unreachable. */
  readonly rejectWith?: RejectType;
}

export const defaultRejectType = (family: IpFamily): RejectType =>
  family === 6 ? 'icmp6-port-unreachable' : 'icmp-port-unreachable';

export const reject: TargetKind<RejectTarget> = {
  name: 'REJECT',
  action: TARGET,
  tables: ['filter'],
  print: ({ rejectWith }, family) => ` --reject-with ${rejectWith ?? defaultRejectType(family)}`,
  options: {
    '--reject-with': (words) => ({
      rejectWith: words.takeAs(`one of ${typesOf(words.family).join(', ')}`, (word) => readType(word, words.family)),
    }),
  },
  complete: (fields) => ({ ...fields, target: 'REJECT' }),
  problem: ({ rejectWith }, { family = 4, protocol, protocolNegated }) => {
    if (rejectWith === undefined) return undefined;
    if (!typesOf(family).includes(rejectWith)) return `${rejectWith} is not for IPv${family}`;
    return rejectWith === 'tcp-reset' && (protocol !== 'tcp' || protocolNegated) ? 'tcp-reset needs -p tcp' : undefined;
  },
};

const typesOf = (family: IpFamily): readonly RejectType[] => (family === 6 ? TYPES_6 : TYPES_4);

/** The first type, in the order of libipt_REJECT.c, of which either name begins so; in any case. */
function readType(word: string, family: IpFamily): RejectType | undefined {
  const beginning = word.toLowerCase();
  const aliases: readonly (readonly [string, RejectType])[] = Object.entries(family === 6 ? ALIASES_6 : ALIASES_4);
  return typesOf(family).find(
    (type) => type.startsWith(beginning) || aliases.some(([alias, of]) => of === type && alias.startsWith(beginning)),
  );
}
