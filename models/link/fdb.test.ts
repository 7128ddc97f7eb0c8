import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Instant, s } from '../../engine/time.ts';
import { localMac } from '../packet/mac.ts';
import { Fdb } from './fdb.ts';

const at = (seconds: number): Instant => s(seconds) as number as Instant;

test('a station that moves is followed at once, and forgotten after the ageing time', () => {
  const fdb = new Fdb(s(300));
  fdb.learn(localMac(1), 4, at(0));
  fdb.learn(localMac(1), 7, at(10));
  expect(fdb.lookup(localMac(1), at(11))).toBe(7);
  expect(fdb.lookup(localMac(1), at(310))).toBe(7);
  expect(fdb.lookup(localMac(1), at(310.000000001))).toBeUndefined();
  expect(fdb.lookup(localMac(2), at(11))).toBeUndefined();
});

test('what it learns is news if lookups then find something else; a refresh only puts the ageing off', () => {
  const fdb = new Fdb(s(300));
  expect(fdb.learn(localMac(1), 4, at(0))).toBe(true);
  expect(fdb.learn(localMac(1), 4, at(10))).toBe(false);
  expect(fdb.learn(localMac(1), 7, at(10))).toBe(true);
  fdb.refresh(fdb.slotOf(localMac(1)), at(200));
  expect(fdb.knownUntil(localMac(1))).toBe(at(500));
  expect(fdb.lookup(localMac(1), at(500))).toBe(7);
  expect(fdb.learn(localMac(1), 7, at(501))).toBe(true); // it had been forgotten
});

test('the typed table agrees with a Map, over any history of learning and asking', () => {
  const step = fc.record({
    mac: fc.integer({ min: 1, max: 60 }),
    port: fc.nat(9),
    wait: fc.integer({ min: 0, max: 120 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const fdb = new Fdb(s(300));
      const twin = new Map<number, { port: number; seenAt: number }>();
      let now = 0;
      for (const { mac, port, wait } of steps) {
        now += wait;
        fdb.learn(localMac(mac), port, at(now));
        twin.set(mac, { port, seenAt: now });
        for (let other = 1; other <= 60; other++) {
          const known = twin.get(other);
          const expected = known !== undefined && now - known.seenAt <= 300 ? known.port : undefined;
          expect(fdb.lookup(localMac(other), at(now))).toBe(expected);
        }
      }
    }),
    { numRuns: 30 },
  );
});
