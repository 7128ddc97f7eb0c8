// Workers make no difference: clusters with random rules, settings, loads and mishaps do the same on one, two and three
// workers, to the nanosecond and to the last counter of every node.

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { beforeAll, expect, test } from 'vitest';
import { anyStory } from '../../models/cluster-random-story.fixture.ts';
import type { Story } from '../../models/cluster-story.fixture.ts';
import { IndivisibleError, runDivided } from './divided-run.ts';
import type { PlannedRun } from './plan.ts';
import { compileFile } from './typescript-file.ts';

let workerModule: URL;
let module: string;
let run: (story: Story) => unknown;

beforeAll(async () => {
  const compile = async (file: string) => pathToFileURL(await compileFile(join(import.meta.dirname, file)));
  workerModule = await compile('sweep-worker.ts');
  module = (await compile('testdata/story.ts')).href;
  ({
    default: { run },
  } = await import(/* @vite-ignore */ module));
}, 60_000);

/** Frames in tunnels, and pods without a bridge. */
const network = fc.constantFrom('bridge', 'flannel-vxlan', 'calico', 'calico-ipip');

test('runs on one, two and three workers are the same', { timeout: 300_000 }, async () => {
  let compared = 0;
  await fc.assert(
    fc.asyncProperty(anyStory, network, fc.constantFrom(2, 3), async (onBridges, cni, workers) => {
      const story: Story = onBridges.ipFamily === 'ipv4' || cni !== 'calico-ipip' ? { ...onBridges, cni } : onBridges;
      const together = await onWorkers(story, workers);
      if (together instanceof IndivisibleError) {
        // A pod that ends tells the kubelet at once.
        expect(story.steps.map(({ what }) => what)).toContain('one replica');
        return;
      }
      expect(together).toEqual(run(story));
      compared++;
    }),
    { numRuns: 8, endOnFailure: true }, // threads are too slow to look for a smaller story,
  );
  expect(compared).toBeGreaterThan(2);
});

async function onWorkers(story: Story, workers: number): Promise<unknown> {
  const planned = { index: 0, levels: story, replication: 1, seed: '1' } as unknown as PlannedRun;
  return runDivided(planned, { start: { module }, workers, workerModule }).catch((error) => {
    if (error instanceof IndivisibleError) return error;
    throw error;
  });
}
