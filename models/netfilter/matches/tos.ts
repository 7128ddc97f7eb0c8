// `-m tos` and `-m dscp`: the type of service of the packet.

import {
  ALL_TOS_BITS,
  hexByte,
  printTos,
  type TosBits,
  takeCodePoint,
  takeCodePointClass,
  takeTos,
} from '../type-of-service.ts';
import type { MatchKind } from './match.ts';

export interface TosMatch extends TosBits {
  readonly match: 'tos';
  readonly negated?: boolean;
}

export interface DscpMatch {
  readonly match: 'dscp';
  readonly codePoint: number;
  readonly negated?: boolean;
}

export const tos: MatchKind<TosMatch> = {
  name: 'tos',
  print: (spec) => `${spec.negated ? ' !' : ''} --tos ${printTos(spec)}`,
  negatableOptions: { '--tos': (words, negated) => ({ ...takeTos(words), ...(negated && { negated }) }) },
  complete: ({ value, ...fields }) => (value === undefined ? '--tos VALUE' : { ...fields, match: 'tos', value }),
  compile: ({ value, mask = ALL_TOS_BITS, negated = false }) => {
    return ({ typeOfService }) => ((typeOfService & mask) === value) !== negated;
  },
};

export const dscp: MatchKind<DscpMatch> = {
  name: 'dscp',
  print: ({ codePoint, negated }) => `${negated ? ' !' : ''} --dscp ${hexByte(codePoint)}`,
  negatableOptions: {
    '--dscp': (words, negated) => ({ codePoint: takeCodePoint(words), ...(negated && { negated }) }),
    '--dscp-class': (words, negated) => ({ codePoint: takeCodePointClass(words), ...(negated && { negated }) }),
  },
  complete: ({ codePoint, ...fields }) =>
    codePoint === undefined ? '--dscp VALUE' : { ...fields, match: 'dscp', codePoint },
  compile: ({ codePoint, negated = false }) => {
    return ({ typeOfService }) => (typeOfService >> 2 === codePoint) !== negated;
  },
};
