import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ANY_IP, type Ip, type IpFamily, parseIp, parseIpv6 } from '../packet/ip-address.ts';
import { type BoundSocket, type ConnectedSocket, ConnectionTable, PortTable } from './socket-table.ts';

describe('connection table', () => {
  test('finds a socket by all four addresses and by nothing less', () => {
    const table = new ConnectionTable<ConnectedSocket>();
    const [localIp, remoteIp] = [parseIp('10.0.0.1'), parseIp('10.0.0.2')];
    const socket = { family: 4 as const, localIp, localPort: 80, remoteIp, remotePort: 40_000 };
    table.add(socket);
    expect(table.find(4, socket.localIp, 80, socket.remoteIp, 40_000)).toBe(socket);
    expect(table.find(4, socket.localIp, 80, socket.remoteIp, 40_001)).toBeUndefined();
    expect(table.find(4, socket.localIp, 81, socket.remoteIp, 40_000)).toBeUndefined();
    expect(table.find(4, socket.remoteIp, 80, socket.localIp, 40_000)).toBeUndefined();
    expect(table.find(6, socket.localIp, 80, socket.remoteIp, 40_000)).toBeUndefined();
  });

  test('agrees with a Map with text keys, whatever is added and removed', () => {
    const ipv4 = {
      family: fc.constant<IpFamily>(4),
      localIp: fc.constantFrom(parseIp('10.0.0.1'), parseIp('192.168.0.1')),
      localPort: fc.integer({ min: 1, max: 4 }),
      remoteIp: fc.constantFrom(parseIp('10.0.0.2'), parseIp('10.0.0.3')),
      remotePort: fc.integer({ min: 1, max: 4 }),
    };
    const ipv6 = {
      ...ipv4,
      family: fc.constant<IpFamily>(6),
      localIp: fc.constantFrom(parseIpv6('fd00::1'), parseIpv6('fd00:1::1')),
      remoteIp: fc.constantFrom(parseIpv6('fd00::2'), parseIpv6('fd00::3')),
    };
    const address = fc.oneof(fc.record(ipv4), fc.record(ipv6));
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), address), { maxLength: 200 }), (steps) => {
        const table = new ConnectionTable<ConnectedSocket>();
        const twin = new Map<string, ConnectedSocket>();
        for (const [adds, socket] of steps) {
          const key = JSON.stringify(socket);
          const known = twin.get(key);
          if (adds && known === undefined) {
            table.add(socket);
            twin.set(key, socket);
          } else if (!adds && known !== undefined) {
            expect(table.delete(known)).toBe(true);
            expect(table.delete(known)).toBe(false);
            twin.delete(key);
          }
        }
        expect(table.size).toBe(twin.size);
        expect(new Set(table.all())).toEqual(new Set(twin.values()));
        for (const [, { family, localIp, localPort, remoteIp, remotePort }] of steps) {
          const key = JSON.stringify({ family, localIp, localPort, remoteIp, remotePort });
          expect(table.find(family, localIp, localPort, remoteIp, remotePort)).toBe(twin.get(key));
        }
      }),
    );
  });
});

describe('port table', () => {
  const bound = (localIp: Ip, localPort: number): BoundSocket => ({ family: 4, isIpv6Only: false, localIp, localPort });
  const bound6 = (localIp: Ip, localPort: number, { isIpv6Only = false } = {}): BoundSocket => ({
    family: 6,
    isIpv6Only,
    localIp,
    localPort,
  });
  const loopback = parseIp('127.0.0.1');
  const eth0 = parseIp('10.0.0.1');
  const eth0Ipv6 = parseIpv6('fd00::1');

  test('a socket of one address goes before the wildcard', () => {
    const table = new PortTable();
    const specific = bound(loopback, 53);
    const wildcard = bound(ANY_IP, 53);
    table.add(wildcard);
    table.add(specific);
    expect(table.find(4, loopback, 53)).toBe(specific);
    expect(table.find(4, eth0, 53)).toBe(wildcard);
    expect(table.find(4, eth0, 54)).toBeUndefined();
    table.delete(wildcard);
    expect(table.find(4, eth0, 53)).toBeUndefined();
  });

  test('the wildcard clashes with every address, two addresses do not clash', () => {
    const table = new PortTable();
    table.add(bound(loopback, 53));
    expect(table.isFree(bound(eth0, 53))).toBe(true);
    expect(table.isFree(bound(loopback, 53))).toBe(false);
    expect(table.isFree(bound(ANY_IP, 53))).toBe(false);
    expect(table.isFree(bound(ANY_IP, 54))).toBe(true);
  });

  test('the wildcard of IPv6 takes IPv4, too, but after a socket of IPv4', () => {
    const table = new PortTable();
    const both = bound6(ANY_IP, 53);
    const ipv4 = bound(loopback, 53);
    table.add(both);
    expect(table.find(6, eth0Ipv6, 53)).toBe(both);
    expect(table.find(4, loopback, 53)).toBe(both);
    table.add(ipv4);
    expect(table.find(4, loopback, 53)).toBe(ipv4);
    expect(table.find(4, eth0, 53)).toBe(both);
  });

  // bind() on Linux 6.18: EADDRINUSE where this says false.
  test.each<[string, BoundSocket, BoundSocket, boolean]>([
    ['[::] and 0.0.0.0', bound6(ANY_IP, 53), bound(ANY_IP, 53), false],
    ['[::] and one address of IPv4', bound6(ANY_IP, 53), bound(eth0, 53), false],
    ['[::] for IPv6 only and 0.0.0.0', bound6(ANY_IP, 53, { isIpv6Only: true }), bound(ANY_IP, 53), true],
    ['one address of IPv6 and 0.0.0.0', bound6(eth0Ipv6, 53), bound(ANY_IP, 53), true],
    ['[::] and one address of IPv6', bound6(ANY_IP, 53), bound6(eth0Ipv6, 53), false],
  ])('%s: may both have a port? %#', (_, first, second, both) => {
    for (const [there, wanted] of [
      [first, second],
      [second, first],
    ] as const) {
      const table = new PortTable();
      table.add(there);
      expect(table.isFree(wanted)).toBe(both);
    }
  });
});
