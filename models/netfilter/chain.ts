// A chain: a name and a list of rules. Immutable, so that namespaces with the same chain share one object, and so that
// the index of a long chain is made once for all of them.

import { ChainIndex } from './chain-index.ts';
import { listNameOf } from './matches/recent.ts';
import type { Rule } from './rule.ts';

export type ChainPolicy = 'ACCEPT' | 'DROP';

/**
 * Rules that are put in order when somebody first asks for them. Each node has the ten thousand rules of KUBE-SERVICES in an
 * order of its own, which is 80 kB; most nodes of a large cluster are never asked for it.
 */
export class RulesToCome {
  /** The same rules in any order, as lists that many chains have in common. */
  readonly among: readonly (readonly Rule[])[];
  readonly inOrder: () => readonly Rule[];

  constructor(among: readonly (readonly Rule[])[], inOrder: () => readonly Rule[]) {
    this.among = among;
    this.inOrder = inOrder;
  }
}

export class Chain {
  readonly name: string;
  /** What happens to frames that reach the end of a builtin chain; undefined for the others. */
  readonly policy: ChainPolicy | undefined;
  /** One of its rules turns connection tracking on. */
  readonly needsConntrack: boolean;
  /** Lists of `-m recent` that its rules name. */
  readonly recentLists: readonly string[];
  #rules: readonly Rule[] | RulesToCome;
  #index: ChainIndex | undefined;

  constructor(name: string, rules: readonly Rule[] | RulesToCome, policy?: ChainPolicy) {
    this.name = name;
    this.#rules = rules;
    this.policy = policy;
    const { needsConntrack, recentLists } = rules instanceof RulesToCome ? together(rules.among) : factsOf(rules);
    this.needsConntrack = needsConntrack;
    this.recentLists = recentLists;
  }

  get rules(): readonly Rule[] {
    const rules = this.#rules;
    return rules instanceof RulesToCome ? (this.#rules = rules.inOrder()) : rules;
  }

  get index(): ChainIndex {
    return (this.#index ??= new ChainIndex(this.rules));
  }
}

const NO_LISTS: readonly string[] = [];

interface RuleFacts {
  readonly needsConntrack: boolean;
  readonly recentLists: readonly string[];
}

const factsOf = (rules: readonly Rule[]): RuleFacts => ({
  needsConntrack: rules.some((rule) => rule.needsConntrack),
  recentLists: recentListsOf(rules),
});

/** Of lists that chains have in common. */
const knownFacts = new WeakMap<readonly Rule[], RuleFacts>();

function together(lists: readonly (readonly Rule[])[]): RuleFacts {
  const facts = lists.map((rules) => {
    let known = knownFacts.get(rules);
    if (known === undefined) knownFacts.set(rules, (known = factsOf(rules)));
    return known;
  });
  const recentLists = facts.flatMap((known) => known.recentLists);
  return {
    needsConntrack: facts.some((known) => known.needsConntrack),
    recentLists: recentLists.length === 0 ? NO_LISTS : [...new Set(recentLists)],
  };
}

/** Most chains have none; those share one empty array. */
function recentListsOf(rules: readonly Rule[]): readonly string[] {
  let names: Set<string> | undefined;
  for (const { spec } of rules) {
    for (const match of spec.matches ?? []) if (match.match === 'recent') (names ??= new Set()).add(listNameOf(match));
  }
  return names === undefined ? NO_LISTS : [...names];
}
