// Which rules turn connection tracking on when they are loaded (nf_ct_netns_get in nft_ct.c, nft_nat.c): all that ask
// about connections or translate addresses. `notrack` does not.

import { partsOf } from './read-expression.ts';
import type { Expression, NftRule, NftTable, Statement } from './syntax.ts';

export function needsConntrack(table: NftTable): boolean {
  let known = knownTables.get(table);
  if (known === undefined) {
    known = [...table.chains.values()].some(({ rules }) => rules.some(ruleNeeds));
    knownTables.set(table, known);
  }
  return known;
}

const knownTables = new WeakMap<NftTable, boolean>();

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
