// `-m length`: bytes of the IP packet, headers included.

import { ETHERNET_HEADER_BYTES } from '../../packet/frame.ts';
import { readNumber } from '../words.ts';
import type { MatchKind } from './match.ts';

export interface LengthMatch {
  readonly match: 'length';
  readonly firstBytes: number;
  /** Absent: equal to `firstBytes`. Before it: no packet matches. */
  readonly lastBytes?: number;
  readonly negated?: boolean;
}

const MOST_BYTES = 65_535;

export const length: MatchKind<LengthMatch> = {
  name: 'length',
  print: ({ firstBytes, lastBytes = firstBytes, negated }) =>
    `${negated ? ' !' : ''} --length ${firstBytes}${lastBytes === firstBytes ? '' : `:${lastBytes}`}`,
  negatableOptions: {
    '--length': (words, negated) => ({
      ...words.takeAs(`bytes, or FIRST:LAST, up to ${MOST_BYTES}`, readRange),
      ...(negated && { negated }),
    }),
  },
  complete: ({ firstBytes, ...fields }) =>
    firstBytes === undefined ? '--length BYTES' : { ...fields, match: 'length', firstBytes },
  compile: ({ firstBytes, lastBytes = firstBytes, negated = false }) => {
    return ({ sizeBytes }) => {
      const bytes = sizeBytes - ETHERNET_HEADER_BYTES;
      return (bytes >= firstBytes && bytes <= lastBytes) !== negated;
    };
  },
};

function readRange(word: string): Partial<LengthMatch> | undefined {
  const [firstText = '', lastText, ...rest] = word.split(':');
  if (rest.length > 0) return undefined;
  const firstBytes = firstText === '' && lastText !== undefined ? 0 : readNumber(firstText, MOST_BYTES);
  if (firstBytes === undefined) return undefined;
  if (lastText === undefined) return { firstBytes };
  const lastBytes = lastText === '' ? MOST_BYTES : readNumber(lastText, MOST_BYTES);
  if (lastBytes === undefined) return undefined;
  return lastBytes === firstBytes ? { firstBytes } : { firstBytes, lastBytes };
}
