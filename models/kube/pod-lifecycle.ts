// What becomes of a pod on its node, in time: it starts, gets ready, and when it is deleted it runs its preStop hook, is
// asked to end (SIGTERM), is killed when its grace period is over, and goes (syncTerminatingPod of the kubelet).
//
// Deletion and the removal from EndpointSlices run side by side: nobody waits until the last proxy has heard of it. A pod
// that stops listening earlier than that loses connections; a preStop hook that sleeps longer loses none.
//
// Not modelled: probes that fail (an experiment may say so), startup probes, several hooks in one pod (the longest counts, all containers are
// asked to end at once), restarts of containers, what a hook does besides sleeping.

import { type Duration, ms, s } from '../../engine/time.ts';
import type { ApiServer, KeyedEvent } from './api-server.ts';
import { isFinished, isReady, isTerminating, keyOf, type Pod, withChanges, withReadiness } from './objects.ts';

/** What a pod's status says about where it is. */
export type PodAddresses = Pick<Pod['status'], 'podIP' | 'podIPs' | 'hostIP'>;

/** What the kubelet has others do. */
export interface PodRuntime {
  /**
   * Connects the pod and starts its processes; its status says where it is. `failed`: its network could not connect it.
   * Undefined: not one of our nodes.
   */
  start(pod: Pod, key: string): PodAddresses | 'failed' | undefined;
  /** SIGTERM. `exited` is to be called when its processes have ended by themselves. */
  terminate(pod: Pod, exited: () => void): void;
  /** Its processes are gone, by themselves or by SIGKILL; its network namespace is still there. */
  exit(pod: Pod): void;
  /** Takes the network namespace away. */
  remove(pod: Pod): void;
  /** False while its node is cut off: its kubelet hears nothing and reports nothing, but ends what it has begun. */
  isConnected(pod: Pod): boolean;
}

/** Runs an action after a delay; before a run starts, at once. */
export type After = (delay: Duration, action: () => void) => void;

/** What is left of a grace period that the preStop hook has used up (minimumGracePeriodInSeconds). */
const LEAST_GRACE = s(2);

/** After which a kubelet tries again to start a pod (backOffPeriod; it adds up to a half by chance, which is not modelled). */
const RETRY_PERIOD = s(10);

/** The kubelet asks the container runtime every second who has ended (PLEG): half of it on average. */
const EXIT_NOTICED = ms(500);

interface Running {
  /** As it was last reported: an older version would be kept for it alone. */
  pod: Pod;
  stage: 'running' | 'terminating' | 'exited';
  isReady: boolean;
}

export class PodLifecycle {
  readonly #apiServer: ApiServer;
  readonly #runtime: PodRuntime;
  readonly #after: After;
  readonly #retry: After;
  readonly #running = new Map<string, Running>();

  constructor(apiServer: ApiServer, { runtime, after, retry }: { runtime: PodRuntime; after: After; retry: After }) {
    this.#apiServer = apiServer;
    this.#runtime = runtime;
    this.#after = after;
    this.#retry = retry;
    apiServer.watch('Pod', (events) => this.#onPods(events));
  }

  #onPods(events: readonly KeyedEvent<Pod>[]): void {
    for (const { type, key, object } of events) this.#look(key, object, type === 'DELETED');
  }

  /** A node is connected again: its kubelet reports of pods that went on running, and hears what it has missed. */
  catchUp(node: string): void {
    for (const [key, running] of [...this.#running]) {
      const { pod } = running;
      if (pod.spec.nodeName !== node) continue;
      const now = this.#apiServer.get('Pod', key);
      if (now?.status.conditions !== undefined) this.#report(key, running, {});
      if (now === undefined) this.#look(key, pod, true);
    }
    for (const pod of this.#apiServer.list('Pod')) if (pod.spec.nodeName === node) this.#look(keyOf(pod), pod, false);
  }

  #look(key: string, pod: Pod, isDeleted: boolean): void {
    if (pod.spec.nodeName === undefined || !this.#runtime.isConnected(pod)) return;
    const running = this.#running.get(key);
    if (isDeleted) {
      if (running !== undefined) this.#kill(running);
    } else if (isFinished(pod)) {
      if (running !== undefined) this.#kill(running);
    } else if (isTerminating(pod)) {
      if (running === undefined)
        this.#apiServer.remove('Pod', key); // it has never run here
      else this.#terminate(running, pod);
    } else if (running === undefined) {
      this.#start(key, pod);
    }
  }

  #start(key: string, pod: Pod): void {
    const addresses = this.#runtime.start(pod, key);
    if (addresses === undefined) return;
    if (addresses === 'failed') return this.#tryAgain(key, pod);
    const delay = readinessDelay(pod);
    const isAsReported = delay === undefined || pod.status.conditions !== undefined;
    const running: Running = { pod, stage: 'running', isReady: isAsReported && isReady(pod) };
    this.#running.set(key, running);
    this.#report(key, running, withChanges<Partial<Pod['status']>>(addresses, { phase: 'Running' }));
    if (isAsReported) return;
    this.#after(delay, () => this.#setReady(running, true));
  }

  /** The pod stays as it is, ContainerCreating, until its network has room for it. */
  #tryAgain(key: string, pod: Pod): void {
    this.#retry(RETRY_PERIOD, () => {
      const now = this.#apiServer.get('Pod', key);
      if (now === undefined) this.#runtime.remove(pod);
      else if (!this.#running.has(key)) this.#look(key, now, false);
    });
  }

  /** The pod's readiness probe succeeds, or fails, often enough from now on. */
  setReady(key: string, isReady: boolean): void {
    const running = this.#running.get(key);
    if (running === undefined) throw new RangeError(`no pod ${key} runs`);
    this.#setReady(running, isReady);
  }

  #setReady(running: Running, isReady: boolean): void {
    if (running.stage === 'exited') return;
    running.isReady = isReady;
    this.#report(keyOf(running.pod), running, {});
  }

  #terminate(running: Running, pod: Pod): void {
    if (running.stage !== 'running') return;
    running.stage = 'terminating';
    running.pod = pod;
    const grace = s(pod.metadata.deletionGracePeriodSeconds ?? pod.spec.terminationGracePeriodSeconds);
    const hook = Math.min(preStopDelay(pod), grace) as Duration;
    const exited = () => this.#exit(running);
    const ask = () => {
      if (running.stage === 'exited') return;
      this.#runtime.terminate(pod, exited);
      if (running.stage === 'terminating') this.#after(Math.max(grace - hook, LEAST_GRACE) as Duration, exited);
    };
    if (hook === 0) ask();
    else this.#after(hook, ask);
  }

  #exit(running: Running): void {
    if (running.stage === 'exited') return;
    running.stage = 'exited';
    const { pod } = running;
    this.#runtime.exit(pod);
    this.#after(EXIT_NOTICED, () => {
      if (this.#running.get(keyOf(pod)) !== running) return;
      this.#remove(running);
      if (this.#runtime.isConnected(pod)) this.#apiServer.remove('Pod', keyOf(pod));
    });
  }

  /** Its object is gone, or has ended by what its status says. */
  #kill(running: Running): void {
    if (running.stage !== 'exited') this.#runtime.exit(running.pod);
    running.stage = 'exited';
    this.#remove(running);
  }

  #remove({ pod }: Running): void {
    this.#running.delete(keyOf(pod));
    this.#runtime.remove(pod);
  }

  #report(key: string, running: Running, fields: Partial<Pod['status']>): void {
    const now = this.#apiServer.get('Pod', key);
    if (now === undefined || !this.#runtime.isConnected(running.pod)) return;
    const readiness = running.isReady ? 'True' : 'False';
    const conditions = withReadiness(now, readiness, this.#apiServer.now);
    const status = withChanges(fields, { conditions });
    const isNews = (field: keyof typeof status): boolean =>
      now.status[field] !== status[field] && JSON.stringify(now.status[field]) !== JSON.stringify(status[field]);
    const changed = (Object.keys(status) as (keyof typeof status)[]).some(isNews);
    running.pod = changed
      ? this.#apiServer.update(withChanges(now, { status: withChanges(now.status, status) }), key)
      : now;
  }
}

/**
 * From the start of a pod until its last container is ready, if all probes succeed: one is made at once and then one each
 * period, and those before initialDelaySeconds do not count. Undefined without a probe: ready as soon as it runs.
 */
export function readinessDelay({ spec }: Pod): Duration | undefined {
  const delays = spec.containers.flatMap(({ readinessProbe: probe }) =>
    probe === undefined
      ? []
      : [
          (Math.ceil(probe.initialDelaySeconds / probe.periodSeconds) + probe.successThreshold - 1) *
            probe.periodSeconds,
        ],
  );
  return delays.length === 0 ? undefined : s(Math.max(...delays));
}

/** How long the preStop hooks sleep: `sleep: {seconds: 5}`, or a command such as `sleep 5` or `sh -c "sleep 5"`. */
export function preStopDelay({ spec }: Pod): Duration {
  const delays = spec.containers.map(({ lifecycle }) => {
    const { sleep, exec } = lifecycle?.preStop ?? {};
    if (sleep !== undefined) return sleep.seconds;
    const [, count] = /\bsleep\s+(\d+(?:\.\d+)?)s?\b/.exec(exec?.command.join(' ') ?? '') ?? [];
    return Number(count ?? 0);
  });
  return s(Math.max(...delays));
}
