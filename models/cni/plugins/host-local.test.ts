import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatIp, type IpAddress, parseAddress } from '../../packet/ip-address.ts';
import type { IsReserved } from '../cni-host.ts';
import { CniLab, addressesOf as textOf } from '../cni-lab.fixture.ts';
import { cniPlugin } from '../plugin.ts';

/** Gives what its IPAM plugin gives, and connects nothing. */
const addressOnly = cniPlugin({
  type: 'address-only',
  options: {},
  add: ({ ipam }) => ipam!.add(),
  del: ({ ipam }) => ipam!.del(),
  check: ({ ipam }) => ipam!.check(),
});

class Addresses {
  readonly #lab: CniLab;
  readonly #runtime;

  constructor(ranges: readonly object[], isReserved?: IsReserved) {
    this.#lab = new CniLab(isReserved === undefined ? {} : { isReserved });
    const ipam = { type: 'host-local', ranges: ranges.map((range) => [range]) };
    this.#runtime = this.#lab.network([{ type: 'address-only', ipam }], [addressOnly]);
  }

  add(id: string, ...requested: string[]): string {
    return textOf(this.#runtime.add(this.#lab.container(id, { requestedIps: requested.map(parseAddress) }))).join();
  }

  del(id: string): void {
    this.#runtime.del(this.#lab.container(id));
  }
}

const range = (subnet: string) => ({ subnet });

const isIn =
  (...addresses: string[]) =>
  ({ family, ip }: IpAddress): boolean =>
    addresses.includes(formatIp(ip, family));

test('addresses go round: a released one comes back only after the whole range', () => {
  const ipam = new Addresses([range('10.244.1.0/29')]); // .1 is the gateway, .2 to .6 are for pods
  expect([ipam.add('a'), ipam.add('b')]).toEqual(['10.244.1.2/29', '10.244.1.3/29']);
  ipam.del('a');
  expect(['c', 'd', 'e', 'f'].map((id) => ipam.add(id))).toEqual([
    '10.244.1.4/29',
    '10.244.1.5/29',
    '10.244.1.6/29',
    '10.244.1.2/29',
  ]);
});

test('a used-up range says so', () => {
  const ipam = new Addresses([range('10.244.1.0/30')]);
  ipam.add('only');
  expect(() => ipam.add('one-more')).toThrow(
    'host-local: no IP addresses available in range set: 10.244.1.1-10.244.1.2',
  );
});

test('a pod of a snapshot gets its own address, if that is free', () => {
  const ipam = new Addresses([range('10.244.1.0/24')], isIn('10.244.1.77', '10.9.9.9'));
  expect(ipam.add('web-0', '10.244.1.77')).toBe('10.244.1.77/24');
  expect(() => ipam.add('web-1', '10.244.1.77')).toThrow('10.244.1.77 is not available');
  expect(ipam.add('web-2', '10.9.9.9')).toBe('10.9.9.9/32');
  expect(() => ipam.add('web-1', '10.244.1.1')).toThrow('is the gateway');
  expect(() => ipam.add('web-3', '10.9.9.10')).toThrow('requested address 10.9.9.10 is in no range of the network');
  // What pods of a snapshot have does not move the order; .2 went to web-3, and came back as its request failed.
  expect(ipam.add('web-3')).toBe('10.244.1.3/24');
});

test('an address that somebody asks for moves the order', () => {
  const ipam = new Addresses([range('10.244.1.0/24')]);
  expect([ipam.add('a', '10.244.1.9'), ipam.add('b')]).toEqual(['10.244.1.9/24', '10.244.1.10/24']);
});

test('a reserved address is given to whom asks for it, and is not the gateway’s', () => {
  const ipam = new Addresses([range('10.244.1.0/24')], isIn('10.244.1.1', '10.244.1.3'));
  expect(ipam.add('web-0')).toBe('10.244.1.4/24'); // .2 is the gateway
  expect(ipam.add('web-1', '10.244.1.3')).toBe('10.244.1.3/24');
  expect(ipam.add('web-2', '10.244.1.1')).toBe('10.244.1.1/24');
});

test('no address is ever held twice, whatever comes and goes', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 300 }), (steps) => {
      const ipam = new Addresses([range('10.244.1.0/27')]); // 29 for pods: always enough for 21 containers
      const held = new Map<string, string>();
      for (const step of steps) {
        const id = `container-${step}`;
        if (held.has(id)) {
          ipam.del(id);
          held.delete(id);
        } else {
          const ip = ipam.add(id);
          expect([...held.values()]).not.toContain(ip);
          held.set(id, ip);
        }
      }
    }),
  );
});

test('an IPv6 range has no broadcast address: its last one is for a pod', () => {
  const ipam = new Addresses([range('fd00:10:244:1::/126')]); // ::1 is the gateway
  expect([ipam.add('a'), ipam.add('b')]).toEqual(['fd00:10:244:1::2/126', 'fd00:10:244:1::3/126']);
  expect(() => ipam.add('c')).toThrow('no IP addresses available in range set: fd00:10:244:1::1-fd00:10:244:1::3');
  expect(() => new Addresses([range('fd00::/127')]).add('a')).toThrow('expected a prefix length of at most 126');
});

test('with two sets of ranges a container gets an address of each, or none', () => {
  const ipam = new Addresses([range('10.244.1.0/24'), range('fd00:10:244:1::/126')]);
  expect(ipam.add('a')).toBe('10.244.1.2/24,fd00:10:244:1::2/126');
  expect(ipam.add('b', 'fd00:10:244:1::3')).toBe('10.244.1.3/24,fd00:10:244:1::3/126');
  expect(() => ipam.add('c')).toThrow('no IP addresses available');
  expect(() => ipam.add('b')).toThrow('container b has eth0 in net already');
  ipam.del('a');
  // 10.244.1.4 went to c and came back: the order of a range goes on all the same.
  expect(ipam.add('d')).toBe('10.244.1.5/24,fd00:10:244:1::2/126');
});

test('a set of two ranges is used in turn, each from where it begins', () => {
  const lab = new CniLab();
  const ranges = [[range('10.0.0.0/30'), { subnet: '10.0.1.0/24', rangeStart: '10.0.1.20', rangeEnd: '10.0.1.21' }]];
  const runtime = lab.network([{ type: 'address-only', ipam: { type: 'host-local', ranges } }], [addressOnly]);
  const next = (id: string): string => textOf(runtime.add(lab.container(id))).join();
  expect(['a', 'b', 'c'].map(next)).toEqual(['10.0.0.2/30', '10.0.1.20/24', '10.0.1.21/24']);
  runtime.del(lab.container('b'));
  expect(next('d')).toBe('10.0.1.20/24');
});

test('garbage collection frees what belongs to nobody', () => {
  const lab = new CniLab();
  const ipam = { type: 'host-local', subnet: '10.0.0.0/29' };
  const runtime = lab.network([{ type: 'address-only', ipam }], [addressOnly]);
  for (const id of ['a', 'b', 'c', 'd', 'e']) runtime.add(lab.container(id));
  runtime.gc([{ containerId: 'b', ifName: 'eth0' }]);
  expect(textOf(runtime.add(lab.container('f')))).toEqual(['10.0.0.2/29']);
  expect(() => runtime.check(lab.container('a'))).toThrow('container a has no eth0 in net');
});
