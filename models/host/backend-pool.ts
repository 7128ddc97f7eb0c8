// The nodes that a load balancer may send a service's traffic to, and which of them gets a flow. A flow stays where it is
// until it has been silent for a while or its node fails its health checks; then it is given out again, as is a new one.
//
// With session affinity new flows of a client go where a hash of its address says: to one node, until the healthy ones
// change (Google's CLIENT_IP). How long a client is remembered (timeoutSeconds) means nothing to it.
//
// Not modelled: weights, slow start, draining of a node's flows. A pool without a healthy node serves nobody: some clouds
// then send to all of them.

import { after, type Duration, type Instant } from '../../engine/time.ts';
import { socketFlowHash } from '../packet/flow-hash.ts';
import type { Ip } from '../packet/ip-address.ts';

export const BALANCING_ALGORITHMS = ['5-tuple hash', 'round robin'] as const;
export type BalancingAlgorithm = (typeof BALANCING_ALGORITHMS)[number];

export interface Backend {
  /** Of the node. */
  readonly name: string;
  readonly ip: Ip;
}

export interface PoolSettings {
  readonly algorithm: BalancingAlgorithm;
  /** After such a silence a flow is a new one. */
  readonly idleTimeout: Duration;
  /** Makes the hash one of this load balancer. */
  readonly secret: number;
}

interface Flow {
  readonly backend: Backend;
  seenAt: Instant;
}

export type SessionAffinity = 'None' | 'ClientIP';

export class BackendPool {
  /** Flows that there are stay where they are when it changes. */
  affinity: SessionAffinity = 'None';
  readonly #settings: PoolSettings;
  #healthy: readonly Backend[] = [];
  /** By the client's address and port: all else of a flow is the pool's. */
  readonly #flows = new Map<number, Flow>();
  #sweepAt = SMALLEST_SWEEP;
  #turn = 0;

  constructor(settings: PoolSettings) {
    this.#settings = settings;
  }

  get healthy(): readonly Backend[] {
    return this.#healthy;
  }

  /** Flows of a backend that is not among these any more will be given out again. */
  set healthy(backends: readonly Backend[]) {
    this.#healthy = backends;
    for (const [client, { backend }] of this.#flows) if (!backends.includes(backend)) this.#flows.delete(client);
  }

  /** Where the client's flow goes; undefined if no backend is healthy. `hash` is that of the flow, or of the addresses alone. */
  choose(client: { readonly ip: Ip; readonly port: number }, hash: number, now: Instant): Backend | undefined {
    const key = client.ip * PORTS + client.port;
    const flow = this.#flows.get(key);
    if (flow !== undefined && after(flow.seenAt, this.#settings.idleTimeout) > now) {
      flow.seenAt = now;
      return flow.backend;
    }
    const backend = this.#healthy[this.#next(hash)];
    if (backend === undefined) return undefined;
    if (this.#flows.size >= this.#sweepAt) this.#sweep(now);
    this.#flows.set(key, { backend, seenAt: now });
    return backend;
  }

  #next(hash: number): number {
    const { length } = this.#healthy;
    if (this.affinity === 'None' && this.#settings.algorithm === 'round robin') return this.#turn++ % length;
    return Math.floor(((socketFlowHash(hash ^ this.#settings.secret) >>> 0) / 2 ** 32) * length);
  }

  /** Forgets what is idle; next time when there are twice as many as are left. */
  #sweep(now: Instant): void {
    for (const [client, { seenAt }] of this.#flows)
      if (after(seenAt, this.#settings.idleTimeout) <= now) this.#flows.delete(client);
    this.#sweepAt = Math.max(SMALLEST_SWEEP, 2 * this.#flows.size);
  }
}

/** An address and a port as one number: below 2^53. */
const PORTS = 2 ** 16;
const SMALLEST_SWEEP = 4_096;
