import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { HeapEventList } from './heap-event-list.ts';
import { type EventHandle, Simulator } from './simulator.ts';
import { END_OF_TIME, type Instant, minutes, ns, us } from './time.ts';

const create = () => {
  const sim = new Simulator({ seed: 'test' });
  const log: string[] = [];
  const say = (text: string) => log.push(`${sim.now} ${text}`);
  return { sim, place: sim.place('node-1'), log, say };
};

describe('order', () => {
  test('events run at their time, with their argument', () => {
    const { sim, place, log, say } = create();
    place.schedule(us(2), say, 'late');
    place.schedule(us(1), say, 'early');
    place.scheduleAt(1_000_000 as Instant, say, 'last');
    sim.run();
    expect(log).toEqual(['1000 early', '2000 late', '1000000 last']);
    expect(sim.executedEvents).toBe(3);
  });

  test('at one instant, a place goes by the order of its calls, and places by the order of their creation', () => {
    const { sim, place, log, say } = create();
    const later = sim.place('node-2');
    later.schedule(us(1), say, 'node-2 a');
    place.schedule(us(1), say, 'node-1 a');
    later.schedule(us(1), say, 'node-2 b');
    place.schedule(us(1), say, 'node-1 b');
    sim.run();
    expect(log).toEqual(['1000 node-1 a', '1000 node-1 b', '1000 node-2 a', '1000 node-2 b']);
  });

  test('an event scheduled for now runs after the current one, at the same instant', () => {
    const { sim, place, log, say } = create();
    const first = () => {
      place.schedule(ns(0), say, 'last');
      say('first');
    };
    place.schedule(us(1), first, undefined);
    place.schedule(us(1), say, 'scheduled before');
    sim.run();
    expect(log).toEqual(['1000 first', '1000 scheduled before', '1000 last']);
  });

  test('what one place schedules does not change the order of the events of another', () => {
    const run = (busy: boolean) => {
      const { sim, place, log, say } = create();
      const other = sim.place('other');
      for (let i = 0; i < 10; i++) {
        if (busy) other.schedule(us(i % 3), () => {}, undefined);
        place.schedule(us(i % 4), say, String(i));
      }
      sim.run();
      return log;
    };
    expect(run(true)).toEqual(run(false));
  });

  test('the past, fractions and the end of time are refused', () => {
    const { sim, place } = create();
    sim.run({ until: 5_000 as Instant });
    expect(() => place.scheduleAt(4_999 as Instant, () => {}, undefined)).toThrow(
      'event at 4999 ns; expected whole nanoseconds, not before now, 5000 ns',
    );
    expect(() => place.scheduleAt(5_000.5 as Instant, () => {}, undefined)).toThrow(RangeError);
    expect(() => place.scheduleAt(END_OF_TIME, () => {}, undefined)).toThrow(RangeError);
    expect(() => sim.run({ until: 4_999 as Instant })).toThrow('run until 4999 ns');
  });
});

describe('run', () => {
  test('until an instant: its own events still run, later ones stay, and the clock shows it', () => {
    const { sim, place, log, say } = create();
    place.schedule(us(10), say, 'on time');
    place.schedule(ns(10_001), say, 'too late');
    sim.run({ until: 10_000 as Instant });
    expect(log).toEqual(['10000 on time']);
    expect([sim.now, sim.pendingEvents]).toEqual([10_000, 1]);
    sim.run();
    expect(log[1]).toBe('10001 too late');
  });

  test('without a limit the clock stops at the last event', () => {
    const { sim, place, say } = create();
    place.schedule(minutes(90), say, 'far away');
    sim.run();
    expect(sim.now).toBe(minutes(90));
    sim.run();
    expect(sim.now).toBe(minutes(90));
  });

  test('after a look at a far event, nearer ones may still be scheduled', () => {
    const { sim, place, log, say } = create();
    place.schedule(minutes(5), say, 'far');
    sim.run({ until: 1_000 as Instant });
    place.schedule(ns(0), say, 'now');
    place.schedule(us(3), say, 'near');
    sim.run();
    expect(log).toEqual(['1000 now', '4000 near', '300000000000 far']);
  });

  test('stop() ends it after the current event; another run() goes on', () => {
    const { sim, place, log, say } = create();
    place.schedule(us(1), () => sim.stop(), undefined);
    place.schedule(us(2), say, 'after the stop');
    sim.run({ until: 5_000 as Instant });
    expect([sim.now, log]).toEqual([1_000, []]);
    sim.run({ until: 5_000 as Instant });
    expect([sim.now, log]).toEqual([5_000, ['2000 after the stop']]);
  });

  test('an error of a model comes out of run(), which may be called again', () => {
    const { sim, place, log, say } = create();
    const fail = () => {
      throw new Error('broken model');
    };
    place.schedule(us(1), fail, undefined);
    place.schedule(us(2), say, 'next');
    expect(() => sim.run()).toThrow('broken model');
    sim.run();
    expect(log).toEqual(['2000 next']);
  });

  test('run() inside an event is refused', () => {
    const { sim, place } = create();
    place.schedule(us(1), () => sim.run(), undefined);
    expect(() => sim.run()).toThrow('run() was called by an event');
  });
});

describe('cancel', () => {
  test('a cancelled event does not run', () => {
    const { sim, place, log, say } = create();
    const handle = place.scheduleCancellable(us(1), say, 'cancelled');
    place.schedule(us(1), say, 'kept');
    expect(place.cancel(handle)).toBe(true);
    expect(sim.pendingEvents).toBe(1);
    sim.run();
    expect(log).toEqual(['1000 kept']);
  });

  test('a cancelled event does not draw the clock: nearer ones may still be scheduled', () => {
    const { sim, place, log, say } = create();
    place.scheduleCancellable(us(1), say, 'ran');
    place.cancel(place.scheduleCancellable(minutes(1), say, 'cancelled'));
    sim.run();
    expect(sim.now).toBe(us(1));
    for (const delay of [us(9), us(2), minutes(1)]) place.schedule(delay, say, 'later');
    sim.run();
    expect(log).toEqual(['1000 ran', '3000 later', '10000 later', '60000001000 later']);
  });

  test('an event may cancel another of the same instant', () => {
    const { sim, place, log, say } = create();
    place.schedule(us(1), () => expect(place.cancel(second)).toBe(true), undefined);
    const second = place.scheduleCancellable(us(1), say, 'second');
    sim.run();
    expect([log, sim.executedEvents]).toEqual([[], 1]);
  });

  test('of many events each handle names its own, and is stale when its slot is used again', () => {
    const { sim, place, log, say } = create();
    const schedule = (round: string) =>
      Array.from({ length: 3_000 }, (_, i) => place.scheduleCancellable(us(1), say, `${round} ${i}`));
    const before = schedule('first');
    expect(before.every((handle) => place.cancel(handle))).toBe(true);
    const after = schedule('second');
    expect([...before, ...before].some((handle) => place.cancel(handle))).toBe(false);
    expect(after.slice(1).every((handle) => place.cancel(handle))).toBe(true);
    sim.run();
    expect(log).toEqual(['1000 second 0']);
  });

  test('a handle that has run or was cancelled is harmless, also when its slot is in use again', () => {
    const { sim, place, log, say } = create();
    const ran = place.scheduleCancellable(us(1), say, 'ran');
    sim.run();
    const cancelled = place.scheduleCancellable(us(1), say, 'never');
    place.cancel(cancelled);
    place.schedule(us(1), say, 'reuses a slot');
    place.schedule(us(1), say, 'reuses another');
    expect([place.cancel(ran), place.cancel(cancelled)]).toEqual([false, false]);
    sim.run();
    expect(log).toEqual(['1000 ran', '2000 reuses a slot', '2000 reuses another']);
  });

  test('an event cannot cancel itself', () => {
    const { sim, place } = create();
    const handle: EventHandle = place.scheduleCancellable(
      us(1),
      () => expect(place.cancel(handle)).toBe(false),
      undefined,
    );
    sim.run();
    expect(sim.executedEvents).toBe(1);
  });
});

describe('places', () => {
  test('names are unique and ids count up', () => {
    const { sim, place } = create();
    expect([place.id, sim.place('node-2').id]).toEqual([0, 1]);
    expect(() => sim.place('node-2')).toThrow('place "node-2" exists already');
  });

  test('each has random streams of its own', () => {
    const { sim, place } = create();
    const twin = new Simulator({ seed: 'test' });
    sim.place('node-2').random('arrivals').uniform();
    expect(place.random('arrivals').uniform()).toBe(twin.random.stream('node-1/arrivals').uniform());
  });
});

describe('fingerprint', () => {
  /** Events that beget events on three places, with random delays. */
  const trajectory = (seed: string, { heap = false, extraEvent = false } = {}) => {
    const sim = new Simulator(heap ? { seed, eventList: new HeapEventList() } : { seed });
    for (const name of ['node-1', 'node-2', 'switch']) {
      const place = sim.place(name);
      const delays = place.random('delays');
      const beget = (generations: number) => {
        if (generations > 0) place.schedule(delays.exponential(us(10)), beget, generations - 1);
      };
      for (let i = 0; i < 5; i++) beget(20);
    }
    if (extraEvent) sim.place('extra').schedule(us(1), () => {}, undefined);
    sim.run();
    return sim.fingerprint;
  };

  test('same seed, same fingerprint, whatever the event list', () => {
    expect(trajectory('a')).toMatch(/^[0-9a-f]{16}$/);
    expect(trajectory('a')).toBe(trajectory('a'));
    expect(trajectory('a')).toBe(trajectory('a', { heap: true }));
  });

  test('another seed or another event shows', () => {
    expect(trajectory('a')).not.toBe(trajectory('b'));
    expect(trajectory('a')).not.toBe(trajectory('a', { extraEvent: true }));
  });
});

test('a simulator runs every event that is not cancelled, in order of time, whatever is scheduled', () => {
  const delay = fc.oneof(
    fc.nat(20),
    fc.nat(2_000),
    fc.nat(2 ** 31 - 1).map((n) => n * 1_000),
  );
  const plan = fc.array(fc.record({ first: delay, second: delay, cancelled: fc.boolean() }), { maxLength: 200 });
  fc.assert(
    fc.property(plan, (events) => {
      const { sim, place } = create();
      const times: number[] = [];
      const expected: number[] = [];
      for (const { first, second, cancelled } of events) {
        const action = () => {
          times.push(sim.now);
          place.schedule(ns(second), () => times.push(sim.now), undefined);
        };
        const handle = place.scheduleCancellable(ns(first), action, undefined);
        if (cancelled) place.cancel(handle);
        else expected.push(first, first + second);
      }
      sim.run();
      expect(times).toEqual(expected.sort((a, b) => a - b));
      expect(sim.pendingEvents).toBe(0);
    }),
  );
});
