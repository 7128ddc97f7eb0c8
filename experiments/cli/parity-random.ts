// podwire parity --random: makes cases, asks both sides, and shrinks what they disagree about to a reproducer.

import { join } from 'node:path';
import type { ParityCase, RuleBackend } from '../../models/parity/case.ts';
import { type Feature, generateCase } from '../../models/parity/generate.ts';
import { differencesOf, type Judge } from '../../models/parity/judge.ts';
import type { KernelPool } from '../../models/parity/kernel/pool.ts';
import { startProgress } from '../harness/progress.ts';
import type { CommandContext } from './command-line.ts';
import { type DifferingCase, SHRUNK, shrunk, tellDifferences, writeCase } from './parity-reproducer.ts';

export interface RandomOptions {
  /** Cases per backend. */
  readonly count: number;
  readonly seed: number;
  readonly features: readonly Feature[];
  readonly backends: readonly RuleBackend[];
  /** Where reproducers go. */
  readonly directory: string;
}

/** Cases per agent of the kernel, so that none waits for the simulator. */
const AHEAD = 2;

/** Exit code 1 if there is a difference. */
export async function compareRandomCases(
  options: RandomOptions,
  kernel: KernelPool,
  context: CommandContext,
): Promise<void> {
  const { count, seed, features, backends } = options;
  const isTerminal = context.stderr.isTTY === true;
  const progress = startProgress('parity', { total: count * backends.length, isTerminal });
  const startedAt = performance.now();
  const indices = Array.from({ length: count }, (_, index) => backends.map((backend) => ({ index, backend }))).flat();
  const cases = indices.map((place) => ({ ...place, make: () => generateCase({ seed, features, ...place }) }));
  const answers: Promise<DifferingCase>[] = [];
  let packets = 0;
  let different = 0;
  for (const [i] of cases.entries()) {
    while (answers.length < Math.min(i + AHEAD * kernel.size, cases.length))
      answers.push(ask(cases[answers.length]!.make(), kernel));
    const { parityCase, differences } = await answers[i]!;
    progress.step();
    packets += parityCase.packets.filter((step) => 'from' in step).length;
    if (differences.length === 0) continue;
    different++;
    await report(
      { ...cases[i]!, parityCase, differences },
      { ...options, kernel, context, shrinks: different <= SHRUNK },
    );
  }
  progress.stop();
  if (different > 0) context.exitCode = 1;
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(0);
  context.stdout.write(
    `${cases.length} cases (${count} each on ${backends.join(', ')}), ${packets} packets, seed ${seed}: ` +
      `${different} with differences, ${seconds} s\n`,
  );
}

async function ask(parityCase: ParityCase, kernel: Judge): Promise<DifferingCase> {
  return { parityCase, differences: await differencesOf(parityCase, kernel) };
}

async function report(
  {
    parityCase,
    differences,
    index,
    backend,
  }: DifferingCase & { readonly index: number; readonly backend: RuleBackend },
  {
    seed,
    directory,
    kernel,
    context,
    shrinks,
  }: RandomOptions & { readonly kernel: Judge; readonly context: CommandContext; readonly shrinks: boolean },
): Promise<void> {
  const found = { parityCase, differences };
  const smallest = shrinks ? await shrunk(found, (candidate) => differencesOf(candidate, kernel)) : found;
  const file = join(directory, `parity-${seed}-${backend}-${index}.json`);
  writeCase(file, smallest.parityCase);
  const what = `${backend} case ${index} of seed ${seed}`;
  context.stdout.write(`${file}: ${what}\n${tellDifferences(smallest.differences)}`);
}
