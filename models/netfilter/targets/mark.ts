// `-j MARK`: clears the bits of a mask in the frame's mark, then flips the bits of a value. All other spellings
// (`--set-mark`, `--or-mark`, `--and-mark`, `--xor-mark`) are this one, and iptables-save prints it.

import { CONTINUE } from '../action.ts';
import { ALL_BITS, hex, type MarkBits, takeMark } from '../mark-bits.ts';
import type { Words } from '../words.ts';
import type { TargetKind } from './target.ts';

export interface MarkTarget extends MarkBits {
  readonly target: 'MARK';
}

export const setMark = (value: number): MarkTarget => ({ target: 'MARK', value });
export const orMark = (bits: number): MarkTarget => ({ target: 'MARK', value: bits, mask: bits });
export const andMark = (bits: number): MarkTarget => ({ target: 'MARK', value: 0, mask: ~bits >>> 0 });
export const xorMark = (bits: number): MarkTarget => ({ target: 'MARK', value: bits, mask: 0 });

const takeBits = (words: Words): number => words.takeInteger({ first: 0, last: ALL_BITS });

export const markTarget: TargetKind<MarkTarget> = {
  name: 'MARK',
  action: CONTINUE,
  print: ({ value, mask = ALL_BITS }) => ` --set-xmark ${hex(value)}/${hex(mask)}`,
  options: {
    '--set-xmark': (words) => takeMark(words),
    // Unlike --set-xmark, it clears the bits of the value as well.
    '--set-mark': (words) => {
      const { value, mask = ALL_BITS } = takeMark(words);
      return { value, mask: (value | mask) >>> 0 };
    },
    '--or-mark': (words) => orMark(takeBits(words)),
    '--and-mark': (words) => andMark(takeBits(words)),
    '--xor-mark': (words) => xorMark(takeBits(words)),
  },
  complete: ({ value, ...fields }) =>
    value === undefined ? '--set-xmark VALUE/MASK' : { ...fields, target: 'MARK', value },
  effect: ({ value, mask = ALL_BITS }) => {
    const kept = ~mask;
    return (frame) => {
      frame.mark = (frame.mark & kept) ^ value;
    };
  },
};
