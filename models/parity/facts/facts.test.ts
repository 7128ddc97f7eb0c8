// Every fact of facts.ts: the simulator shows it and agrees with what the kernel once answered; the recorded answer
// shows it; and where the kernel can be asked, it shows it still, and the simulator agrees with all that it answers
// now.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Outcome, ParityCase } from '../case.ts';
import { compareWithSimulator, formatDifference } from '../compare.ts';
import { differencesOf, type Judge } from '../judge.ts';
import { KernelPool } from '../kernel/pool.ts';
import { KernelRunner } from '../kernel/runner.ts';
import { readRecording } from '../recording.ts';
import { runInSimulator } from '../simulator/runner.ts';
import { tell } from './fact.ts';
import { FACTS } from './facts.ts';

const probe = await KernelRunner.probe();
const kernel = probe.ok ? new KernelPool(4) : undefined;
afterAll(() => kernel?.close());

/** By the fact's name, asked for all at once: what a case waits for takes as long as it does in the kernel. */
const answers = new Map<string, Promise<Outcome>>();
beforeAll(() => {
  if (kernel === undefined) return;
  for (const { name, case: parityCase } of FACTS) {
    const answer = kernel.run(parityCase);
    answer.catch(() => {}); // told by the tests that look at it
    answers.set(name, answer);
  }
});

/** Begins with the answer that was asked for with all others; whoever doubts it gets new ones. */
class Kernel implements Judge {
  readonly #name: string;
  #isDoubted = false;

  constructor(name: string) {
    this.#name = name;
  }

  run(parityCase: ParityCase): Promise<Outcome> {
    if (this.#isDoubted) return kernel!.run(parityCase);
    this.#isDoubted = true;
    return answers.get(this.#name)!;
  }
}

test('no two facts have one name', () => {
  const names = FACTS.map(({ name }) => name);
  expect(names).toEqual([...new Set(names)]);
});

describe.for(FACTS)('$name: $says', ({ name, case: parityCase, shows, watch }) => {
  const [shown, compared] = [new Kernel(name), new Kernel(name)];

  test('the simulator', () => {
    const recording = readRecording(name);
    expect(tell(parityCase, runInSimulator(parityCase), watch)).toEqual(shows);
    expect(compareWithSimulator(parityCase, recording.outcome).map(formatDifference)).toEqual([]);
  });

  test('the recording', () => {
    expect(tell(parityCase, readRecording(name).outcome, watch)).toEqual(shows);
  });

  // Again if need be: a port that NAT drew may by chance be one that the case names.
  test('the kernel', { timeout: 60_000, retry: 2 }, async ({ skip }) => {
    if (kernel === undefined) return skip(probe.ok ? '' : `needs ${probe.missing.join('; ')}`);
    expect(tell(parityCase, await shown.run(parityCase), watch)).toEqual(shows);
  });

  test('the simulator against the kernel', { timeout: 60_000, retry: 2 }, async ({ skip }) => {
    if (kernel === undefined) return skip('needs a kernel that can be asked');
    expect((await differencesOf(parityCase, compared)).map(formatDifference)).toEqual([]);
  });
});
