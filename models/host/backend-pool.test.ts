import { expect, test } from 'vitest';
import { after, type Duration, START, s } from '../../engine/time.ts';
import { parseIp } from '../packet/ip-address.ts';
import { type Backend, BackendPool, type PoolSettings } from './backend-pool.ts';

const backends: readonly Backend[] = ['a', 'b', 'c'].map((name, i) => ({ name, ip: parseIp(`192.168.0.${i + 1}`) }));
const client = (port: number) => ({ ip: parseIp('203.0.113.10'), port });

function poolOf(settings: Partial<PoolSettings> = {}, healthy = backends): BackendPool {
  const pool = new BackendPool({ algorithm: '5-tuple hash', idleTimeout: s(60), secret: 42, ...settings });
  pool.healthy = healthy;
  return pool;
}

const at = (delay: Duration) => after(START, delay);

test('round robin takes turns, flow by flow', () => {
  const pool = poolOf({ algorithm: 'round robin' });
  const names = [1, 2, 1, 3, 4].map((port) => pool.choose(client(port), 0, START)?.name);
  expect(names).toEqual(['a', 'b', 'a', 'c', 'a']);
});

test('the hash spreads flows evenly, and as it wants: another load balancer has another order', () => {
  const counts = new Map<string, number>();
  const orders = [poolOf({ secret: 1 }), poolOf({ secret: 2 })].map((pool) =>
    Array.from({ length: 30_000 }, (_, port) => {
      const { name } = pool.choose(client(port), Math.imul(port, 0x9e3779b1), START)!;
      counts.set(name, (counts.get(name) ?? 0) + 1);
      return name;
    }),
  );
  // 60,000 flows: a standard deviation is 115.
  for (const count of counts.values()) expect(Math.abs(count - 20_000)).toBeLessThan(500);
  expect(counts.size).toBe(3);
  expect(orders[0]).not.toEqual(orders[1]);
});

test('with session affinity the hash decides of new flows, whatever the algorithm, and old ones stay', () => {
  const pool = poolOf({ algorithm: 'round robin' });
  expect([1, 2].map((port) => pool.choose(client(port), 7, START)?.name)).toEqual(['a', 'b']);
  pool.affinity = 'ClientIP';
  const names = [3, 4, 5, 6].map((port) => pool.choose(client(port), 7, START)?.name);
  expect(new Set(names).size).toBe(1);
  expect([1, 2].map((port) => pool.choose(client(port), 7, START)?.name)).toEqual(['a', 'b']);
  const byHash = new Set(Array.from({ length: 30 }, (_, hash) => pool.choose(client(100 + hash), hash, START)?.name));
  expect(byHash.size).toBe(3);
});

test('a flow stays where it is when others come or go, and moves when its own backend fails', () => {
  const pool = poolOf({ algorithm: 'round robin' });
  const [a, b, c] = backends as [Backend, Backend, Backend];
  expect([1, 2, 3].map((port) => pool.choose(client(port), 0, START))).toEqual([a, b, c]);
  pool.healthy = [a, c];
  expect([1, 3].map((port) => pool.choose(client(port), 0, START))).toEqual([a, c]);
  expect([a, c]).toContain(pool.choose(client(2), 0, START));
  const movedTo = pool.choose(client(2), 0, START);
  pool.healthy = backends;
  expect(pool.choose(client(2), 0, START)).toBe(movedTo); // it does not move back
});

test('a flow that has been silent for long is a new one', () => {
  const pool = poolOf({ algorithm: 'round robin' });
  expect(pool.choose(client(1), 0, START)?.name).toBe('a');
  expect(pool.choose(client(1), 0, at(s(59)))?.name).toBe('a');
  expect(pool.choose(client(1), 0, at(s(118)))?.name).toBe('a'); // 59 s after the last packet
  expect(pool.choose(client(1), 0, at(s(178)))?.name).toBe('b');
});

test('nobody healthy serves nobody', () => {
  expect(poolOf({}, []).choose(client(1), 7, START)).toBeUndefined();
  expect(poolOf({ algorithm: 'round robin' }, []).choose(client(1), 7, START)).toBeUndefined();
});
