// `-m ttl`, and `-m hl` in IPv6: how many more routers the packet may pass.

import type { FrameTest } from '../selector.ts';
import type { Words } from '../words.ts';
import type { MatchKind } from './match.ts';

interface HopsMatch {
  readonly is: 'eq' | 'lt' | 'gt';
  readonly hops: number;
  /** `eq` only. */
  readonly negated?: boolean;
}

export interface TtlMatch extends HopsMatch {
  readonly match: 'ttl';
}

export interface HlMatch extends HopsMatch {
  readonly match: 'hl';
}

const takeHops = (words: Words, is: HopsMatch['is']): HopsMatch => ({
  is,
  hops: words.takeInteger({ first: 0, last: 255 }),
});

export const ttl: MatchKind<TtlMatch> = {
  name: 'ttl',
  families: [4],
  print: ({ is, hops, negated }) => `${negated ? ' !' : ''} --ttl-${is} ${hops}`,
  options: {
    '--ttl-lt': (words) => takeHops(words, 'lt'),
    '--ttl-gt': (words) => takeHops(words, 'gt'),
  },
  negatableOptions: {
    '--ttl-eq': (words, negated) => ({ ...takeHops(words, 'eq'), ...(negated && { negated }) }),
    '--ttl': (words, negated) => ({ ...takeHops(words, 'eq'), ...(negated && { negated }) }),
  },
  complete: ({ is, hops, ...fields }) =>
    is === undefined || hops === undefined ? '--ttl-eq, --ttl-lt or --ttl-gt' : { ...fields, match: 'ttl', is, hops },
  compile: compileHops,
};

export const hl: MatchKind<HlMatch> = {
  name: 'hl',
  families: [6],
  print: ({ is, hops, negated }) => `${negated ? ' !' : ''} --hl-${is} ${hops}`,
  options: {
    '--hl-lt': (words) => takeHops(words, 'lt'),
    '--hl-gt': (words) => takeHops(words, 'gt'),
  },
  negatableOptions: {
    '--hl-eq': (words, negated) => ({ ...takeHops(words, 'eq'), ...(negated && { negated }) }),
  },
  complete: ({ is, hops, ...fields }) =>
    is === undefined || hops === undefined ? '--hl-eq, --hl-lt or --hl-gt' : { ...fields, match: 'hl', is, hops },
  compile: compileHops,
};

function compileHops({ is, hops, negated = false }: HopsMatch): FrameTest {
  if (is === 'lt') return ({ ttl }) => ttl < hops;
  if (is === 'gt') return ({ ttl }) => ttl > hops;
  return ({ ttl }) => (ttl === hops) !== negated;
}
