import { describe, expect, test } from 'vitest';
import { nextStep, type OrdinalPod } from './stateful-set-step.ts';

const pod = (ordinal: number, changes: Partial<OrdinalPod> = {}): OrdinalPod => ({
  ...{ ordinal, isTerminating: false, isReady: true, isAvailable: true, isUpdated: true },
  ...changes,
});
const starting = { isReady: false, isAvailable: false };
const terminating = { isTerminating: true, ...starting };
const old = { isUpdated: false };

const rolling = (partition = 0) => ({ type: 'RollingUpdate' as const, rollingUpdate: { partition } });
const ordered = { podManagementPolicy: 'OrderedReady' as const, updateStrategy: rolling() };
const parallel = { ...ordered, podManagementPolicy: 'Parallel' as const };

describe('with OrderedReady', () => {
  test.each<[what: string, pods: OrdinalPod[], create: number[], gone: number[]]>([
    ['the first pod comes first', [], [0], []],
    ['the second waits until the first is ready', [pod(0, starting)], [], []],
    ['and until it has been so for long enough', [pod(0, { isAvailable: false })], [], []],
    ['then it comes', [pod(0)], [1], []],
    ['a gap is filled before others go', [pod(0), pod(2), pod(3)], [1], []],
    ['a name has to be free', [pod(0), pod(1, terminating), pod(2)], [], []],
    ['of those too many the last goes first', [pod(0), pod(1), pod(2), pod(3), pod(4)], [], [4]],
    ['the next one goes when that is gone', [pod(0), pod(1), pod(2), pod(3), pod(4, terminating)], [], []],
    ['none goes while one is not ready', [pod(0), pod(1, starting), pod(2), pod(3)], [], []],
  ])('%s', (_what, pods, create, gone) => {
    expect(nextStep(ordered, { wanted: [0, 1, 2], pods })).toEqual({ create, delete: gone });
  });
});

test('with Parallel nobody waits for anybody', () => {
  const step = nextStep(parallel, { wanted: [0, 1, 2], pods: [pod(0, starting), pod(3), pod(4, terminating), pod(5)] });
  expect(step).toEqual({ create: [1, 2], delete: [5, 3] });
});

describe('an update', () => {
  const wanted = [0, 1, 2];
  const replaced = (pods: OrdinalPod[], spec: Parameters<typeof nextStep>[0] = parallel) =>
    nextStep(spec, { wanted, pods }).delete;

  test('replaces the last pod first and goes on when the new one is ready, with Parallel too', () => {
    for (const spec of [ordered, parallel]) {
      expect(replaced([pod(0, old), pod(1, old), pod(2, old)], spec)).toEqual([2]);
      expect(replaced([pod(0, old), pod(1, old), pod(2, { ...old, ...terminating })], spec)).toEqual([]);
      expect(replaced([pod(0, old), pod(1, old)], spec)).toEqual([]);
      expect(replaced([pod(0, old), pod(1, old), pod(2, starting)], spec)).toEqual([]);
      expect(replaced([pod(0, old), pod(1, old), pod(2)], spec)).toEqual([1]);
    }
  });

  test('leaves pods below its partition alone', () => {
    const below2 = { ...ordered, updateStrategy: rolling(2) };
    expect(replaced([pod(0, old), pod(1, old), pod(2, old)], below2)).toEqual([2]);
    expect(replaced([pod(0, old), pod(1, old), pod(2)], below2)).toEqual([]);
  });

  test('of type OnDelete replaces nothing by itself', () => {
    const onDelete = { ...ordered, updateStrategy: { ...rolling(), type: 'OnDelete' as const } };
    expect(replaced([pod(0, old), pod(1, old), pod(2, old)], onDelete)).toEqual([]);
  });

  test('that never gets ready stays where it is, but an old pod that is not ready is replaced', () => {
    expect(replaced([pod(0, old), pod(1, old), pod(2, { ...old, ...starting })])).toEqual([2]);
    // With OrderedReady the order of the start comes first (kubernetes/kubernetes#67250).
    expect(replaced([pod(0, old), pod(1, old), pod(2, { ...old, ...starting })], ordered)).toEqual([]);
  });
});
