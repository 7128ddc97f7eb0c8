import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Simulator } from './simulator.ts';
import { type Instant, ms, us } from './time.ts';
import { Timer } from './timer.ts';

const create = () => {
  const sim = new Simulator({ seed: 'timer' });
  const place = sim.place('node-1');
  const fired: number[] = [];
  return { sim, place, fired, timer: new Timer(place, () => fired.push(sim.now)) };
};

test('a timer fires once, at its deadline', () => {
  const { sim, fired, timer } = create();
  expect([timer.armed, timer.deadline]).toEqual([false, undefined]);
  timer.start(us(5));
  expect([timer.armed, timer.deadline]).toEqual([true, us(5)]);
  sim.run();
  expect(fired).toEqual([us(5)]);
  expect([timer.armed, timer.deadline]).toEqual([false, undefined]);
});

test('restarted earlier or later, it fires at the last deadline only', () => {
  const { sim, fired, timer } = create();
  timer.start(us(5));
  timer.start(us(9));
  timer.start(us(3));
  sim.run();
  expect(fired).toEqual([us(3)]);
});

test('stopped, it does not fire, and leaves nothing pending', () => {
  const { sim, fired, timer } = create();
  timer.start(us(5));
  timer.start(us(7));
  timer.stop();
  timer.stop();
  expect(sim.pendingEvents).toBe(0);
  sim.run();
  expect([fired, sim.now]).toEqual([[], 0]);
});

test('its action may start it again', () => {
  const { sim, place } = create();
  const fired: number[] = [];
  const timer: Timer = new Timer(place, () => {
    fired.push(sim.now);
    if (fired.length < 3) timer.start(us(2 ** fired.length)); // 2, then 4: a backoff
  });
  timer.start(us(1));
  sim.run();
  expect(fired).toEqual([us(1), us(3), us(7)]);
});

test('moving the deadline later a thousand times costs two events', () => {
  const { sim, place, fired, timer } = create();
  const acknowledge = () => timer.start(ms(200));
  for (let i = 0; i < 1_000; i++) place.schedule(us(10 * i), acknowledge, undefined);
  sim.run();
  expect(fired).toEqual([us(9_990) + ms(200)]);
  expect(sim.executedEvents).toBe(1_000 + 2);
});

test('the past is refused', () => {
  const { sim, timer } = create();
  sim.run({ until: 100 as Instant });
  timer.start(us(1));
  expect(() => timer.startAt(99 as Instant)).toThrow('timer at 99 ns; expected not before now, 100 ns');
  expect(timer.deadline).toBe(1_100);
});

test('any course of starts and stops fires like a timer that cancels and schedules anew', () => {
  const course = fc.array(fc.record({ gapUs: fc.nat(30), delayUs: fc.option(fc.nat(60), { nil: undefined }) }));
  fc.assert(
    fc.property(course, (commands) => {
      const { sim, place, fired, timer } = create();
      const expected: number[] = [];
      let pending = place.scheduleCancellable(us(0), () => {}, undefined);
      let at = 0;
      for (const { gapUs, delayUs } of commands) {
        at += us(gapUs);
        const command = () => {
          place.cancel(pending);
          if (delayUs === undefined) return timer.stop();
          timer.start(us(delayUs));
          pending = place.scheduleCancellable(us(delayUs), () => expected.push(sim.now), undefined);
        };
        place.scheduleAt(at as Instant, command, undefined);
      }
      sim.run();
      expect(fired).toEqual(expected);
    }),
  );
});
