import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Fingerprint } from './fingerprint.ts';
import type { Instant } from './time.ts';

type Event = { time: number; key: number };

const fingerprint = (events: Event[]): string => {
  const print = new Fingerprint();
  for (const { time, key } of events) print.add({ timeOf: () => time as Instant, keyOf: () => key }, 0);
  return print.toString();
};

test('nothing is sixteen zeros', () => {
  expect(fingerprint([])).toBe('0000000000000000');
});

test('the order of events does not matter', () => {
  const event = fc.record({ time: fc.maxSafeNat(), key: fc.maxSafeNat() });
  fc.assert(
    fc.property(fc.array(event), (events) => {
      expect(fingerprint([...events].reverse())).toBe(fingerprint(events));
    }),
  );
});

test('one nanosecond, one key, one missing event, or two exchanged times show', () => {
  const first = { time: 1_000, key: 2 ** 37 };
  const second = { time: 2_000, key: 3 * 2 ** 37 + 1 };
  const third = { time: 2 ** 40, key: 5 };
  const variants = [
    [first, second, third],
    [second, third],
    [{ ...first, time: 1_001 }, second, third],
    [{ ...first, key: 2 ** 38 }, second, third],
    [first, second, { ...third, time: 2 ** 41 }],
    [{ ...first, time: second.time }, { ...second, time: first.time }, third],
  ];
  expect(new Set(variants.map(fingerprint)).size).toBe(variants.length);
});

test('the prints of 100,000 neighbouring events collide no more than random numbers, in each half', () => {
  const high = new Set<string>();
  const low = new Set<string>();
  for (let time = 0; time < 100; time++) {
    for (let place = 0; place < 10; place++) {
      for (let counter = 0; counter < 100; counter++) {
        const print = fingerprint([{ time, key: place * 2 ** 37 + counter }]);
        high.add(print.slice(0, 8));
        low.add(print.slice(8));
      }
    }
  }
  expect(high.size).toBeGreaterThan(99_990); // of 2^32 values, 10^10 / 2^33 = 1.2 pairs are expected to meet
  expect(low.size).toBeGreaterThan(99_990);
});
