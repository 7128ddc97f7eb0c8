// What commands that measure this machine share: progress, Ctrl-C, and what is said when it cannot be measured.

import { join } from 'node:path';
import { type CalibrationOptions, NotPossible } from '../../models/parity/calibration/calibrate.ts';
import { NoisyMachine } from '../../models/parity/calibration/measurement.ts';
import { PACKAGE_ROOT } from '../harness/package.ts';
import { startProgress } from '../harness/progress.ts';
import type { CommandContext } from './command-line.ts';
import { INTERRUPTED, interruptible } from './interruption.ts';

/** Undefined if it was not measured: the context's exit code says whether that is a failure. */
export async function onThisMachine<R>(
  measure: (options: CalibrationOptions) => Promise<R>,
  { name, quick }: { name: string; quick: boolean },
  context: CommandContext,
): Promise<R | undefined> {
  const interruption = interruptible();
  let progress: ReturnType<typeof startProgress> | undefined;
  try {
    return await measure({
      sources: PROBE_SOURCES,
      quick,
      signal: interruption.signal,
      onProgress(done, total) {
        progress ??= startProgress(name, { total, unit: 'steps', isTerminal: context.stderr.isTTY === true });
        if (done > 0) progress.step();
      },
    });
  } catch (error) {
    if (interruption.signal.aborted) {
      context.exitCode = INTERRUPTED;
    } else if (error instanceof NotPossible) {
      context.stdout.write(`skipped: ${error.message}\n`);
    } else if (error instanceof NoisyMachine) {
      context.exitCode = 1;
      context.stderr.write(`error: ${error.message}\n`);
    } else throw error;
    return undefined;
  } finally {
    progress?.stop();
    interruption.end();
  }
}

/** The program that measures is no module, so it is where it was before compiling. */
const PROBE_SOURCES = join(PACKAGE_ROOT, 'models', 'parity', 'calibration');
