// A chain: a name and a list of rules. Immutable, so that namespaces with the same chain share one object, and so that
// the index of a long chain is made once for all of them.

import { ChainIndex } from './chain-index.ts';
import type { Rule } from './rule.ts';
import { type MemoryMatch, memoriesOf, withoutRepeats } from './rule-memories.ts';

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
  /** What its rules remember by name, each name once. */
  readonly memories: readonly MemoryMatch[];
  #rules: readonly Rule[] | RulesToCome;
  #index: ChainIndex | undefined;

  constructor(name: string, rules: readonly Rule[] | RulesToCome, policy?: ChainPolicy) {
    this.name = name;
    this.#rules = rules;
    this.policy = policy;
    const { needsConntrack, memories } = rules instanceof RulesToCome ? together(rules.among) : factsOf(rules);
    this.needsConntrack = needsConntrack;
    this.memories = memories;
  }

  get rules(): readonly Rule[] {
    const rules = this.#rules;
    return rules instanceof RulesToCome ? (this.#rules = rules.inOrder()) : rules;
  }

  get index(): ChainIndex {
    return (this.#index ??= new ChainIndex(this.rules));
  }
}

interface RuleFacts {
  readonly needsConntrack: boolean;
  readonly memories: readonly MemoryMatch[];
}

const factsOf = (rules: readonly Rule[]): RuleFacts => ({
  needsConntrack: rules.some((rule) => rule.needsConntrack),
  memories: memoriesOf(rules),
});

/** Of lists that chains have in common. */
const knownFacts = new WeakMap<readonly Rule[], RuleFacts>();

function together(lists: readonly (readonly Rule[])[]): RuleFacts {
  const facts = lists.map((rules) => {
    let known = knownFacts.get(rules);
    if (known === undefined) knownFacts.set(rules, (known = factsOf(rules)));
    return known;
  });
  return {
    needsConntrack: facts.some((known) => known.needsConntrack),
    memories: withoutRepeats(facts.flatMap((known) => known.memories)),
  };
}
