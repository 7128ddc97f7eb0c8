import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  formatIp,
  formatPrefix,
  type IpAddress,
  parseAddress,
  parseAnyPrefix,
  parsePrefix,
} from '../packet/ip-address.ts';
import { HostLocal } from './host-local.ts';

/** The only range's lease, as text. */
const ipOf = (ipam: HostLocal, id: string, ...requested: string[]): string =>
  ipam
    .allocate(id, requested.map(parseAddress))
    .map(({ ip, family }) => formatIp(ip, family))
    .join();

const isIn =
  (...addresses: string[]) =>
  ({ family, ip }: IpAddress): boolean =>
    addresses.includes(formatIp(ip, family));

test('addresses go round: a released one comes back only after the whole range', () => {
  const ipam = new HostLocal([parsePrefix('10.244.1.0/29')]); // .1 is the gateway, .2 to .6 are for pods
  const next = (id: string): string => ipOf(ipam, id);
  expect([next('a'), next('b')]).toEqual(['10.244.1.2', '10.244.1.3']);
  ipam.release('a');
  expect([next('c'), next('d'), next('e'), next('f')]).toEqual([
    '10.244.1.4',
    '10.244.1.5',
    '10.244.1.6',
    '10.244.1.2',
  ]);
});

test('a used-up range says so', () => {
  const ipam = new HostLocal([parsePrefix('10.244.1.0/30')]);
  ipam.allocate('only');
  expect(() => ipam.allocate('one-more')).toThrow('no IP addresses available in range 10.244.1.0/30: all 1 are in use');
});

test('a pod of a snapshot gets its own address, if that is free', () => {
  const ipam = new HostLocal([parsePrefix('10.244.1.0/24')]);
  expect(ipOf(ipam, 'web-0', '10.244.1.77')).toBe('10.244.1.77');
  expect(() => ipOf(ipam, 'web-1', '10.244.1.77')).toThrow('10.244.1.77 is in use');
  const [outside] = ipam.allocate('web-2', [parseAddress('10.9.9.9')]);
  expect(formatPrefix(outside!.subnet)).toBe('10.9.9.9/32');
  expect(() => ipOf(ipam, 'web-1', '10.244.1.1')).toThrow('is the gateway');
});

test('a reserved address is given to whom asks for it, and is not the gateway’s', () => {
  const ipam = new HostLocal([parsePrefix('10.244.1.0/24')], isIn('10.244.1.1', '10.244.1.3'));
  expect(ipam.gateways.map(({ ip }) => formatIp(ip))).toEqual(['10.244.1.2']);
  expect(ipOf(ipam, 'web-0')).toBe('10.244.1.4');
  expect(ipOf(ipam, 'web-1', '10.244.1.3')).toBe('10.244.1.3');
  expect(ipOf(ipam, 'web-2', '10.244.1.1')).toBe('10.244.1.1');
});

test('no address is ever held twice, whatever comes and goes', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 300 }), (steps) => {
      const ipam = new HostLocal([parsePrefix('10.244.1.0/27')]); // 29 for pods: always enough for 21 containers
      const held = new Map<string, string>();
      for (const step of steps) {
        const id = `container-${step}`;
        if (held.has(id)) {
          ipam.release(id);
          held.delete(id);
        } else {
          const ip = ipOf(ipam, id);
          expect([...held.values()]).not.toContain(ip);
          held.set(id, ip);
        }
      }
    }),
  );
});

test('an IPv6 range has no broadcast address: its last one is for a pod', () => {
  const ipam = new HostLocal([parseAnyPrefix('fd00:10:244:1::/126')]); // ::1 is the gateway
  expect([ipOf(ipam, 'a'), ipOf(ipam, 'b')]).toEqual(['fd00:10:244:1::2', 'fd00:10:244:1::3']);
  expect(() => ipam.allocate('c')).toThrow('no IP addresses available in range fd00:10:244:1::/126: all 2 are in use');
  expect(() => new HostLocal([parseAnyPrefix('fd00::/127')])).toThrow('expected a prefix length of at most 126');
});

test('with two ranges a container gets an address of each, or none', () => {
  const ipam = new HostLocal([parsePrefix('10.244.1.0/24'), parseAnyPrefix('fd00:10:244:1::/126')]);
  expect(ipOf(ipam, 'a')).toBe('10.244.1.2,fd00:10:244:1::2');
  expect(ipOf(ipam, 'b', 'fd00:10:244:1::3')).toBe('10.244.1.3,fd00:10:244:1::3');
  expect(() => ipam.allocate('c')).toThrow('fd00:10:244:1::/126: all 2 are in use');
  expect(() => ipam.allocate('b')).toThrow('b holds 10.244.1.3 already');
  ipam.release('a');
  // 10.244.1.4 went to c and came back: the order of a range goes on all the same.
  expect(ipOf(ipam, 'd')).toBe('10.244.1.5,fd00:10:244:1::2');
});
