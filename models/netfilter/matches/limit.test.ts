import { expect, test } from 'vitest';
import { type Duration, ms, s } from '../../../engine/time.ts';
import { frameOf, TestNamespace } from '../rules.fixture.ts';

test('a burst passes at once, then one frame per interval, and an idle time refills no more than the burst', () => {
  const node = new TestNamespace(`
    *filter
    :INPUT DROP [0:0]
    -A INPUT -m limit --limit 2/second --limit-burst 3 -j ACCEPT
    COMMIT
  `);
  const frames = (count: number): number => {
    const verdicts = Array.from({ length: count }, () => node.walk(frameOf(), 'filter', 'INPUT'));
    return verdicts.filter((verdict) => verdict === 'ACCEPT').length;
  };
  const after = (delay: Duration, count: number): number => {
    node.wait(delay);
    return frames(count);
  };
  expect(frames(10)).toBe(3);
  expect(after(ms(499), 10)).toBe(0);
  expect(after(ms(1), 10)).toBe(1);
  expect(after(ms(1_250), 10)).toBe(2); // 2.5 tokens; the half stays
  expect(after(ms(250), 10)).toBe(1);
  expect(after(s(100), 10)).toBe(3);
});
