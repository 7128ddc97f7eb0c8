import { describe, expect, test } from 'vitest';
import { formatIp, parseAddress } from '../packet/ip-address.ts';
import { addressFrom, isInRange } from './nat-address.ts';

interface Choice {
  readonly client: string;
  readonly server: string;
  readonly range: readonly [first: string, last: string];
  readonly persistent?: boolean;
  readonly isDestination?: boolean;
}

function chosen({ client, server, range: [first, last], persistent = false, isDestination = true }: Choice): string {
  const { family, ip: minIp } = parseAddress(first);
  const range = { family, minIp, maxIp: parseAddress(last).ip };
  const choice = {
    srcIp: parseAddress(client).ip,
    dstIp: parseAddress(server).ip,
    zoneId: 0,
    persistent,
    isDestination,
  };
  const ip = addressFrom(range, choice);
  expect(isInRange(ip, range)).toBe(true);
  return formatIp(ip, family);
}

describe('one address of a range, as Linux 6.18 has chosen', () => {
  test('by source and destination', () => {
    const range = ['10.2.0.10', '10.2.0.14'] as const;
    const serverOf = (host: number) => chosen({ client: `10.1.0.${host}`, server: '10.9.0.1', range });
    const answers = [11, 14, 12, 10, 12, 12, 13, 13].map((host) => `10.2.0.${host}`);
    expect([2, 3, 4, 5, 6, 7, 8, 9].map(serverOf)).toEqual(answers);
  });

  test('by the source alone, with --persistent', () => {
    const range = ['10.2.0.10', '10.2.1.99'] as const;
    const serverOf = (host: number) =>
      chosen({ client: `10.1.0.${host}`, server: '10.9.0.2', range, persistent: true });
    expect([2, 3, 4, 5].map(serverOf)).toEqual(['10.2.0.55', '10.2.1.34', '10.2.1.53', '10.2.0.199']);
  });

  test('in IPv6, with a range that ends in the seventh part', () => {
    const range = ['fd02::10', 'fd02::1:20'] as const;
    const serverOf = (host: number) => chosen({ client: `fd01::${host}`, server: 'fd09::1', range });
    expect([2, 3, 4].map(serverOf)).toEqual(['fd02::9486', 'fd02::e363', 'fd02::3e4']);
  });

  test('a new destination comes into the hash word by word', () => {
    const range = ['fd00:10:244:1::2', 'fd00:10:244:1::3'] as const;
    expect(chosen({ client: 'fd00:10:244:2::2', server: 'fd00:192:168:1::1', range })).toBe('fd00:10:244:1::3');
  });

  test('in IPv6, with a range over two words: below the last upper word, the lower one is free', () => {
    const range = ['fd02::10', 'fd02::5:0:0:2'] as const;
    const sourceOf = (host: number) =>
      chosen({ client: `fd01::${host}`, server: 'fd02::abcd', range, isDestination: false });
    expect([2, 3, 7].map(sourceOf)).toEqual([
      'fd02::3:cdde:c2c5:fbc9',
      'fd02::4:f39:cfd8:13cb',
      'fd02::1:387:33e7:c45b',
    ]);
  });
});
