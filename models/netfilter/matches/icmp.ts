// `-m icmp`: type and code.

import {
  compileIcmpType,
  type IcmpType,
  type IcmpTypeMatch,
  icmpTypeProblem,
  printIcmpType,
  takeIcmpType,
} from './icmp-type.ts';
import type { MatchKind } from './match.ts';

export interface IcmpMatch extends IcmpTypeMatch {
  readonly match: 'icmp';
}

/** Names that iptables accepts; it prints numbers. */
const NAMES: ReadonlyMap<string, IcmpType> = new Map(
  Object.entries<IcmpType>({
    any: {},
    'echo-reply': { type: 0 },
    pong: { type: 0 },
    'destination-unreachable': { type: 3 },
    'network-unreachable': { type: 3, code: 0 },
    'host-unreachable': { type: 3, code: 1 },
    'protocol-unreachable': { type: 3, code: 2 },
    'port-unreachable': { type: 3, code: 3 },
    'fragmentation-needed': { type: 3, code: 4 },
    'source-route-failed': { type: 3, code: 5 },
    'network-unknown': { type: 3, code: 6 },
    'host-unknown': { type: 3, code: 7 },
    'network-prohibited': { type: 3, code: 9 },
    'host-prohibited': { type: 3, code: 10 },
    'tos-network-unreachable': { type: 3, code: 11 },
    'tos-host-unreachable': { type: 3, code: 12 },
    'communication-prohibited': { type: 3, code: 13 },
    'host-precedence-violation': { type: 3, code: 14 },
    'precedence-cutoff': { type: 3, code: 15 },
    'source-quench': { type: 4 },
    redirect: { type: 5 },
    'network-redirect': { type: 5, code: 0 },
    'host-redirect': { type: 5, code: 1 },
    'tos-network-redirect': { type: 5, code: 2 },
    'tos-host-redirect': { type: 5, code: 3 },
    'echo-request': { type: 8 },
    ping: { type: 8 },
    'router-advertisement': { type: 9 },
    'router-solicitation': { type: 10 },
    'time-exceeded': { type: 11 },
    'ttl-exceeded': { type: 11 },
    'ttl-zero-during-transit': { type: 11, code: 0 },
    'ttl-zero-during-reassembly': { type: 11, code: 1 },
    'parameter-problem': { type: 12 },
    'ip-header-bad': { type: 12, code: 0 },
    'required-option-missing': { type: 12, code: 1 },
    'timestamp-request': { type: 13 },
    'timestamp-reply': { type: 14 },
    'address-mask-request': { type: 17 },
    'address-mask-reply': { type: 18 },
  }),
);

/** ip_tables' way to say any type. */
const ANY_TYPE = 255;

export const icmp: MatchKind<IcmpMatch, Partial<IcmpMatch> & { isGiven?: true }> = {
  name: 'icmp',
  families: [4],
  protocols: ['icmp'],
  print: (spec) => `${spec.negated ? ' !' : ''} --icmp-type ${printIcmpType(spec)}`,
  negatableOptions: {
    '--icmp-type': (words, negated) => {
      const type = takeIcmpType(words, NAMES);
      return { ...(type.type === ANY_TYPE ? {} : type), isGiven: true, ...(negated && { negated }) };
    },
  },
  complete: ({ isGiven, ...fields }) => (isGiven ? { ...fields, match: 'icmp' } : '--icmp-type TYPE'),
  problem: icmpTypeProblem,
  compile: compileIcmpType,
};
