// What hooks must know of a table. It is found by looking through all chains and rules, once per table; whoever makes
// tables that have it in common says so.

import { partsOf } from './read-expression.ts';
import type { Expression, NftChain, NftRule, NftTable, Statement } from './syntax.ts';

export interface TableFacts {
  /** In the order in which they were made; none of a dormant table. */
  readonly baseChains: readonly NftChain[];
  /**
   * Some rule turns connection tracking on when it is loaded (nf_ct_netns_get in nft_ct.c, nft_nat.c): all that ask about
   * connections or translate addresses. `notrack` does not.
   */
  readonly needsConntrack: boolean;
}

export function factsOf(table: NftTable): TableFacts {
  let facts = knownFacts.get(table);
  if (facts === undefined) {
    const chains = [...table.chains.values()];
    facts = {
      baseChains: table.dormant ? [] : chains.filter(({ base }) => base !== undefined),
      needsConntrack: chains.some(({ rules }) => rules.some(ruleNeeds)),
    };
    knownFacts.set(table, facts);
  }
  return facts;
}

/** Of a table that has them for sure. */
export const giveFacts = (table: NftTable, facts: TableFacts): void => {
  knownFacts.set(table, facts);
};

const knownFacts = new WeakMap<NftTable, TableFacts>();

const ruleNeeds = ({ statements }: NftRule): boolean => statements.some(statementNeeds);

function statementNeeds(statement: Statement): boolean {
  switch (statement.kind) {
    case 'nat':
      return true;
    case 'match':
      return expressionNeeds(statement.left);
    case 'vmap':
    case 'update':
      return expressionNeeds(statement.key);
    case 'objectMap':
      return expressionNeeds(statement.map);
    case 'set':
      return statement.selector.needsConntrack === true || expressionNeeds(statement.value);
    default:
      return false;
  }
}

function expressionNeeds(expression: Expression): boolean {
  return partsOf(expression).some((part) => {
    switch (part.kind) {
      case 'selector':
        return part.selector.needsConntrack === true;
      case 'bitwise':
        return expressionNeeds(part.left);
      case 'map':
        return expressionNeeds(part.key);
      case 'jhash':
        return part.input !== undefined && expressionNeeds(part.input);
      default:
        return false;
    }
  });
}
