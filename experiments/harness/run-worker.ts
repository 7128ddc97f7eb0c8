// A worker thread from the outside: how it is started, and what may come back from it.

import { once } from 'node:events';
import { type TransferListItem, Worker } from 'node:worker_threads';
import { describeLevels, type PlannedRun } from './plan.ts';
import type { ThrownInWorker, WorkerAnswer, WorkerStart } from './sweep-worker.ts';

const WORKER_MODULE = new URL('./sweep-worker.js', import.meta.url);

export function startWorker(
  start: WorkerStart,
  {
    workerModule = WORKER_MODULE,
    transferList = [],
  }: { readonly workerModule?: URL; readonly transferList?: TransferListItem[] },
): Worker {
  return new Worker(workerModule, { workerData: start, transferList });
}

/** Rejects when the worker throws outside a run (loading, out of memory), exits, or is interrupted. */
export async function answerOf(worker: Worker, signal: AbortSignal | undefined): Promise<WorkerAnswer> {
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

export function errorOf(run: PlannedRun, { name, message, stack }: ThrownInWorker): Error {
  const error = new Error(
    `${[describeLevels(run.levels), `replication ${run.replication}`].join(' ').trim()}: ${message}`,
  );
  error.name = name;
  if (stack !== undefined) error.stack = stack;
  return error;
}
