import { expect, test } from 'vitest';
import { NotPossible } from './calibration/calibrate.ts';
import { NoisyMachine } from './calibration/measurement.ts';
import { latencyParity } from './latency.ts';

// How well the two sides agree is measured on a machine that has nothing else to do: podwire parity --latency. Here it
// counts that every conversation gets its answers on both sides.
test('conversations are had on both sides, where that is possible', { timeout: 180_000 }, async (context) => {
  const sources = new URL('./calibration', import.meta.url).pathname;
  try {
    const { rows, notCompared } = await latencyParity({ sources, quick: true });
    for (const { reason } of notCompared) expect(reason).toMatch(/not installed|not modelled|No such file|module/);
    expect(rows.length).toBeGreaterThanOrEqual(4);
    for (const { scenario, ratio } of rows)
      expect(`${scenario}: ${ratio > 0.2 && ratio < 5}`).toBe(`${scenario}: true`);
  } catch (error) {
    if (!(error instanceof NotPossible || error instanceof NoisyMachine)) throw error;
    context.annotate(`skipped: ${error.message}`);
  }
});
