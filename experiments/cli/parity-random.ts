// podwire parity --random: makes cases, asks both sides, and shrinks what they disagree about to a reproducer.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ParityCase, RuleBackend } from '../../models/parity/case.ts';
import { checkCase } from '../../models/parity/case-text.ts';
import { type Difference, formatDifference } from '../../models/parity/compare.ts';
import { type Feature, generateCase } from '../../models/parity/generate.ts';
import { differencesOf, type Judge } from '../../models/parity/judge.ts';
import type { KernelPool } from '../../models/parity/kernel/pool.ts';
import { shrinkCase } from '../../models/parity/shrink.ts';
import { startProgress } from '../harness/progress.ts';
import { cannot } from '../harness/user-error.ts';
import type { CommandContext } from './command-line.ts';

export interface RandomOptions {
  /** Cases per backend. */
  readonly count: number;
  readonly seed: number;
  readonly features: readonly Feature[];
  readonly backends: readonly RuleBackend[];
  /** Where reproducers go. */
  readonly directory: string;
}

/** So many differences are shrunk, for so long each; more are only told. */
const SHRUNK = 5;
const SHRINK_MS = 30_000;
/** Cases per agent of the kernel, so that none waits for the simulator. */
const AHEAD = 2;
const LINES_SHOWN = 8;

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
  const answers: Promise<Asked>[] = [];
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

interface Asked {
  readonly parityCase: ParityCase;
  readonly differences: readonly Difference[];
}

async function ask(parityCase: ParityCase, kernel: Judge): Promise<Asked> {
  return { parityCase, differences: await differencesOf(parityCase, kernel) };
}

async function report(
  { parityCase, differences, index, backend }: Asked & { readonly index: number; readonly backend: RuleBackend },
  {
    seed,
    directory,
    kernel,
    context,
    shrinks,
  }: RandomOptions & { readonly kernel: Judge; readonly context: CommandContext; readonly shrinks: boolean },
): Promise<void> {
  const smallest = shrinks ? await shrunk(parityCase, differences, kernel) : { parityCase, differences };
  const file = join(directory, `parity-${seed}-${backend}-${index}.json`);
  try {
    writeFileSync(file, `${JSON.stringify(smallest.parityCase, undefined, 2)}\n`);
  } catch (error) {
    throw cannot('write', file, error);
  }
  const lines = smallest.differences.slice(0, LINES_SHOWN).map((difference) => `  ${formatDifference(difference)}\n`);
  const more = smallest.differences.length - lines.length;
  context.stdout.write(
    `${file}: ${backend} case ${index} of seed ${seed}\n${lines.join('')}${more > 0 ? `  and ${more} more\n` : ''}`,
  );
}

/** A case that one side refuses may not become one that both run differently, nor the other way round. */
async function shrunk(parityCase: ParityCase, differences: readonly Difference[], kernel: Judge): Promise<Asked> {
  const isRefused = (found: readonly Difference[]): boolean => found.some(({ place }) => place === 'case');
  let last = { parityCase, differences };
  const until = performance.now() + SHRINK_MS;
  await shrinkCase(parityCase, async (candidate) => {
    if (performance.now() > until) return false;
    try {
      const found = await differencesOf(checkCase(candidate, 'candidate'), kernel);
      if (found.length === 0 || isRefused(found) !== isRefused(differences)) return false;
      last = { parityCase: candidate, differences: [...found] };
      return true;
    } catch {
      return false; // a part was needed by another
    }
  });
  return last;
}
