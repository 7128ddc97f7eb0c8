// `-j TOS` and `-j DSCP`: set the packet's type of service.

import { CONTINUE } from '../action.ts';
import {
  ALL_TOS_BITS,
  hexByte,
  printTos,
  type TosBits,
  takeCodePoint,
  takeCodePointClass,
  takeTos,
  takeTosByte,
} from '../type-of-service.ts';
import type { TargetKind } from './target.ts';

/** Clears the bits of the mask, then xors with the value. */
export interface TosTarget extends TosBits {
  readonly target: 'TOS';
}

export interface DscpTarget {
  readonly target: 'DSCP';
  readonly codePoint: number;
}

export const tosTarget: TargetKind<TosTarget> = {
  name: 'TOS',
  action: CONTINUE,
  tables: ['mangle'],
  print: (spec) => ` --set-tos ${printTos(spec)}`,
  options: {
    '--set-tos': (words) => takeTos(words),
    '--and-tos': (words) => ({ value: 0, mask: ~takeTosByte(words) & ALL_TOS_BITS }),
    '--or-tos': (words) => {
      const bits = takeTosByte(words);
      return { value: bits, mask: bits };
    },
    '--xor-tos': (words) => ({ value: takeTosByte(words), mask: 0 }),
  },
  complete: ({ value, ...fields }) => (value === undefined ? '--set-tos VALUE' : { ...fields, target: 'TOS', value }),
  effect: ({ value, mask = ALL_TOS_BITS }) => {
    return (frame) => {
      frame.typeOfService = (frame.typeOfService & ~mask & ALL_TOS_BITS) ^ value;
    };
  },
};

/** The two lowest bits are not part of the code point. */
const CONGESTION_BITS = 0x03;

export const dscpTarget: TargetKind<DscpTarget> = {
  name: 'DSCP',
  action: CONTINUE,
  tables: ['mangle'],
  print: ({ codePoint }) => ` --set-dscp ${hexByte(codePoint)}`,
  options: {
    '--set-dscp': (words) => ({ codePoint: takeCodePoint(words) }),
    '--set-dscp-class': (words) => ({ codePoint: takeCodePointClass(words) }),
  },
  complete: ({ codePoint }) => (codePoint === undefined ? '--set-dscp VALUE' : { target: 'DSCP', codePoint }),
  effect: ({ codePoint }) => {
    return (frame) => {
      frame.typeOfService = (frame.typeOfService & CONGESTION_BITS) | (codePoint << 2);
    };
  },
};
