import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NumberTable } from '../../engine/number-table.ts';
import { type Instant, s } from '../../engine/time.ts';
import { localMac, macHigh, macLow } from '../packet/mac.ts';
import { Fdb } from './fdb.ts';

/** An Fdb with a clock in seconds, and stations by number. */
class Stations {
  readonly #clock = { instant: 0 as Instant };
  readonly numbers = new NumberTable();
  readonly fdb = new Fdb({ clock: this.#clock, numbers: this.numbers, ageing: s(300) });

  at(seconds: number): this {
    this.#clock.instant = s(seconds) as number as Instant;
    return this;
  }

  learn(station: number, port: number): boolean {
    return this.fdb.learn(...macOfStation(station), port);
  }

  lookup(station: number): number | undefined {
    return this.fdb.lookup(...macOfStation(station));
  }
}

/** Two of them have the same lower 32 bits. */
const macOfStation = (station: number): [number, number] => {
  const mac = localMac((station >> 1) + (station & 1) * 2 ** 32);
  return [macHigh(mac), macLow(mac)];
};

test('a station that moves is followed at once, and forgotten after the ageing time', () => {
  const stations = new Stations();
  stations.learn(1, 4);
  stations.at(10).learn(1, 7);
  expect(stations.at(11).lookup(1)).toBe(7);
  expect(stations.at(310).lookup(1)).toBe(7);
  expect(stations.at(310.000000001).lookup(1)).toBeUndefined();
  expect(stations.at(11).lookup(2)).toBeUndefined();
});

test('what it learns is news if lookups then find something else; the number of when it was seen puts the ageing off', () => {
  const stations = new Stations();
  const { fdb, numbers } = stations;
  expect(stations.learn(1, 4)).toBe(true);
  expect(stations.at(10).learn(1, 4)).toBe(false);
  expect(stations.learn(1, 7)).toBe(true);
  numbers.values[fdb.seenAt(...macOfStation(1))] = s(200);
  expect(fdb.knownUntil(...macOfStation(1))).toBe(s(500));
  expect(stations.at(500).lookup(1)).toBe(7);
  expect(stations.at(501).learn(1, 7)).toBe(true); // it had been forgotten
});

test('the typed table agrees with a Map, over any history of learning and asking', () => {
  const step = fc.record({
    station: fc.integer({ min: 2, max: 61 }),
    port: fc.nat(9),
    wait: fc.integer({ min: 0, max: 120 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const stations = new Stations();
      const twin = new Map<number, { port: number; seenAt: number }>();
      let now = 0;
      for (const { station, port, wait } of steps) {
        now += wait;
        stations.at(now).learn(station, port);
        twin.set(station, { port, seenAt: now });
        for (let other = 2; other <= 61; other++) {
          const known = twin.get(other);
          const expected = known !== undefined && now - known.seenAt <= 300 ? known.port : undefined;
          expect(stations.lookup(other)).toBe(expected);
        }
        const listed = new Map([...stations.fdb.entries()].map(({ mac, port: at }) => [mac, at]));
        expect(listed.size).toBe([...twin.values()].filter(({ seenAt }) => now - seenAt <= 300).length);
      }
    }),
    { numRuns: 30 },
  );
});
