// The controllers of workloads: a Deployment gets a ReplicaSet, and ReplicaSets, StatefulSets and DaemonSets get pods,
// named as Kubernetes names them. Scaling, and replacing pods that go, work while the cluster runs.
//
// Pods of a snapshot count: a workload that owns pods when it is first seen keeps that number of them until it is
// scaled, whatever spec.replicas says. What is updated when a template changes, and when, is decided in rolling-update.ts,
// stateful-set-step.ts and daemon-set-update.ts. Not modelled: ControllerRevisions (a pod's label says what it was made
// of), adoption of pods by label.

import type { RandomStream } from '../../engine/random.ts';
import { after, type Instant, s } from '../../engine/time.ts';
import type { ApiServer, KeyedEvent, WatchEvent } from './api-server.ts';
import type { ControllerClock } from './controller-clock.ts';
import { type DaemonPod, podsToReplace } from './daemon-set-update.ts';
import { matchesSelector } from './label-index.ts';
import { NamedDraws, templateHash } from './named-draws.ts';
import {
  controllerOf,
  type DaemonSet,
  type Deployment,
  describeObject,
  isFinished,
  isReady,
  isTerminating,
  type KubeObject,
  keyOf,
  type Labels,
  type Node,
  type OwnerReference,
  type Pod,
  type PodTemplate,
  type ReplicaSet,
  readinessChangeOf,
  type StatefulSet,
  type Workload,
  withChanges,
} from './objects.ts';
import { nextReplicas, type ReplicaSetState } from './rolling-update.ts';
import { nodeAccepts } from './scheduler.ts';
import { nextStep } from './stateful-set-step.ts';

type PodMaker = ReplicaSet | StatefulSet | DaemonSet;

/** By what an owner is found: `default/web-7d4b9c6f5`, `ReplicaSet default/web-7d4b9c6f5`. */
interface OwnerNames {
  readonly owner: OwnerReference;
  readonly namespace: string;
  readonly key: string;
  readonly description: string;
}

export class WorkloadController {
  readonly #apiServer: ApiServer;
  readonly #clock: ControllerClock;
  readonly #draws: NamedDraws;
  /** Keys of what a workload owns, by the workload's description (`ReplicaSet default/web-7d4b9c6f5`). */
  readonly #owned = new Map<string, Set<string>>();
  /** Workloads that have been seen, by description: as they were then, and what a snapshot had of them. */
  readonly #seen = new Map<string, { template: string; replicas: number; ofSnapshot: number | undefined }>();
  /** DaemonSets of a snapshot: nodes on which they had no pod. */
  readonly #sparedNodes = new Map<string, ReadonlySet<string>>();
  /** By namespace: ReplicaSets that pods name as their owner, but that are not in the snapshot, and one pod of each. */
  readonly #missingReplicaSets = new Map<string, Map<string, Pod>>();
  /** Deployments that are being updated, by description. */
  readonly #rolling = new Set<string>();
  /** StatefulSets and DaemonSets whose template has changed, by description, and what it was before this update. */
  readonly #updates = new Map<string, { readonly before: PodTemplate; isComplete: boolean }>();
  /** Which pods a StatefulSet of a snapshot had. */
  readonly #ordinalsOfSnapshot = new Map<string, readonly number[]>();
  /** When the next pod of a workload will have been ready for long enough. */
  readonly #nextAvailable = new Map<string, Instant>();
  /** Who made the latest pod, and what pods say of it: those that are made one after another share that. */
  #latestOwner: { readonly owner: PodMaker; readonly references: Pod['metadata']['ownerReferences'] } | undefined;
  /** Of the owner that was asked for last: most events are of pods that have the same one as the pod before. */
  #latestNames: OwnerNames | undefined;
  /** How many names each workload has used up. */
  readonly #named = new Map<string, number>();

  /** Controls workloads from now on; those that are there have their pods before this returns. */
  constructor(
    apiServer: ApiServer,
    { random, clock }: { readonly random: RandomStream; readonly clock: ControllerClock },
  ) {
    this.#apiServer = apiServer;
    this.#clock = clock;
    this.#draws = new NamedDraws(random);
    apiServer.watch('Pod', (events) => this.#onPods(events));
    apiServer.watch('ReplicaSet', (events) => this.#onWorkloads(events));
    apiServer.watch('Deployment', (events) => this.#onWorkloads(events));
    apiServer.watch('StatefulSet', (events) => this.#onWorkloads(events));
    apiServer.watch('DaemonSet', (events) => this.#onWorkloads(events));
    apiServer.watch('Node', () => this.#reconcileDaemonSets());
  }

  #onPods(events: readonly KeyedEvent<Pod>[]): void {
    for (const { type, key, object } of events) {
      this.#recordOwner(type, object, key);
      if (type === 'ADDED') this.#recordMissingReplicaSet(object);
      const owner = this.#ownerOf(object);
      if (owner === undefined) continue;
      const { description } = this.#namesOf(controllerOf(object)!, owner.metadata.namespace);
      const isGoing = type === 'DELETED' || isTerminating(object) || isFinished(object);
      const isAwaited = owner.kind === 'StatefulSet' || this.#updates.has(description);
      // Pods of a snapshot are told before what owns them.
      if ((isGoing || isAwaited) && this.#seen.has(description)) this.#reconcile(owner);
      const deployment = this.#rollingDeploymentOf(owner);
      if (deployment !== undefined) this.#roll(deployment);
    }
  }

  #recordMissingReplicaSet(pod: Pod): void {
    const owner = controllerOf(pod);
    if (owner?.kind !== 'ReplicaSet' || this.#ownerOf(pod) !== undefined) return;
    const names = this.#missingReplicaSets.get(pod.metadata.namespace) ?? new Map<string, Pod>();
    this.#missingReplicaSets.set(pod.metadata.namespace, names.set(owner.name, pod));
  }

  #onWorkloads(events: readonly KeyedEvent<Workload>[]): void {
    for (const { type, key, object } of events) this.#recordOwner(type, object, key);
    for (const { type, object } of events) {
      if (type === 'DELETED') this.#deleteOwned(object);
      else this.#reconcile(object);
    }
  }

  #recordOwner(type: WatchEvent<KubeObject>['type'], object: Pod | Workload, key: string): void {
    const owner = controllerOf(object);
    if (owner === undefined) return;
    const { description } = this.#namesOf(owner, object.metadata.namespace);
    let owned = this.#owned.get(description);
    if (owned === undefined) this.#owned.set(description, (owned = new Set()));
    if (type === 'DELETED') owned.delete(key);
    else owned.add(key);
  }

  #ownerOf(pod: Pod): PodMaker | undefined {
    const owner = controllerOf(pod);
    if (owner?.kind !== 'ReplicaSet' && owner?.kind !== 'StatefulSet' && owner?.kind !== 'DaemonSet') return undefined;
    return this.#apiServer.get(owner.kind, this.#namesOf(owner, pod.metadata.namespace).key);
  }

  #namesOf(owner: OwnerReference, namespace: string): OwnerNames {
    if (this.#latestNames?.owner !== owner || this.#latestNames.namespace !== namespace) {
      const key = [namespace, owner.name].join('/');
      this.#latestNames = { owner, namespace, key, description: [owner.kind, key].join(' ') };
    }
    return this.#latestNames;
  }

  #reconcile(named: Workload): void {
    // As it is: the event may have been long under way.
    const workload: Workload | undefined = this.#apiServer.get(named.kind, keyOf(named));
    if (workload === undefined) return;
    this.#noteTemplate(workload);
    switch (workload.kind) {
      case 'Deployment':
        return this.#reconcileDeployment(workload);
      case 'ReplicaSet':
        return this.#reconcileReplicas(workload);
      case 'StatefulSet':
        return this.#reconcileStatefulSet(workload);
      case 'DaemonSet':
        return this.#reconcileDaemonSet(workload);
    }
  }

  /** A ReplicaSet's template is for pods to come, and a Deployment has a ReplicaSet for each. */
  #noteTemplate(workload: Workload): void {
    if (workload.kind === 'Deployment' || workload.kind === 'ReplicaSet') return;
    const description = describeObject(workload);
    const template = JSON.stringify(workload.spec.template);
    const seen = this.#seen.get(description);
    if (seen === undefined || seen.template === template) return;
    this.#seen.set(description, { ...seen, template });
    const update = this.#updates.get(description);
    if (update === undefined || update.isComplete)
      this.#updates.set(description, { before: JSON.parse(seen.template), isComplete: false });
  }

  // ---- Deployments ------------------------------------------------------------------------------------------------

  #reconcileDeployment(deployment: Deployment): void {
    const description = describeObject(deployment);
    const { replicas } = deployment.spec;
    const template = JSON.stringify(deployment.spec.template);
    const seen = this.#seen.get(description);
    this.#seen.set(description, { template, replicas, ofSnapshot: undefined });
    const replicaSet = this.#currentReplicaSet(deployment);
    if (seen === undefined && replicaSet === undefined) return this.#createReplicaSets(deployment);
    // A snapshot may have been taken in the middle of a rolling update: only a change is passed on.
    if (seen === undefined || replicaSet === undefined) return;
    if (seen.template !== template) this.#startUpdate(deployment, replicaSet);
    else if (replicaSet.spec.minReadySeconds !== deployment.spec.minReadySeconds)
      this.#setMinReady(replicaSet, deployment);
    if (this.#rolling.has(description)) this.#roll(deployment);
    else if (seen.replicas !== replicas) this.#scale(replicaSet, replicas);
  }

  #scale(replicaSet: ReplicaSet, replicas: number): void {
    this.#apiServer.update({ ...replicaSet, spec: { ...replicaSet.spec, replicas } });
  }

  /** Those of earlier templates keep what they had. */
  #setMinReady(replicaSet: ReplicaSet, { spec: { minReadySeconds } }: Deployment): void {
    this.#apiServer.update({ ...replicaSet, spec: { ...replicaSet.spec, minReadySeconds } });
  }

  // ---- updates of Deployments -------------------------------------------------------------------------------------

  /** A ReplicaSet for the new template: one that is kept from an earlier revision, or a new one without pods yet. */
  #startUpdate(deployment: Deployment, current: ReplicaSet): void {
    const hash = templateHash(JSON.stringify(deployment.spec.template));
    const revision = Number(current.metadata.annotations[REVISION] ?? 0) + 1;
    const earlier = this.#replicaSetsOf(deployment).find(({ metadata }) => metadata.labels[TEMPLATE_HASH] === hash);
    if (earlier === undefined) {
      this.#createReplicaSet(deployment, `${deployment.metadata.name}-${hash}`, hash, revision, 0);
    } else {
      const annotations = { ...earlier.metadata.annotations, [REVISION]: `${revision}` };
      const { minReadySeconds } = deployment.spec;
      this.#apiServer.update({
        ...earlier,
        metadata: { ...earlier.metadata, annotations },
        spec: { ...earlier.spec, minReadySeconds },
      });
    }
    this.#rolling.add(describeObject(deployment));
  }

  #roll(deployment: Deployment): void {
    const current = this.#currentReplicaSet(deployment);
    if (current === undefined) return;
    const byAge = this.#replicaSetsOf(deployment).filter(({ metadata }) => metadata.name !== current.metadata.name);
    const next = nextReplicas(deployment.spec, {
      current: this.#stateOf(current, deployment),
      old: byAge.map((replicaSet) => this.#stateOf(replicaSet, deployment)),
    });
    if (next.isComplete) this.#rolling.delete(describeObject(deployment));
    if (next.current !== current.spec.replicas) this.#scale(current, next.current);
    for (const [index, replicaSet] of byAge.entries()) {
      const replicas = next.old[index] ?? 0;
      if (replicas !== replicaSet.spec.replicas) this.#scale(replicaSet, replicas);
    }
  }

  #stateOf(replicaSet: ReplicaSet, deployment: Deployment): ReplicaSetState {
    const { replicas, minReadySeconds } = replicaSet.spec;
    const keys = [...(this.#owned.get(describeObject(replicaSet)) ?? [])];
    const pods = keys.flatMap((key) => this.#apiServer.get('Pod', key) ?? []);
    const available = pods.filter((pod) => this.#isAvailable(pod, minReadySeconds, deployment)).length;
    return { replicas, available, running: pods.length };
  }

  #rollingDeploymentOf(owner: PodMaker): Deployment | undefined {
    if (this.#rolling.size === 0) return undefined;
    const reference = controllerOf(owner);
    if (owner.kind !== 'ReplicaSet' || reference?.kind !== 'Deployment') return undefined;
    const key = `${owner.metadata.namespace}/${reference.name}`;
    return this.#rolling.has(`Deployment ${key}`) ? this.#apiServer.get('Deployment', key) : undefined;
  }

  #replicaSetsOf(deployment: Deployment): ReplicaSet[] {
    const keys = [...(this.#owned.get(describeObject(deployment)) ?? [])];
    return keys.flatMap((key) => this.#apiServer.get('ReplicaSet', key) ?? []);
  }

  /** Of several (old ones are kept for a rollback) the one with the highest revision. */
  #currentReplicaSet(deployment: Deployment): ReplicaSet | undefined {
    const revisionOf = ({ metadata }: ReplicaSet) => Number(metadata.annotations[REVISION] ?? 0);
    return this.#replicaSetsOf(deployment).reduce<ReplicaSet | undefined>(
      (newest, other) => (newest === undefined || revisionOf(other) >= revisionOf(newest) ? other : newest),
      undefined,
    );
  }

  /** One ReplicaSet; in a snapshot without ReplicaSets one for each that its pods name as their owner. */
  #createReplicaSets(deployment: Deployment): void {
    const { selector, template, replicas } = deployment.spec;
    const orphaned: [name: string, pod: Pod][] = [];
    for (const [name, pod] of this.#missingReplicaSets.get(deployment.metadata.namespace) ?? []) {
      if (this.#ownerOf(pod) === undefined && matchesSelector(selector, pod.metadata.labels))
        orphaned.push([name, pod]);
    }
    const hash = templateHash(JSON.stringify(template));
    if (orphaned.length === 0)
      this.#createReplicaSet(deployment, `${deployment.metadata.name}-${hash}`, hash, 1, replicas);
    for (const [index, [name, pod]] of orphaned.entries()) {
      const podHash = pod.metadata.labels[TEMPLATE_HASH] ?? name.slice(deployment.metadata.name.length + 1);
      this.#createReplicaSet(deployment, name, podHash, index + 1, replicas);
    }
  }

  #createReplicaSet(deployment: Deployment, name: string, hash: string, revision: number, replicas: number): void {
    const { selector, template, minReadySeconds } = deployment.spec;
    const labels = withChanges(template.metadata.labels, { [TEMPLATE_HASH]: hash });
    const { key, object } = this.#apiServer.createKeyed<ReplicaSet>({
      kind: 'ReplicaSet',
      metadata: {
        name,
        namespace: deployment.metadata.namespace,
        labels,
        annotations: { [REVISION]: `${revision}` },
        ownerReferences: [referenceTo(deployment)],
      },
      spec: {
        replicas,
        minReadySeconds,
        selector: withChanges(selector, { matchLabels: withChanges(selector.matchLabels, { [TEMPLATE_HASH]: hash }) }),
        template: withChanges(template, { metadata: withChanges(template.metadata, { labels }) }),
      },
    });
    this.#recordOwner('ADDED', object, key); // the watch event may come later than the next look at the Deployment
  }

  // ---- ReplicaSets ------------------------------------------------------------------------------------------------

  #reconcileReplicas(workload: ReplicaSet): void {
    const active = this.#activePods(workload);
    const wanted = this.#wantedReplicas(workload, active.length);
    for (const pod of inOrderOfRemoval(active).slice(0, Math.max(0, active.length - wanted))) {
      this.#apiServer.delete('Pod', keyOf(pod));
    }
    for (let count = active.length; count < wanted; count++) this.#createPod(workload, this.#newName(workload), {});
  }

  /** What spec.replicas says; for a workload of a snapshot as many as it had, until spec.replicas changes. */
  #wantedReplicas(workload: ReplicaSet | StatefulSet, active: number): number {
    const { replicas, template } = workload.spec;
    const description = describeObject(workload);
    const seen = this.#seen.get(description);
    const hasPods = (this.#owned.get(description)?.size ?? 0) > 0;
    const ofSnapshot =
      seen === undefined ? (hasPods ? active : undefined) : seen.replicas === replicas ? seen.ofSnapshot : undefined;
    this.#seen.set(description, { template: JSON.stringify(template), replicas, ofSnapshot });
    return ofSnapshot ?? replicas;
  }

  // ---- StatefulSets -----------------------------------------------------------------------------------------------

  /** `db-0`, `db-1`, ...: a pod that goes comes back under its own name. */
  #reconcileStatefulSet(workload: StatefulSet): void {
    const { name, namespace } = workload.metadata;
    const description = describeObject(workload);
    const ordinalOf = (pod: Pod) => Number(pod.metadata.name.slice(name.length + 1));
    const there = this.#unfinishedPods(workload).toSorted((a, b) => ordinalOf(a) - ordinalOf(b));
    const revision = revisionOf(workload, workload.spec.template);
    const pods = there.map((pod) => ({ ordinal: ordinalOf(pod), ...this.#stateOfPod(pod, workload, revision) }));
    const isFirstLook = !this.#seen.has(description);
    const count = this.#wantedReplicas(workload, this.#activePods(workload).length);
    const ordinals = pods.map(({ ordinal }) => ordinal);
    if (isFirstLook && ordinals.length > 0) this.#ordinalsOfSnapshot.set(description, ordinals);
    if (this.#seen.get(description)?.ofSnapshot === undefined) this.#ordinalsOfSnapshot.delete(description);
    const wanted = this.#ordinalsOfSnapshot.get(description) ?? Array.from({ length: count }, (_, ordinal) => ordinal);

    const step = nextStep(workload.spec, { wanted, pods });
    for (const ordinal of step.delete) this.#apiServer.delete('Pod', `${namespace}/${name}-${ordinal}`);
    for (const ordinal of step.create) this.#createOrdinal(workload, ordinal);
    const update = this.#updates.get(description);
    if (update !== undefined && pods.length === wanted.length && pods.every((pod) => pod.isUpdated && pod.isReady))
      update.isComplete = true;
  }

  #createOrdinal(workload: StatefulSet, ordinal: number): void {
    const { metadata, spec } = workload;
    const name = `${metadata.name}-${ordinal}`;
    const key = `${metadata.namespace}/${name}`;
    const { type, rollingUpdate } = spec.updateStrategy;
    const update = this.#updates.get(describeObject(workload));
    const isOfBefore = update?.isComplete === false && type === 'RollingUpdate' && ordinal < rollingUpdate.partition;
    const template = isOfBefore ? update.before : spec.template;
    if (this.#apiServer.get('Pod', key) !== undefined) this.#apiServer.remove('Pod', key); // it has ended
    this.#createPod(workload, name, {
      template,
      labels: {
        [REVISION_HASH]: revisionOf(workload, template),
        'statefulset.kubernetes.io/pod-name': name,
        'apps.kubernetes.io/pod-index': `${ordinal}`,
      },
      spec: { hostname: name, subdomain: spec.serviceName === '' ? undefined : spec.serviceName },
    });
  }

  // ---- DaemonSets -------------------------------------------------------------------------------------------------

  /** Those that it has heard of: the pods of another may be under way as well. */
  #reconcileDaemonSets(): void {
    for (const daemonSet of this.#apiServer.list('DaemonSet'))
      if (this.#seen.has(describeObject(daemonSet))) this.#reconcile(daemonSet);
  }

  /** A pod for each node that accepts it. The real controller binds by node affinity; this one sets nodeName. */
  #reconcileDaemonSet(daemonSet: DaemonSet): void {
    const description = describeObject(daemonSet);
    const { template } = daemonSet.spec;
    const pods = this.#unfinishedPods(daemonSet);
    const occupied = new Set(pods.map(({ spec }) => spec.nodeName));
    if (!this.#seen.has(description)) {
      this.#seen.set(description, { template: JSON.stringify(template), replicas: 0, ofSnapshot: undefined });
      const nodes = occupied.size > 0 ? this.#apiServer.list('Node') : [];
      const spared = nodes.map(({ metadata }) => metadata.name).filter((name) => !occupied.has(name));
      this.#sparedNodes.set(description, new Set(spared));
    }
    const tolerations = [...template.spec.tolerations, ...DAEMON_TOLERATIONS];
    const accepting = this.#apiServer.list('Node').filter((node) => {
      const isSpared = this.#sparedNodes.get(description)?.has(node.metadata.name) === true;
      return !isSpared && mayRunOn(template, node) && nodeAccepts(node, { ...template.spec, tolerations });
    });
    const revision = revisionOf(daemonSet, template);
    for (const { metadata } of accepting) {
      if (occupied.has(metadata.name)) continue;
      this.#createPod(daemonSet, this.#newName(daemonSet), {
        labels: { [REVISION_HASH]: revision },
        spec: { nodeName: metadata.name, tolerations },
      });
    }
    if (!this.#updates.has(description)) return;
    const byNode = new Map(accepting.map(({ metadata }) => [metadata.name, [] as DaemonPod[]]));
    for (const pod of pods)
      byNode.get(pod.spec.nodeName ?? '')?.push({ key: keyOf(pod), ...this.#stateOfPod(pod, daemonSet, revision) });
    for (const key of podsToReplace(daemonSet.spec, [...byNode.values()])) this.#apiServer.delete('Pod', key);
  }

  // ---- pods -------------------------------------------------------------------------------------------------------

  #unfinishedPods(workload: PodMaker): Pod[] {
    const keys = [...(this.#owned.get(describeObject(workload)) ?? [])];
    return keys.flatMap((key) => this.#apiServer.get('Pod', key) ?? []).filter((pod) => !isFinished(pod));
  }

  #activePods(workload: PodMaker): Pod[] {
    return this.#unfinishedPods(workload).filter((pod) => !isTerminating(pod));
  }

  #stateOfPod(pod: Pod, workload: StatefulSet | DaemonSet, revision: string) {
    const { minReadySeconds } = workload.spec;
    return {
      isTerminating: isTerminating(pod),
      isReady: isRunningAndReady(pod),
      isAvailable: this.#isAvailable(pod, minReadySeconds, workload),
      // Whatever pods of a snapshot were made of, it was their template until that changed.
      isUpdated: !this.#updates.has(describeObject(workload)) || pod.metadata.labels[REVISION_HASH] === revision,
    };
  }

  /** Ready for so long; if that is yet to come, the workload is looked at again then. */
  #isAvailable(pod: Pod, minReadySeconds: number, workload: Workload): boolean {
    if (!isRunningAndReady(pod)) return false;
    const since = readinessChangeOf(pod);
    const from = since === undefined ? this.#clock.now() : after(since, s(minReadySeconds));
    if (from <= this.#clock.now()) return true;
    this.#lookAgain(workload, from);
    return false;
  }

  #lookAgain(workload: Workload, at: Instant): void {
    const description = describeObject(workload);
    const next = this.#nextAvailable.get(description);
    if (next !== undefined && next <= at) return;
    this.#nextAvailable.set(description, at);
    this.#clock.at(at, () => {
      if (this.#nextAvailable.get(description) === at) this.#nextAvailable.delete(description);
      this.#reconcile(workload);
    });
  }

  #createPod(
    owner: PodMaker,
    name: string,
    extra: { template?: PodTemplate; labels?: Labels; spec?: Partial<Pod['spec']> },
  ): void {
    const { metadata, spec } = extra.template ?? owner.spec.template;
    if (this.#latestOwner?.owner !== owner) this.#latestOwner = { owner, references: [referenceTo(owner)] };
    const { key, object } = this.#apiServer.createKeyed<Pod>({
      kind: 'Pod',
      metadata: {
        name,
        namespace: owner.metadata.namespace,
        labels: extra.labels === undefined ? metadata.labels : { ...metadata.labels, ...extra.labels },
        annotations: metadata.annotations,
        ownerReferences: this.#latestOwner.references,
      },
      spec: withChanges(spec, extra.spec ?? {}),
      status: { phase: 'Pending' },
    });
    this.#recordOwner('ADDED', object, key); // the watch event may come later than the next look at this workload
  }

  /** `web-7d4b9c6f5-x2x7k`. */
  #newName(owner: PodMaker): string {
    const { name, namespace } = owner.metadata;
    const description = describeObject(owner);
    for (;;) {
      const number = this.#named.get(description) ?? 0;
      this.#named.set(description, number + 1);
      const podName = [name, this.#draws.suffix(`${description} ${number}`)].join('-');
      if (this.#apiServer.get('Pod', `${namespace}/${podName}`) === undefined) return podName;
    }
  }

  /** What the garbage collector does after its owner is gone. */
  #deleteOwned(owner: Workload): void {
    const kind = owner.kind === 'Deployment' ? 'ReplicaSet' : 'Pod';
    for (const key of [...(this.#owned.get(describeObject(owner)) ?? [])]) this.#apiServer.delete(kind, key);
    this.#seen.delete(describeObject(owner));
    this.#rolling.delete(describeObject(owner));
    this.#updates.delete(describeObject(owner));
    this.#ordinalsOfSnapshot.delete(describeObject(owner));
  }
}

const TEMPLATE_HASH = 'pod-template-hash';
const REVISION = 'deployment.kubernetes.io/revision';
const REVISION_HASH = 'controller-revision-hash';

/** `db-7d4b9c6f5` for a StatefulSet, `7d4b9c6f5` for a DaemonSet. */
function revisionOf({ kind, metadata }: StatefulSet | DaemonSet, template: PodTemplate): string {
  const hash = templateHash(JSON.stringify(template));
  return kind === 'StatefulSet' ? `${metadata.name}-${hash}` : hash;
}

const isRunningAndReady = (pod: Pod): boolean => !isTerminating(pod) && isReady(pod) && pod.status.podIP !== undefined;

/** Pods of DaemonSets also go to nodes that are cordoned or in trouble. */
const DAEMON_TOLERATIONS: Pod['spec']['tolerations'] = [
  'not-ready',
  'unreachable',
  'disk-pressure',
  'memory-pressure',
  'pid-pressure',
  'unschedulable',
  'network-unavailable',
].map((condition) => ({ key: `node.kubernetes.io/${condition}`, operator: 'Exists', value: '' }));

const mayRunOn = ({ spec }: PodTemplate, node: Node): boolean =>
  spec.nodeName === undefined || spec.nodeName === node.metadata.name;

const referenceTo = ({ kind, metadata }: Workload): Pod['metadata']['ownerReferences'][number] => ({
  kind,
  name: metadata.name,
  uid: metadata.uid,
  controller: true,
});

/** Whom a ReplicaSet gives up first: pods without a node, then pods that are not ready, then the newest. */
function inOrderOfRemoval(pods: readonly Pod[]): Pod[] {
  const rank = (pod: Pod) => (pod.spec.nodeName === undefined ? 0 : isReady(pod) ? 2 : 1);
  return pods.toReversed().toSorted((a, b) => rank(a) - rank(b));
}
