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
  parseIpv6,
  parseIpv6Prefix,
  prefix,
} from '../packet/ip-address.ts';
import { internIpv6 } from '../packet/ipv6-address.ts';
import { localMac } from '../packet/mac.ts';
import { Fib, formatRoute, type Route } from './fib.ts';
import { SharedRoutes } from './shared-routes.ts';

const cpus = new CpuSet(new Simulator({ seed: 'fib' }).place('node'), { count: 1, costs: FREE });
const common = { name: 'eth0', mac: localMac(1), namespace: 'node', index: 1 };
const device = new LoopbackDevice({ ...common, cpus, frames: new FrameStore() });

const route = (destination: string, { via = '::', metric = 1024 } = {}): Route => ({
  type: 'unicast',
  destination: parseIpv6Prefix(destination),
  device,
  gateway: parseIpv6(via),
  source: ANY_IP,
  metric,
});

test('the longest prefix wins, then the lower metric', () => {
  const fib = new Fib({ family: 6 });
  fib.add(route('::/0', { via: 'fd00::1' }));
  fib.add(route('fd00:10:244::/48', { via: 'fd00::2' }));
  fib.add(route('fd00:10:244:7::/64', { via: 'fd00::3', metric: 1024 }));
  fib.add(route('fd00:10:244:7::/64', { via: 'fd00::4', metric: 256 }));
  fib.add(route('fd00:10:244:7::/64', { via: 'fd00::5', metric: 256 })); // replaces the one before
  const next = (to: string): string => formatIp(fib.lookup(parseIpv6(to))!.gateway, 6);
  expect(next('fd00:10:244:7::9')).toBe('fd00::5');
  expect(next('fd00:10:244:8::9')).toBe('fd00::2');
  expect(next('2001:db8::1')).toBe('fd00::1');
  expect(fib.remove(parseIpv6Prefix('fd00:10:244:7::/64'))).toBe(true);
  expect(fib.remove(parseIpv6Prefix('fd00:10:244:7::/64'))).toBe(false);
  expect(next('fd00:10:244:7::9')).toBe('fd00::2');
});

test('the host’s own addresses beside its routes are local, before any route, until others take their place', () => {
  const fib = new Fib({ family: 6 });
  fib.add(route('::/0', { via: 'fd00::1' }));
  const [ip, other] = [parseIpv6('fd00:96::10'), parseIpv6('fd00:96::11')];
  expect(fib.lookup(ip)!.type).toBe('unicast');
  fib.setLocalAddresses(device, new Set([ip]));
  expect(formatRoute(fib.lookup(ip)!)).toBe('local fd00:96::10 dev eth0');
  expect(fib.lookup(other)!.type).toBe('unicast');
  fib.setLocalAddresses(device, new Set([other]));
  expect([ip, other].map((one) => fib.lookup(one)!.type)).toEqual(['unicast', 'local']);
});

test('without a default route, an unknown destination has none', () => {
  expect(new Fib({ family: 6 }).lookup(parseIpv6('fd00::1'))).toBeUndefined();
});

test('routes print as ip -6 route prints them', () => {
  expect(formatRoute(route('fd00:10:244:2::/64', { via: 'fd00::2' }))).toBe('fd00:10:244:2::/64 via fd00::2 dev eth0');
  expect(formatRoute(route('::/0', { via: 'fe80::1' }))).toBe('default via fe80::1 dev eth0');
  expect(formatRoute({ ...route('fd00::1/128'), type: 'local' })).toBe('local fd00::1 dev eth0');
});

test('lookup agrees with the longest match by brute force', () => {
  // Few distinct bits in every word, so that prefixes of all lengths nest often.
  const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }).map((value) => value & 0x0101_0003);
  const nested = fc.tuple(word, word, word, word).map((words) => internIpv6(...words));
  const prefixes = fc.array(fc.tuple(nested, fc.integer({ min: 0, max: 128 })), { maxLength: 30 });
  fc.assert(
    fc.property(prefixes, fc.array(nested, { minLength: 1, maxLength: 20 }), (entries, destinations) => {
      const fib = new Fib({ family: 6 });
      const routes = entries.map(([ip, length]) => ({ ...route('::/0'), destination: prefix(ip, length, 6) }));
      for (const entry of routes) fib.add(entry);
      const longest = (ip: Ip): number =>
        Math.max(
          -1,
          ...routes.filter(({ destination }) => contains(destination, ip)).map(({ destination }) => destination.length),
        );
      for (const ip of destinations) expect(fib.lookup(ip)?.destination.length ?? -1).toBe(longest(ip));
    }),
  );
});

test('shared routes are the same as routes of its own, but for those that lead to itself; they may change at any time', () => {
  const self = parseIpv6('fd00::1');
  // Few prefixes and addresses, so that they meet: of a length in the first, second or third word.
  const within = fc.tuple(fc.nat(3), fc.nat(3)).map(([a, b]) => internIpv6(0xfd00_0010, a << 16, b << 8, 7));
  const change = fc.record({
    destination: fc
      .tuple(within, fc.constantFrom(32, 48, 80, 88, 128))
      .map(([ip, length]): Route['destination'] => prefix(ip, length, 6)),
    gateway: fc.nat(3).map((host) => parseIpv6(`fd00::${host + 1}`)),
  });
  fc.assert(
    fc.property(fc.array(change), fc.array(within), (shared, ips) => {
      const [fib, alone] = [new Fib({ family: 6 }), new Fib({ family: 6 })];
      for (const each of [fib, alone]) each.add(route('::/0', { via: 'fd00::9' }));
      const routes = new SharedRoutes(6);
      fib.share({ routes, device, host: self });
      const latest = new Map<string, Route>();
      for (const one of shared) {
        const replaced = latest.get(formatPrefix(one.destination));
        expect(routes.add([one]).map(({ gateway }) => gateway)).toEqual(
          replaced === undefined ? [] : [replaced.gateway],
        );
        latest.set(formatPrefix(one.destination), { ...route('::/0'), ...one });
        for (const ip of ips) fib.lookup(ip); // so that it has something to forget
      }
      for (const one of latest.values()) if (one.gateway !== self) alone.add(one);
      for (const ip of ips) expect(fib.lookup(ip)).toEqual(alone.lookup(ip));
      expect([...routes]).toHaveLength(latest.size);
    }),
  );
});
