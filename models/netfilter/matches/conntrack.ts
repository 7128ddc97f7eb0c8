// `-m conntrack`: how conntrack sees the frame, and what it knows of its connection; and `-m state --state`, the older
// spelling of the first.
//
// A frame without a connection has a state and nothing else: xt_conntrack.c passes it if the rule asks for a state that
// it has, whatever the rule asks beside that.

import { addressBits, contains, formatIp, type Ip, type IpFamily, prefix } from '../../packet/ip-address.ts';
import { CONNTRACK_STATE_BITS, CONNTRACK_STATES, type ConntrackState, CT_INVALID } from '../conntrack-state.ts';
import { ASSURED, CONFIRMED, type Direction, ORIGINAL, REPLY, SEEN_REPLY } from '../conntrack-table.ts';
import { readMaskLength } from '../prefix-text.ts';
import { protocolNumber, readProtocol } from '../protocol.ts';
import type { FrameTest, Selector } from '../selector.ts';
import { readIp, readNumber, type Words } from '../words.ts';
import type { MatchKind } from './match.ts';
import { type PortRange, printPortRange, takePortRange } from './port-range.ts';

/** An address of one of the connection's tuples, with the bits of it that count; the others are kept for the text. */
export interface TupleAddress {
  readonly ip: Ip;
  readonly length: number;
}

const STATUSES = ['EXPECTED', 'SEEN_REPLY', 'ASSURED', 'CONFIRMED'] as const;
export type ConntrackStatus = (typeof STATUSES)[number];

export interface ConntrackMatch {
  readonly match: 'conntrack';
  readonly states?: readonly ConntrackState[];
  /** Of the states. */
  readonly negated?: boolean;
  /** By number; 0 is no connection's. */
  readonly protocol?: number;
  readonly protocolNegated?: boolean;
  readonly originalSource?: TupleAddress;
  readonly originalSourceNegated?: boolean;
  readonly originalDestination?: TupleAddress;
  readonly originalDestinationNegated?: boolean;
  readonly replySource?: TupleAddress;
  readonly replySourceNegated?: boolean;
  readonly replyDestination?: TupleAddress;
  readonly replyDestinationNegated?: boolean;
  readonly originalSrcPorts?: PortRange;
  readonly originalSrcPortsNegated?: boolean;
  readonly originalDstPorts?: PortRange;
  readonly originalDstPortsNegated?: boolean;
  readonly replySrcPorts?: PortRange;
  readonly replySrcPortsNegated?: boolean;
  readonly replyDstPorts?: PortRange;
  readonly replyDstPortsNegated?: boolean;
  /** One of these; of none, no connection is. */
  readonly statuses?: readonly ConntrackStatus[];
  readonly statusesNegated?: boolean;
  /** Seconds until the connection ends if nothing comes by. */
  readonly expires?: { readonly first: number; readonly last: number };
  readonly expiresNegated?: boolean;
  readonly direction?: 'ORIGINAL' | 'REPLY';
}

export interface StateMatch {
  readonly match: 'state';
  readonly states: readonly ConntrackState[];
  readonly negated?: boolean;
}

export const conntrack: MatchKind<ConntrackMatch> = {
  name: 'conntrack',
  isOfFlow: (spec) => Object.keys(spec).every((key) => ['match', 'states', 'negated'].includes(key)),
  needsConntrack: true,
  print: (spec, family) => {
    const address = (option: string, value: TupleAddress | undefined, negated = false): string =>
      printOption(option, value && printAddress(value, family), negated);
    const ports = (option: string, value: PortRange | undefined, negated = false): string =>
      printOption(option, value && printPortRange(value), negated);
    return (
      printOption('--ctstate', spec.states && printStates(spec.states), spec.negated) +
      printOption('--ctproto', spec.protocol?.toString(), spec.protocolNegated) +
      address('--ctorigsrc', spec.originalSource, spec.originalSourceNegated) +
      address('--ctorigdst', spec.originalDestination, spec.originalDestinationNegated) +
      address('--ctreplsrc', spec.replySource, spec.replySourceNegated) +
      address('--ctrepldst', spec.replyDestination, spec.replyDestinationNegated) +
      ports('--ctorigsrcport', spec.originalSrcPorts, spec.originalSrcPortsNegated) +
      ports('--ctorigdstport', spec.originalDstPorts, spec.originalDstPortsNegated) +
      ports('--ctreplsrcport', spec.replySrcPorts, spec.replySrcPortsNegated) +
      ports('--ctrepldstport', spec.replyDstPorts, spec.replyDstPortsNegated) +
      printOption('--ctstatus', spec.statuses && printStatuses(spec.statuses), spec.statusesNegated) +
      printOption('--ctexpire', spec.expires && printPortRange(spec.expires), spec.expiresNegated) +
      printOption('--ctdir', spec.direction)
    );
  },
  options: {
    '--ctdir': (words) => ({
      direction: words.takeAs('ORIGINAL or REPLY', (word) =>
        word.toUpperCase() === 'ORIGINAL' ? 'ORIGINAL' : word.toUpperCase() === 'REPLY' ? 'REPLY' : undefined,
      ),
    }),
  },
  negatableOptions: {
    '--ctstate': (words, negated) => ({ states: takeStates(words, CONNTRACK_STATES), ...(negated && { negated }) }),
    '--ctproto': (words, protocolNegated) => ({
      protocol: takeProtocolNumber(words),
      ...(protocolNegated && { protocolNegated }),
    }),
    '--ctorigsrc': (words, originalSourceNegated) => ({
      originalSource: takeAddress(words),
      ...(originalSourceNegated && { originalSourceNegated }),
    }),
    '--ctorigdst': (words, originalDestinationNegated) => ({
      originalDestination: takeAddress(words),
      ...(originalDestinationNegated && { originalDestinationNegated }),
    }),
    '--ctreplsrc': (words, replySourceNegated) => ({
      replySource: takeAddress(words),
      ...(replySourceNegated && { replySourceNegated }),
    }),
    '--ctrepldst': (words, replyDestinationNegated) => ({
      replyDestination: takeAddress(words),
      ...(replyDestinationNegated && { replyDestinationNegated }),
    }),
    '--ctorigsrcport': (words, originalSrcPortsNegated) => ({
      originalSrcPorts: takePortRange(words),
      ...(originalSrcPortsNegated && { originalSrcPortsNegated }),
    }),
    '--ctorigdstport': (words, originalDstPortsNegated) => ({
      originalDstPorts: takePortRange(words),
      ...(originalDstPortsNegated && { originalDstPortsNegated }),
    }),
    '--ctreplsrcport': (words, replySrcPortsNegated) => ({
      replySrcPorts: takePortRange(words),
      ...(replySrcPortsNegated && { replySrcPortsNegated }),
    }),
    '--ctrepldstport': (words, replyDstPortsNegated) => ({
      replyDstPorts: takePortRange(words),
      ...(replyDstPortsNegated && { replyDstPortsNegated }),
    }),
    '--ctstatus': (words, statusesNegated) => ({
      statuses: words.takeAs(`statuses of NONE, ${STATUSES.join(', ')}`, readStatuses),
      ...(statusesNegated && { statusesNegated }),
    }),
    '--ctexpire': (words, expiresNegated) => ({
      expires: words.takeAs('seconds, or FIRST:LAST', readSeconds),
      ...(expiresNegated && { expiresNegated }),
    }),
  },
  complete: (fields) =>
    Object.keys(fields).length === 0 ? '--ctstate or another option' : { ...fields, match: 'conntrack' },
  compile: (spec, selector, family) => {
    const { states, ...others } = spec;
    const ofConnection = connectionTest(others, family);
    const ofState = states === undefined ? undefined : compileStates({ states, negated: spec.negated }, selector);
    if (ofConnection === undefined) return ofState;
    const passesWithout = states !== undefined;
    return (frame, context) => {
      if (ofState !== undefined && !ofState(frame, context)) return false;
      return frame.conntrackEntry === 0 ? passesWithout : ofConnection(frame, context);
    };
  },
};

export const state: MatchKind<StateMatch> = {
  name: 'state',
  isOfFlow: () => true,
  needsConntrack: true,
  print: ({ states, negated }) => printOption('--state', printStates(states), negated),
  negatableOptions: {
    '--state': (words, negated) => ({ states: takeStates(words, PLAIN_STATES), ...(negated && { negated }) }),
  },
  complete: ({ states, ...fields }) =>
    states === undefined ? '--state STATES' : { ...fields, match: 'state', states },
  problem: ({ states }) =>
    states.some((name) => !PLAIN_STATES.includes(name)) ? 'knows no SNAT or DNAT; use -m conntrack' : undefined,
  compile: compileStates,
};

const PLAIN_STATES: readonly ConntrackState[] = CONNTRACK_STATES.filter((name) => name !== 'SNAT' && name !== 'DNAT');

// ── tests ────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface States {
  readonly states: readonly ConntrackState[];
  readonly negated?: boolean | undefined;
}

function compileStates({ states, negated = false }: States, selector: Selector): FrameTest | undefined {
  const mask = states.reduce((bits, name) => bits | CONNTRACK_STATE_BITS[name], 0);
  if (negated) return (frame) => ((frame.conntrackState || CT_INVALID) & mask) === 0;
  if (selector.stateMask !== 0) return (frame) => ((frame.conntrackState || CT_INVALID) & mask) !== 0;
  selector.stateMask = mask;
  return undefined;
}

/** Of a frame that has a connection. */
function connectionTest(spec: Omit<ConntrackMatch, 'states'>, family: IpFamily): FrameTest | undefined {
  const tests: FrameTest[] = [];
  const { direction, protocol, protocolNegated = false, statuses, statusesNegated = false } = spec;
  if (direction !== undefined) tests.push((frame) => frame.conntrackReply === (direction === 'REPLY'));
  const address = (of: 'srcIp' | 'dstIp', side: Direction, wanted: TupleAddress | undefined, negated = false): void => {
    if (wanted === undefined) return;
    const range = prefix(wanted.ip, wanted.length, family);
    tests.push((frame, { connections }) => contains(range, connections[of](frame, side)) !== negated);
  };
  address('srcIp', ORIGINAL, spec.originalSource, spec.originalSourceNegated);
  address('dstIp', ORIGINAL, spec.originalDestination, spec.originalDestinationNegated);
  address('srcIp', REPLY, spec.replySource, spec.replySourceNegated);
  address('dstIp', REPLY, spec.replyDestination, spec.replyDestinationNegated);
  if (protocol !== undefined) {
    tests.push((frame, { connections }) => (connections.protocol(frame) === protocol) !== protocolNegated);
  }
  const ports = (of: 'srcPort' | 'dstPort', side: Direction, range: PortRange | undefined, negated = false): void => {
    if (range === undefined) return;
    tests.push((frame, { connections }) => isWithin(connections[of](frame, side), range) !== negated);
  };
  ports('srcPort', ORIGINAL, spec.originalSrcPorts, spec.originalSrcPortsNegated);
  ports('dstPort', ORIGINAL, spec.originalDstPorts, spec.originalDstPortsNegated);
  ports('srcPort', REPLY, spec.replySrcPorts, spec.replySrcPortsNegated);
  ports('dstPort', REPLY, spec.replyDstPorts, spec.replyDstPortsNegated);
  if (statuses !== undefined) {
    const mask = statuses.reduce((bits, name) => bits | STATUS_BITS[name], 0);
    tests.push((frame, { connections }) => ((connections.status(frame) & mask) !== 0) !== statusesNegated);
  }
  const { expires, expiresNegated = false } = spec;
  if (expires !== undefined) {
    tests.push((frame, { connections }) => {
      const seconds = Math.floor(connections.expiration(frame) / 1e9);
      return isWithin(seconds, expires) !== expiresNegated;
    });
  }
  if (tests.length === 0) return undefined;
  return (frame, context) => tests.every((test) => test(frame, context));
}

/** Expectations are not modelled: no connection is an expected one. */
const STATUS_BITS: Readonly<Record<ConntrackStatus, number>> = { EXPECTED: 1, SEEN_REPLY, ASSURED, CONFIRMED };

const isWithin = (value: number, { first, last }: PortRange): boolean => value >= first && value <= last;

// ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

const printOption = (option: string, value: string | undefined, negated = false): string =>
  value === undefined ? '' : `${negated ? ' !' : ''} ${option} ${value}`;

/** In the kernel's order, whatever the order in which they were given. */
const printStates = (states: readonly ConntrackState[]): string =>
  CONNTRACK_STATES.filter((name) => states.includes(name)).join(',');

const printStatuses = (statuses: readonly ConntrackStatus[]): string =>
  STATUSES.filter((name) => statuses.includes(name)).join(',') || 'NONE';

const printAddress = ({ ip, length }: TupleAddress, family: IpFamily): string =>
  `${formatIp(ip, family)}${length === addressBits(family) ? '' : `/${length}`}`;

/** Names in any case, or their beginnings. */
const takeStates = (words: Words, known: readonly ConntrackState[]): ConntrackState[] =>
  words.takeAs(`states of ${known.join(', ')}`, (word) => {
    const states: ConntrackState[] = [];
    for (const part of word.split(',')) {
      const state = part === '' ? undefined : known.find((name) => name.startsWith(part.toUpperCase()));
      if (state === undefined) return undefined;
      states.push(state);
    }
    return states;
  });

function readStatuses(word: string): ConntrackStatus[] | undefined {
  const statuses: ConntrackStatus[] = [];
  for (const part of word.toUpperCase().split(',')) {
    if (part === 'NONE') continue;
    const status = STATUSES.find((name) => name === part);
    if (status === undefined) return undefined;
    statuses.push(status);
  }
  return statuses;
}

const takeProtocolNumber = (words: Words): number =>
  words.takeAs('a protocol: all, a number up to 255, or a name such as tcp', (word) => {
    const protocol = readProtocol(word);
    return protocol === undefined ? undefined : protocol === 'all' ? 0 : protocolNumber(protocol);
  });

const takeAddress = (words: Words): TupleAddress =>
  words.takeAs(`an IPv${words.family} address or ADDRESS/LENGTH`, (word) => {
    const slash = word.indexOf('/');
    const ip = readIp(slash < 0 ? word : word.slice(0, slash), words.family);
    const length = slash < 0 ? addressBits(words.family) : readMaskLength(word.slice(slash + 1), words.family);
    return ip === undefined || length === undefined ? undefined : { ip, length };
  });

/** The last second that 32 bits hold. */
const LAST_SECOND = 0xffff_ffff;

function readSeconds(word: string): { first: number; last: number } | undefined {
  const [firstText = '', lastText, ...rest] = word.split(':');
  if (rest.length > 0) return undefined;
  const first = firstText === '' && lastText !== undefined ? 0 : readNumber(firstText, LAST_SECOND);
  const last = lastText === undefined ? first : lastText === '' ? LAST_SECOND : readNumber(lastText, LAST_SECOND);
  return first === undefined || last === undefined ? undefined : { first, last };
}
