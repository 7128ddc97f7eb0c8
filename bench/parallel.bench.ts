// One simulation on one worker and on two: packets per wall second of the same cluster under the same load, and how many
// times as fast two are. By turns, each time in new threads, because other programs use the machine, too.

import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { sharedMemoryFor } from '../engine/parallel/part.ts';
import type { EchoOfPart, PartMeasured } from './parallel-worker.ts';
import type { BenchReport } from './report.ts';

const NODES = 64;
const PODS_PER_NODE = 16;
/** 10,000 requests a second from each pod: the four CPUs of a node are at two thirds of what they can. */
const LOAD = { nodes: NODES, podsPerNode: PODS_PER_NODE, cpusPerNode: 4, everyUs: 100 };
const ROUNDS = 5;

export async function run(report: BenchReport): Promise<void> {
  const one: number[] = [];
  const two: number[] = [];
  const ratios: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    one.push(await packetsPerSecond(1));
    two.push(await packetsPerSecond(2));
    ratios.push(two.at(-1)! / one.at(-1)!);
  }
  const name = `${NODES} nodes x ${PODS_PER_NODE} pods, each asks every ${LOAD.everyUs} us`;
  const add = (variant: string, unit: string, values: readonly number[]): void =>
    report.add({ bench: 'parallel', case: name, variant, unit, samples: ROUNDS, ...middleOf(values) });
  add('one worker', 'packets/s', one);
  add('two workers', 'packets/s', two);
  add('two workers over one', 'times', ratios);
}

async function packetsPerSecond(workers: number): Promise<number> {
  const memory = sharedMemoryFor(workers);
  const threads = Array.from({ length: workers }, (_, index) => {
    const workerData: EchoOfPart = { ...LOAD, start: { index, workers, memory } };
    return new Worker(new URL('./parallel-worker.js', import.meta.url), { workerData });
  });
  const answers = await Promise.all(threads.map((thread) => once(thread, 'message')));
  await Promise.all(threads.map((thread) => thread.terminate()));
  const parts = answers.map(([part]) => part as PartMeasured);
  const packets = parts.reduce((sum, part) => sum + part.packets, 0);
  return packets / Math.max(...parts.map(({ seconds }) => seconds));
}

function middleOf(values: readonly number[]): { value: number; rsd: number } {
  const value = [...values].sort((a, b) => a - b)[values.length >> 1]!;
  return { value, rsd: Math.sqrt(values.reduce((sum, other) => sum + (other / value - 1) ** 2, 0) / values.length) };
}
