// Asks the kernel and the simulator about one case, and says where they disagree.
//
// A difference that does not come again is no difference: a port that NAT drew may by chance be one that the case
// names.

import { RuleTextError } from '../netfilter/words.ts';
import type { Outcome, ParityCase } from './case.ts';
import { CaseError, EndlessCaseError } from './case-error.ts';
import { compareWithSimulator, type Difference } from './compare.ts';
import { KernelRefusal } from './kernel/runner.ts';
import { runInSimulator } from './simulator/runner.ts';

/** What can be asked for the outcome of a case: the kernel of this machine, or a recording. */
export interface Judge {
  run(parityCase: ParityCase): Promise<Outcome>;
}

/** Runs the case in the simulator as well, and compares. */
export type Comparison = (parityCase: ParityCase, kernel: Outcome) => Difference[];

/** Empty if both sides agree; also if both refuse the rules, or if the case never ends: the kernel is spared that. */
export async function differencesOf(
  parityCase: ParityCase,
  kernel: Judge,
  compare: Comparison = compareWithSimulator,
): Promise<Difference[]> {
  if (isEndless(parityCase)) return [];
  let differences: Difference[] = [];
  for (let asked = 0; asked < MOST_QUESTIONS; asked++) {
    differences = await ask(parityCase, kernel, compare);
    if (differences.length === 0) break;
  }
  return differences;
}

/** The kernel is asked again about a difference, so often that chance has hardly a part in those that stay. */
const MOST_QUESTIONS = 3;

function isEndless(parityCase: ParityCase): boolean {
  try {
    runInSimulator(parityCase, { stepsOnly: true });
    return false;
  } catch (error) {
    return error instanceof EndlessCaseError; // other errors are judged beside what the kernel says
  }
}

async function ask(parityCase: ParityCase, kernel: Judge, compare: Comparison): Promise<Difference[]> {
  let outcome: Outcome;
  try {
    outcome = await kernel.run(parityCase);
  } catch (error) {
    if (error instanceof KernelRefusal) return whenKernelRefuses(parityCase, error);
    throw error;
  }
  try {
    return compare(parityCase, outcome);
  } catch (error) {
    if (error instanceof EndlessCaseError) return []; // as another toss of its coins has it
    return [{ place: 'case', kernel: 'runs it', simulator: refusal(error) }];
  }
}

function whenKernelRefuses(parityCase: ParityCase, { message }: KernelRefusal): Difference[] {
  try {
    runInSimulator(parityCase);
  } catch (error) {
    if (error instanceof CaseError || error instanceof RuleTextError) return [];
    return [{ place: 'case', kernel: `refuses it (${message})`, simulator: refusal(error) }];
  }
  return [{ place: 'case', kernel: `refuses it (${message})`, simulator: 'runs it' }];
}

/** Errors about the case are answers; others are faults of the simulator, and to be shrunk like any difference. */
function refusal(error: unknown): string {
  if (error instanceof CaseError || error instanceof RuleTextError) return `refuses it (${error.message})`;
  return `fails (${error instanceof Error ? error.message : error})`;
}
