// Marks as text: hexadecimal, with a mask unless it covers all 32 bits. In specs a mark is unsigned or signed as its maker
// likes; only its 32 bits count.

import { readNumber, type Words } from './words.ts';

export interface MarkBits {
  readonly value: number;
  /** Absent: all 32 bits. */
  readonly mask?: number;
}

export const ALL_BITS = 0xffff_ffff;

export const hex = (bits: number): string => `0x${(bits >>> 0).toString(16)}`;

/** Reads `0x4000/0x4000`, or a value alone; decimal is accepted too. */
export function takeMark(words: Words): MarkBits {
  return words.takeAs('a mark VALUE or VALUE/MASK of 32 bits', (word) => {
    const [, valueText = '', maskText] = /^([^/]+)(?:\/([^/]+))?$/.exec(word) ?? [];
    const value = readBits(valueText);
    const mask = maskText === undefined ? ALL_BITS : readBits(maskText);
    if (value === undefined || mask === undefined) return undefined;
    return mask === ALL_BITS ? { value } : { value, mask };
  });
}

const readBits = (text: string): number | undefined => readNumber(text, ALL_BITS);
