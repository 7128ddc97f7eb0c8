// `-j CONNMARK`: sets the mark of the frame's connection, saves the frame's mark there, or restores it from there. A frame
// without a connection passes as it is. Not modelled: shifts.

import { CONTINUE } from '../action.ts';
import { ALL_BITS, hex, type MarkBits, takeMark } from '../mark-bits.ts';
import { readNumber, type Words } from '../words.ts';
import type { TargetKind } from './target.ts';

export interface ConnmarkTarget {
  readonly target: 'CONNMARK';
  readonly operation: 'set' | 'save' | 'restore';
  /** set: as with MARK, the mask's bits are cleared and the value is xored in. */
  readonly value?: number;
  /** Of the connection's mark; absent: all bits. */
  readonly connectionMask?: number;
  /** save, restore: of the frame's mark; absent: all bits. */
  readonly frameMask?: number;
}

export interface ConnmarkFields extends Partial<ConnmarkTarget> {
  /** `--mask` is for both marks. */
  readonly mask?: number;
}

const setBits = ({ value, mask = ALL_BITS }: MarkBits): ConnmarkFields => ({
  operation: 'set',
  value,
  connectionMask: mask,
});

const takeBits = (words: Words): number => words.takeAs('a number of 32 bits', (word) => readNumber(word, ALL_BITS));

export const connmarkTarget: TargetKind<ConnmarkTarget, ConnmarkFields> = {
  name: 'CONNMARK',
  action: CONTINUE,
  needsConntrack: true,
  print: ({ operation, value = 0, connectionMask = ALL_BITS, frameMask = ALL_BITS }) =>
    operation === 'set'
      ? ` --set-xmark ${hex(value)}/${hex(connectionMask)}`
      : ` --${operation}-mark --nfmask ${hex(frameMask)} --ctmask ${hex(connectionMask)}`,
  options: {
    '--set-xmark': (words) => setBits(takeMark(words)),
    // Unlike --set-xmark, it clears the bits of the value as well.
    '--set-mark': (words) => {
      const { value, mask = ALL_BITS } = takeMark(words);
      return setBits({ value, mask: (value | mask) >>> 0 });
    },
    '--and-mark': (words) => setBits({ value: 0, mask: ~takeBits(words) >>> 0 }),
    '--or-mark': (words) => {
      const bits = takeBits(words);
      return setBits({ value: bits, mask: bits });
    },
    '--xor-mark': (words) => setBits({ value: takeBits(words), mask: 0 }),
    '--save-mark': () => ({ operation: 'save' }),
    '--restore-mark': () => ({ operation: 'restore' }),
    '--ctmask': (words) => ({ connectionMask: takeBits(words) }),
    '--nfmask': (words) => ({ frameMask: takeBits(words) }),
    '--mask': (words) => ({ mask: takeBits(words) }),
  },
  complete: ({ operation, value, mask, ...masks }) => {
    if (operation === undefined) return '--set-xmark, --save-mark or --restore-mark';
    const { connectionMask = mask, frameMask = mask } = masks;
    // --mask excludes the other two; the mask of --set-mark gives way to it.
    if (mask !== undefined && operation !== 'set' && (connectionMask !== mask || frameMask !== mask))
      return '--mask, or --ctmask and --nfmask';
    if (operation === 'set') {
      const setMask = mask ?? connectionMask;
      return {
        target: 'CONNMARK',
        operation,
        ...(value !== undefined && { value }),
        ...(setMask !== undefined && { connectionMask: setMask }),
      };
    }
    return {
      target: 'CONNMARK',
      operation,
      ...(connectionMask !== undefined && { connectionMask }),
      ...(frameMask !== undefined && { frameMask }),
    };
  },
  effect: ({ operation, value = 0, connectionMask = ALL_BITS, frameMask = ALL_BITS }) => {
    switch (operation) {
      case 'set':
        return (frame, { connections }) => {
          if (frame.conntrackEntry === 0) return;
          connections.setMark(frame, (connections.mark(frame) & ~connectionMask) ^ value);
        };
      case 'save':
        return (frame, { connections }) => {
          if (frame.conntrackEntry === 0) return;
          connections.setMark(frame, (connections.mark(frame) & ~connectionMask) ^ (frame.mark & frameMask));
        };
      case 'restore':
        return (frame, { connections }) => {
          if (frame.conntrackEntry === 0) return;
          frame.mark = (frame.mark & ~frameMask) ^ (connections.mark(frame) & connectionMask);
        };
    }
  },
};
