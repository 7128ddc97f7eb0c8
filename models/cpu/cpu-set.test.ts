import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Simulator } from '../../engine/simulator.ts';
import { Tally } from '../../engine/stats/tally.ts';
import { between, type Duration, type Instant, ns, us } from '../../engine/time.ts';
import { FREE } from './cost-model.ts';
import { CpuSet } from './cpu-set.ts';

const create = (count = 1) => {
  const sim = new Simulator({ seed: 'cpu' });
  const place = sim.place('node-1');
  const cpus = new CpuSet(place, { count, costs: FREE });
  const log: string[] = [];
  /** Work that notes when it begins and ends. */
  const work = ({ name, cost }: { name: string; cost: Duration }) => {
    const begin = cpus.instant;
    cpus.charge(cost);
    log.push(`${name} ${begin / 1e3}-${cpus.instant / 1e3}`);
  };
  const submitAt = (at: Duration, cpu: number, name: string, cost: Duration) =>
    place.schedule(at, () => cpus.submit(cpu, work, { name, cost }), undefined);
  return { sim, place, cpus, log, work, submitAt };
};

describe('one CPU', () => {
  test('a free CPU serves at once, a busy one in the order of arrival', () => {
    const { sim, log, submitAt } = create();
    submitAt(us(0), 0, 'a', us(10));
    submitAt(us(4), 0, 'b', us(3));
    submitAt(us(5), 0, 'c', us(1));
    submitAt(us(20), 0, 'd', us(2));
    sim.run();
    expect(log).toEqual(['a 0-10', 'b 10-13', 'c 13-14', 'd 20-22']);
  });

  test('a frame that arrives as the CPU becomes free is served at once, after those that wait', () => {
    const { sim, log, submitAt } = create();
    submitAt(us(0), 0, 'a', us(10));
    submitAt(us(10), 0, 'b', us(1));
    submitAt(us(11), 0, 'c', us(1));
    sim.run();
    expect(log).toEqual(['a 0-10', 'b 10-11', 'c 11-12']);
  });

  test('it does not overtake those that wait, whose turn is an event of the same instant', () => {
    const { sim, log, submitAt } = create();
    submitAt(us(10), 0, 'late', us(1)); // its event comes before the one that wakes the CPU
    submitAt(us(0), 0, 'running', us(10));
    submitAt(us(5), 0, 'waiting', us(2));
    sim.run();
    expect(log).toEqual(['running 0-10', 'waiting 10-12', 'late 12-13']);
  });

  test('each stage of a visit happens at its own offset', () => {
    const { sim, place, cpus } = create();
    const offsets: number[] = [];
    const visit = () => {
      for (const cost of [300, 220, 315]) {
        cpus.charge(cost);
        offsets.push(between(place.now, cpus.instant));
      }
    };
    place.schedule(us(7), () => cpus.submit(0, visit, undefined), undefined);
    sim.run();
    expect(offsets).toEqual([300, 520, 835]);
    expect(cpus.busyTime(0)).toBe(835);
    expect(cpus.instant).toBe(place.now); // outside a visit nothing is charged
  });

  test('the backlog is what waits, without the visit that runs', () => {
    const { sim, place, cpus, submitAt } = create();
    const backlogs: number[] = [];
    for (const name of ['a', 'b', 'c']) submitAt(us(0), 0, name, us(10));
    for (const at of [1, 11, 21, 31]) place.schedule(us(at), () => backlogs.push(cpus.backlog(0)), undefined);
    sim.run();
    expect(backlogs).toEqual([2, 1, 0, 0]);
    expect(cpus.busyTime(0)).toBe(us(30));
  });

  test('a backlog of a thousand keeps its order', () => {
    const { sim, place, cpus } = create();
    const served: number[] = [];
    const work = (i: number) => {
      cpus.charge(us(1));
      served.push(i);
    };
    for (let i = 0; i < 1_000; i++) place.schedule(ns(i), () => cpus.submit(0, work, i), undefined);
    sim.run();
    expect(served).toEqual(Array.from({ length: 1_000 }, (_, i) => i));
    expect(sim.now).toBe(us(999)); // the last one begins
  });
});

describe('work submitted inside a visit', () => {
  test('waits for the end of the visit, and for what came before it', () => {
    const { sim, place, cpus, log, work, submitAt } = create();
    const visit = () => {
      cpus.charge(us(6));
      cpus.submit(0, work, { name: 'softirq', cost: us(1) }); // raised at 6
      cpus.charge(us(4));
      log.push('visit ends');
    };
    place.schedule(us(0), () => cpus.submit(0, visit, undefined), undefined);
    submitAt(us(2), 0, 'frame', us(5));
    sim.run();
    expect(log).toEqual(['visit ends', 'frame 10-15', 'softirq 15-16']);
  });

  test('begins at its instant on another CPU, which is free until then', () => {
    const { sim, place, cpus, log, work, submitAt } = create(2);
    const visit = () => {
      cpus.charge(us(6));
      cpus.submit(1, work, { name: 'handed over', cost: us(2) });
      cpus.charge(us(4));
    };
    place.schedule(us(0), () => cpus.submit(0, visit, undefined), undefined);
    submitAt(us(1), 1, 'frame', us(3));
    sim.run();
    expect(log).toEqual(['frame 1-4', 'handed over 6-8']);
  });
});

describe('several CPUs', () => {
  test('do not wait for each other, and are told apart', () => {
    const { sim, place, cpus, log, submitAt } = create(2);
    submitAt(us(0), 0, 'a', us(10));
    submitAt(us(1), 1, 'b', us(10));
    submitAt(us(2), 0, 'c', us(1));
    const seen: number[] = [];
    for (const cpu of [1, 0])
      place.schedule(us(50), () => cpus.submit(cpu, () => seen.push(cpus.current), 0), undefined);
    sim.run();
    expect(log).toEqual(['a 0-10', 'b 1-11', 'c 10-11']);
    expect(seen).toEqual([1, 0]);
    expect([cpus.count, cpus.busyTime(0), cpus.busyTime(1)]).toEqual([2, us(11), us(10)]);
  });

  test('a hash of 32 bits chooses one of any number of them', () => {
    const hash = fc.integer({ min: 0, max: 2 ** 32 - 1 });
    fc.assert(
      fc.property(hash, fc.integer({ min: 1, max: 300 }), (hash, count) => {
        const cpus = new CpuSet(create().place, { count, costs: FREE });
        expect(cpus.cpuOf(hash)).toBe(hash % count);
      }),
    );
  });

  test('a machine has at least one', () => {
    const { place } = create();
    expect(() => new CpuSet(place, { count: 0, costs: FREE })).toThrow('0 CPUs; expected at least 1');
  });
});

describe('theory of queues, with Poisson arrivals at 70 % load', () => {
  const service = us(10);
  const load = 0.7;

  /** Waits of one million visits: means of 20 batches, which are nearly independent. */
  function batchMeans(serviceTime: (random: { exponential(mean: Duration): Duration }) => Duration): number[] {
    const { sim, place, cpus } = create();
    const arrivals = place.random('arrivals');
    const services = place.random('services');
    const batches = Array.from({ length: 20 }, () => new Tally());
    let arrived = 0;
    const work = ({ at, batch }: { at: Instant; batch: number }) => {
      batches[batch]!.record(between(at, place.now));
      cpus.charge(serviceTime(services));
    };
    const arrive = () => {
      if (arrived === 1_000_000) return;
      place.schedule(arrivals.exponential(ns(service / load)), arrive, undefined);
      cpus.submit(0, work, { at: place.now, batch: Math.floor(arrived++ / 50_000) });
    };
    arrive();
    sim.run();
    return batches.map((batch) => batch.mean);
  }

  /** Whether the mean of the batches is within 3.9 standard errors, Student's 99.9 % interval for 20 batches. */
  function expectMean(batches: number[], expected: number): void {
    const tally = new Tally();
    for (const batch of batches) tally.record(batch);
    const standardError = tally.standardDeviation / Math.sqrt(tally.count);
    expect(standardError / expected).toBeLessThan(0.02);
    expect(Math.abs(tally.mean - expected)).toBeLessThan(3.9 * standardError);
  }

  test('M/D/1: the mean wait is rho s / 2 (1 - rho)', () => {
    expectMean(
      batchMeans(() => service),
      (load * service) / (2 * (1 - load)),
    ); // 11.7 us
  });

  test('M/M/1: the mean wait is rho s / (1 - rho)', () => {
    expectMean(
      batchMeans((random) => random.exponential(service)),
      (load * service) / (1 - load),
    ); // 23.3 us
  });
});

test('any arrivals are served like customers at counters: first come, first served, one at a time', () => {
  const visit = fc.record({ at: fc.nat(200), cpu: fc.nat(2), cost: fc.nat(30) });
  fc.assert(
    fc.property(fc.array(visit, { maxLength: 100 }), (visits) => {
      const { sim, log, submitAt } = create(3);
      for (const [i, { at, cpu, cost }] of visits.entries()) submitAt(us(at), cpu, `${i}`, us(cost));
      sim.run();

      const freeAt = [0, 0, 0];
      const expected = visits
        .map((visit, i) => ({ ...visit, i }))
        .sort((a, b) => a.at - b.at || a.i - b.i)
        .map(({ at, cpu, cost, i }) => {
          const begin = Math.max(at, freeAt[cpu]!);
          freeAt[cpu] = begin + cost;
          return `${i} ${begin}-${begin + cost}`;
        });
      expect(log.sort()).toEqual(expected.sort());
    }),
  );
});
