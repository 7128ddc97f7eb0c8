// Addresses with a mask, as rules spell them.

import { addressBits, type IpFamily, type Prefix, prefix } from '../packet/ip-address.ts';
import { ipv6Word } from '../packet/ipv6-address.ts';
import { readIp } from './words.ts';

/** `10.0.0.1`, `10.0.0.0/8` or `10.0.0.0/255.0.0.0`; host bits are cleared. */
export function readPrefix(word: string, family: IpFamily): Prefix | undefined {
  const slash = word.indexOf('/');
  const ip = readIp(completed(slash < 0 ? word : word.slice(0, slash), family), family);
  if (ip === undefined) return undefined;
  const length = slash < 0 ? addressBits(family) : readMaskLength(word.slice(slash + 1), family);
  return length === undefined ? undefined : prefix(ip, length, family);
}

/** `10` and `10.1` mean 10.0.0.0 and 10.1.0.0. */
const completed = (address: string, family: IpFamily): string =>
  family === 4 && /^\d+(\.\d+){0,2}$/.test(address)
    ? [...address.split('.'), '0', '0', '0'].slice(0, 4).join('.')
    : address;

/** The length of a mask: `8` or `255.0.0.0`. Undefined for one that is no prefix. */
export function readMaskLength(text: string, family: IpFamily): number | undefined {
  if (/^\d{1,3}$/.test(text)) return Number(text) <= addressBits(family) ? Number(text) : undefined;
  const mask = readIp(text, family);
  if (mask === undefined) return undefined;
  const words = family === 4 ? [mask] : ([0, 1, 2, 3] as const).map((word) => ipv6Word(mask, word));
  const firstPartial = words.findIndex((word) => word !== -1);
  if (firstPartial < 0) return 32 * words.length;
  const ones = Math.clz32(~words[firstPartial]!);
  const isPrefix = words.every((word, i) => i < firstPartial || word === (i === firstPartial ? leadingOnes(ones) : 0));
  return isPrefix ? 32 * firstPartial + ones : undefined;
}

const leadingOnes = (count: number): number => (count === 0 ? 0 : -1 << (32 - count));
