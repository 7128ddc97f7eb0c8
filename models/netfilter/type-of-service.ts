// The byte of type of service (traffic class in IPv6) as rules spell it: as a whole with a mask, or its upper six bits, the
// differentiated services code point.

import { readNumber, type Words } from './words.ts';

export interface TosBits {
  readonly value: number;
  /** Absent: all eight bits. */
  readonly mask?: number;
}

export const ALL_TOS_BITS = 0xff;

/** Names of RFC 1349; they leave the upper two bits alone. */
const TOS_NAMES: ReadonlyMap<string, number> = new Map([
  ['minimize-delay', 0x10],
  ['maximize-throughput', 0x08],
  ['maximize-reliability', 0x04],
  ['minimize-cost', 0x02],
  ['normal-service', 0x00],
]);
const NAMED_BITS = 0x3f;

/** `0x10`, `0x10/0x3f` or `Minimize-Delay`. */
export const takeTos = (words: Words): TosBits =>
  words.takeAs('a type of service: VALUE, VALUE/MASK, each up to 255, or a name such as Minimize-Delay', (word) => {
    const named = TOS_NAMES.get(word.toLowerCase());
    if (named !== undefined) return { value: named, mask: NAMED_BITS };
    const [valueText = '', maskText, ...rest] = word.split('/');
    const value = readNumber(valueText, ALL_TOS_BITS);
    const mask = maskText === undefined ? ALL_TOS_BITS : readNumber(maskText, ALL_TOS_BITS);
    if (value === undefined || mask === undefined || rest.length > 0) return undefined;
    return mask === ALL_TOS_BITS ? { value } : { value, mask };
  });

export const takeTosByte = (words: Words): number => words.takeInteger({ first: 0, last: ALL_TOS_BITS });

export const hexByte = (value: number): string => `0x${value.toString(16).padStart(2, '0')}`;

export const printTos = ({ value, mask = ALL_TOS_BITS }: TosBits): string => `${hexByte(value)}/${hexByte(mask)}`;

const LAST_CODE_POINT = 63;

/** RFC 2474, 2597, 3246: classes by name. */
const CODE_POINTS: ReadonlyMap<string, number> = new Map([
  ...Array.from({ length: 8 }, (_, i): [string, number] => [`CS${i}`, 8 * i]),
  ['BE', 0],
  ...[1, 2, 3, 4].flatMap((i) => [1, 2, 3].map((j): [string, number] => [`AF${i}${j}`, 8 * i + 2 * j])),
  ['EF', 46],
]);

export const takeCodePoint = (words: Words): number => words.takeInteger({ first: 0, last: LAST_CODE_POINT });

export const takeCodePointClass = (words: Words): number =>
  words.takeAs('a class: BE, EF, CS0 to CS7, AF11 to AF43', (word) => CODE_POINTS.get(word.toUpperCase()));
