// Every fact of facts.ts: the simulator shows it and agrees with what the kernel once answered; the recorded answer
// shows it; and where the kernel can be asked, it shows it still, and the simulator agrees with all that it answers
// now.

import { afterAll, describe, expect, test } from 'vitest';
import { compareWithSimulator, formatDifference } from '../compare.ts';
import { differencesOf } from '../judge.ts';
import { KernelRunner } from '../kernel/runner.ts';
import { readRecording } from '../recording.ts';
import { runInSimulator } from '../simulator/runner.ts';
import { tell } from './fact.ts';
import { FACTS } from './facts.ts';

const probe = await KernelRunner.probe();
const kernel = probe.ok ? new KernelRunner() : undefined;
afterAll(() => kernel?.close());

test('no two facts have one name', () => {
  const names = FACTS.map(({ name }) => name);
  expect(names).toEqual([...new Set(names)]);
});

describe.for(FACTS)('$name: $says', ({ name, case: parityCase, shows, watch }) => {
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
    expect(tell(parityCase, await kernel.run(parityCase), watch)).toEqual(shows);
  });

  test('the simulator against the kernel', { timeout: 60_000, retry: 2 }, async ({ skip }) => {
    if (kernel === undefined) return skip('needs a kernel that can be asked');
    expect((await differencesOf(parityCase, kernel)).map(formatDifference)).toEqual([]);
  });
});
