// Rules that many chains have, each in an order of its own: KUBE-SERVICES of five thousand nodes, which kube-proxy writes in
// another order on each. The rules and their index are there once, as a list, and a chain has only where in it things stand.

import { ChainIndex } from './chain-index.ts';
import type { Rule } from './rule.ts';

/** Small numbers without a sign, in as few bytes as they need: there are as many as services, times nodes. */
export type Indexes = Uint16Array | Uint32Array;

/** So many zeros. */
export const indexes = ({ below, length }: { readonly below: number; readonly length: number }): Indexes =>
  below <= 2 ** 16 ? new Uint16Array(length) : new Uint32Array(length);

/** The list: rules in groups (those of a service port), which stay together in any order, and rules that come last in all. */
export class GroupedRules {
  readonly rules: readonly Rule[];
  readonly #sizes: readonly number[];
  /** By rule, its group; those that come last have none. */
  readonly #groupOf: Int32Array;
  /** By group, its first rule. */
  readonly #firstOf: Int32Array;
  #index: ChainIndex | undefined;

  constructor(groups: readonly (readonly Rule[])[], last: readonly Rule[]) {
    this.rules = [...groups.flat(), ...last];
    this.#sizes = groups.map(({ length }) => length);
    this.#groupOf = new Int32Array(this.rules.length).fill(NO_GROUP);
    this.#firstOf = new Int32Array(groups.length);
    let rule = 0;
    for (const [group, size] of this.#sizes.entries()) {
      this.#firstOf[group] = rule;
      this.#groupOf.fill(group, rule, (rule += size));
    }
  }

  get index(): ChainIndex {
    return (this.#index ??= new ChainIndex(this.rules));
  }

  /** The list with its groups in this order, given by their numbers. */
  ordered(order: Indexes): RuleOrder {
    const starts = indexes({ below: this.rules.length, length: this.#sizes.length });
    let place = 0;
    for (let i = 0; i < order.length; i++) {
      const group = order[i]!;
      starts[group] = place;
      place += this.#sizes[group]!;
    }
    return new RuleOrder(this, starts);
  }

  /** Where a rule of the list stands if groups begin at `starts`. */
  placeOf(rule: number, starts: Indexes): number {
    const group = this.#groupOf[rule]!;
    return group === NO_GROUP ? rule : starts[group]! + rule - this.#firstOf[group]!;
  }
}

const NO_GROUP = -1;

/** The list in the order of one chain. */
export class RuleOrder {
  readonly list: GroupedRules;
  readonly #starts: Indexes;

  /** Use {@link GroupedRules.ordered}. */
  constructor(list: GroupedRules, starts: Indexes) {
    this.list = list;
    this.#starts = starts;
  }

  /** Of a rule of the list, its index in the chain. */
  placeOf(rule: number): number {
    return this.list.placeOf(rule, this.#starts);
  }

  /** The chain's rules. */
  rules(): readonly Rule[] {
    const rules: Rule[] = new Array(this.list.rules.length);
    for (const [i, rule] of this.list.rules.entries()) rules[this.placeOf(i)] = rule;
    return rules;
  }
}
