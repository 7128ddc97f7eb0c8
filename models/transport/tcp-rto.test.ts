import { expect, test } from 'vitest';
import { ms, s } from '../../engine/time.ts';
import { RetransmissionTimeout, retryPeriod } from './tcp-rto.ts';
import { LINUX_TCP } from './tcp-settings.ts';

test('before the first measurement the timeout is one second', () => {
  expect(new RetransmissionTimeout(LINUX_TCP).current).toBe(s(1));
});

test('the minimum of 200 ms is added to the round trip', () => {
  const timeout = new RetransmissionTimeout(LINUX_TCP);
  timeout.measured(ms(2)); // variation 1 ms, four times that is less than 200 ms
  expect(timeout.smoothedRtt).toBe(ms(2));
  expect(timeout.current).toBe(ms(202));
});

test('a varying round trip lengthens the timeout', () => {
  const timeout = new RetransmissionTimeout(LINUX_TCP);
  timeout.measured(ms(100)); //  srtt 100, rttvar 50
  timeout.measured(ms(300)); //  rttvar 50 + (200 - 50) / 4 = 87.5; srtt 100 + 200 / 8 = 125
  expect(timeout.smoothedRtt).toBe(ms(125));
  expect(timeout.current).toBe(ms(125 + 4 * 87.5));
});

test('each backoff doubles it, up to two minutes, and a measurement ends that', () => {
  const timeout = new RetransmissionTimeout(LINUX_TCP);
  timeout.measured(ms(10));
  timeout.backOff();
  timeout.backOff();
  expect(timeout.current).toBe(ms(4 * 210));
  for (let i = 0; i < 20; i++) timeout.backOff();
  expect(timeout.current).toBe(s(120));
  timeout.measured(ms(10));
  expect(timeout.current).toBe(ms(210));
});

test('15 retries are 924.6 s, 8 retries 102.2 s', () => {
  expect(retryPeriod(15)).toBe(s(924.6)); // (2^10 - 1) * 0.2 + 6 * 120
  expect(retryPeriod(8)).toBe(s(102.2)); //  (2^9 - 1) * 0.2
});
