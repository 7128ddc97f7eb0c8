import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { contains, type Ip, type IpFamily, type Prefix, prefix } from '../packet/ip-address.ts';
import { internIpv6 } from '../packet/ipv6-address.ts';
import { NO_NUMBER, PrefixTable } from './prefix-table.ts';

/** The slow twin. */
class Networks {
  readonly #entries: { network: Prefix; number: number }[] = [];

  set(network: Prefix, number: number): number {
    const known = this.#entries.find(
      (entry) => entry.network.net === network.net && has(entry.network, network.length),
    );
    if (known === undefined) {
      this.#entries.push({ network, number });
      return NO_NUMBER;
    }
    const before = known.number;
    known.number = number;
    return before;
  }

  get(ip: Ip, length: number): number {
    return this.#entries.find(({ network }) => has(network, length) && contains(network, ip))?.number ?? NO_NUMBER;
  }

  get lengths(): number[] {
    return [...new Set(this.#entries.map(({ network }) => network.length))].sort((a, b) => b - a);
  }
}

const has = (network: Prefix, length: number): boolean => network.length === length;

// Few distinct bits, so that networks nest and meet.
const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }).map((bits) => bits & 0x8101_0003);
const ADDRESSES: Readonly<Record<IpFamily, fc.Arbitrary<Ip>>> = {
  4: word.map((bits) => bits as Ip),
  6: fc.tuple(word, word, word, word).map((words) => internIpv6(...words)),
};

describe.each([4, 6] as const)('IPv%i', (family) => {
  const address = ADDRESSES[family];
  const length = fc.integer({ min: 0, max: family === 4 ? 32 : 128 });

  test('the table agrees with a search through all networks', () => {
    const entered = fc.array(fc.tuple(address, length), { maxLength: 60 });
    fc.assert(
      fc.property(entered, fc.array(fc.tuple(address, length)), (networks, asked) => {
        const table = new PrefixTable(family);
        const twin = new Networks();
        for (const [number, [ip, bits]] of networks.entries()) {
          const network = prefix(ip, bits, family);
          expect(table.set(network, number)).toBe(twin.set(network, number));
        }
        expect(table.lengths).toEqual(twin.lengths);
        for (const [ip, bits] of [...networks, ...asked]) expect(table.get(ip, bits)).toBe(twin.get(ip, bits));
      }),
    );
  });

  test('10,000 networks that follow one another are found', () => {
    const table = new PrefixTable(family);
    const net = (i: number): Ip => (family === 4 ? ((i << 8) as Ip) : internIpv6(0xfd00_0000, i << 8, 0, 0));
    const bits = family === 4 ? 24 : 56;
    for (let i = 0; i < 10_000; i++) table.set(prefix(net(i), bits, family), i);
    for (let i = 0; i < 10_000; i += 97) expect(table.get(net(i), bits)).toBe(i);
    expect(table.get(net(10_000), bits)).toBe(NO_NUMBER);
  });
});
