import { expect, test } from 'vitest';
import { type DaemonPod, podsToReplace } from './daemon-set-update.ts';

const spec = (maxUnavailable: number | string, type: 'RollingUpdate' | 'OnDelete' = 'RollingUpdate') => ({
  updateStrategy: { type, rollingUpdate: { maxUnavailable, maxSurge: 0 } },
});
const pod = (key: string, changes: Partial<DaemonPod> = {}): DaemonPod => ({
  ...{ key, isTerminating: false, isAvailable: true, isUpdated: false },
  ...changes,
});
const updated = { isUpdated: true };
const unavailable = { isAvailable: false };

test.each<[what: string, maxUnavailable: number | string, nodes: DaemonPod[][], gone: string[]]>([
  ['one node at a time', 1, [[pod('a')], [pod('b')]], ['a']],
  ['it is waited for', 1, [[pod('a', { ...updated, ...unavailable })], [pod('b')]], []],
  ['also while its old pod terminates', 1, [[pod('a', { isTerminating: true, ...unavailable })], [pod('b')]], []],
  ['and before its new pod is there', 1, [[], [pod('b')]], []],
  ['then comes the next', 1, [[pod('a', updated)], [pod('b')]], ['b']],
  ['old pods that are not available are no loss', 1, [[pod('a', unavailable)], [pod('b', unavailable)]], ['a', 'b']],
  ['a share is rounded up', '40%', [[pod('a')], [pod('b')], [pod('c')]], ['a', 'b']],
])('%s', (_what, maxUnavailable, nodes, gone) => {
  expect(podsToReplace(spec(maxUnavailable), nodes)).toEqual(gone);
});

test('OnDelete replaces nothing by itself', () => {
  expect(podsToReplace(spec(1, 'OnDelete'), [[pod('a', unavailable)], [pod('b')]])).toEqual([]);
});
