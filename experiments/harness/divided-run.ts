// One run on several workers together: each simulates some of the nodes (engine/parallel/part.ts). The first worker ends
// up with all results, and its answer is the run's.

import { MessageChannel, type Worker } from 'node:worker_threads';
import { sharedMemoryFor } from '../../engine/parallel/part.ts';
import type { RunResult } from './experiment.ts';
import type { PlannedRun } from './plan.ts';
import { answerOf, errorOf, startWorker } from './run-worker.ts';
import type { WorkerStart } from './sweep-worker.ts';

/** The run needs one worker; the text says why. */
export class IndivisibleError extends Error {
  override readonly name = 'IndivisibleError';
}

export interface DividedRunOptions {
  /** What every worker is told, beside its part. */
  readonly start: WorkerStart;
  readonly workers: number;
  readonly signal?: AbortSignal;
  readonly workerModule?: URL;
}

/** The first error of a worker, or a worker's end, ends the run. Throws an IndivisibleError if it cannot be divided. */
export async function runDivided(run: PlannedRun, options: DividedRunOptions): Promise<RunResult> {
  const workers = startWorkers(options);
  try {
    const results = await Promise.all(workers.map((worker) => resultOf(worker, run, options.signal)));
    const result = results.find((part) => part !== undefined);
    if (result === undefined) throw new Error('no worker of a divided run has its results');
    return result;
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

/** Each of the others has a channel to the first. */
function startWorkers({ workers, start, workerModule }: DividedRunOptions): Worker[] {
  const memory = sharedMemoryFor(workers);
  const channels = Array.from({ length: workers - 1 }, () => new MessageChannel());
  return Array.from({ length: workers }, (_, index) => {
    const ports = index === 0 ? channels.map(({ port1 }) => port1) : [channels[index - 1]!.port2];
    const part = { start: { index, workers, memory }, ports };
    return startWorker({ ...start, part }, { ...(workerModule && { workerModule }), transferList: ports });
  });
}

/** Undefined from a worker that has none to give, or that stopped because another one has failed. */
async function resultOf(
  worker: Worker,
  run: PlannedRun,
  signal: AbortSignal | undefined,
): Promise<RunResult | undefined> {
  worker.postMessage(run);
  const answer = await answerOf(worker, signal);
  if ('result' in answer) return answer.result;
  const { name, message } = answer.error;
  if (name === 'MeetingEndedError') return undefined;
  if (name === 'CoupledError') throw new IndivisibleError(message);
  throw errorOf(run, answer.error);
}
