// `-m set`: the frame's addresses, ports and devices are in an ipset of its namespace.

import type { SetSide } from '../ipset/ip-set.ts';
import { readNumber, type Words } from '../words.ts';
import type { MatchKind } from './match.ts';

/** A count in the element that was found, compared. */
export interface CountTest {
  readonly is: 'eq' | 'lt' | 'gt';
  readonly value: number;
  /** `eq` only. */
  readonly negated?: boolean;
}

export interface SetMatch {
  readonly match: 'set';
  readonly set: string;
  /** Where each dimension of the set is taken from. */
  readonly sides: readonly SetSide[];
  readonly negated?: boolean;
  /** A `nomatch` element of a set of networks matches, and the others do not. */
  readonly returnNomatch?: boolean;
  /** The counters of the element that is found stay as they are. */
  readonly keepCounters?: boolean;
  /** The same for elements of the sets in a list of sets. */
  readonly keepSubcounters?: boolean;
  readonly packets?: CountTest;
  readonly bytes?: CountTest;
}

/** IPSET_DIM_MAX. */
const MOST_SIDES = 6;

export const takeSides = (words: Words): SetSide[] =>
  words.takeAs(`up to ${MOST_SIDES} of src and dst, with commas between them`, (word) => {
    const parts = word.split(',');
    const sides = parts.filter((part) => part === 'src' || part === 'dst');
    return sides.length === parts.length && sides.length <= MOST_SIDES ? sides : undefined;
  });

export const set: MatchKind<SetMatch> = {
  name: 'set',
  remembers: true,
  print: ({ set, sides, negated, returnNomatch, keepCounters, keepSubcounters, packets, bytes }) =>
    `${negated ? ' !' : ''} --match-set ${set} ${sides.join(',')}${returnNomatch ? ' --return-nomatch' : ''}` +
    `${keepCounters ? ' ! --update-counters' : ''}${keepSubcounters ? ' ! --update-subcounters' : ''}` +
    printCount('packets', packets) +
    printCount('bytes', bytes),
  options: {
    '--return-nomatch': () => ({ returnNomatch: true }),
    '--packets-lt': (words) => ({ packets: takeCount(words, 'lt') }),
    '--packets-gt': (words) => ({ packets: takeCount(words, 'gt') }),
    '--bytes-lt': (words) => ({ bytes: takeCount(words, 'lt') }),
    '--bytes-gt': (words) => ({ bytes: takeCount(words, 'gt') }),
  },
  negatableOptions: {
    '--match-set': (words, negated) => ({
      set: words.take('the name of a set'),
      sides: takeSides(words),
      ...(negated && { negated }),
    }),
    '--update-counters': (_words, negated) => (negated ? { keepCounters: true } : {}),
    '--update-subcounters': (_words, negated) => (negated ? { keepSubcounters: true } : {}),
    '--packets-eq': (words, negated) => ({ packets: { ...takeCount(words, 'eq'), ...(negated && { negated }) } }),
    '--bytes-eq': (words, negated) => ({ bytes: { ...takeCount(words, 'eq'), ...(negated && { negated }) } }),
  },
  complete: ({ set, sides, ...fields }) =>
    set === undefined || sides === undefined ? '--match-set NAME src,dst,…' : { ...fields, match: 'set', set, sides },
  compile: (spec) => {
    const { negated = false } = spec;
    const query = {
      sides: spec.sides,
      returnNomatch: spec.returnNomatch ?? false,
      updatesCounters: !spec.keepCounters,
      updatesSubcounters: !spec.keepSubcounters,
      packets: spec.packets,
      bytes: spec.bytes,
    };
    return (frame, context) => context.sets.named(spec.set).test(frame, query, context) !== negated;
  },
};

const takeCount = (words: Words, is: CountTest['is']): CountTest => ({
  is,
  value: words.takeAs('a count', (word) => readNumber(word, Number.MAX_SAFE_INTEGER)),
});

function printCount(what: 'packets' | 'bytes', test: CountTest | undefined): string {
  return test === undefined ? '' : `${test.negated ? ' !' : ''} --${what}-${test.is} ${test.value}`;
}
