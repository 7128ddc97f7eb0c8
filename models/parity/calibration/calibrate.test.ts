import { expect, test } from 'vitest';
import { parseCostFile, printCostFile } from '../../cpu/cost-file.ts';
import { calibrate, NotPossible } from './calibrate.ts';
import { runCommand } from './machine-commands.ts';
import { NoisyMachine, quantile } from './measurement.ts';

const ownNamespaces = async (): Promise<string[]> => {
  const list = await runCommand('ip', ['netns', 'list']).catch(() => '');
  return list.split('\n').filter((line) => line.startsWith(`pwcal${process.pid}`));
};

// The figures of a machine that runs tests mean nothing; that every path carries packets does.
test('this machine is measured where that is possible, and is left as it was', {
  timeout: 120_000,
}, async (context) => {
  try {
    const costs = await calibrate({ sources: import.meta.dirname, quick: true });
    const defaults = Object.entries(costs.costs).filter(([, { source }]) => source === 'default');
    for (const [name, { reason }] of defaults)
      expect(`${name}: ${reason}`).toMatch(/not installed|No such file|module/);
    expect(parseCostFile(printCostFile(costs), 'measured').costs).toEqual(costs.costs);
  } catch (error) {
    if (!(error instanceof NotPossible || error instanceof NoisyMachine)) throw error;
    context.annotate(`skipped: ${error.message}`);
  } finally {
    expect(await ownNamespaces()).toEqual([]);
  }
});

test('what is interrupted while it builds leaves nothing behind', { timeout: 60_000 }, async () => {
  const controller = new AbortController();
  const interrupted = new Error('interrupted');
  const calibration = calibrate({
    sources: import.meta.dirname,
    quick: true,
    signal: controller.signal,
    onProgress: (done) => done === 3 && controller.abort(interrupted),
  });
  await expect(calibration).rejects.toSatisfy((error) => error === interrupted || error instanceof NotPossible);
  expect(await ownNamespaces()).toEqual([]);
});

test('quantiles lie between values', () => {
  expect([0, 0.25, 0.5, 1].map((fraction) => quantile([4, 1, 3, 2], fraction))).toEqual([1, 1.75, 2.5, 4]);
});
