// Every scheduler beside a slow and obvious twin: what the kernel's loops amount to.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Ip, parseIp, parseIpv6 } from '../../../packet/ip-address.ts';
import { foldIp, RealServer, SCHEDULER_NAMES, type SchedulerName } from '../virtual-server.ts';
import { hash32 } from './address-hash.ts';
import { MAGLEV_PLACES, type MaglevMember, maglevTable } from './maglev.ts';
import { newScheduler } from './registry.ts';
import type { Scheduler, SchedulerRequest } from './scheduler.ts';

const VIP = parseIp('10.96.0.10');
const from = (host: number, clientPort = 40_000): SchedulerRequest => ({
  clientIp: (parseIp('10.244.0.0') + host) as Ip,
  clientPort,
  virtualIp: VIP,
});

const serversOf = (weights: readonly number[]): RealServer[] =>
  weights.map((weight, i) => new RealServer({ ip: parseIp(`10.1.0.${i + 1}`), port: 8080, weight }));

function schedulerFor(scheduler: SchedulerName, servers: readonly RealServer[]): Scheduler {
  const created = newScheduler({ scheduler });
  created.changed?.(servers);
  return created;
}

const weights = fc.array(fc.integer({ min: 0, max: 6 }), { minLength: 1, maxLength: 7 });

describe('rr', () => {
  test('is the list of those with a weight, over and over', () => {
    fc.assert(
      fc.property(weights, (weights) => {
        const servers = serversOf(weights);
        const scheduler = schedulerFor('rr', servers);
        const eligible = servers.filter(({ weight }) => weight > 0);
        for (let i = 0; i < 20; i++)
          expect(scheduler.choose(servers, from(i))).toBe(
            eligible.length === 0 ? undefined : eligible[i % eligible.length],
          );
      }),
    );
  });

  test('goes on where it was when servers come and go', () => {
    const servers = serversOf([1, 1, 1, 1]);
    const [a, b, c, d] = servers as [RealServer, RealServer, RealServer, RealServer];
    const scheduler = schedulerFor('rr', servers);
    expect([scheduler.choose(servers, from(1)), scheduler.choose(servers, from(1))]).toEqual([a, b]);
    servers.splice(1, 1); // b, whose turn it was last
    scheduler.removed?.(servers, 1, b);
    expect([1, 2, 3].map((i) => scheduler.choose(servers, from(i)))).toEqual([c, d, a]);
  });
});

test('wrr falls from the largest weight to the least, and all that reach the threshold have their turn', () => {
  const divisor = (a: number, b: number): number => (b === 0 ? a : divisor(b, a % b));
  fc.assert(
    fc.property(weights, (weights) => {
      const servers = serversOf(weights);
      const step = weights.reduce(divisor, 0);
      const cycle: RealServer[] = [];
      for (let threshold = Math.max(...weights); threshold > 0; threshold -= step)
        cycle.push(...servers.filter(({ weight }) => weight >= threshold));
      const scheduler = schedulerFor('wrr', servers);
      for (let i = 0; i < 3 * cycle.length; i++)
        expect(scheduler.choose(servers, from(i))).toBe(cycle[i % cycle.length]);
      if (cycle.length === 0) expect(scheduler.choose(servers, from(0))).toBeUndefined();
      // As often as its weight says, over one cycle.
      for (const server of servers)
        expect(cycle.filter((one) => one === server).length * step).toBe(server.weight * Math.sign(step));
    }),
  );
});

describe('those that look at connections choose the least, and the first of equals', () => {
  /** What each compares, as an exact fraction. */
  const FRACTIONS: Readonly<Record<string, (server: RealServer) => readonly [bigint, bigint]>> = {
    lc: ({ activeConnections: a, inactiveConnections: i }) => [BigInt(a * 256 + i), 1n],
    wlc: ({ activeConnections: a, inactiveConnections: i, weight }) => [BigInt(a * 256 + i), BigInt(weight)],
    sed: ({ activeConnections: a, weight }) => [BigInt(a + 1), BigInt(weight)],
    nq: ({ activeConnections: a, weight }) => (a === 0 ? [0n, 1n] : [BigInt(a + 1), BigInt(weight)]),
  };
  const anyServer = fc.record({
    weight: fc.integer({ min: 0, max: 6 }),
    active: fc.integer({ min: 0, max: 4 }),
    inactive: fc.integer({ min: 0, max: 600 }),
  });

  test.each(Object.keys(FRACTIONS) as SchedulerName[])('%s', (name) => {
    fc.assert(
      fc.property(fc.array(anyServer, { minLength: 1, maxLength: 7 }), (fields) => {
        const servers = serversOf(fields.map(({ weight }) => weight));
        for (const [i, { active, inactive }] of fields.entries()) {
          servers[i]!.activeConnections = active;
          servers[i]!.inactiveConnections = inactive;
        }
        const sorted = servers
          .filter(({ weight }) => weight > 0)
          .map((server) => ({ server, fraction: FRACTIONS[name]!(server) }))
          .sort(({ fraction: [p, q] }, { fraction: [r, s] }) => Number(p * s - r * q)); // stable
        expect(schedulerFor(name, servers).choose(servers, from(1))).toBe(sorted[0]?.server);
      }),
    );
  });
});

describe('sh and dh', () => {
  test('deal 256 buckets out in turn, and the address says which', () => {
    fc.assert(
      fc.property(weights, fc.integer({ min: 0, max: 60_000 }), (weights, host) => {
        const servers = serversOf(weights);
        const request = from(host);
        const bucketsBy = (turnsOf: (server: RealServer) => number): RealServer[] => {
          const buckets: RealServer[] = [];
          while (buckets.length < 256)
            for (const server of servers) for (let i = turnsOf(server); i > 0; i--) buckets.push(server);
          return buckets;
        };
        const expected = (buckets: RealServer[], key: number): RealServer | undefined => {
          const server = buckets[hash32(key, 8)]!;
          return server.weight > 0 ? server : undefined;
        };
        const bySource = bucketsBy(({ weight }) => Math.max(weight, 1));
        expect(schedulerFor('sh', servers).choose(servers, request)).toBe(expected(bySource, request.clientIp));
        expect(schedulerFor('dh', servers).choose(servers, request)).toBe(
          expected(
            bucketsBy(() => 1),
            VIP,
          ),
        );
      }),
    );
  });
});

describe('mh', () => {
  /** The population of the paper's figure, with the permutations written out. */
  function paperTable(members: readonly MaglevMember[], places: number): number[] {
    const permutations = members.map((member) => permutationOf(member, places));
    const table = new Array<number>(places).fill(-1);
    const next = members.map(() => 0);
    for (let claimed = 0; claimed < places; ) {
      for (const [i, { weight }] of members.entries()) {
        for (let turn = 0; turn < weight && claimed < places; turn++) {
          while (table[permutations[i]![next[i]!]!] !== -1) next[i] = next[i]! + 1;
          table[permutations[i]![next[i]!]!] = i;
          claimed++;
        }
      }
    }
    return table;
  }

  /** As many members as places, all of one key and so of one permutation, claim its places in turn. */
  function permutationOf({ key }: MaglevMember, places: number): number[] {
    const order: number[] = [];
    const twins = maglevTable(new Array(places).fill({ key, weight: 1 }), places);
    for (const [place, member] of twins.entries()) order[member] = place;
    return order;
  }

  test('fills its table as the paper does', () => {
    const member = fc.record({
      key: fc.tuple(fc.integer(), fc.integer({ min: 1, max: 65_535 })),
      weight: fc.integer({ min: 1, max: 3 }),
    });
    fc.assert(
      fc.property(fc.array(member, { minLength: 1, maxLength: 8 }), (members) => {
        const table = maglevTable(members, 251);
        expect([...table]).toEqual(paperTable(members, 251));
      }),
      { numRuns: 50 },
    );
  });

  const membersOf = (count: number): MaglevMember[] =>
    Array.from({ length: count }, (_, i) => ({ key: [parseIp('10.2.0.0') + i, 8080], weight: 1 }));

  test('gives each of equals its share, within one percent of the table', () => {
    const table = maglevTable(membersOf(10), MAGLEV_PLACES);
    const shares = Array.from({ length: 10 }, (_, i) => table.filter((owner) => owner === i).length);
    for (const share of shares) expect(Math.abs(share - MAGLEV_PLACES / 10)).toBeLessThan(MAGLEV_PLACES / 100);
  });

  test('a client stays where it is by the same address; with the port it need not', () => {
    const servers = serversOf([1, 1, 1]);
    const byAddress = schedulerFor('mh', servers);
    const byPort = newScheduler({ scheduler: 'mh', hashesPort: true });
    byPort.changed?.(servers);
    const chosen = (scheduler: Scheduler) =>
      new Set(Array.from({ length: 50 }, (_, i) => scheduler.choose(servers, from(7, 40_000 + i))));
    expect([chosen(byAddress).size, chosen(byPort).size]).toEqual([1, 3]);
  });
});

test('addresses of IPv6 are folded to 32 bits, the same in every run', () => {
  expect(foldIp(parseIpv6('1:2:3:4:5:6:7:8'), 6)).toBe(0x00010002 ^ 0x00030004 ^ 0x00050006 ^ 0x00070008);
  const ip = parseIpv6('fd00:10:244::5');
  expect(new RealServer({ ip, port: 8080, weight: 1, family: 6 }).foldedIp).toBe(foldIp(ip, 6));
});

test('no scheduler chooses a server of weight 0, or any where there is none', () => {
  for (const name of SCHEDULER_NAMES) {
    const quiet = serversOf([0, 0]);
    expect([name, schedulerFor(name, quiet).choose(quiet, from(1))]).toEqual([name, undefined]);
    expect([name, schedulerFor(name, []).choose([], from(1))]).toEqual([name, undefined]);
  }
});
