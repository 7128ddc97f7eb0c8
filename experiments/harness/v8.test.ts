import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { PACKAGE_ROOT } from './package.ts';

// V8 does not say what its flags are; how often it collects while a heap grows tells.
const PROGRAM = `
import { constants, PerformanceObserver } from 'node:perf_hooks';
import { tuneFor, tuneForBuilding } from ${JSON.stringify(join(PACKAGE_ROOT, 'dist', 'experiments', 'harness', 'v8.js'))};

async function collectionsWhileGrowing() {
  globalThis.gc();
  let collections = 0;
  const observer = new PerformanceObserver((list) => {
    for (const { detail } of list.getEntries()) if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) collections++;
  });
  observer.observe({ entryTypes: ['gc'] });
  const kept = [];
  for (let i = 0; i < 5_000_000; i++) kept.push({ i, inner: { i } });
  await new Promise((resolve) => setTimeout(resolve, 50));
  observer.disconnect();
  return kept.length > 0 ? collections : undefined;
}

tuneFor({ length: 60_000 });
const large = await collectionsWhileGrowing();
tuneForBuilding();
console.log(JSON.stringify({ large, building: await collectionsWhileGrowing() }));
`;

test('the next cluster is built as the first one, also after one that fills the memory', () => {
  const output = execFileSync(process.execPath, ['--expose-gc', '--input-type=module', '-e', PROGRAM], {
    encoding: 'utf8',
  });
  const { large, building } = JSON.parse(output) as { large: number; building: number };
  expect(large).toBeGreaterThan(2 * building);
});
