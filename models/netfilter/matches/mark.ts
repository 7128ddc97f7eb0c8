// `-m mark`: the frame's mark, set by `-j MARK` earlier on its way through this namespace.

import { ALL_BITS, hex, type MarkBits, takeMark } from '../mark-bits.ts';
import type { MatchKind } from './match.ts';

export interface MarkMatch extends MarkBits {
  readonly match: 'mark';
  readonly negated?: boolean;
}

export const mark: MatchKind<MarkMatch> = {
  name: 'mark',
  isOfFlow: () => true,
  print: ({ value, mask = ALL_BITS, negated }) =>
    `${negated ? ' !' : ''} --mark ${hex(value)}${mask >>> 0 === ALL_BITS ? '' : `/${hex(mask)}`}`,
  negatableOptions: { '--mark': (words, negated) => ({ ...takeMark(words), ...(negated && { negated }) }) },
  complete: ({ value, ...fields }) =>
    value === undefined ? '--mark VALUE[/MASK]' : { ...fields, match: 'mark', value },
  compile: ({ value, mask = ALL_BITS, negated = false }, selector) => {
    const wanted = value | 0;
    const bits = mask | 0;
    const isTaken = selector.markMask !== 0 || selector.markValue !== 0;
    if (negated || isTaken) return (frame) => ((frame.mark & bits) === wanted) !== negated;
    selector.markMask = bits;
    selector.markValue = wanted;
    return undefined;
  },
};
