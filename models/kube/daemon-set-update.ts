// Which pods of a DaemonSet make way for new ones next, while it is updated: old pods that are not available, and so many
// others that at most maxUnavailable nodes are without (rollingUpdate of pkg/controller/daemon/update.go). A new pod is made
// once the old one is gone.
//
// Not modelled: maxSurge.

import type { DaemonSet } from './objects.ts';
import { countOf } from './rolling-update.ts';

export interface DaemonPod {
  readonly key: string;
  readonly isTerminating: boolean;
  /** Ready for at least minReadySeconds, and not terminating. */
  readonly isAvailable: boolean;
  /** Made of the newest template. */
  readonly isUpdated: boolean;
}

/** `nodes` has the pods of each node that should have one. */
export function podsToReplace(
  { updateStrategy: { type, rollingUpdate } }: Pick<DaemonSet['spec'], 'updateStrategy'>,
  nodes: readonly (readonly DaemonPod[])[],
): string[] {
  if (type === 'OnDelete') return [];
  const isOld = ({ isUpdated, isTerminating }: DaemonPod): boolean => !isUpdated && !isTerminating;
  const isServed = (pods: readonly DaemonPod[]): boolean => pods.some(({ isAvailable }) => isAvailable);
  const available = nodes.filter(isServed);
  const unavailable = nodes.filter((pods) => !isServed(pods));
  const spare = Math.max(0, countOf(rollingUpdate.maxUnavailable, nodes.length, Math.ceil) - unavailable.length);
  return [...unavailable.flat().filter(isOld), ...available.flat().filter(isOld).slice(0, spare)].map(({ key }) => key);
}
