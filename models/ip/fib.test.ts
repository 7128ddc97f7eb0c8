import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Simulator } from '../../engine/simulator.ts';
import { FREE } from '../cpu/cost-model.ts';
import { CpuSet } from '../cpu/cpu-set.ts';
import { LoopbackDevice } from '../link/loopback.ts';
import { FrameStore } from '../packet/frame-store.ts';
import {
  ANY_IP,
  contains,
  formatIp,
  formatPrefix,
  type Ip,
  parseIp,
  parsePrefix,
  prefix,
} from '../packet/ip-address.ts';
import { localMac } from '../packet/mac.ts';
import { Fib, formatRoute, type Route } from './fib.ts';
import { SharedRoutes } from './shared-routes.ts';

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

test('sharing routes with other hosts is as good as having them all, but for those that lead here', () => {
  // Few hosts and nested prefixes, so that routes clash often.
  const host = fc.integer({ min: 1, max: 4 }).map((number) => parseIp(`192.168.0.${number}`));
  const destination = fc
    .tuple(fc.integer({ min: 0, max: 15 }), fc.constantFrom(24, 28, 32))
    .map(([bits, length]) => prefix(parseIp(`10.244.${bits >> 3}.${(bits & 7) * 4}`), length));
  const change = fc.record({ destination, gateway: host });
  const lookedUp = fc.integer({ min: 0, max: 1023 }).map((bits) => parseIp(`10.244.${bits >> 8}.${bits & 255}`));
  const self = parseIp('192.168.0.1');
  fc.assert(
    fc.property(fc.array(change), fc.array(change), fc.array(lookedUp), (own, shared, ips) => {
      const fib = new Fib();
      const alone = new Fib();
      for (const each of [fib, alone]) each.add(route('0.0.0.0/0', { via: '192.168.0.9' }));
      const routes = new SharedRoutes();
      fib.share({ routes, device, host: self });
      const latest = new Map<string, Route>();
      for (const one of shared) {
        routes.add([one]);
        latest.set(formatPrefix(one.destination), { ...route('0.0.0.0/0'), ...one, source: self });
        for (const ip of ips) fib.lookup(ip); // so that it has something to forget
      }
      for (const one of latest.values()) if (one.gateway !== self) alone.add(one);
      for (const one of own) for (const each of [fib, alone]) each.add({ ...route('0.0.0.0/0'), ...one });
      for (const ip of ips) expect(fib.lookup(ip)).toEqual(alone.lookup(ip));
    }),
  );
});

test('every change that can give a lookup another answer is told, also one of the shared routes', () => {
  const told = { first: 0, second: 0 };
  const first = new Fib({ ways: { forgetWays: () => told.first++ } });
  const second = new Fib({ ways: { forgetWays: () => told.second++ } });
  const routes = new SharedRoutes();
  first.add(route('0.0.0.0/0'));
  first.remove(parsePrefix('10.0.0.0/8')); // is not there
  expect(told).toEqual({ first: 1, second: 0 });

  for (const fib of [first, second]) fib.share({ routes, device, host: parseIp('192.168.0.1') });
  expect(told).toEqual({ first: 2, second: 1 });
  for (const fib of [first, second]) fib.lookup(parseIp('10.244.2.7'));
  routes.add([{ destination: parsePrefix('10.244.2.0/24'), gateway: parseIp('192.168.0.2') }]);
  expect(told).toEqual({ first: 3, second: 2 });

  first.lookup(parseIp('10.244.2.7'));
  routes.add([{ destination: parsePrefix('10.244.2.0/24'), gateway: parseIp('192.168.0.3') }]);
  expect(told).toEqual({ first: 4, second: 2 }); // the second has not asked since, and has nothing to forget
});
