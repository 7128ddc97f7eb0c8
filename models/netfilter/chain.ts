// A chain: a name and a list of rules. Immutable, so that namespaces with the same chain share one object, and so that
// the index of a long chain is made once for all of them.

import assert from 'node:assert/strict';
import { ChainIndex } from './chain-index.ts';
import type { Rule } from './rule.ts';
import { type MemoryMatch, memoriesOf, withoutRepeats } from './rule-memories.ts';
import type { RuleOrder } from './rule-order.ts';

export type ChainPolicy = 'ACCEPT' | 'DROP';

/** What is known of a chain's rules without them. */
export interface RuleFacts {
  readonly ruleCount: number;
  /** One of them turns connection tracking on. */
  readonly needsConntrack: boolean;
  /** What they remember by name, each name once. */
  readonly memories: readonly MemoryMatch[];
}

/**
 * Rules that are made when somebody first asks for them: an endpoint's are 1 kB, and most endpoints of a large cluster are
 * never asked for them.
 */
export abstract class RulesToCome {
  abstract readonly facts: RuleFacts;
  abstract make(): readonly Rule[];
}

export class RulesMadeBy extends RulesToCome {
  readonly facts: RuleFacts;
  readonly #make: () => readonly Rule[];

  constructor(facts: RuleFacts, make: () => readonly Rule[]) {
    super();
    this.facts = facts;
    this.#make = make;
  }

  make(): readonly Rule[] {
    return this.#make();
  }
}

/** Rules that other chains have, too, put in order when somebody first asks for them. */
export class RulesInOrder {
  readonly facts: RuleFacts;
  readonly make: () => RuleOrder;

  constructor(facts: RuleFacts, make: () => RuleOrder) {
    this.facts = facts;
    this.make = make;
  }
}

export class Chain {
  readonly name: string;
  /** What happens to frames that reach the end of a builtin chain; undefined for the others. */
  readonly policy: ChainPolicy | undefined;
  readonly #facts: RuleFacts;
  #rules: readonly Rule[] | RulesToCome | RulesInOrder;
  #order: RuleOrder | undefined;
  #index: ChainIndex | undefined;

  constructor(name: string, rules: readonly Rule[] | RulesToCome | RulesInOrder, policy?: ChainPolicy) {
    this.name = name;
    this.#rules = rules;
    this.policy = policy;
    this.#facts = rules instanceof RulesToCome || rules instanceof RulesInOrder ? rules.facts : factsOf(rules);
  }

  get ruleCount(): number {
    return this.#facts.ruleCount;
  }

  /** One of its rules turns connection tracking on. */
  get needsConntrack(): boolean {
    return this.#facts.needsConntrack;
  }

  /** What its rules remember by name, each name once. */
  get memories(): readonly MemoryMatch[] {
    return this.#facts.memories;
  }

  get rules(): readonly Rule[] {
    const rules = this.#rules;
    if (rules instanceof RulesToCome) return this.#keep(rules.make(), rules.facts);
    return rules instanceof RulesInOrder ? this.#keep(this.#orderOf(rules).rules(), rules.facts) : rules;
  }

  /** Where its rules stand that others have, too; undefined: they are its own, or somebody has asked for {@link rules}. */
  get order(): RuleOrder | undefined {
    const rules = this.#rules;
    return rules instanceof RulesInOrder ? this.#orderOf(rules) : undefined;
  }

  #orderOf({ make }: RulesInOrder): RuleOrder {
    return (this.#order ??= make());
  }

  #keep(rules: readonly Rule[], facts: RuleFacts): readonly Rule[] {
    const made = factsOf(rules);
    assert(
      made.ruleCount === facts.ruleCount &&
        made.needsConntrack === facts.needsConntrack &&
        made.memories.length === facts.memories.length,
      'rules are as it was said of them beforehand',
    );
    this.#rules = rules;
    this.#order = undefined;
    return rules;
  }

  get index(): ChainIndex {
    return (this.#index ??= new ChainIndex(this.rules));
  }
}

const factsOf = (rules: readonly Rule[]): RuleFacts => ({
  ruleCount: rules.length,
  needsConntrack: rules.some((rule) => rule.needsConntrack),
  memories: memoriesOf(rules),
});

/** Of lists that chains have in common. */
const knownFacts = new WeakMap<readonly Rule[], RuleFacts>();

export function factsOfLists(lists: readonly (readonly Rule[])[]): RuleFacts {
  const facts = lists.map((rules) => {
    let known = knownFacts.get(rules);
    if (known === undefined) knownFacts.set(rules, (known = factsOf(rules)));
    return known;
  });
  return {
    ruleCount: facts.reduce((sum, known) => sum + known.ruleCount, 0),
    needsConntrack: facts.some((known) => known.needsConntrack),
    memories: withoutRepeats(facts.flatMap((known) => known.memories)),
  };
}
