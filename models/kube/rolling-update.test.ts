import { expect, test } from 'vitest';
import { limitsOf, nextReplicas, type ReplicaSetState } from './rolling-update.ts';

const spec = (replicas: number, maxSurge: number | string, maxUnavailable: number | string) => ({
  replicas,
  strategy: { type: 'RollingUpdate' as const, rollingUpdate: { maxSurge, maxUnavailable } },
});
const pods = (replicas: number, available = replicas): ReplicaSetState => ({ replicas, available, running: replicas });

test.each([
  // replicas, given, and pods more and less: a surge is rounded up, an outage down
  [4, '25%', '25%', 1, 1],
  [3, '25%', '25%', 1, 0],
  [10, '25%', '25%', 3, 2],
  [1, 0, '25%', 0, 1], // one of both must be at least 1
  [2, 0, 5, 0, 2],
])('%i replicas with maxSurge %s and maxUnavailable %s', (replicas, surge, unavailable, more, less) => {
  expect(limitsOf(spec(replicas, surge, unavailable))).toEqual({ maxSurge: more, maxUnavailable: less });
});

test('with maxUnavailable 0 an old pod goes only when a new one is available', () => {
  const of4 = spec(4, 1, 0);
  expect(nextReplicas(of4, { current: pods(0), old: [pods(4)] })).toMatchObject({ current: 1, old: [4] });
  expect(nextReplicas(of4, { current: pods(1, 0), old: [pods(4)] })).toMatchObject({ current: 1, old: [4] });
  expect(nextReplicas(of4, { current: pods(1), old: [pods(4)] })).toMatchObject({ current: 1, old: [3] });
  expect(nextReplicas(of4, { current: pods(1), old: [pods(3)] })).toMatchObject({ current: 2, old: [3] });
});

test('old pods that are not available go first, whatever their age', () => {
  const state = { current: pods(1, 0), old: [pods(2), pods(2, 0)] };
  // 5 - 3 - 1 new one that is not available: 1 may go, and it is one of the second ReplicaSet
  expect(nextReplicas(spec(4, 1, 1), state)).toMatchObject({ current: 1, old: [2, 1] });
});

test('the update is complete when the new pods are available and the old ones gone', () => {
  expect(nextReplicas(spec(2, 1, 0), { current: pods(2), old: [pods(0)] }).isComplete).toBe(true);
  expect(nextReplicas(spec(2, 1, 0), { current: pods(2, 1), old: [pods(0)] }).isComplete).toBe(false);
});
