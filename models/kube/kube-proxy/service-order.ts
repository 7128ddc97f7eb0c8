// The order of services in the chains that they share: kube-proxy iterates over a Go map, so it is another one in every sync
// of every node. A node's orders are drawn from one stream, sync by sync, but not before somebody wants to see one: with
// 10,000 services on 5,000 nodes that is fifty million draws.

import assert from 'node:assert/strict';

import type { RandomStream } from '../../../engine/random.ts';
import { type Indexes, indexes } from '../../netfilter/rule-order.ts';

export class ServiceOrder {
  readonly #random: RandomStream;
  /** Draws of earlier syncs that nobody has wanted to see. */
  #skipped = 0;
  #latest = 0;
  #latestDraws = 0;

  /** `random` is for this alone. */
  constructor(random: RandomStream) {
    this.#random = random;
  }

  /** The order of so many in the next sync: a function that draws it, to be called at most once and not after a later sync. */
  next(count: number): () => Indexes {
    this.#skipped += this.#latestDraws;
    this.#latestDraws = drawsOf(count);
    const sync = ++this.#latest;
    return () => {
      assert(sync === this.#latest, 'rules of a sync are asked for before the next sync replaces them');
      this.#random.skip(this.#skipped);
      this.#skipped = this.#latestDraws = 0;
      const order = indexes({ below: count, length: count });
      order.set(this.#random.shuffle(Array.from({ length: count }, (_, i) => i)));
      return order;
    };
  }
}

/** What RandomStream.shuffle draws. */
const drawsOf = (count: number): number => Math.max(0, count - 1);
