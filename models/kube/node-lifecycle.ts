// How the control plane finds out that a node is gone, and what it does then (pkg/controller/nodelifecycle and
// tainteviction): kubelets renew a lease, the controller looks at the leases now and then. When one has been still for the
// grace period, the node's Ready condition becomes Unknown, its pods are no longer ready, and a taint evicts them when
// their tolerations end. Their objects stay, terminating, until the node is back: nobody can tell that they have stopped.
//
// Not modelled: rate limits of evictions when many nodes of a zone are gone, the pod garbage collector, deletion of Node
// objects by a cloud, taints that are not about the node's health.

import { type Duration, type Instant, inMs, after as later, ms, s } from '../../engine/time.ts';
import type { ApiServer } from './api-server.ts';
import type { ControllerClock } from './controller-clock.ts';
import type { NamedDraws } from './named-draws.ts';
import { isTerminating, keyOf, type Node, type Pod, withReadiness } from './objects.ts';

export interface NodeLifecycleSettings {
  /** `--node-monitor-grace-period`: 40 s, 50 s from Kubernetes 1.32 on. */
  readonly gracePeriod: Duration;
  /** `--node-monitor-period` */
  readonly monitorPeriod: Duration;
  /** A kubelet renews after a quarter of nodeLeaseDurationSeconds, 40 s. */
  readonly renewPeriod: Duration;
}

const DEFAULTS: NodeLifecycleSettings = { gracePeriod: s(40), monitorPeriod: s(5), renewPeriod: s(10) };

export class NodeLifecycleController {
  readonly #apiServer: ApiServer;
  readonly #draws: NamedDraws;
  readonly #clock: ControllerClock;
  readonly #settings: NodeLifecycleSettings;
  /** Nodes whose kubelets do not report, and which outage of the node it is. */
  readonly #silent = new Map<string, number>();
  #outages = 0;

  constructor(
    apiServer: ApiServer,
    {
      draws,
      clock,
      settings = {},
    }: { draws: NamedDraws; clock: ControllerClock; settings?: Partial<NodeLifecycleSettings> },
  ) {
    this.#apiServer = apiServer;
    this.#draws = draws;
    this.#clock = clock;
    this.#settings = { ...DEFAULTS, ...settings };
  }

  isSilent(node: string): boolean {
    return this.#silent.has(node);
  }

  /** The kubelet stops reporting now. Leases that are renewed are not simulated one by one: their times are known. */
  fail(node: string): void {
    if (this.#silent.has(node)) return;
    const outage = ++this.#outages;
    this.#silent.set(node, outage);
    this.#clock.at(this.detectionOf(node, this.#clock.now()), () => {
      if (this.#silent.get(node) === outage) this.#giveUp(node, outage);
    });
  }

  /** It reports again: from the next look at it on the node is ready. */
  recover(node: string): void {
    if (!this.#silent.delete(node)) return;
    this.#clock.at(nextMultiple(this.#clock.now(), this.#settings.monitorPeriod), () => {
      if (!this.#silent.has(node)) this.#setHealthy(node, true);
    });
  }

  /** When a node that falls silent at `instant` is given up: the first look after the grace period of its last lease. */
  detectionOf(node: string, instant: Instant): Instant {
    const { gracePeriod, monitorPeriod, renewPeriod } = this.#settings;
    const phase = ms(this.#draws.draw(`lease of ${node}`, inMs(renewPeriod)));
    const renewals = Math.floor((instant - phase) / renewPeriod);
    const lastRenewal = Math.max(0, phase + renewals * renewPeriod) as Instant;
    // The controller goes by its own clock: what counts is when it has seen the renewal.
    return nextMultiple(later(nextMultiple(lastRenewal, monitorPeriod), gracePeriod), monitorPeriod);
  }

  #giveUp(name: string, outage: number): void {
    this.#setHealthy(name, false);
    for (const pod of this.#podsOn(name)) {
      const conditions = withReadiness(pod, 'False', this.#clock.now());
      this.#apiServer.update<Pod>({ ...pod, status: { ...pod.status, conditions } });
      const patience = evictionDelay(pod);
      if (patience === undefined) continue;
      this.#clock.at(later(this.#clock.now(), patience), () => {
        const now = this.#apiServer.get('Pod', keyOf(pod));
        if (this.#silent.get(name) === outage && now?.spec.nodeName === name) this.#apiServer.delete('Pod', keyOf(pod));
      });
    }
  }

  #podsOn(node: string): Pod[] {
    return this.#apiServer.list('Pod').filter((pod) => pod.spec.nodeName === node && !isTerminating(pod));
  }

  #setHealthy(name: string, isHealthy: boolean): void {
    const node = this.#apiServer.get('Node', name);
    if (node === undefined) return;
    const others = (node.status.conditions ?? []).filter(({ type }) => type !== 'Ready');
    const conditions = [...others, { type: 'Ready', status: isHealthy ? 'True' : 'Unknown' }];
    const taints = node.spec.taints.filter(({ key }) => key !== UNREACHABLE);
    if (!isHealthy)
      for (const effect of ['NoSchedule', 'NoExecute'] as const) taints.push({ key: UNREACHABLE, value: '', effect });
    this.#apiServer.update<Node>({
      ...node,
      spec: { ...node.spec, taints },
      status: { ...node.status, conditions },
    });
  }
}

const UNREACHABLE = 'node.kubernetes.io/unreachable';

/** Of pods that say nothing about it (admission plugin DefaultTolerationSeconds). */
const DEFAULT_TOLERATION = s(300);

/** How long a pod may stay on a node that is unreachable; undefined: for ever, as pods of a DaemonSet. */
export function evictionDelay({ spec }: Pod): Duration | undefined {
  const tolerations = spec.tolerations.filter(
    ({ key, operator, value, effect }) =>
      (key === undefined || key === UNREACHABLE) &&
      (effect === undefined || effect === 'NoExecute') &&
      (operator === 'Exists' || (key !== undefined && value === '')),
  );
  if (tolerations.length === 0) return DEFAULT_TOLERATION;
  const limits = tolerations.flatMap(({ tolerationSeconds }) => tolerationSeconds ?? []);
  return limits.length === 0 ? undefined : s(Math.max(0, Math.min(...limits)));
}

/** The first multiple of a period that is not before the instant. */
const nextMultiple = (instant: Instant, period: Duration): Instant => (Math.ceil(instant / period) * period) as Instant;
