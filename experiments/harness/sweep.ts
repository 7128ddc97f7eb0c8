// Does the runs of a plan on worker threads and hands on their results in plan order. Each worker takes the next run
// when it has finished one; a result that comes early waits for those before it, so what is handed on is always a
// growing prefix of the plan.

import type { Worker } from 'node:worker_threads';
import type { CostModel } from '../../models/cpu/cost-model.ts';
import { IndivisibleError, runDivided } from './divided-run.ts';
import type { RunResult } from './experiment.ts';
import type { PlannedRun } from './plan.ts';
import { answerOf, errorOf, startWorker } from './run-worker.ts';
import type { WorkerStart } from './sweep-worker.ts';

export interface SweepOptions {
  readonly plan: readonly PlannedRun[];
  /** URL of the module whose default export is the experiment; every worker imports it. */
  readonly module: string;
  /** For a module whose default export makes the experiment from options. */
  readonly options?: unknown;
  /** The shipped ones if absent. */
  readonly costs?: CostModel;
  readonly workers: number;
  /** A lone run is divided over the workers. Called instead if that cannot be, with the reason; one worker does it then. */
  readonly onUndivided?: (reason: string) => void;
  /** Called in plan order. */
  onResult(run: PlannedRun, result: RunResult): void;
  /** Called when a run has finished, in any order. */
  onFinished?(): void;
  /** Ends the sweep; results handed on so far stand. */
  readonly signal?: AbortSignal;
  /** The compiled sweep-worker.ts. */
  readonly workerModule?: URL;
}

/** The first run that fails ends the sweep with its error. */
export async function sweep(options: SweepOptions): Promise<'finished' | 'interrupted'> {
  const { plan, onUndivided, workers: count } = options;
  if (onUndivided !== undefined && plan.length === 1 && count > 1) return sweepDivided(options, plan[0]!, onUndivided);
  const inOrder = new ResultsInOrder(options);
  const waiting = options.plan.values();
  const workers = Array.from({ length: Math.min(options.workers, options.plan.length) }, () =>
    startWorker(startOf(options), options),
  );
  try {
    await Promise.all(workers.map((worker) => work(worker, waiting, inOrder, options)));
    return 'finished';
  } catch (error) {
    if (options.signal?.aborted) return 'interrupted';
    throw error;
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

async function sweepDivided(
  options: SweepOptions,
  run: PlannedRun,
  onUndivided: (reason: string) => void,
): Promise<'finished' | 'interrupted'> {
  try {
    const result = await runDivided(run, { ...options, start: startOf(options) });
    options.onResult(run, result);
    options.onFinished?.();
    return 'finished';
  } catch (error) {
    if (options.signal?.aborted) return 'interrupted';
    if (!(error instanceof IndivisibleError)) throw error;
    onUndivided(error.message);
    return sweep({ ...options, workers: 1 });
  }
}

const startOf = ({ module, options, costs }: SweepOptions): WorkerStart => ({
  module,
  options,
  ...(costs && { costs }),
});

/** All workers share the iterator: each run is taken once. */
async function work(
  worker: Worker,
  waiting: Iterable<PlannedRun>,
  inOrder: ResultsInOrder,
  { signal, onFinished }: SweepOptions,
): Promise<void> {
  for (const run of waiting) {
    worker.postMessage(run);
    const answer = await answerOf(worker, signal);
    if ('error' in answer) throw errorOf(run, answer.error);
    inOrder.add(run, answer.result!);
    onFinished?.();
  }
  await worker.terminate();
}

class ResultsInOrder {
  readonly #onResult: SweepOptions['onResult'];
  readonly #early = new Map<number, { run: PlannedRun; result: RunResult }>();
  #next = 0;

  constructor({ onResult }: SweepOptions) {
    this.#onResult = onResult;
  }

  add(run: PlannedRun, result: RunResult): void {
    this.#early.set(run.index, { run, result });
    for (let due = this.#early.get(this.#next); due !== undefined; due = this.#early.get(this.#next)) {
      this.#early.delete(this.#next++);
      this.#onResult(due.run, due.result);
    }
  }
}
