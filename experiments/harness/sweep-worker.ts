// One worker thread of a sweep: loads the experiment once, then does the runs it is given, one at a time.

import { parentPort, workerData } from 'node:worker_threads';
import type { CostModel } from '../../models/cpu/cost-model.ts';
import { type Experiment, isExperiment, type RunResult } from './experiment.ts';
import type { PlannedRun } from './plan.ts';

export interface WorkerStart {
  /** URL of the module whose default export is the experiment, or a function that makes it from `options`. */
  readonly module: string;
  readonly options?: unknown;
  /** The shipped ones if absent. */
  readonly costs?: CostModel;
}

/** What a worker answers to a PlannedRun. Errors cross threads as data: a structured clone loses their class. */
export type WorkerAnswer = { readonly result: RunResult } | { readonly error: ThrownInWorker };

export interface ThrownInWorker {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
}

process.setSourceMapsEnabled(true);
const start = workerData as WorkerStart;
const experiment = await load(start);
parentPort?.on('message', (run: PlannedRun) => parentPort?.postMessage(answer(run)));

async function load({ module, options }: WorkerStart): Promise<Experiment> {
  const { default: exported } = (await import(module)) as { default: unknown };
  const loaded: unknown = typeof exported === 'function' ? exported(options) : exported;
  if (!isExperiment(loaded)) throw new Error(`${module}: the default export is not an experiment`);
  return loaded;
}

function answer({ levels, seed }: PlannedRun): WorkerAnswer {
  try {
    return { result: experiment.run(levels, seed, start.costs) };
  } catch (thrown) {
    if (!(thrown instanceof Error)) return { error: { name: 'Error', message: String(thrown), stack: undefined } };
    const { name, message, stack } = thrown;
    return { error: { name, message, stack } };
  }
}
