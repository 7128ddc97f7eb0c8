// Does the runs of a plan on worker threads and hands on their results in plan order. Each worker takes the next run
// when it has finished one; a result that comes early waits for those before it, so what is handed on is always a
// growing prefix of the plan.

import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { CostModel } from '../../models/cpu/cost-model.ts';
import type { RunResult } from './experiment.ts';
import { describeLevels, type PlannedRun } from './plan.ts';
import type { ThrownInWorker, WorkerAnswer, WorkerStart } from './sweep-worker.ts';

export interface SweepOptions {
  readonly plan: readonly PlannedRun[];
  /** URL of the module whose default export is the experiment; every worker imports it. */
  readonly module: string;
  /** For a module whose default export makes the experiment from options. */
  readonly options?: unknown;
  /** The shipped ones if absent. */
  readonly costs?: CostModel;
  readonly workers: number;
  /** Called in plan order. */
  onResult(run: PlannedRun, result: RunResult): void;
  /** Called when a run has finished, in any order. */
  onFinished?(): void;
  /** Ends the sweep; results handed on so far stand. */
  readonly signal?: AbortSignal;
  /** The compiled sweep-worker.ts. */
  readonly workerModule?: URL;
}

const WORKER_MODULE = new URL('./sweep-worker.js', import.meta.url);

/** The first run that fails ends the sweep with its error. */
export async function sweep(options: SweepOptions): Promise<'finished' | 'interrupted'> {
  const inOrder = new ResultsInOrder(options);
  const waiting = options.plan.values();
  const workers = Array.from({ length: Math.min(options.workers, options.plan.length) }, () => startWorker(options));
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

function startWorker({ module, options, costs, workerModule = WORKER_MODULE }: SweepOptions): Worker {
  const start: WorkerStart = { module, options, ...(costs && { costs }) };
  return new Worker(workerModule, { workerData: start });
}

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
    inOrder.add(run, answer.result);
    onFinished?.();
  }
  await worker.terminate();
}

/** Rejects when the worker throws outside a run (loading, out of memory), exits, or is interrupted. */
async function answerOf(worker: Worker, signal: AbortSignal | undefined): Promise<WorkerAnswer> {
  const listening = new AbortController();
  const both = signal === undefined ? listening.signal : AbortSignal.any([signal, listening.signal]);
  const exited = once(worker, 'exit', { signal: both }).then(([code]) => {
    throw new Error(`a worker of the sweep ended by itself with exit code ${code}`);
  });
  try {
    const [answer] = await Promise.race([once(worker, 'message', { signal: both }), exited]);
    return answer;
  } finally {
    exited.catch(() => undefined);
    listening.abort();
  }
}

function errorOf(run: PlannedRun, { name, message, stack }: ThrownInWorker): Error {
  const error = new Error(
    `${[describeLevels(run.levels), `replication ${run.replication}`].join(' ').trim()}: ${message}`,
  );
  error.name = name;
  if (stack !== undefined) error.stack = stack;
  return error;
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
