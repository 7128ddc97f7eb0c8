// The flow cache makes no difference: clusters with random rules, settings, loads and mishaps do the same with it and
// without, to the nanosecond and to the last counter.

import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { anyStory } from './cluster-random-story.fixture.ts';
import { type Story, tell } from './cluster-story.fixture.ts';
import { FlowCache } from './ip/flow-cache.ts';

test('runs with and without the flow cache are the same', { timeout: 120_000 }, () => {
  const repeat = vi.spyOn(FlowCache.prototype, 'repeat');
  let repeated = 0;
  fc.assert(
    fc.property(anyStory, (told) => {
      const expected = tell(told, { hasNoFlowCache: true });
      repeat.mockClear();
      expect(tell(told)).toEqual(expected);
      repeated += repeat.mock.results.filter(({ value }) => value === true).length;
    }),
    { numRuns: 60 },
  );
  expect(repeated).toBeGreaterThan(10_000);
});

test('so they are through tunnels, which are no way that is remembered', { timeout: 120_000 }, () => {
  const anyNetwork = fc.constantFrom('flannel-vxlan', 'calico-ipip');
  fc.assert(
    fc.property(anyStory, anyNetwork, (told, cni) => {
      const story: Story = cni === 'calico-ipip' ? { ...told, ipFamily: 'ipv4', cni } : { ...told, cni };
      expect(tell(story)).toEqual(tell(story, { hasNoFlowCache: true }));
    }),
    { numRuns: 20 },
  );
});
