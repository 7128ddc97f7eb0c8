import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ANY_IP, type Ip, parseIp } from '../packet/ip-address.ts';
import { type ConnectedSocket, ConnectionTable, PortTable } from './socket-table.ts';

describe('connection table', () => {
  test('finds a socket by all four addresses and by nothing less', () => {
    const table = new ConnectionTable<ConnectedSocket>();
    const socket = { localIp: parseIp('10.0.0.1'), localPort: 80, remoteIp: parseIp('10.0.0.2'), remotePort: 40_000 };
    table.add(socket);
    expect(table.find(socket.localIp, 80, socket.remoteIp, 40_000)).toBe(socket);
    expect(table.find(socket.localIp, 80, socket.remoteIp, 40_001)).toBeUndefined();
    expect(table.find(socket.localIp, 81, socket.remoteIp, 40_000)).toBeUndefined();
    expect(table.find(socket.remoteIp, 80, socket.localIp, 40_000)).toBeUndefined();
  });

  test('agrees with a Map with text keys, whatever is added and removed', () => {
    const address = fc.record({
      localIp: fc.constantFrom(parseIp('10.0.0.1'), parseIp('192.168.0.1')),
      localPort: fc.integer({ min: 1, max: 4 }),
      remoteIp: fc.constantFrom(parseIp('10.0.0.2'), parseIp('10.0.0.3')),
      remotePort: fc.integer({ min: 1, max: 4 }),
    });
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
        for (const [, { localIp, localPort, remoteIp, remotePort }] of steps) {
          const key = JSON.stringify({ localIp, localPort, remoteIp, remotePort });
          expect(table.find(localIp, localPort, remoteIp, remotePort)).toBe(twin.get(key));
        }
      }),
    );
  });
});

describe('port table', () => {
  const bound = (localIp: Ip, localPort: number) => ({ localIp, localPort });
  const loopback = parseIp('127.0.0.1');
  const eth0 = parseIp('10.0.0.1');

  test('a socket of one address goes before the wildcard', () => {
    const table = new PortTable<{ localIp: Ip; localPort: number }>();
    const specific = bound(loopback, 53);
    const wildcard = bound(ANY_IP, 53);
    table.add(wildcard);
    table.add(specific);
    expect(table.find(loopback, 53)).toBe(specific);
    expect(table.find(eth0, 53)).toBe(wildcard);
    expect(table.find(eth0, 54)).toBeUndefined();
    table.delete(wildcard);
    expect(table.find(eth0, 53)).toBeUndefined();
  });

  test('the wildcard clashes with every address, two addresses do not clash', () => {
    const table = new PortTable<{ localIp: Ip; localPort: number }>();
    table.add(bound(loopback, 53));
    expect(table.isFree(eth0, 53)).toBe(true);
    expect(table.isFree(loopback, 53)).toBe(false);
    expect(table.isFree(ANY_IP, 53)).toBe(false);
    expect(table.isFree(ANY_IP, 54)).toBe(true);
  });
});
