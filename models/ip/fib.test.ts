import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Simulator } from '../../engine/simulator.ts';
import { FREE } from '../cpu/cost-model.ts';
import { CpuSet } from '../cpu/cpu-set.ts';
import { LoopbackDevice } from '../link/loopback.ts';
import { FrameStore } from '../packet/frame-store.ts';
import { ANY_IP, contains, formatIp, type Ip, parseIp, parsePrefix, prefix } from '../packet/ip-address.ts';
import { localMac } from '../packet/mac.ts';
import { Fib, formatRoute, type Route } from './fib.ts';

const cpus = new CpuSet(new Simulator({ seed: 'fib' }).place('node'), { count: 1, costs: FREE });
const device = new LoopbackDevice({
  name: 'eth0',
  mac: localMac(1),
  namespace: 'node',
  index: 1,
  cpus,
  frames: new FrameStore(),
});

const route = (destination: string, { via = '0.0.0.0', metric = 0 } = {}): Route => ({
  type: 'unicast',
  destination: parsePrefix(destination),
  device,
  gateway: parseIp(via),
  source: ANY_IP,
  metric,
});

test('the longest prefix wins, then the lower metric', () => {
  const fib = new Fib();
  fib.add(route('0.0.0.0/0', { via: '192.168.0.1' }));
  fib.add(route('10.244.0.0/16', { via: '192.168.0.2' }));
  fib.add(route('10.244.7.0/24', { via: '192.168.0.3', metric: 20 }));
  fib.add(route('10.244.7.0/24', { via: '192.168.0.4', metric: 10 }));
  const next = (to: string): string => formatIp(fib.lookup(parseIp(to))!.gateway);
  expect(next('10.244.7.9')).toBe('192.168.0.4');
  expect(next('10.244.8.9')).toBe('192.168.0.2');
  expect(next('203.0.113.1')).toBe('192.168.0.1');
  expect(fib.remove(parsePrefix('10.244.7.0/24'))).toBe(true);
  expect(fib.remove(parsePrefix('10.244.7.0/24'))).toBe(false);
  expect(next('10.244.7.9')).toBe('192.168.0.2');
});

test('without a default route, an unknown destination has none', () => {
  expect(new Fib().lookup(parseIp('10.0.0.1'))).toBeUndefined();
});

test('routes print as ip route prints them', () => {
  expect(formatRoute(route('10.244.2.0/24', { via: '192.168.0.12' }))).toBe('10.244.2.0/24 via 192.168.0.12 dev eth0');
  expect(formatRoute(route('0.0.0.0/0', { via: '10.244.1.1' }))).toBe('default via 10.244.1.1 dev eth0');
  expect(formatRoute({ ...route('10.244.1.1/32'), type: 'local' })).toBe('local 10.244.1.1 dev eth0');
});

test('lookup agrees with the longest match by brute force', () => {
  const address = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }).map((value) => value as Ip);
  // Few distinct high bits, so that prefixes nest often.
  const nested = address.map((ip) => (ip & 0x0303_03ff) as Ip);
  const prefixes = fc.array(fc.tuple(nested, fc.integer({ min: 0, max: 32 })), { maxLength: 30 });
  fc.assert(
    fc.property(prefixes, fc.array(nested, { minLength: 1, maxLength: 20 }), (entries, destinations) => {
      const fib = new Fib();
      const routes = entries.map(([ip, length]) => ({ ...route('0.0.0.0/0'), destination: prefix(ip, length) }));
      for (const entry of routes) fib.add(entry);
      for (const ip of destinations) {
        const longest = Math.max(
          -1,
          ...routes.filter(({ destination }) => contains(destination, ip)).map(({ destination }) => destination.length),
        );
        expect(fib.lookup(ip)?.destination.length ?? -1).toBe(longest);
      }
    }),
  );
});
