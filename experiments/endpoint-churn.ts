// Endpoints that change all the time: what keeps the proxies of a busy cluster at work. A story yields to it, or runs it
// before it begins.

import type { Cluster, Duration } from './podwire.ts';
import { s } from './podwire.ts';

/** After exponential pauses one of the pods, which are all ready at first, becomes unready, or ready again. */
export class EndpointChurn {
  readonly #cluster: Cluster;
  readonly #pods: readonly string[];
  readonly #meanPause: Duration;
  readonly #unready = new Set<string>();

  /** `pods` by the beginning of their names. */
  constructor(cluster: Cluster, { pods, perSecond }: { readonly pods: string; readonly perSecond: number }) {
    this.#cluster = cluster;
    this.#pods = cluster.pods.map(({ name }) => name).filter((name) => name.startsWith(pods));
    this.#meanPause = Math.round(s(1) / perSecond) as Duration;
  }

  *lasting(duration: Duration): Generator<Duration, void, void> {
    const random = this.#cluster.sim.random.stream('endpoint-churn');
    for (let elapsed = 0; ; ) {
      const pause = random.exponential(this.#meanPause);
      elapsed += pause;
      if (elapsed > duration) return;
      yield pause;
      const pod = random.pick(this.#pods);
      this.#cluster.setReady(pod, this.#unready.has(pod));
      if (!this.#unready.delete(pod)) this.#unready.add(pod);
    }
  }

  /** For what has to be under way when measuring begins. */
  runFor(duration: Duration): void {
    for (const pause of this.lasting(duration)) this.#cluster.runFor(pause);
  }
}
