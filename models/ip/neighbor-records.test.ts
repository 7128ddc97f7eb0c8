import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NumberTable } from '../../engine/number-table.ts';
import type { Instant } from '../../engine/time.ts';
import type { Ip } from '../packet/ip-address.ts';
import { localMac, type Mac } from '../packet/mac.ts';
import { NeighborRecords, type NeighborState, NO_RECORD } from './neighbor-records.ts';

interface Neighbor {
  readonly ip: number;
  state: NeighborState;
  mac: Mac | undefined;
  at: number;
  probes: number;
}

const device = fc.nat(3);
const ip = fc.nat(25).map((number) => number * 0x0101_0101);
const step = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('use' as const), device, ip }) },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('learn' as const),
      ...{ device, ip },
      mac: fc.nat(9).map(localMac),
      state: fc.constantFrom<NeighborState>('REACHABLE', 'STALE', 'DELAY', 'PROBE', 'PERMANENT', 'NOARP', 'INCOMPLETE'),
      at: fc.integer({ min: 0, max: 2 ** 40 }),
      probes: fc.nat(3),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('remove' as const), device }) },
);

test('the records agree with a Map for each device, over any history', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const numbers = new NumberTable();
      const records = new NeighborRecords(numbers);
      const twin = new Map<number, Map<number, Neighbor>>();
      for (const change of steps) {
        if (change.kind === 'remove') {
          records.removeDevice(change.device);
          twin.delete(change.device);
          continue;
        }
        const neighbors = twin.get(change.device) ?? new Map<number, Neighbor>();
        twin.set(change.device, neighbors);
        const found = records.find(change.device, change.ip as Ip);
        expect(found !== NO_RECORD).toBe(neighbors.has(change.ip));
        const record = found === NO_RECORD ? records.add(change.device, change.ip as Ip) : found;
        const neighbor = neighbors.get(change.ip) ?? {
          ip: change.ip,
          state: 'FAILED',
          mac: undefined,
          at: 0,
          probes: 0,
        };
        neighbors.set(change.ip, neighbor);
        if (change.kind === 'use') continue;
        const { mac, state, at, probes } = change;
        Object.assign(neighbor, { mac, state, at, probes });
        records.setMac(record, mac);
        records.setState(record, state);
        records.confirm(record, at as Instant);
        records.setProbes(record, probes);
        numbers.add(1); // others have numbers, too
      }
      for (const [index, neighbors] of twin) {
        const own = Array.from({ length: records.count }, (_, record) => record).filter(
          (record) => records.deviceOf(record) === index,
        );
        expect(own.map((record) => records.ipOf(record))).toEqual([...neighbors.keys()]);
        for (const { ip, state, mac, at, probes } of neighbors.values()) {
          const record = records.find(index, ip as Ip);
          expect([records.stateOf(record), records.confirmedAt(record), records.probesOf(record)]).toEqual([
            state,
            at,
            probes,
          ]);
          if (mac !== undefined) expect(records.macOf(record)).toBe(mac);
        }
      }
      expect(records.count).toBe([...twin.values()].reduce((sum, neighbors) => sum + neighbors.size, 0));
    }),
  );
});

test('those that stay when a device goes are told by what they were', () => {
  const records = new NeighborRecords(new NumberTable());
  for (let i = 0; i < 20; i++) records.add(i % 3, i as Ip);
  expect(records.removeDevice(1)).toEqual([0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]);
  expect([records.find(0, 18 as Ip), records.find(1, 1 as Ip)]).toEqual([12, NO_RECORD]);
});
