import { expect, test } from 'vitest';
import { Simulator } from '../simulator.ts';
import { us } from '../time.ts';
import { Counter } from './counter.ts';
import { TimeAverage } from './time-average.ts';

test('the average weighs each value with the time that it lasted', () => {
  const sim = new Simulator({ seed: 'x' });
  const place = sim.place('node-1');
  const length = new TimeAverage(place);
  place.schedule(us(10), (value: number) => length.set(value), 4); // 0 for 10 us
  place.schedule(us(15), (amount: number) => length.add(amount), -3); // 4 for 5 us
  place.schedule(us(25), () => {}, undefined); // 1 for 10 us
  sim.run();
  expect(length.mean).toBe((0 * 10 + 4 * 5 + 1 * 10) / 25);
  expect([length.value, length.max, length.elapsed]).toEqual([1, 4, us(25)]);
});

test('restart forgets the past and keeps the value', () => {
  const sim = new Simulator({ seed: 'x' });
  const place = sim.place('node-1');
  const busy = new TimeAverage(sim, 7);
  place.schedule(us(10), (value: number) => busy.set(value), 2);
  place.schedule(us(20), () => busy.restart(), undefined);
  place.schedule(us(30), () => {}, undefined);
  sim.run();
  expect([busy.mean, busy.max, busy.elapsed]).toEqual([2, 2, us(10)]);
});

test('before any time has passed, the average is the present value', () => {
  expect(new TimeAverage(new Simulator({ seed: 'x' }), 3).mean).toBe(3);
});

test('a counter counts', () => {
  const bytes = new Counter();
  bytes.add();
  bytes.add(1_500);
  expect(bytes.value).toBe(1_501);
});
