// A run that several workers share, and how it ends when one of them fails.

import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { runDivided } from './divided-run.ts';
import type { RunResult } from './experiment.ts';
import type { PlannedRun } from './plan.ts';
import { type SweepOptions, sweep } from './sweep.ts';
import { compileFile } from './typescript-file.ts';

const directory = mkdtempSync(join(tmpdir(), 'podwire-divided-'));
const compile = async (file: string) => pathToFileURL(await compileFile(join(import.meta.dirname, file)));
let workerModule: URL;

beforeAll(async () => {
  workerModule = await compile('sweep-worker.ts');
}, 60_000);

test('scale gives the same on one, two and three workers, but for what a clock measured', async () => {
  const run = plannedRun({ nodes: 5, services: 20 });
  const module = (await compile('../scale.ts')).href;
  const results: RunResult[] = [];
  for (const workers of [1, 2, 3])
    await sweep({
      ...{ plan: [run], module, workers, workerModule },
      onUndivided: fail,
      onResult: (_, r) => results.push(r),
    });
  const [one, ...others] = results.map(({ measures, ...result }) => ({
    ...result,
    measures: Object.entries(measures).filter(([column]) => !/Wall|heapBytes/.test(column)),
  }));
  expect(one!.frames.delivered).toBeGreaterThan(10_000);
  expect(one!.measures.map(([column]) => column)).toEqual(
    expect.arrayContaining(['latencyP50Us', 'conntrackEntries', 'endpointChangeMs']),
  );
  expect(others).toEqual([one, one]);
});

describe('a run that cannot be divided is done by one worker, which is told why', () => {
  const sweepModule = async (code: string) => {
    const notes: string[] = [];
    const answers: unknown[] = [];
    const options: SweepOptions = {
      ...{ plan: [plannedRun({})], module: await moduleOf(code), workers: 2, workerModule },
      onResult: (_, { measures }) => answers.push(measures.from),
      onUndivided: (reason) => notes.push(reason),
    };
    return { outcome: await sweep(options), answers, notes };
  };

  test('as its experiment says', async () => {
    const code = `{ indivisible: 'a capture', run: () => ({ measures: { from: 'run' } }) }`;
    expect(await sweepModule(code)).toEqual({ outcome: 'finished', answers: ['run'], notes: ['a capture'] });
  });

  test('as comes out while it runs', async () => {
    const code = `{
      run: () => ({ measures: { from: 'run' } }),
      runPart(levels, seed, part) {
        part.sums([1]);
        throw Object.assign(new Error('a pod ends'), { name: 'CoupledError' });
      },
    }`;
    expect(await sweepModule(code)).toEqual({ outcome: 'finished', answers: ['run'], notes: ['a pod ends'] });
  });
});

describe('the run ends', () => {
  /** The first worker waits for the others until it is told not to. */
  const experimentOf = (second: string) => `{
    runPart(levels, seed, part) {
      if (part.index === 1) { ${second} }
      for (;;) part.sums([1]);
    },
  }`;

  test('with the error of a worker for which the others wait', async () => {
    const start = { module: await moduleOf(experimentOf(`throw new RangeError('no such node')`)) };
    const error = await runDivided(plannedRun({ size: 3 }), { start, workers: 3, workerModule }).catch(
      (error) => error,
    );
    expect([error.name, error.message]).toEqual(['RangeError', 'size=3 replication 1: no such node']);
  });

  test('when such a worker ends by itself', async () => {
    const start = { module: await moduleOf(experimentOf('process.exit(3)')) };
    await expect(runDivided(plannedRun({}), { start, workers: 2, workerModule })).rejects.toThrow('exit code 3');
  });

  test('when it is interrupted, asleep or not', async () => {
    const module = await moduleOf(experimentOf('for (;;);'));
    const interruption = new AbortController();
    setTimeout(() => interruption.abort(), 1_000);
    const options = { plan: [plannedRun({})], module, workers: 2, workerModule, onResult: fail, onUndivided: fail };
    expect(await sweep({ ...options, signal: interruption.signal })).toBe('interrupted');
  });
});

function plannedRun(levels: PlannedRun['levels']): PlannedRun {
  return { index: 0, levels, replication: 1, seed: '1' };
}

function fail(): void {
  expect.unreachable();
}

async function moduleOf(experiment: string): Promise<string> {
  const file = join(directory, 'experiment.ts');
  writeFileSync(file, `export default Object.assign({ kind: 'podwire experiment' }, ${experiment});`);
  return pathToFileURL(await compileFile(file)).href;
}
