// Bob Jenkins' lookup3 hash of 32-bit words, as the kernel uses it (include/linux/jhash.h, jhash2): NAT picks addresses
// by it, without a secret, so that the choice of the real kernel is known. Words are as a little-endian machine reads them
// from memory: those of addresses have their bytes swapped (swapBytes).

/** Hash of words given one after another, as an unsigned number; `seed` is the kernel's initval. */
export function jhash2(words: readonly number[], seed: number): number {
  let a = (INITIAL + (words.length << 2) + seed) | 0;
  let b = a;
  let c = a;
  let at = 0;
  for (; words.length - at > 3; at += 3) {
    a = (a + words[at]!) | 0;
    b = (b + words[at + 1]!) | 0;
    c = (c + words[at + 2]!) | 0;
    a = ((a - c) ^ rotate(c, 4)) | 0;
    c = (c + b) | 0;
    b = ((b - a) ^ rotate(a, 6)) | 0;
    a = (a + c) | 0;
    c = ((c - b) ^ rotate(b, 8)) | 0;
    b = (b + a) | 0;
    a = ((a - c) ^ rotate(c, 16)) | 0;
    c = (c + b) | 0;
    b = ((b - a) ^ rotate(a, 19)) | 0;
    a = (a + c) | 0;
    c = ((c - b) ^ rotate(b, 4)) | 0;
    b = (b + a) | 0;
  }
  if (at === words.length) return c >>> 0;
  a = (a + words[at]!) | 0;
  b = (b + (words[at + 1] ?? 0)) | 0;
  c = (c + (words[at + 2] ?? 0)) | 0;
  c = ((c ^ b) - rotate(b, 14)) | 0;
  a = ((a ^ c) - rotate(c, 11)) | 0;
  b = ((b ^ a) - rotate(a, 25)) | 0;
  c = ((c ^ b) - rotate(b, 16)) | 0;
  a = ((a ^ c) - rotate(c, 4)) | 0;
  b = ((b ^ a) - rotate(a, 14)) | 0;
  c = ((c ^ b) - rotate(b, 24)) | 0;
  return c >>> 0;
}

/** A word of network order as a little-endian machine reads it. */
export const swapBytes = (word: number): number =>
  (word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);

/** JHASH_INITVAL */
const INITIAL = 0xdeadbeef;

const rotate = (word: number, bits: number): number => (word << bits) | (word >>> (32 - bits));
