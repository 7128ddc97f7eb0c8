import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BROADCAST_MAC, formatMac, isGroupAddress, localMac, type Mac, parseMac, ZERO_MAC } from './mac.ts';

describe('a MAC address', () => {
  test('is printed as six bytes and read back', () => {
    expect(formatMac(localMac(42))).toBe('02:00:00:00:00:2a');
    expect(formatMac(ZERO_MAC)).toBe('00:00:00:00:00:00');
    expect(parseMac('FF:ff:FF:ff:FF:ff')).toBe(BROADCAST_MAC);
    fc.assert(fc.property(anyMac, (mac) => parseMac(formatMac(mac)) === mac));
  });

  test.each(['02:00:00:00:00', '02-00-00-00-00-2a', '2:0:0:0:0:2a', '02:00:00:00:00:2g', ''])('is not "%s"', (text) => {
    expect(() => parseMac(text)).toThrow(`MAC address "${text}"; expected six hex bytes`);
  });

  test('is a group address when the lowest bit of its first byte is set', () => {
    expect(isGroupAddress(BROADCAST_MAC)).toBe(true);
    expect(isGroupAddress(parseMac('01:00:5e:00:00:fb'))).toBe(true);
    expect(isGroupAddress(parseMac('02:00:00:00:00:01'))).toBe(false);
    expect(isGroupAddress(parseMac('fe:ff:ff:ff:ff:ff'))).toBe(false);
  });

  test('given by serial number is unicast and unique', () => {
    const macs = Array.from({ length: 1_000 }, (_, serial) => localMac(serial));
    expect(new Set(macs).size).toBe(1_000);
    expect(macs.filter(isGroupAddress)).toEqual([]);
  });
});

const anyMac = fc.integer({ min: 0, max: 2 ** 48 - 1 }).map((value) => value as Mac);
