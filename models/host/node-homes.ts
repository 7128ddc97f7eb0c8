// Which worker simulates which node, when several share one run. All of them have the same to do, but for the first: it
// also has what there is once, the switch first of all, and so it has fewer nodes.

/**
 * Of the work of a run under load, what the switch takes; measured with the cluster of bench/parallel.bench.ts. It decides
 * how even the workers' shares are, and no result.
 */
const SHARE_OF_THE_SWITCH = 0.12;

export class NodeHomes {
  /** The part of all nodes that each worker is to have. */
  readonly #shares: readonly number[];
  /** How far it is behind that. */
  readonly #behind: number[];

  constructor(workers: number) {
    const first = Math.max(0, (1 / workers - SHARE_OF_THE_SWITCH) / (1 - SHARE_OF_THE_SWITCH));
    const others = (1 - first) / Math.max(1, workers - 1);
    this.#shares = Array.from({ length: workers }, (_, worker) => (worker === 0 ? first : others));
    this.#behind = this.#shares.map(() => 0);
  }

  /** Of the next node. */
  next(): number {
    if (this.#shares.length === 1) return 0;
    for (const [worker, share] of this.#shares.entries()) this.#behind[worker]! += share;
    const worker = this.#behind.indexOf(Math.max(...this.#behind));
    this.#behind[worker]!--;
    return worker;
  }
}
