import { describe, expect, test } from 'vitest';
import { Simulator } from '../../../engine/simulator.ts';
import { type Duration, inMs, inSeconds, after as later, ms, START, s } from '../../../engine/time.ts';
import { BoundedFrequencyRunner } from './bounded-frequency-runner.ts';

/** When runs begin, in seconds, if each takes `lasting` and runs are asked for at these seconds. */
function beginnings({
  requests,
  lasting = ms(0),
  min = s(1),
  max = s(3_600),
  until = s(100),
}: {
  requests: readonly number[];
  lasting?: Duration;
  min?: Duration;
  max?: Duration;
  until?: Duration;
}): number[] {
  const sim = new Simulator({ seed: 'runner' });
  const place = sim.place('node-1');
  const begun: number[] = [];
  const runner = new BoundedFrequencyRunner(place, {
    min,
    max,
    run: (ended) => {
      begun.push(inSeconds(sim.now));
      place.schedule(lasting, ended, undefined);
    },
  });
  for (const at of requests) place.scheduleAt(later(START, s(at)), () => runner.request(), undefined);
  sim.run({ until: later(START, until) });
  return begun;
}

describe('the runner of syncs', () => {
  test('runs at once, twice in a row, and then one minimum interval after the last run', () => {
    expect(beginnings({ requests: [5, 5.1, 5.2] })).toEqual([5, 5.1, 6.1]);
  });

  test('makes one run of all requests that wait', () => {
    expect(beginnings({ requests: [5, 5.1, 5.2, 5.3, 5.4, 5.9] })).toEqual([5, 5.1, 6.1]);
  });

  test('counts the minimum interval from the end of a run, and keeps the token that a long run earns', () => {
    // 5 s: both tokens are there. 5.4 s: the second, and 0.4 of a third. From 5.8 s on the next waits until 6.8 s, when
    // there are 1.8; the run leaves 0.8 and earns 0.4, so that what is asked for meanwhile follows at once.
    expect(beginnings({ requests: [5, 5.1, 5.5, 6.9], lasting: ms(400) })).toEqual([5, 5.4, 6.8, 7.2]);
  });

  test('runs without a pause if runs take longer than the minimum interval', () => {
    const requests = Array.from({ length: 100 }, (_, i) => i / 10);
    expect(beginnings({ requests, lasting: s(2), until: s(9) })).toEqual([0, 2, 4, 6, 8]);
  });

  test('has no limit without a minimum interval', () => {
    expect(beginnings({ requests: [1, 1.001, 1.002], min: s(0) })).toEqual([1, 1.001, 1.002]);
  });

  test('runs again when the maximum interval has passed since the end of the last run', () => {
    expect(beginnings({ requests: [5], max: s(30), lasting: s(1) })).toEqual([5, 36, 67, 98]);
  });

  test('retries at the earliest of the times asked for, even if asked during the run', () => {
    const sim = new Simulator({ seed: 'runner' });
    const place = sim.place('node-1');
    const begun: number[] = [];
    const runner = new BoundedFrequencyRunner(place, {
      min: s(1),
      max: s(3_600),
      run: (ended) => {
        if (begun.push(inMs(sim.now)) === 1) {
          runner.retryAfter(s(40));
          runner.retryAfter(s(30));
        }
        place.schedule(ms(200), ended, undefined);
      },
    });
    runner.request();
    sim.run({ until: later(START, s(100)) });
    expect(begun).toEqual([0, 30_000]);
  });
});
