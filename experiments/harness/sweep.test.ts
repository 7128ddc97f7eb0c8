import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import type { RunResult } from './experiment.ts';
import { type PlannedRun, planRuns } from './plan.ts';
import { ResultFile } from './results.ts';
import { type SweepOptions, sweep } from './sweep.ts';
import dice from './testdata/dice.ts';
import { compileFile } from './typescript-file.ts';

const directory = mkdtempSync(join(tmpdir(), 'podwire-sweep-'));
const plan = planRuns({ factors: dice.factors, replications: dice.replications, seed: '1' });
let workerModule: URL;
let diceModule: string;

beforeAll(async () => {
  const compile = async (file: string) => pathToFileURL(await compileFile(join(import.meta.dirname, file)));
  workerModule = await compile('sweep-worker.ts');
  diceModule = (await compile('testdata/dice.ts')).href;
});

function sweepDice(options: Partial<SweepOptions>) {
  return sweep({ plan, module: diceModule, workers: 2, onResult() {}, workerModule, ...options });
}

async function moduleOf(name: string, code: string): Promise<string> {
  const file = join(directory, name);
  writeFileSync(file, code);
  return pathToFileURL(await compileFile(file)).href;
}

async function csvOf({ workers }: { workers: number }): Promise<string> {
  const results = new ResultFile({ directory, name: `workers-${workers}`, factors: dice.factors });
  await sweepDice({ workers, onResult: (run, { measures }) => results.write(run, measures) });
  results.close();
  return readFileSync(results.path, 'utf8');
}

test('results come in plan order, with the same bytes from one worker and from two', async () => {
  const one = await csvOf({ workers: 1 });
  expect(one.split('\n').slice(0, 4)).toMatchInlineSnapshot(`
    [
      "dice,kind,replication,seed,meanEyes,measuredMs",
      "400,fair,1,1/1,3.499951,4.000000",
      "400,fair,2,1/2,3.499960,4.000000",
      "400,fair,3,1/3,3.499922,4.000000",
    ]
  `);
  expect(one.trim().split('\n')).toHaveLength(1 + 18); // 3 x 2 variants x 3 replications
  expect(await csvOf({ workers: 2 })).toBe(one);
});

test('a worker gives the result that the experiment gives', async () => {
  const results: RunResult[] = [];
  const [run] = plan as [PlannedRun];
  await sweepDice({ plan: [run], onResult: (_, result) => results.push(result) });
  expect(results).toEqual([dice.run(run.levels, run.seed)]);
});

test('progress counts every run', async () => {
  let finished = 0;
  expect(await sweepDice({ onFinished: () => finished++ })).toBe('finished');
  expect(finished).toBe(18);
});

test('an interrupted sweep keeps a prefix of the plan', async () => {
  const interruption = new AbortController();
  const indexes: number[] = [];
  const outcome = await sweepDice({
    workers: 1, // of two, one may have done all the rest before the other has done its first
    signal: interruption.signal,
    onResult({ index }) {
      indexes.push(index);
      if (index === 3) interruption.abort();
    },
  });
  expect(outcome).toBe('interrupted');
  expect(indexes).toEqual(plan.slice(0, indexes.length).map(({ index }) => index));
  expect(indexes).toHaveLength(4);
});

describe('a sweep ends with the error', () => {
  /** What `experiment()` makes, reduced to one run. */
  const experimentOf = (run: string) => `
    class ManifestError extends Error { name = 'ManifestError' }
    const result = { measures: {}, events: 0, fingerprint: '', frames: {}, drops: new Map() };
    export default { kind: 'podwire experiment', run(levels, seed) { ${run} } };`;

  test('of a run, which it names', async () => {
    const run = `if (levels.dice === 1) throw new ManifestError('web.yaml: no port'); return result;`;
    const module = await moduleOf('failing.ts', experimentOf(run));
    const indexes: number[] = [];
    const error = await sweepDice({ module, onResult: ({ index }) => indexes.push(index) }).catch((error) => error);
    expect(error.name).toBe('ManifestError');
    expect(error.message).toMatch(/^dice=1 kind=fair replication [12]: web.yaml: no port$/);
    expect(error.stack).toContain('failing.ts:4:');
    expect(indexes).toEqual(plan.slice(0, indexes.length).map(({ index }) => index));
    expect(indexes.length).toBeLessThanOrEqual(12); // 2 x 2 variants x 3 replications come before
  });

  test('of a module that cannot be loaded', async () => {
    const module = await moduleOf('unloadable.ts', 'throw new RangeError("no such cluster");');
    await expect(sweepDice({ module })).rejects.toThrow('no such cluster');
  });

  test('of a worker that ends by itself', async () => {
    const module = await moduleOf('exiting.ts', experimentOf('process.exit(3);'));
    await expect(sweepDice({ module })).rejects.toThrow('a worker of the sweep ended by itself with exit code 3');
  });
});
