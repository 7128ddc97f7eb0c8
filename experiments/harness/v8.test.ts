import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { PACKAGE_ROOT } from './package.ts';

// V8 does not say what its flags are; how often it collects while a heap grows tells.
const PROGRAM = `
import { constants, PerformanceObserver } from 'node:perf_hooks';
import { experimentsOn } from ${JSON.stringify(join(PACKAGE_ROOT, 'dist', 'experiments', 'harness', 'experiment.js'))};

function grow() {
  const kept = [];
  for (let i = 0; i < 5_000_000; i++) kept.push({ i, inner: { i } });
  return kept;
}

async function collectionsDuring(work) {
  globalThis.gc();
  let collections = 0;
  const observer = new PerformanceObserver((list) => {
    for (const { detail } of list.getEntries()) if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) collections++;
  });
  observer.observe({ entryTypes: ['gc'] });
  work();
  await new Promise((resolve) => setTimeout(resolve, 50));
  observer.disconnect();
  return collections;
}

const nothing = () => {};
const veryLarge = () => ({
  sim: { now: 0, executedEvents: 0, fingerprint: '' },
  frames: { totals: nothing, drops: nothing },
  pods: { length: 60_000 },
  ...{ run: nothing, startMeasuring: nothing, assertConserved: nothing },
});
const definition = { name: 'very-large', factors: {}, replications: 1, warmUp: 1, duration: 1, measure: () => ({}) };
const run = () => experimentsOn(veryLarge)({ ...definition, build: grow }).run({}, '1');
const first = await collectionsDuring(run);
const running = await collectionsDuring(grow);
console.log(JSON.stringify({ first, running, second: await collectionsDuring(run) }));
`;

test('a cluster is built as the first one, also after one that fills the memory', () => {
  const output = execFileSync(process.execPath, ['--expose-gc', '--input-type=module', '-e', PROGRAM], {
    encoding: 'utf8',
  });
  const { first, running, second } = JSON.parse(output) as Record<'first' | 'running' | 'second', number>;
  expect(running).toBeGreaterThan(2 * first);
  expect(running).toBeGreaterThan(2 * second);
});
