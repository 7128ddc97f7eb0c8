import { expect, test } from 'vitest';
import { after, ms, START, s } from '../engine/time.ts';
import type { BenchRow } from './report.ts';
import { buildChurn, buildStaying, run, sizesOf } from './soak.bench.ts';

type Sizes = ReturnType<typeof sizesOf>;

test('flows that stay take no more at 10 t than at t', { timeout: 60_000 }, () => {
  const cluster = buildStaying();
  cluster.run(after(START, s(0.5)));
  const early = sizesOf(cluster);
  cluster.run(after(START, s(5)));
  const late = sizesOf(cluster);
  expect(early.conntrackEntries).toBeGreaterThan(200);
  // Timers of neighbors that have been confirmed meanwhile are over.
  expect(late.pendingEvents).toBeLessThanOrEqual(early.pendingEvents);
  expect({ ...late, pendingEvents: early.pendingEvents }).toEqual(early);
});

test('connections that come and go take no more at 10 t than at t, when the first ones are forgotten', {
  timeout: 60_000,
}, () => {
  const cluster = buildChurn({ thinkTime: ms(500) });
  // Conntrack and sockets remember a TCP connection for one to two minutes.
  cluster.run(after(START, s(300)));
  const early = sizesOf(cluster);
  cluster.run(after(START, s(3_000)));
  const late = sizesOf(cluster);
  const perSecond = 16 / 0.5;
  const entriesAtOnce = 2 * (perSecond / 2) * (30 + 120);
  expect(early.tcpTimeWait).toBeGreaterThan(0.95 * (perSecond / 2) * 60);
  expect(early.conntrackEntries).toBeGreaterThan(0.95 * entriesAtOnce);
  // A table holds at most twice its live entries (conntrack.ts), and gets there slowly.
  expect(late.conntrackEntries).toBeLessThan(2 * entriesAtOnce);
  for (const name of Object.keys(early) as (keyof Sizes)[])
    if (name !== 'conntrackEntries' && name !== 'flowCacheRecords')
      expect([name, late[name]]).toEqual([name, near(early[name])]);
  // It is as large as the busiest moment so far has made it: once more at most, where it was about to grow.
  expect(late.flowCacheRecords).toBeLessThanOrEqual(2 * early.flowCacheRecords);
});

/** As many, but for a few that happen to be there at one instant and not at the other. */
const near = (count: number) => expect.toSatisfy((other: number) => Math.abs(other - count) <= 20 + 0.02 * count);

test('the soak bench tells events per second at t and at 10 t, and how one is to the other', async () => {
  const rows: BenchRow[] = [];
  const soak = { variant: 'a few', build: () => buildChurn({ thinkTime: ms(50) }), t: s(1), window: ms(50) };
  await run({ add: (row) => rows.push(row) }, [soak]);
  expect(rows.map(({ variant, unit }) => `${variant}: ${unit}`)).toEqual([
    'around 1 s: events/s',
    'around 10 s: events/s',
    'late over early: times',
  ]);
  expect(rows.every(({ value, rsd }) => value > 0 && rsd! >= 0)).toBe(true);
});
