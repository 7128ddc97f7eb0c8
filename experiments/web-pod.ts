// A pod of the app `web` on a node of our choice, where an experiment is about who stands where: pods of a Deployment go
// where the scheduler puts them.

import { objectFrom, type Pod } from '../models/kube/objects.ts';

export interface WebPodOptions {
  readonly name: string;
  readonly node: string;
  /** How long its preStop hook sleeps; within its grace period of a minute. */
  readonly preStopSeconds?: number;
}

export function webPod({ name, node, preStopSeconds = 0 }: WebPodOptions): Pod {
  const lifecycle = preStopSeconds > 0 && { lifecycle: { preStop: { sleep: { seconds: preStopSeconds } } } };
  const container = { name: 'web', ports: [{ containerPort: 8080 }], ...lifecycle };
  return objectFrom('Pod', {
    apiVersion: 'v1',
    metadata: { name, labels: { app: 'web' } },
    spec: { nodeName: node, terminationGracePeriodSeconds: 60, containers: [container] },
  });
}
