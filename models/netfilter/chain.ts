// A chain: a name and a list of rules. Immutable, so that namespaces with the same chain share one object, and so that
// the index of a long chain is made once for all of them.

import { ChainIndex } from './chain-index.ts';
import { listNameOf } from './matches/recent.ts';
import type { Rule } from './rule.ts';

export type ChainPolicy = 'ACCEPT' | 'DROP';

export class Chain {
  readonly name: string;
  readonly rules: readonly Rule[];
  /** What happens to frames that reach the end of a builtin chain; undefined for the others. */
  readonly policy: ChainPolicy | undefined;
  /** One of its rules turns connection tracking on. */
  readonly needsConntrack: boolean;
  /** Lists of `-m recent` that its rules name. */
  readonly recentLists: readonly string[];
  #index: ChainIndex | undefined;

  constructor(name: string, rules: readonly Rule[], policy?: ChainPolicy) {
    this.name = name;
    this.rules = rules;
    this.policy = policy;
    this.needsConntrack = rules.some((rule) => rule.needsConntrack);
    this.recentLists = recentListsOf(rules);
  }

  get index(): ChainIndex {
    return (this.#index ??= new ChainIndex(this.rules));
  }
}

const NO_LISTS: readonly string[] = [];

/** Most chains have none; those share one empty array. */
function recentListsOf(rules: readonly Rule[]): readonly string[] {
  let names: Set<string> | undefined;
  for (const { spec } of rules) {
    for (const match of spec.matches ?? []) if (match.match === 'recent') (names ??= new Set()).add(listNameOf(match));
  }
  return names === undefined ? NO_LISTS : [...names];
}
