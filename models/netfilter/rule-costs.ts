// What walking rules costs, by who keeps them: iptables-legacy, iptables-nft, or nft in its own language.

import { type CostModel, interpolateNs, type PiecewiseLinear } from '../cpu/cost-model.ts';

export type RuleKeeper = 'legacy' | 'nft' | 'native';

export class RuleCosts {
  readonly baseChainNs: number;
  readonly #curve: PiecewiseLinear;
  /** Few rules are looked up instead of interpolated. */
  readonly #tabulated: Float64Array;

  /** One table per cost model and keeper, shared by all namespaces. */
  static of(costs: CostModel, keeper: RuleKeeper): RuleCosts {
    let known = knownRuleCosts.get(costs);
    if (known === undefined) {
      known = {
        legacy: new RuleCosts(costs.baseChainNs, costs.rulesNs),
        nft: new RuleCosts(costs.nftBaseChainNs, costs.nftRulesNs),
        native: new RuleCosts(costs.nftBaseChainNs, costs.nativeRulesNs),
      };
      knownRuleCosts.set(costs, known);
    }
    return known[keeper];
  }

  private constructor(baseChainNs: number, curve: PiecewiseLinear) {
    this.baseChainNs = baseChainNs;
    this.#curve = curve;
    this.#tabulated = Float64Array.from({ length: TABULATED_RULES }, (_, count) => interpolateNs(curve, count));
  }

  /** Of so many rules visited at one hook: the more, the more each costs, because they outgrow the cache. */
  rulesNs(count: number): number {
    return count < TABULATED_RULES ? this.#tabulated[count]! : interpolateNs(this.#curve, count);
  }
}

const TABULATED_RULES = 1_024;
const knownRuleCosts = new WeakMap<CostModel, Readonly<Record<RuleKeeper, RuleCosts>>>();
