// A chain: a name and a list of rules. Immutable, so that namespaces with the same chain share one object, and so that
// the index of a long chain is made once for all of them.

import { ChainIndex } from './chain-index.ts';
import type { Rule } from './rule.ts';

export type ChainPolicy = 'ACCEPT' | 'DROP';

export class Chain {
  readonly name: string;
  readonly rules: readonly Rule[];
  /** What happens to frames that reach the end of a builtin chain; undefined for the others. */
  readonly policy: ChainPolicy | undefined;
  /** One of its rules turns connection tracking on. */
  readonly needsConntrack: boolean;
  #index: ChainIndex | undefined;

  constructor(name: string, rules: readonly Rule[], policy?: ChainPolicy) {
    this.name = name;
    this.rules = rules;
    this.policy = policy;
    this.needsConntrack = rules.some((rule) => rule.needsConntrack);
  }

  get index(): ChainIndex {
    return (this.#index ??= new ChainIndex(this.rules));
  }
}
