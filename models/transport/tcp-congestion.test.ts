import { expect, test } from 'vitest';
import { type Instant, ms, s } from '../../engine/time.ts';
import { CongestionWindow } from './tcp-congestion.ts';

const MSS = 1_000;
const rtt = ms(100);

/** Acknowledges whole windows, one per round trip, and returns the window in segments after each. */
function grow(window: CongestionWindow, { rounds, from }: { rounds: number; from: number }): number[] {
  return Array.from({ length: rounds }, (_, round) => {
    const now = (from + round * rtt) as Instant;
    for (let acked = 0, all = window.bytes; acked < all; acked += MSS) {
      window.acknowledged({ ackedBytes: MSS, now, smoothedRtt: rtt });
    }
    return window.bytes / MSS;
  });
}

test('slow start doubles the window each round trip from 10 segments', () => {
  const window = new CongestionWindow({ mssBytes: MSS, initialSegments: 10 });
  expect(grow(window, { rounds: 3, from: 0 })).toEqual([20, 40, 80]);
});

test('a loss takes 30 % of the window, a timeout all but one segment', () => {
  const window = new CongestionWindow({ mssBytes: MSS, initialSegments: 100 });
  window.reduce();
  expect(window.bytes / MSS).toBeCloseTo(70);
  window.collapse();
  expect(window.bytes / MSS).toBe(1);
  expect(window.slowStartThresholdBytes / MSS).toBeCloseTo(49);
});

test('after a loss the cubic is back at the old window after K = cbrt(0.3 W / 0.4) seconds, flat there, then steep', () => {
  const window = new CongestionWindow({ mssBytes: MSS, initialSegments: 1_000 });
  window.reduce();
  const windows = grow(window, { rounds: 200, from: s(1) });
  const after = (seconds: number): number => windows[seconds * 10]!;
  const K = Math.cbrt((1_000 * 0.3) / 0.4); // 9.1 s
  expect(K).toBeCloseTo(9.09, 2);
  expect(after(9)).toBeGreaterThan(990);
  expect(after(9)).toBeLessThan(1_010);
  expect(after(10) - after(8)).toBeLessThan(10);
  expect(after(15)).toBeCloseTo(1_000 + 0.4 * (15.1 - K) ** 3, -1); // the target is a round trip ahead
});

test('with short round trips it grows like Reno: 0.53 segments per round trip up to the old window, then 1', () => {
  const window = new CongestionWindow({ mssBytes: MSS, initialSegments: 20 });
  window.reduce(); // to 14
  let now = s(1) as number;
  const round = (): number => {
    for (let acked = 0, all = window.bytes; acked < all; acked += MSS) {
      window.acknowledged({ ackedBytes: MSS, now: now as Instant, smoothedRtt: ms(1) });
    }
    now += ms(1);
    return window.bytes / MSS;
  };
  const windows = Array.from({ length: 30 }, round);
  expect((windows[9]! - 14) / 10).toBeCloseTo((3 * 0.3) / 1.7, 1); // 3 (1 - 0.7) / (1 + 0.7) = 0.53
  expect(windows[29]! - windows[19]!).toBeGreaterThan(9);
});

test('an idle sender loses half of its window per timeout, down to the initial one', () => {
  const window = new CongestionWindow({ mssBytes: MSS, initialSegments: 10 });
  grow(window, { rounds: 4, from: 0 }); // 160
  window.idle(ms(500), ms(200)); //        (500 - 200) ms: two halvings
  expect(window.bytes / MSS).toBe(40);
  window.idle(s(10), ms(200));
  expect(window.bytes / MSS).toBe(10);
});
