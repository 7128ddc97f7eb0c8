// How many pods of the old and of the new template a Deployment wants next, while it is being updated: at most maxSurge
// more than replicas, at least replicas - maxUnavailable available (pkg/controller/deployment/rolling.go, recreate.go).
//
// Not modelled: progressDeadlineSeconds, pauses, and the proportional scaling of a Deployment that is
// scaled in the middle of its update (here only the newest ReplicaSet grows).

import type { Deployment } from './objects.ts';

export interface ReplicaSetState {
  /** spec.replicas */
  readonly replicas: number;
  /** Ready for at least minReadySeconds, and not terminating. */
  readonly available: number;
  /** Those that there are, terminating ones too. */
  readonly running: number;
}

export interface NextReplicas {
  readonly current: number;
  /** In the order given. */
  readonly old: readonly number[];
  readonly isComplete: boolean;
}

type DeploymentSpec = Pick<Deployment['spec'], 'replicas' | 'strategy'>;

/** `old` are the ReplicaSets of earlier templates, the oldest first. */
export function nextReplicas(
  { replicas, strategy }: DeploymentSpec,
  state: { readonly current: ReplicaSetState; readonly old: readonly ReplicaSetState[] },
): NextReplicas {
  const { current, old } = state;
  if (strategy.type === 'Recreate') {
    const isEmpty = old.every(({ running }) => running === 0);
    return { current: isEmpty ? replicas : current.replicas, old: old.map(() => 0), isComplete: isEmpty };
  }
  const { maxSurge, maxUnavailable } = limitsOf({ replicas, strategy });
  const isComplete = current.available >= replicas && old.every(({ running }) => running === 0);
  const total = sum([current, ...old].map((one) => one.replicas));
  const unchanged = old.map((one) => one.replicas);
  if (current.replicas > replicas) return { current: replicas, old: unchanged, isComplete };
  const more = Math.min(replicas + maxSurge - total, replicas - current.replicas);
  // One direction at a time: what is to go is decided by the pods that are there then.
  if (more > 0) return { current: current.replicas + more, old: unchanged, isComplete };
  const left = scaleDown(state, { total, minAvailable: replicas - maxUnavailable });
  return { current: current.replicas, old: left, isComplete };
}

/** Shares are of spec.replicas; a surge is rounded up, an outage down, and one of both is at least 1 (ResolveFenceposts). */
export function limitsOf({ replicas, strategy: { rollingUpdate } }: DeploymentSpec): {
  readonly maxSurge: number;
  readonly maxUnavailable: number;
} {
  const maxSurge = countOf(rollingUpdate.maxSurge, replicas, Math.ceil);
  const maxUnavailable = Math.min(replicas, countOf(rollingUpdate.maxUnavailable, replicas, Math.floor));
  return { maxSurge, maxUnavailable: maxSurge === 0 && maxUnavailable === 0 ? 1 : maxUnavailable };
}

/** `3`, or `25%` of all (GetScaledValueFromIntOrPercent). */
export const countOf = (given: number | string, all: number, round: (share: number) => number): number =>
  typeof given === 'number' ? given : round((Number.parseInt(given, 10) * all) / 100);

/** Old pods that are not available go first: nobody misses them (cleanupUnhealthyReplicas). */
function scaleDown(
  { current, old }: { readonly current: ReplicaSetState; readonly old: readonly ReplicaSetState[] },
  { total, minAvailable }: { total: number; minAvailable: number },
): number[] {
  const left = old.map(({ replicas }) => replicas);
  const unavailableNew = current.replicas - current.available;
  let spare = total - minAvailable - unavailableNew;
  if (spare <= 0) return left;
  for (const [index, { replicas, available }] of old.entries()) {
    const unhealthy = Math.max(0, Math.min(spare, replicas - available));
    left[index] = replicas - unhealthy;
    spare -= unhealthy;
  }
  let surplus = sum([current, ...old].map(({ available }) => available)) - minAvailable;
  for (const [index, replicas] of left.entries()) {
    const gone = Math.max(0, Math.min(replicas, surplus));
    left[index] = replicas - gone;
    surplus -= gone;
  }
  return left;
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);
