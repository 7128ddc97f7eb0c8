import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  ALL_NODES_IPV6,
  ANY_IP,
  ANY_PREFIX,
  addressAt,
  addressCount,
  broadcastOf,
  contains,
  formatIp,
  formatPrefix,
  formatSocketAddress,
  type Ip,
  isIpv4,
  isIpv6,
  isIpv6LinkLocal,
  isIpv6Multicast,
  isLoopback,
  isMulticast,
  LIMITED_BROADCAST_IP,
  LOOPBACK_IP,
  LOOPBACK_IPV6,
  linkLocalOf,
  multicastMacOf,
  overlaps,
  parseAddress,
  parseAnyPrefix,
  parseIp,
  parseIpv6,
  parseIpv6Prefix,
  parsePrefix,
  prefix,
  readIpv4,
  solicitedNodeGroup,
  withNetwork,
} from './ip-address.ts';
import { commonIpv6Bits, hashIpv6Prefix, internIpv6, ipv6SharesPrefix, maskIpv6 } from './ipv6-address.ts';
import { formatMac, parseMac } from './mac.ts';

describe('an IP address', () => {
  test('is a signed int32: addresses from 128.0.0.0 up are negative', () => {
    expect(parseIp('10.96.0.10')).toBe(0x0a60000a);
    expect(parseIp('127.0.0.1')).toBe(LOOPBACK_IP);
    expect(parseIp('128.0.0.0')).toBe(-(2 ** 31));
    expect(parseIp('255.255.255.255')).toBe(LIMITED_BROADCAST_IP);
  });

  test('is read as it is printed', () => {
    fc.assert(fc.property(anyIp, (ip) => parseIp(formatIp(ip)) === ip));
  });

  test.each(['10.96.0', '10.96.0.256', '010.0.0.1', '0x0a.0.0.1', '10.96.0.10 ', 'fd00::1', ''])(
    'is not "%s"',
    (text) => {
      expect(() => parseIp(text)).toThrow(`IP address "${text}"; expected four decimal parts`);
    },
  );

  test('has a family', () => {
    expect([isIpv4('10.96.0.10'), isIpv4('fd00::1'), isIpv6('fd00::1'), isIpv6('10.96.0.10')]).toEqual([
      true,
      false,
      true,
      false,
    ]);
  });

  test('of 224.0.0.0/4 is multicast, of 127.0.0.0/8 is loopback', () => {
    fc.assert(fc.property(anyIp, (ip) => isMulticast(ip) === contains(parsePrefix('224.0.0.0/4'), ip)));
    fc.assert(fc.property(anyIp, (ip) => isLoopback(ip) === contains(parsePrefix('127.0.0.0/8'), ip)));
  });
});

describe('a prefix', () => {
  test('has no bits outside its mask, and prints so', () => {
    expect(formatPrefix(parsePrefix('10.244.1.7/24'))).toBe('10.244.1.0/24');
    expect(formatPrefix(parsePrefix('192.168.7.9/0'))).toBe('0.0.0.0/0');
    expect(formatPrefix(parsePrefix('203.0.113.7'))).toBe('203.0.113.7/32');
    expect(parsePrefix('0.0.0.0/0')).toEqual(ANY_PREFIX);
  });

  test.each(['10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', '10.0.0.0/-1', '10.0.0.0/8.5'])('is not "%s"', (text) => {
    expect(() => parsePrefix(text)).toThrow(`prefix "${text}"; expected ADDRESS/LENGTH with a length of 0 to 32`);
  });

  test.each([33, -1, Number.NaN])('has no length %d', (length) => {
    expect(() => prefix(LOOPBACK_IP, length)).toThrow(`prefix length ${length} of 127.0.0.1; expected 0 to 32`);
  });

  test('contains exactly the addresses that share its leading bits', () => {
    fc.assert(
      fc.property(anyIp, anyIp, anyLength, (net, ip, length) => {
        const sharesBits = bits(net).slice(0, length) === bits(ip).slice(0, length);
        return contains(prefix(net, length), ip) === sharesBits;
      }),
    );
  });

  test('contains its first and last address, and not their neighbors', () => {
    const pods = parsePrefix('10.244.1.0/24');
    expect(addressCount(pods)).toBe(256);
    expect(formatIp(addressAt(pods, 1))).toBe('10.244.1.1');
    expect(formatIp(broadcastOf(pods))).toBe('10.244.1.255');
    expect(contains(pods, addressAt(pods, 255))).toBe(true);
    expect(contains(pods, addressAt(pods, 256))).toBe(false);
    expect(contains(pods, addressAt(pods, -1))).toBe(false);
    expect(addressCount(ANY_PREFIX)).toBe(2 ** 32);
  });

  test('overlaps another when one contains the other', () => {
    fc.assert(
      fc.property(anyIp, anyLength, anyIp, anyLength, (ipA, lengthA, ipB, lengthB) => {
        const a = prefix(ipA, lengthA);
        const b = prefix(ipB, lengthB);
        return overlaps(a, b) === (contains(a, b.net) || contains(b, a.net));
      }),
    );
  });
});

const anyIp = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }).map((value) => value as Ip);
const anyLength = fc.integer({ min: 0, max: 32 });
const bits = (ip: Ip): string => (ip >>> 0).toString(2).padStart(32, '0');

describe('an IPv6 address', () => {
  const anyWord = fc.oneof(fc.constant(0), fc.integer());
  const anyWords = fc.tuple(anyWord, anyWord, anyWord, anyWord);

  test.each([
    ['fd00:0:0:0:0:0:0:5', 'fd00::5'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['::1', '::1'],
    ['2001:DB8:0:1:0:0:0:1', '2001:db8:0:1::1'],
    ['fe80::1:0:0:1', 'fe80::1:0:0:1'],
  ])('%s is printed as %s', (text, canonical) => {
    expect(formatIp(parseIpv6(text), 6)).toBe(canonical);
  });

  test('is one handle, however it is written, and is read as it is printed', () => {
    expect(parseIpv6('fd00::5')).toBe(parseIpv6('FD00:0::0:5'));
    expect([parseIpv6('::'), parseIpv6('::1')]).toEqual([ANY_IP, LOOPBACK_IPV6]);
    fc.assert(fc.property(anyWords, (words) => parseIpv6(formatIp(internIpv6(...words), 6)) === internIpv6(...words)));
  });

  test.each(['fd00::1::2', 'fd00:1', '10.0.0.1', 'fe80::1%eth0', ''])('is not "%s"', (text) => {
    expect(() => parseIpv6(text)).toThrow(`IPv6 address "${text}"`);
  });

  test('says its family where the text decides', () => {
    expect(parseAddress('10.0.0.1')).toEqual({ family: 4, ip: parseIp('10.0.0.1') });
    expect(parseAddress('fd00::1')).toEqual({ family: 6, ip: parseIpv6('fd00::1') });
    expect(formatSocketAddress(parseIpv6('fd00::1'), 80, 6)).toBe('[fd00::1]:80');
  });

  test('is in the prefixes that share its first bits', () => {
    const inBits = (a: readonly number[], b: readonly number[], length: number): boolean => {
      const bits = (words: readonly number[]) => words.map((w) => (w >>> 0).toString(2).padStart(32, '0')).join('');
      return bits(a).slice(0, length) === bits(b).slice(0, length);
    };
    fc.assert(
      fc.property(anyWords, anyWords, fc.integer({ min: 0, max: 128 }), (a, b, length) => {
        const mixed = a.map((word, i) => (i < length / 32 - 1 ? word : b[i]!)) as [number, number, number, number];
        expect(contains(prefix(internIpv6(...a), length, 6), internIpv6(...mixed))).toBe(inBits(a, mixed, length));
      }),
    );
  });

  test('counts on within its prefix', () => {
    const range = parseIpv6Prefix('fd00:10:244:1::/64');
    expect(formatPrefix(range)).toBe('fd00:10:244:1::/64');
    expect(formatIp(addressAt(range, 2 ** 32 + 5), 6)).toBe('fd00:10:244:1:0:1:0:5');
    expect(formatIp(addressAt(parseIpv6Prefix('fd00:10:244::/48'), 255 * 2 ** 64), 6)).toBe('fd00:10:244:ff::');
    expect(formatIp(addressAt(range, -1), 6)).toBe('fd00:10:244:0:ffff:ffff:ffff:ffff');
    expect(overlaps(range, parseIpv6Prefix('fd00:10:244::/48'))).toBe(true);
    expect(overlaps(range, parseIpv6Prefix('fd00:10:245::/48'))).toBe(false);
    expect(parseAnyPrefix('fd00::1/56').family).toBe(6);
  });

  test('of ff00::/8 is multicast, of fe80::/10 link-local', () => {
    expect([isIpv6Multicast(parseIpv6('ff02::1')), isIpv6Multicast(parseIpv6('fe80::1'))]).toEqual([true, false]);
    expect([isIpv6LinkLocal(parseIpv6('fe80::1')), isIpv6LinkLocal(parseIpv6('febf::1'))]).toEqual([true, true]);
    expect(isIpv6LinkLocal(parseIpv6('fec0::1'))).toBe(false);
  });
});

describe('IPv6 addresses that are made of others', () => {
  test('a link-local address of a MAC, as Linux 6.18 makes it', () => {
    expect(formatIp(linkLocalOf(parseMac('02:00:00:00:01:01')), 6)).toBe('fe80::ff:fe00:101');
    expect(formatIp(linkLocalOf(parseMac('1e:0f:fb:03:e4:68')), 6)).toBe('fe80::1c0f:fbff:fe03:e468');
    expect(formatIp(linkLocalOf(parseMac('ee:ee:ee:ee:ee:ee')), 6)).toBe('fe80::ecee:eeff:feee:eeee'); // Calico's
  });

  test('the group in which an address is asked for, and its MAC', () => {
    const group = solicitedNodeGroup(parseIpv6('fd00:10:244:1::abcd:ef12'));
    expect(formatIp(group, 6)).toBe('ff02::1:ffcd:ef12');
    expect(formatMac(multicastMacOf(group))).toBe('33:33:ff:cd:ef:12');
    expect(formatMac(multicastMacOf(ALL_NODES_IPV6))).toBe('33:33:00:00:00:01');
  });
});

test('addresses share as many of their first bits as a prefix of both is long', () => {
  const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
  const address = fc.tuple(fc.constant(1), word, word, word).map((words) => internIpv6(...words));
  fc.assert(
    fc.property(address, fc.integer({ min: 0, max: 128 }), address, (a, length, other) => {
      const b = length === 128 ? a : maskIpv6(a, length);
      const common = commonIpv6Bits(a, b);
      expect(ipv6SharesPrefix(a, b, common)).toBe(true);
      expect(common === 128 || !ipv6SharesPrefix(a, b, common + 1)).toBe(true);
      expect(hashIpv6Prefix(a, common)).toBe(hashIpv6Prefix(b, common));
      expect(commonIpv6Bits(a, other)).toBe(commonIpv6Bits(other, a));
    }),
  );
});

test('IPv4 read by hand is IPv4 as the library reads it', () => {
  const part = fc.oneof(
    fc.nat({ max: 300 }).map(String),
    fc.constantFrom('', '00', '01', '0', '255', '256', 'a', ' 1'),
  );
  fc.assert(
    fc.property(fc.array(part, { minLength: 3, maxLength: 5 }), (parts) => {
      const text = parts.join('.');
      expect(readIpv4(text)).toBe(isIpv4(text) ? parseIp(text) : undefined);
    }),
  );
});

test('IPv4 in IPv6 is dotted, as inet_ntop prints it', () => {
  for (const text of ['::ffff:10.0.0.1', '::10.0.0.1', '::ffff:0:10.0.0.1']) expect(parseIpv6(text)).not.toBe(0);
  expect(formatIp(parseIpv6('::ffff:a00:1'), 6)).toBe('::ffff:10.0.0.1');
  expect(formatIp(parseIpv6('::10.0.0.1'), 6)).toBe('::10.0.0.1');
  expect(parseIpv6('::10.0.0.1')).not.toBe(parseIpv6('::ffff:10.0.0.1'));
  expect(formatIp(parseIpv6('::1'), 6)).toBe('::1');
});

test.each([
  ['10.9.3.77', '10.2.0.0/16', '10.2.3.77'],
  ['10.9.3.77', '10.2.0.5/32', '10.2.0.5'],
  ['fd09::abcd', 'fd02::/96', 'fd02::abcd'],
  ['fd09:1:2:3:4:5:6:7', 'fd02:aaaa:bbbb:c000::/50', 'fd02:aaaa:bbbb:c003:4:5:6:7'],
  ['fd09::1', 'fd02::/0', 'fd09::1'],
])('%s with the network %s is %s', (address, network, moved) => {
  const { family, ip } = parseAddress(address);
  expect(formatIp(withNetwork(ip, parseAnyPrefix(network)), family)).toBe(moved);
});
