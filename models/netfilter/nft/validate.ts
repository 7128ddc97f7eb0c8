// What the kernel refuses when a transaction ends: references to nothing, loops of jumps, statements in chains that do
// not suit them.

import type {
  BaseChainSpec,
  Expression,
  NatStatement,
  NftChain,
  NftHook,
  NftRuleset,
  NftSet,
  NftTable,
  SetReference,
  Statement,
} from './syntax.ts';

/** NFT_JUMP_STACK_SIZE */
export const DEEPEST_JUMP = 16;

export function rulesetProblem({ tables }: NftRuleset): string | undefined {
  for (const table of tables.values()) {
    const problem = knownTables.has(table) ? undefined : tableProblem(table);
    if (problem !== undefined) return `table ${table.family} ${table.name}: ${problem}`;
    knownTables.add(table);
  }
  return undefined;
}

/** Tables do not change: what was found good stays good. */
const knownTables = new WeakSet<NftTable>();

function tableProblem(table: NftTable): string | undefined {
  const depths = new Map<string, number>();
  for (const chain of table.chains.values()) {
    const problem = chainProblem(table, chain) ?? jumpProblem(table, chain, depths);
    if (problem !== undefined) return problem;
  }
  for (const chain of table.chains.values()) {
    const problem = chain.base === undefined ? undefined : placeProblem(table, chain, chain.base, new Set());
    if (problem !== undefined) return problem;
  }
  for (const set of table.sets.values()) {
    for (const target of targetsOfSet(set)) {
      if (!table.chains.has(target)) return `map ${set.name} leads to chain ${target}, which does not exist`;
    }
  }
  return undefined;
}

function chainProblem(table: NftTable, chain: NftChain): string | undefined {
  const { base } = chain;
  if (base !== undefined) {
    const hooks = { filter: undefined, nat: ['prerouting', 'input', 'output', 'postrouting'], route: ['output'] }[
      base.type
    ];
    if (hooks !== undefined && !hooks.includes(base.hook))
      return `chain ${chain.name}: type ${base.type} has no hook ${base.hook}`;
    if (base.type === 'nat' && base.priority <= -200) {
      return `chain ${chain.name}: priority ${base.priority} is before conntrack; type nat needs more than -200`;
    }
  }
  for (const { ruleNumber, statement } of factsOf(chain).referring) {
    const problem = statementProblem(table, statement);
    if (problem !== undefined) return `chain ${chain.name}, rule ${ruleNumber}: ${problem}`;
  }
  return undefined;
}

function statementProblem(table: NftTable, statement: Statement): string | undefined {
  switch (statement.kind) {
    case 'match':
      return statement.right.kind === 'set' ? setProblem(table, statement.right.set, statement.left, 'set') : undefined;
    case 'vmap':
      return setProblem(table, statement.map, statement.key, 'verdict');
    case 'object': {
      const object = table.objects.get(statement.name);
      return object?.kind === statement.object ? undefined : `there is no ${statement.object} ${statement.name}`;
    }
    case 'objectMap':
      return statement.map.kind === 'map'
        ? setProblem(table, statement.map.map, statement.map.key, 'object')
        : undefined;
    case 'set':
      return mapProblem(table, statement.value);
    case 'nat':
      for (const operand of [statement.address, statement.port]) {
        const problem = operand?.kind === 'expression' ? mapProblem(table, operand.expression) : undefined;
        if (problem !== undefined) return problem;
      }
      return undefined;
    case 'update': {
      const set = table.sets.get(statement.set);
      if (set === undefined) return `there is no set ${statement.set}`;
      return partCount(statement.key) === set.keyTypes.length
        ? undefined
        : `set ${statement.set} has another type of key`;
    }
    default:
      return undefined;
  }
}

const mapProblem = (table: NftTable, expression: Expression): string | undefined =>
  expression.kind === 'map' ? setProblem(table, expression.map, expression.key, 'value') : undefined;

function setProblem(
  table: NftTable,
  reference: SetReference,
  key: Expression,
  expected: 'set' | 'verdict' | 'value' | 'object',
): string | undefined {
  const set = reference.kind === 'anonymous' ? reference.set : table.sets.get(reference.name);
  if (set === undefined) return `there is no set @${reference.kind === 'named' ? reference.name : ''}`;
  const title = set.name === '' ? 'the set' : `@${set.name}`;
  if (expected !== 'set' && set.data?.kind !== expected) return `${title} is no ${expected} map`;
  if (partCount(key) !== set.keyTypes.length) {
    return `${title} has keys of ${set.keyTypes.length} parts; the rule asks with ${partCount(key)}`;
  }
  for (const target of targetsOfSet(set)) {
    if (!table.chains.has(target)) return `chain ${target} does not exist`;
  }
  return undefined;
}

const partCount = (expression: Expression): number => (expression.kind === 'concat' ? expression.parts.length : 1);

// ── jumps ────────────────────────────────────────────────────────────────────────────────────────────────────────────

function targetsOfSet(set: NftSet): readonly string[] {
  if (set.data?.kind !== 'verdict') return NO_TARGETS;
  let targets = knownTargets.get(set);
  if (targets === undefined) {
    targets = set.elements.flatMap(({ data }) =>
      data?.kind === 'verdict' && 'chain' in data.verdict ? [data.verdict.chain] : [],
    );
    knownTargets.set(set, targets);
  }
  return targets;
}

const NO_TARGETS: readonly string[] = [];
const knownTargets = new WeakMap<NftSet, readonly string[]>();

function jumpProblem(table: NftTable, chain: NftChain, depths: Map<string, number>): string | undefined {
  const depth = depthOf(table, chain.name, depths);
  return typeof depth === 'string' ? depth : undefined;
}

const UNDER_WAY = -1;

/** How many chains deep jumps lead from here, or what is wrong with them. */
function depthOf(table: NftTable, name: string, depths: Map<string, number>): number | string {
  const known = depths.get(name);
  if (known === UNDER_WAY) return `chain ${name} leads back to itself`;
  if (known !== undefined) return known;
  const chain = table.chains.get(name);
  if (chain === undefined) return `chain ${name} does not exist`;
  depths.set(name, UNDER_WAY);
  let deepest = 0;
  for (const target of targetsOfChain(table, chain)) {
    const depth = depthOf(table, target, depths);
    if (typeof depth === 'string') return depth;
    deepest = Math.max(deepest, depth + 1);
  }
  depths.set(name, deepest);
  if (deepest >= DEEPEST_JUMP)
    return `jumps from chain ${name} lead ${deepest} chains deep; expected less than ${DEEPEST_JUMP}`;
  return deepest;
}

function targetsOfChain(table: NftTable, chain: NftChain): readonly string[] {
  const { targets, maps } = factsOf(chain);
  if (maps.length === 0) return targets;
  return [...targets, ...maps.flatMap((name) => targetsOf(table, name))];
}

function targetsOf(table: NftTable, map: string): readonly string[] {
  const set = table.sets.get(map);
  return set === undefined ? NO_TARGETS : targetsOfSet(set);
}

interface Placed {
  readonly ruleNumber: number;
  readonly statement: Statement;
}

/** What of a chain must be looked at whenever its table changes. A transaction changes few chains of many. */
interface ChainFacts {
  /** Chains that its rules lead to, without the help of a named map. */
  readonly targets: readonly string[];
  /** Named verdict maps. */
  readonly maps: readonly string[];
  /** Statements that refer to sets and objects, or suit only some hooks. */
  readonly referring: readonly Placed[];
  readonly particular: readonly Placed[];
}

const knownFacts = new WeakMap<NftChain, ChainFacts>();

function factsOf(chain: NftChain): ChainFacts {
  let facts = knownFacts.get(chain);
  if (facts === undefined) knownFacts.set(chain, (facts = readFacts(chain)));
  return facts;
}

function readFacts({ rules }: NftChain): ChainFacts {
  const targets = new Set<string>();
  const maps = new Set<string>();
  const referring: Placed[] = [];
  const particular: Placed[] = [];
  for (const [i, { statements }] of rules.entries()) {
    for (const statement of statements) {
      const placed = { ruleNumber: i + 1, statement };
      if (statement.kind === 'verdict' && 'chain' in statement.verdict) targets.add(statement.verdict.chain);
      if (statement.kind === 'vmap' && statement.map.kind === 'named') maps.add(statement.map.name);
      if (statement.kind === 'vmap' && statement.map.kind === 'anonymous') {
        for (const target of targetsOfSet(statement.map.set)) targets.add(target);
      }
      if (refers(statement)) referring.push(placed);
      if (isParticular(statement)) particular.push(placed);
    }
  }
  return { targets: [...targets], maps: [...maps], referring, particular };
}

function refers(statement: Statement): boolean {
  switch (statement.kind) {
    case 'match':
      return statement.right.kind === 'set';
    case 'set':
      return statement.value.kind === 'map';
    case 'nat':
      return [statement.address, statement.port].some((operand) => operand?.kind === 'expression');
    case 'vmap':
    case 'object':
    case 'objectMap':
    case 'update':
      return true;
    default:
      return false;
  }
}

// ── where statements may stand ───────────────────────────────────────────────────────────────────────────────────────

/** In a base chain, and in all chains that it leads to (nft_chain_validate). */
function placeProblem(table: NftTable, chain: NftChain, base: BaseChainSpec, seen: Set<NftChain>): string | undefined {
  seen.add(chain);
  for (const { ruleNumber, statement } of factsOf(chain).particular) {
    const what = misplaced(statement, base);
    if (what === undefined) continue;
    return `chain ${chain.name}, rule ${ruleNumber}: ${what} is not for type ${base.type}, hook ${base.hook}`;
  }
  for (const name of targetsOfChain(table, chain)) {
    const target = table.chains.get(name);
    const problem = target === undefined || seen.has(target) ? undefined : placeProblem(table, target, base, seen);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

const NAT_HOOKS: Readonly<Record<NatStatement['type'], readonly NftHook[]>> = {
  dnat: ['prerouting', 'output'],
  redirect: ['prerouting', 'output'],
  snat: ['postrouting', 'input'],
  masquerade: ['postrouting'],
};
const HOOKS_WITH_INPUT: readonly NftHook[] = ['prerouting', 'input', 'forward'];
const HOOKS_WITH_OUTPUT: readonly NftHook[] = ['forward', 'output', 'postrouting'];

/** What of the statement does not suit the chain. Checked on Linux 6.18, type by type and hook by hook. */
function misplaced(statement: Statement, { type, hook }: BaseChainSpec): string | undefined {
  switch (statement.kind) {
    case 'nat':
      return type === 'nat' && NAT_HOOKS[statement.type].includes(hook) ? undefined : statement.type;
    case 'reject':
      return hook === 'postrouting' ? 'reject' : undefined;
    case 'match':
      return misplacedExpression(statement.left, hook);
    case 'vmap':
    case 'update':
      return misplacedExpression(statement.key, hook);
    default:
      return undefined;
  }
}

function isParticular(statement: Statement): boolean {
  switch (statement.kind) {
    case 'nat':
    case 'reject':
      return true;
    case 'match':
      return asksRouting(statement.left);
    case 'vmap':
    case 'update':
      return asksRouting(statement.key);
    default:
      return false;
  }
}

const asksRouting = (expression: Expression): boolean =>
  (expression.kind === 'concat' ? expression.parts : [expression]).some(({ kind }) => kind === 'fib');

function misplacedExpression(expression: Expression, hook: NftHook): string | undefined {
  for (const part of expression.kind === 'concat' ? expression.parts : [expression]) {
    if (part.kind !== 'fib') continue;
    const { inputs, result } = part;
    if ((result !== 'type' || inputs.includes('iif')) && !HOOKS_WITH_INPUT.includes(hook)) return `fib ${result}`;
    if (result === 'type' && inputs.includes('oif') && !HOOKS_WITH_OUTPUT.includes(hook)) return 'fib with oif';
  }
  return undefined;
}
