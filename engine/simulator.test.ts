import { expect, test } from 'vitest';
import { Simulator } from './simulator.ts';
import { ns } from './time.ts';

test('smoke', () => {
  const sim = new Simulator({ seed: 'a' });
  const place = sim.place('x');
  const seen: number[] = [];
  place.schedule(
    ns(5),
    (n: number) => {
      seen.push(n, sim.now);
      place.schedule(ns(0), (m: number) => seen.push(m), 9);
    },
    7,
  );
  sim.run();
  expect(seen).toEqual([7, 5, 9]);
  console.log(sim.fingerprint, place.random('a').uniform());
});
