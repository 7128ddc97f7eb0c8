// `-m conntrack --ctstate`, and its older spelling `-m state --state`: how conntrack sees the frame. Not modelled: the
// other options of conntrack (addresses, ports, direction, status, expiry of the entry).

import { CONNTRACK_STATE_BITS, CONNTRACK_STATES, type ConntrackState, CT_INVALID } from '../conntrack-state.ts';
import type { FrameTest, Selector } from '../selector.ts';
import type { Words } from '../words.ts';
import type { MatchKind } from './match.ts';

export interface ConntrackMatch {
  readonly match: 'conntrack';
  readonly states: readonly ConntrackState[];
  readonly negated?: boolean;
}

export interface StateMatch {
  readonly match: 'state';
  readonly states: readonly ConntrackState[];
  readonly negated?: boolean;
}

const takeStates = (words: Words, negated: boolean): { states: ConntrackState[]; negated?: boolean } => ({
  states: words.takeAs(EXPECTED, readStates),
  ...(negated && { negated }),
});

export const conntrack: MatchKind<ConntrackMatch> = {
  name: 'conntrack',
  needsConntrack: true,
  print: ({ states, negated }) => `${negated ? ' !' : ''} --ctstate ${printStates(states)}`,
  negatableOptions: { '--ctstate': takeStates },
  complete: ({ states, ...fields }) =>
    states === undefined ? '--ctstate STATES' : { ...fields, match: 'conntrack', states },
  compile: compileStates,
};

export const state: MatchKind<StateMatch> = {
  name: 'state',
  needsConntrack: true,
  print: ({ states, negated }) => `${negated ? ' !' : ''} --state ${printStates(states)}`,
  negatableOptions: { '--state': takeStates },
  complete: ({ states, ...fields }) =>
    states === undefined ? '--state STATES' : { ...fields, match: 'state', states },
  problem: ({ states }) =>
    states.includes('SNAT') || states.includes('DNAT') ? 'knows no SNAT or DNAT; use -m conntrack' : undefined,
  compile: compileStates,
};

function compileStates({ states, negated }: ConntrackMatch | StateMatch, selector: Selector): FrameTest | undefined {
  const mask = states.reduce((bits, name) => bits | CONNTRACK_STATE_BITS[name], 0);
  if (negated) return (frame) => ((frame.conntrackState || CT_INVALID) & mask) === 0;
  if (selector.stateMask !== 0) return (frame) => ((frame.conntrackState || CT_INVALID) & mask) !== 0;
  selector.stateMask = mask;
  return undefined;
}

/** In the kernel's order, whatever the order in which they were given. */
const printStates = (states: readonly ConntrackState[]): string =>
  CONNTRACK_STATES.filter((name) => states.includes(name)).join(',');

const EXPECTED = `states of ${CONNTRACK_STATES.join(', ')}`;

function readStates(word: string): ConntrackState[] | undefined {
  const given = word.split(',');
  const states = CONNTRACK_STATES.filter((name) => given.includes(name));
  return given.every((name) => states.some((known) => known === name)) ? states : undefined;
}
