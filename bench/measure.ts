// Wall time per operation of several variants of one thing. Every round measures every variant for a moment, in turn and
// in alternating order, so that a machine that becomes slower does so for all of them.

import { Bench } from 'tinybench';

export interface Measurement {
  /** Median over the rounds of the median over the calls. */
  readonly nsPerOperation: number;
  /** Calls measured, over all rounds. */
  readonly samples: number;
  /** Relative standard deviation between rounds, as a fraction. */
  readonly rsd: number;
}

export interface MeasureOptions {
  /** Operations that one call of a variant does. Choose it such that a call takes 0.1 to 10 ms. */
  readonly operationsPerCall: number;
  readonly rounds?: number;
  readonly msPerRound?: number;
}

/** One measurement per variant, by its name. The first round warms up and does not count. */
export async function measure<Name extends string>(
  variants: Readonly<Record<Name, () => void>>,
  { operationsPerCall, rounds = 7, msPerRound = 60 }: MeasureOptions,
): Promise<Record<Name, Measurement>> {
  const names = Object.keys(variants) as Name[];
  const medians = new Map<Name, number[]>(names.map((name) => [name, []]));
  const samples = new Map<Name, number>(names.map((name) => [name, 0]));
  for (let round = 0; round <= rounds; round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const { medianMs, calls } = await time(variants[name], msPerRound);
      if (round === 0) continue;
      medians.get(name)!.push((medianMs * 1e6) / operationsPerCall);
      samples.set(name, samples.get(name)! + calls);
    }
  }
  const measurements = names.map((name) => [name, { ...summarize(medians.get(name)!), samples: samples.get(name)! }]);
  return Object.fromEntries(measurements);
}

async function time(call: () => void, ms: number): Promise<{ medianMs: number; calls: number }> {
  const bench = new Bench({ time: ms, iterations: 3, warmup: false, throws: true });
  bench.add('call', call);
  await bench.run();
  const { result } = bench.tasks[0]!;
  if (!('latency' in result)) throw new Error(`the measurement ended in state "${result.state}"`);
  return { medianMs: result.latency.p50, calls: result.latency.samplesCount };
}

function summarize(values: number[]): { nsPerOperation: number; rsd: number } {
  const sorted = [...values].sort((a, b) => a - b);
  const mean = sorted.reduce((sum, value) => sum + value, 0) / sorted.length;
  const variance = sorted.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, sorted.length - 1);
  return { nsPerOperation: sorted[sorted.length >> 1]!, rsd: Math.sqrt(variance) / mean };
}
