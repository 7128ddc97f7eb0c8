// Numbers by network: which entry of a list is for an address. Open addressing over words, each length a network may have
// looked up by itself, because few of them occur. Its slow twin, a search through all networks, stands in the test.

import { type Ip, type IpFamily, maskOf, type Prefix } from '../packet/ip-address.ts';
import { hashIpv6Prefix, ipv6SharesPrefix } from '../packet/ipv6-address.ts';

// A record: the network's hash, the network, its length plus one (0: free), and the number.
const HASH = 0;
const NET = 1;
const LENGTH = 2;
const NUMBER = 3;
const WORDS_PER_RECORD = 4;
const FIRST_CAPACITY = 16;

/** No network of that length. */
export const NO_NUMBER = -1;

export class PrefixTable {
  /** Those that occur, the longest first. */
  lengths: readonly number[] = [];
  readonly #family: IpFamily;
  #words = new Int32Array(FIRST_CAPACITY * WORDS_PER_RECORD);
  #mask = FIRST_CAPACITY - 1;
  #count = 0;

  constructor(family: IpFamily) {
    this.#family = family;
  }

  /** Enters a number, not below 0; returns the one that it replaces, or NO_NUMBER. */
  set({ net, length }: Prefix, number: number): number {
    const hash = this.#hashOf(net, length);
    let at = this.#find(net, length, hash);
    const before = this.#words[at + LENGTH] === 0 ? NO_NUMBER : this.#words[at + NUMBER]!;
    if (before === NO_NUMBER) {
      if (!this.lengths.includes(length)) this.lengths = [...this.lengths, length].sort((a, b) => b - a);
      if (++this.#count * 2 > this.#mask) {
        this.#grow();
        at = this.#find(net, length, hash);
      }
      this.#words[at + HASH] = hash;
      this.#words[at + NET] = net;
      this.#words[at + LENGTH] = length + 1;
    }
    this.#words[at + NUMBER] = number;
    return before;
  }

  /** That of the network of this length in which the address is. */
  get(ip: Ip, length: number): number {
    const at = this.#find(ip, length, this.#hashOf(ip, length));
    return this.#words[at + LENGTH] === 0 ? NO_NUMBER : this.#words[at + NUMBER]!;
  }

  /** Where the network's record is, or the free one where it belongs. */
  #find(ip: Ip, length: number, hash: number): number {
    const words = this.#words;
    for (let record = hash & this.#mask; ; record = (record + 1) & this.#mask) {
      const at = record * WORDS_PER_RECORD;
      if (words[at + LENGTH] === 0) return at;
      if (words[at + HASH] !== hash || words[at + LENGTH] !== length + 1) continue;
      const net = words[at + NET]! as Ip;
      if (this.#family === 4 ? ((ip ^ net) & maskOf(length)) === 0 : ipv6SharesPrefix(ip, net, length)) return at;
    }
  }

  #hashOf(ip: Ip, length: number): number {
    const bits = this.#family === 4 ? ip & maskOf(length) : hashIpv6Prefix(ip, length);
    const product = Math.imul(bits ^ length, 0x9e3779b1);
    // Networks differ in their upper bits, which are in the upper ones of the product alone.
    return product ^ (product >>> 15);
  }

  #grow(): void {
    const before = this.#words;
    this.#words = new Int32Array(before.length * 2);
    this.#mask = this.#words.length / WORDS_PER_RECORD - 1;
    for (let from = 0; from < before.length; from += WORDS_PER_RECORD) {
      if (before[from + LENGTH] === 0) continue;
      const at = this.#find(before[from + NET]! as Ip, before[from + LENGTH]! - 1, before[from + HASH]!);
      this.#words.set(before.subarray(from, from + WORDS_PER_RECORD), at);
    }
  }
}
