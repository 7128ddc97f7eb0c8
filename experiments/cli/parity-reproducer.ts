// What is left of a case that kernel and simulator disagree about: the smallest one that still shows it, as a file, and what
// there is to see in it.

import { writeFileSync } from 'node:fs';
import type { ParityCase } from '../../models/parity/case.ts';
import { checkCase } from '../../models/parity/case-text.ts';
import { type Difference, formatDifference } from '../../models/parity/compare.ts';
import { shrinkCase } from '../../models/parity/shrink.ts';
import { cannot } from '../harness/user-error.ts';

export interface DifferingCase {
  readonly parityCase: ParityCase;
  readonly differences: readonly Difference[];
}

/** So many differences are shrunk, for so long each; more are only told. */
export const SHRUNK = 5;
export const SHRINK_MS = 30_000;
const LINES_SHOWN = 8;

/** A case that one side refuses may not become one that both run differently, nor the other way round. */
export async function shrunk(
  { parityCase, differences }: DifferingCase,
  differencesOf: (candidate: ParityCase) => Promise<readonly Difference[]>,
): Promise<DifferingCase> {
  const isRefused = (found: readonly Difference[]): boolean => found.some(({ place }) => place === 'case');
  let last: DifferingCase = { parityCase, differences };
  const until = performance.now() + SHRINK_MS;
  await shrinkCase(parityCase, async (candidate) => {
    if (performance.now() > until) return false;
    try {
      const found = await differencesOf(checkCase(candidate, 'candidate'));
      if (found.length === 0 || isRefused(found) !== isRefused(differences)) return false;
      last = { parityCase: candidate, differences: found };
      return true;
    } catch {
      return false; // a part was needed by another
    }
  });
  return last;
}

export function writeCase(file: string, parityCase: ParityCase): void {
  try {
    writeFileSync(file, `${JSON.stringify(parityCase, undefined, 2)}\n`);
  } catch (error) {
    throw cannot('write', file, error);
  }
}

/** Some lines; each can be given an explanation. */
export function tellDifferences(
  differences: readonly Difference[],
  explain: (difference: Difference) => string = () => '',
): string {
  const lines = differences
    .slice(0, LINES_SHOWN)
    .map((difference) => `  ${formatDifference(difference)}${explain(difference)}\n`);
  const more = differences.length - lines.length;
  return `${lines.join('')}${more > 0 ? `  and ${more} more\n` : ''}`;
}
