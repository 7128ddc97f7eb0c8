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

test('runs on one, two and three workers are the same', { timeout: 300_000 }, async () => {
  let compared = 0;
  await fc.assert(
    fc.asyncProperty(anyStory, fc.constantFrom(2, 3), async (story, workers) => {
      const together = await onWorkers(story, workers);
      // A pod that ends tells the kubelet at once.
      if (together instanceof IndivisibleError)
        return expect(story.steps.map(({ what }) => what)).toContain('one replica');
      expect(together).toEqual(run(story));
      compared++;
    }),
    { numRuns: 20 },
  );
  expect(compared).toBeGreaterThan(10);
});

async function onWorkers(story: Story, workers: number): Promise<unknown> {
  const planned = { index: 0, levels: story, replication: 1, seed: '1' } as unknown as PlannedRun;
  return runDivided(planned, { start: { module }, workers, workerModule }).catch((error) => {
    if (error instanceof IndivisibleError) return error;
    throw error;
  });
}
