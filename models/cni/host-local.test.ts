import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatIp, formatPrefix, parseIp, parsePrefix } from '../packet/ip-address.ts';
import { HostLocal } from './host-local.ts';

test('addresses go round: a released one comes back only after the whole range', () => {
  const ipam = new HostLocal(parsePrefix('10.244.1.0/29')); // .1 is the gateway, .2 to .6 are for pods
  const next = (id: string): string => formatIp(ipam.allocate(id).ip);
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
  const ipam = new HostLocal(parsePrefix('10.244.1.0/30'));
  ipam.allocate('only');
  expect(() => ipam.allocate('one-more')).toThrow('no IP addresses available in range 10.244.1.0/30: all 1 are in use');
});

test('a pod of a snapshot gets its own address, if that is free and in the range', () => {
  const ipam = new HostLocal(parsePrefix('10.244.1.0/24'));
  expect(formatIp(ipam.allocate('web-0', parseIp('10.244.1.77')).ip)).toBe('10.244.1.77');
  expect(() => ipam.allocate('web-1', parseIp('10.244.1.77'))).toThrow('10.244.1.77 is in use');
  expect(formatPrefix(ipam.allocate('web-2', parseIp('10.9.9.9')).subnet)).toBe('10.9.9.9/32');
  expect(() => ipam.allocate('web-1', parseIp('10.244.1.1'))).toThrow('is the gateway');
});

test('a reserved address is given to whom asks for it, and is not the gateway’s', () => {
  const reserved = new Set([parseIp('10.244.1.1'), parseIp('10.244.1.3')]);
  const ipam = new HostLocal(parsePrefix('10.244.1.0/24'), (ip) => reserved.has(ip));
  expect(formatIp(ipam.gateway)).toBe('10.244.1.2');
  expect(formatIp(ipam.allocate('web-0').ip)).toBe('10.244.1.4');
  expect(formatIp(ipam.allocate('web-1', parseIp('10.244.1.3')).ip)).toBe('10.244.1.3');
  expect(formatIp(ipam.allocate('web-2', parseIp('10.244.1.1')).ip)).toBe('10.244.1.1');
});

test('no address is ever held twice, whatever comes and goes', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 300 }), (steps) => {
      const ipam = new HostLocal(parsePrefix('10.244.1.0/27')); // 29 for pods: always enough for 21 containers
      const held = new Map<string, number>();
      for (const step of steps) {
        const id = `container-${step}`;
        if (held.has(id)) {
          ipam.release(id);
          held.delete(id);
        } else {
          const { ip } = ipam.allocate(id);
          expect([...held.values()]).not.toContain(ip);
          held.set(id, ip);
        }
      }
    }),
  );
});
