// What a StatefulSet does next: which of its pods it makes, and which it deletes (updateStatefulSet of
// pkg/controller/statefulset/stateful_set_control.go). With podManagementPolicy OrderedReady each pod waits until those before
// it are available, and a pod is deleted only when those after it are gone. Updates replace the last pod first, one at a
// time, and wait until it is ready.
//
// Not modelled: maxUnavailable (of the feature gate MaxUnavailableStatefulSet), spec.ordinals.

import type { StatefulSet } from './objects.ts';

export interface OrdinalPod {
  readonly ordinal: number;
  readonly isTerminating: boolean;
  /** Running and ready, and not terminating. */
  readonly isReady: boolean;
  /** So for at least minReadySeconds. */
  readonly isAvailable: boolean;
  /** Made of the newest template. */
  readonly isUpdated: boolean;
}

/** By ordinal. */
export interface StatefulSetStep {
  readonly create: readonly number[];
  readonly delete: readonly number[];
}

/** `wanted` are the ordinals that there should be; both go up. */
export function nextStep(
  { podManagementPolicy, updateStrategy }: Pick<StatefulSet['spec'], 'podManagementPolicy' | 'updateStrategy'>,
  { wanted, pods }: { readonly wanted: readonly number[]; readonly pods: readonly OrdinalPod[] },
): StatefulSetStep {
  const isOrdered = podManagementPolicy === 'OrderedReady';
  const byOrdinal = new Map(pods.map((pod) => [pod.ordinal, pod]));
  const missing = wanted.filter((ordinal) => !byOrdinal.has(ordinal));
  const surplus = pods.filter(({ ordinal }) => !wanted.includes(ordinal)).toReversed();
  if (isOrdered) {
    const first = wanted.find((ordinal) => byOrdinal.get(ordinal)?.isAvailable !== true);
    if (first !== undefined) return { create: missing.includes(first) ? [first] : [], delete: [] };
    const [last] = surplus;
    if (last !== undefined) return { create: [], delete: last.isTerminating ? [] : [last.ordinal] };
  }
  const gone = surplus.filter(({ isTerminating }) => !isTerminating).map(({ ordinal }) => ordinal);
  const replaced = updateStrategy.type === 'OnDelete' ? undefined : nextToUpdate(updateStrategy, { wanted, byOrdinal });
  return { create: missing, delete: replaced === undefined ? gone : [...gone, replaced] };
}

/** From the last to the partition; one that is not ready is waited for, unless it is old. */
function nextToUpdate(
  { rollingUpdate: { partition } }: StatefulSet['spec']['updateStrategy'],
  { wanted, byOrdinal }: { readonly wanted: readonly number[]; readonly byOrdinal: ReadonlyMap<number, OrdinalPod> },
): number | undefined {
  for (const ordinal of wanted.toReversed()) {
    const pod = byOrdinal.get(ordinal);
    if (ordinal < partition || pod === undefined) return undefined;
    if (!pod.isUpdated && !pod.isTerminating) return ordinal;
    if (!pod.isReady) return undefined;
  }
  return undefined;
}
