// The interned 128-bit values behind IPv6 addresses. One store per process: a handle is only ever compared with other
// handles, and never printed, ordered or hashed into results, because its number depends on what was interned before.
// What must be the same in every run uses the words.

import type { Ip } from './ip-address.ts';

/** Four 32-bit words (signed) of each address, in network order; handle 0 is `::`. */
let words = new Int32Array(4 * 256);
let count = 1;
const handles = new Map<string, number>([['0,0,0,0', 0]]);

/** The handle of the address with these words. */
export function internIpv6(w0: number, w1: number, w2: number, w3: number): Ip {
  const key = `${w0 | 0},${w1 | 0},${w2 | 0},${w3 | 0}`;
  const known = handles.get(key);
  if (known !== undefined) return known as Ip;
  if (count * 4 === words.length) {
    const grown = new Int32Array(words.length * 2);
    grown.set(words);
    words = grown;
  }
  words.set([w0, w1, w2, w3], count * 4);
  handles.set(key, count);
  return count++ as Ip;
}

/** Word 0 to 3 of the address, from the left, as a signed int32. */
export const ipv6Word = (ip: Ip, word: 0 | 1 | 2 | 3): number => words[ip * 4 + word]!;

/** The same in every run, unlike the handle: for flow hashes and choices that depend on an address. */
export const hashIpv6 = (ip: Ip): number =>
  words[ip * 4]! ^ words[ip * 4 + 1]! ^ words[ip * 4 + 2]! ^ words[ip * 4 + 3]!;

/** The mask of `length` bits, word by word. */
const maskWord = (length: number, word: number): number => {
  const bits = Math.min(32, Math.max(0, length - 32 * word));
  return bits === 0 ? 0 : -1 << (32 - bits);
};

/** The address without the bits after the first `length`. */
export const maskIpv6 = (ip: Ip, length: number): Ip =>
  internIpv6(
    ipv6Word(ip, 0) & maskWord(length, 0),
    ipv6Word(ip, 1) & maskWord(length, 1),
    ipv6Word(ip, 2) & maskWord(length, 2),
    ipv6Word(ip, 3) & maskWord(length, 3),
  );

/** The first `length` bits of one address, and the bits of another after them. */
export function joinIpv6(net: Ip, host: Ip, length: number): Ip {
  const join = (word: 0 | 1 | 2 | 3): number => {
    const mask = maskWord(length, word);
    return (ipv6Word(net, word) & mask) | (ipv6Word(host, word) & ~mask);
  };
  return internIpv6(join(0), join(1), join(2), join(3));
}

/** The bits that both have. */
export const andIpv6 = (a: Ip, b: Ip): Ip =>
  internIpv6(
    ipv6Word(a, 0) & ipv6Word(b, 0),
    ipv6Word(a, 1) & ipv6Word(b, 1),
    ipv6Word(a, 2) & ipv6Word(b, 2),
    ipv6Word(a, 3) & ipv6Word(b, 3),
  );

/** Do the first `length` bits of both agree? */
export function ipv6SharesPrefix(a: Ip, b: Ip, length: number): boolean {
  for (let word = 0; word * 32 < length; word++) {
    if (((words[a * 4 + word]! ^ words[b * 4 + word]!) & maskWord(length, word)) !== 0) return false;
  }
  return true;
}

/** Of the first `length` bits, the same in every run. */
export function hashIpv6Prefix(ip: Ip, length: number): number {
  let hash = 0;
  for (let word = 0; word * 32 < length; word++) {
    hash = Math.imul(hash ^ (words[ip * 4 + word]! & maskWord(length, word)), 0x9e3779b1);
    hash ^= hash >>> 15;
  }
  return hash;
}

/** The bits from one on and before another, as a number: 53 of them at most. */
export function ipv6Bits(ip: Ip, first: number, end: number): number {
  let bits = 0;
  for (let bit = first; bit < end; bit++) bits = 2 * bits + ((words[ip * 4 + (bit >> 5)]! >>> (31 - (bit & 31))) & 1);
  return bits;
}

/** How many of the first bits of both agree: 0 to 128. */
export function commonIpv6Bits(a: Ip, b: Ip): number {
  for (let word = 0; word < 4; word++) {
    const difference = words[a * 4 + word]! ^ words[b * 4 + word]!;
    if (difference !== 0) return word * 32 + Math.clz32(difference);
  }
  return 128;
}

/** Ascending from `::`: as numbers of 128 bits. */
export function compareIpv6(a: Ip, b: Ip): number {
  for (let word = 0; word < 4; word++) {
    const difference = (words[a * 4 + word]! >>> 0) - (words[b * 4 + word]! >>> 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The address `offset` after this one; wraps at the end of all addresses. */
export function addToIpv6(ip: Ip, offset: number): Ip {
  const sum = BigInt.asUintN(128, wholeIpv6(ip) + BigInt(offset));
  const word = (shift: bigint): number => Number((sum >> shift) & 0xffff_ffffn);
  return internIpv6(word(96n), word(64n), word(32n), word(0n));
}

const wholeIpv6 = (ip: Ip): bigint =>
  ([0, 1, 2, 3] as const).reduce((whole, word) => (whole << 32n) | BigInt(ipv6Word(ip, word) >>> 0), 0n);
