// `-m owner`: the process that sent the packet. In the simulator every process runs as root (user 0, group 0), and segments
// of TCP, datagrams of UDP and ICMP queries come from sockets of processes. ICMP errors and answers, neighbor discovery and
// resets come from a socket of the kernel, which has no owner: they match only users and groups that are negated.
//
// Not modelled: other users and groups, `--suppl-groups`, and POSTROUTING, where a packet no longer shows who sent it.

import { type Frame, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, TCP_RST } from '../../packet/frame.ts';
import { ICMP_ECHO_REQUEST } from '../../packet/icmp.ts';
import { ICMPV6_ECHO_REQUEST } from '../../packet/icmpv6.ts';
import { readNumber, type Words } from '../words.ts';
import type { MatchKind } from './match.ts';

/** Numbers of users or groups, both included. */
export interface IdRange {
  readonly first: number;
  /** Equal to `first` for one alone. */
  readonly last: number;
}

export interface OwnerMatch {
  readonly match: 'owner';
  readonly users?: IdRange;
  readonly usersNegated?: boolean;
  readonly groups?: IdRange;
  readonly groupsNegated?: boolean;
  /** False is `!`. */
  readonly socketExists?: boolean;
}

export const owner: MatchKind<OwnerMatch> = {
  name: 'owner',
  hooks: () => ['OUTPUT'],
  print: ({ users, usersNegated, groups, groupsNegated, socketExists }) =>
    (socketExists === undefined ? '' : `${socketExists ? '' : ' !'} --socket-exists`) +
    printRange('--uid-owner', users, usersNegated) +
    printRange('--gid-owner', groups, groupsNegated),
  negatableOptions: {
    '--uid-owner': (words, usersNegated) => ({ users: takeRange(words), ...(usersNegated && { usersNegated }) }),
    '--gid-owner': (words, groupsNegated) => ({ groups: takeRange(words), ...(groupsNegated && { groupsNegated }) }),
    '--socket-exists': (_words, negated) => ({ socketExists: !negated }),
  },
  complete: (fields) =>
    Object.keys(fields).length === 0 ? '--uid-owner, --gid-owner or --socket-exists' : { ...fields, match: 'owner' },
  compile: ({ users, usersNegated = false, groups, groupsNegated = false, socketExists }) => {
    const isOfRoot = ({ first }: IdRange): boolean => first === ROOT;
    return (frame) => {
      if (socketExists === false) return false;
      if (!isOfProcess(frame)) return (users === undefined || usersNegated) && (groups === undefined || groupsNegated);
      if (users !== undefined && isOfRoot(users) === usersNegated) return false;
      return groups === undefined || isOfRoot(groups) !== groupsNegated;
    };
  },
};

const ROOT = 0;

function isOfProcess({ protocol, tcpFlags, icmpType }: Frame): boolean {
  switch (protocol) {
    case PROTOCOL_TCP:
      return (tcpFlags & TCP_RST) === 0;
    case PROTOCOL_ICMP:
      return icmpType === ICMP_ECHO_REQUEST;
    case PROTOCOL_ICMPV6:
      return icmpType === ICMPV6_ECHO_REQUEST;
    default:
      return true;
  }
}

const takeRange = (words: Words): IdRange =>
  words.takeAs('a number, FIRST-LAST, or root', (word) => {
    if (word === 'root') return { first: ROOT, last: ROOT };
    const [firstText = '', lastText = firstText, ...rest] = word.split('-');
    const first = readNumber(firstText, LAST_ID);
    const last = readNumber(lastText, LAST_ID);
    return first === undefined || last === undefined || first > last || rest.length > 0 ? undefined : { first, last };
  });

const LAST_ID = 0xffff_fffe;

const printRange = (option: string, range: IdRange | undefined, negated = false): string => {
  if (range === undefined) return '';
  const { first, last } = range;
  return `${negated ? ' !' : ''} ${option} ${first}${last === first ? '' : `-${last}`}`;
};
