// `-m connmark`: the mark of the frame's connection, set by `-j CONNMARK`. A frame without a connection does not match,
// negated or not.

import { ALL_BITS, hex, type MarkBits, takeMark } from '../mark-bits.ts';
import type { MatchKind } from './match.ts';

export interface ConnmarkMatch extends MarkBits {
  readonly match: 'connmark';
  readonly negated?: boolean;
}

export const connmark: MatchKind<ConnmarkMatch> = {
  name: 'connmark',
  needsConntrack: true,
  print: ({ value, mask = ALL_BITS, negated }) =>
    `${negated ? ' !' : ''} --mark ${hex(value)}${mask >>> 0 === ALL_BITS ? '' : `/${hex(mask)}`}`,
  negatableOptions: { '--mark': (words, negated) => ({ ...takeMark(words), ...(negated && { negated }) }) },
  complete: ({ value, ...fields }) =>
    value === undefined ? '--mark VALUE[/MASK]' : { ...fields, match: 'connmark', value },
  compile: ({ value, mask = ALL_BITS, negated = false }) => {
    const wanted = value | 0;
    const bits = mask | 0;
    return (frame, { connections }) =>
      frame.conntrackEntry !== 0 && ((connections.mark(frame) & bits) === wanted) !== negated;
  },
};
