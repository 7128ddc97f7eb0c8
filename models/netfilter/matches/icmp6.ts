// `-m icmp6`: type and code of ICMPv6.

import {
  compileIcmpType,
  type IcmpType,
  type IcmpTypeMatch,
  icmpTypeProblem,
  printIcmpType,
  takeIcmpType,
} from './icmp-type.ts';
import type { MatchKind } from './match.ts';

export interface Icmp6Match extends IcmpTypeMatch {
  readonly match: 'icmp6';
  readonly type: number;
}

/** Names that ip6tables accepts; it prints numbers. */
const NAMES: ReadonlyMap<string, IcmpType> = new Map(
  Object.entries<IcmpType>({
    'destination-unreachable': { type: 1 },
    'no-route': { type: 1, code: 0 },
    'communication-prohibited': { type: 1, code: 1 },
    'beyond-scope': { type: 1, code: 2 },
    'address-unreachable': { type: 1, code: 3 },
    'port-unreachable': { type: 1, code: 4 },
    'failed-policy': { type: 1, code: 5 },
    'reject-route': { type: 1, code: 6 },
    'packet-too-big': { type: 2 },
    'time-exceeded': { type: 3 },
    'ttl-exceeded': { type: 3 },
    'ttl-zero-during-transit': { type: 3, code: 0 },
    'ttl-zero-during-reassembly': { type: 3, code: 1 },
    'parameter-problem': { type: 4 },
    'bad-header': { type: 4, code: 0 },
    'unknown-header-type': { type: 4, code: 1 },
    'unknown-option': { type: 4, code: 2 },
    'echo-request': { type: 128 },
    ping: { type: 128 },
    'echo-reply': { type: 129 },
    pong: { type: 129 },
    'router-solicitation': { type: 133 },
    'router-advertisement': { type: 134 },
    'neighbour-solicitation': { type: 135 },
    'neighbor-solicitation': { type: 135 },
    'neighbour-advertisement': { type: 136 },
    'neighbor-advertisement': { type: 136 },
    redirect: { type: 137 },
  }),
);

export const icmp6: MatchKind<Icmp6Match> = {
  name: 'icmp6',
  aliases: ['icmpv6', 'ipv6-icmp'],
  families: [6],
  protocols: ['ipv6-icmp'],
  print: (spec) => `${spec.negated ? ' !' : ''} --icmpv6-type ${printIcmpType(spec)}`,
  negatableOptions: {
    '--icmpv6-type': (words, negated) => ({ ...takeIcmpType(words, NAMES), ...(negated && { negated }) }),
  },
  complete: ({ type, ...fields }) => (type === undefined ? '--icmpv6-type TYPE' : { ...fields, match: 'icmp6', type }),
  problem: icmpTypeProblem,
  compile: compileIcmpType,
};
