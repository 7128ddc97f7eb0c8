// One worker thread of a sweep: loads the experiment once, then does the runs it is given, one at a time; or its part of a
// run that is divided over several workers.

import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { CoupledError } from '../../engine/parallel/coupled-error.ts';
import { Part, type PartMail, type PartStart } from '../../engine/parallel/part.ts';
import type { CostModel } from '../../models/cpu/cost-model.ts';
import { type Experiment, isExperiment, type RunResult } from './experiment.ts';
import type { PlannedRun } from './plan.ts';

export interface WorkerStart {
  /** URL of the module whose default export is the experiment, or a function that makes it from `options`. */
  readonly module: string;
  readonly options?: unknown;
  /** The shipped ones if absent. */
  readonly costs?: CostModel;
  /** Absent: whole runs. */
  readonly part?: PartOfWorker;
}

export interface PartOfWorker {
  readonly start: PartStart;
  /** To the first worker, or the first worker's to the others. */
  readonly ports: readonly MessagePort[];
}

/**
 * What a worker answers to a PlannedRun; a part that is not the first has no result. Errors cross threads as data: a
 * structured clone loses their class.
 */
export type WorkerAnswer = { readonly result: RunResult | undefined } | { readonly error: ThrownInWorker };

export interface ThrownInWorker {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
}

process.setSourceMapsEnabled(true);
const start = workerData as WorkerStart;
const part = start.part && new Part(start.part.start, mailOf(start.part.ports));
const experiment = await load(start);
parentPort?.on('message', (run: PlannedRun) => parentPort?.postMessage(answer(run)));

async function load({ module, options }: WorkerStart): Promise<Experiment> {
  const { default: exported } = (await import(module)) as { default: unknown };
  const loaded: unknown = typeof exported === 'function' ? exported(options) : exported;
  if (!isExperiment(loaded)) throw new Error(`${module}: the default export is not an experiment`);
  return loaded;
}

function answer(run: PlannedRun): WorkerAnswer {
  try {
    return { result: resultOf(run) };
  } catch (thrown) {
    part?.end();
    if (!(thrown instanceof Error)) return { error: { name: 'Error', message: String(thrown), stack: undefined } };
    const { name, message, stack } = thrown;
    return { error: { name, message, stack } };
  }
}

function resultOf({ levels, seed }: PlannedRun): RunResult | undefined {
  if (part === undefined) return experiment.run(levels, seed, start.costs);
  if (experiment.indivisible !== undefined) throw new CoupledError(experiment.indivisible);
  return experiment.runPart(levels, seed, part, start.costs);
}

/** A message that has been sent is there at once: nobody waits for it. */
function mailOf(ports: readonly MessagePort[]): PartMail {
  return {
    send: (data) => ports[0]!.postMessage(data),
    receive: () => ports.map((port) => receiveMessageOnPort(port)!.message),
  };
}
