// A control plane for tests: an API server, all controllers, and kubelets that only hand out addresses.

import { RandomStreams } from '../../engine/random.ts';
import { START } from '../../engine/time.ts';
import { addressAt, formatIp, parsePrefix } from '../packet/ip-address.ts';
import { ApiServer, type WatchEvent } from './api-server.ts';
import type { ControllerClock } from './controller-clock.ts';
import { EndpointSliceController } from './endpoint-slices.ts';
import { readManifests } from './manifests.ts';
import { makeNode, nodesFor } from './node-objects.ts';
import { isTerminating, type KubeObject, keyOf, type Node, type Pod, withReadiness } from './objects.ts';
import { type ClusterRanges, DEFAULT_RANGES } from './ranges.ts';
import { Scheduler } from './scheduler.ts';
import { WorkloadController } from './workloads.ts';

export interface ControlPlane {
  readonly api: ApiServer;
  readonly scheduler: Scheduler;
  /** Applies manifests, with the nodes that they need. */
  apply(yaml: string): void;
  /** `web-x2x7k node-1`, one line per pod, in the order of their creation. */
  pods(namespace?: string): string[];
}

export function controlPlane({
  seed = 'test',
  nodes = 3,
  ranges = DEFAULT_RANGES,
  clock = STANDING_STILL,
}: {
  seed?: string;
  nodes?: number;
  ranges?: ClusterRanges;
  clock?: ControllerClock;
} = {}): ControlPlane {
  const random = new RandomStreams(seed);
  const api = new ApiServer({ random: random.stream('api-server'), ranges, now: clock.now });
  new WorkloadController(api, { random: random.stream('workloads'), clock });
  const scheduler = new Scheduler(api);
  api.watch('Pod', (events) => giveAddresses(api, events));
  new EndpointSliceController(api, random.stream('endpoint-slices'));
  return {
    api,
    scheduler,
    apply(yaml) {
      const manifests = readManifests([{ name: 'test.yaml', text: yaml }]);
      const existing = api.list('Node');
      manifests.applyTo(api, nodesFor(manifests.objects, { ranges: api.ranges, count: nodes, existing }).nodes);
    },
    pods: (namespace = 'default') =>
      api
        .list('Pod')
        .filter(({ metadata }) => metadata.namespace === namespace)
        .map(({ metadata, spec }) => `${metadata.name} ${spec.nodeName ?? 'nowhere'}`),
  };
}

const STANDING_STILL: ControllerClock = { now: () => START, at: () => {} };

/** `10.244.1.2` for the first pod of node-2: the network's and the bridge's addresses are not given out. */
function giveAddresses(api: ApiServer, events: readonly WatchEvent<Pod>[]): void {
  for (const { type, object } of events) {
    const pod = type === 'DELETED' ? undefined : api.get('Pod', keyOf(object));
    const node = api.get('Node', pod?.spec.nodeName ?? '');
    if (pod === undefined || node?.spec.podCIDR === undefined || pod.status.podIP !== undefined) continue;
    const range = parsePrefix(node.spec.podCIDR);
    const taken = new Set(api.list('Pod').map(({ status }) => status.podIP));
    let index = 2;
    while (taken.has(formatIp(addressAt(range, index)))) index++;
    api.update<Pod>({ ...pod, status: { ...pod.status, phase: 'Running', podIP: formatIp(addressAt(range, index)) } });
  }
}

/** Ends the grace period of every pod that is being deleted. */
export function endGracePeriods(api: ApiServer): void {
  for (const pod of api.list('Pod')) if (isTerminating(pod)) api.remove('Pod', keyOf(pod));
}

export function setReady(api: ApiServer, key: string, ready: boolean): void {
  const pod = api.get('Pod', key);
  if (pod === undefined) throw new RangeError(`no pod ${key}`);
  const conditions = withReadiness(pod, ready ? 'True' : 'False', api.now);
  api.update<Pod>({ ...pod, status: { ...pod.status, conditions } });
}

export const namesOf = (objects: readonly KubeObject[]): string[] => objects.map(({ metadata }) => metadata.name);

export const nodeAt = (index: number, fields: Partial<Parameters<typeof makeNode>[0]> = {}): Node =>
  makeNode({ name: `node-${index}`, address: `192.168.0.${10 + index}`, ...fields });
