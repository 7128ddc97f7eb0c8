// The walk of one frame through one table at one hook: from rule to rule, into chains and back, to a verdict.
//
// A chain without an answer returns to the rule after the jump, a builtin chain to its policy. `-g` does not come back to
// its own chain: when the chain that it went to ends, the chain that it left has ended too.

import { ETHERNET_HEADER_BYTES, type Frame } from '../packet/frame.ts';
import { ACCEPT, type Action, CONTINUE, DROP, GOTO, JUMP, RETURN, TARGET, type Verdict } from './action.ts';
import type { Rule } from './rule.ts';
import type { RuleOrder } from './rule-order.ts';
import type { ChainUse, RuleTable } from './rule-table.ts';
import type { RuleTables } from './rule-tables.ts';
import type { BuiltinChain, TableName } from './table-order.ts';
import type { WalkContext } from './walk-context.ts';

/** From this many rules on, asking the index is cheaper than visiting every rule (bench/chain-walk.bench.ts). */
const INDEXED_FROM = 9;
/** Chains within chains. Deeper is a loop of jumps, which the kernel refuses to load. */
const MAX_DEPTH = 1_000;

/**
 * Adds the rules that Linux would examine to `context.rulesVisited`, and counts the rules that match. With the verdict
 * TARGET, `context.decidingRule` is the rule whose target netfilter is to execute.
 */
export function walk(
  tables: RuleTables,
  table: TableName,
  builtinChain: BuiltinChain,
  frame: Frame,
  context: WalkContext,
): Verdict {
  return walkBaseChain(baseChain(tables, table, builtinChain), frame, context);
}

/** What {@link walk} must agree with: visits every rule in turn, as Linux does. */
export function walkLinear(
  tables: RuleTables,
  table: TableName,
  builtinChain: BuiltinChain,
  frame: Frame,
  context: WalkContext,
): Verdict {
  return walkBaseChain(baseChain(tables, table, builtinChain), frame, context, Number.POSITIVE_INFINITY);
}

/** Where a hook enters a table. Good until the tables change. */
export interface BaseChain {
  readonly tables: RuleTables;
  readonly table: RuleTable;
  readonly use: ChainUse;
}

export function baseChain(tables: RuleTables, name: TableName, builtinChain: BuiltinChain): BaseChain {
  const table = tables.table(name);
  const use = table.use(builtinChain);
  if (use === undefined) throw new RangeError(`table ${name} has no builtin chain ${builtinChain}`);
  return { tables, table, use };
}

/** {@link walk}, without looking anything up by name. */
export function walkBaseChain(
  { tables, table, use }: BaseChain,
  frame: Frame,
  context: WalkContext,
  indexedFrom = INDEXED_FROM,
): Verdict {
  context.enterTable(table, tables.memories, frame, indexedFrom);
  const end = walkChain(use, frame, context);
  return end === ACCEPT || end === DROP || end === TARGET ? end : applyPolicy(use, frame, context);
}

/** How a chain ended: with a verdict, or RETURN, or CONTINUE when no rule has decided. */
function walkChain(use: ChainUse, frame: Frame, context: WalkContext): Action {
  const { chain } = use;
  if (chain.ruleCount < context.indexedFrom) return visitEveryRule(use, frame, context);
  const { order } = chain;
  return order === undefined ? visitCandidates(use, frame, context) : visitReordered(use, order, frame, context);
}

function visitEveryRule(use: ChainUse, frame: Frame, context: WalkContext): Action {
  const { rules } = use.chain;
  for (let i = 0; i < rules.length; i++) {
    context.rulesVisited++;
    if (!rules[i]!.matches(frame, context)) {
      if (context.hotDrop) return DROP;
      continue;
    }
    const action = execute(use, i, rules[i]!, frame, context);
    if (action !== CONTINUE) return action;
  }
  return CONTINUE;
}

/** Visits the rules that the index proposes, in chain order, and charges for those it has left out. */
function visitCandidates(use: ChainUse, frame: Frame, context: WalkContext): Action {
  const { rules, index } = use.chain;
  const { next, end } = index;
  let byDestination = index.firstByDestination(frame.dstIp);
  let bySource = index.firstBySource(frame.srcIp);
  let byPort = index.firstByPort(frame.protocol, context.dstPort);
  let unkeyed = index.firstUnkeyed;
  let charged = 0;
  for (;;) {
    const i = Math.min(byDestination, bySource, byPort, unkeyed);
    if (i === end) break;
    if (i === byDestination) byDestination = next[i]!;
    else if (i === unkeyed) unkeyed = next[i]!;
    else if (i === byPort) byPort = next[i]!;
    else bySource = next[i]!;
    if (!rules[i]!.matches(frame, context)) {
      if (!context.hotDrop) continue;
      context.rulesVisited += i + 1 - charged;
      return DROP;
    }
    context.rulesVisited += i + 1 - charged;
    charged = i + 1;
    const action = execute(use, i, rules[i]!, frame, context);
    if (action !== CONTINUE) return action;
  }
  context.rulesVisited += end - charged;
  return CONTINUE;
}

/** The same in a chain whose rules stand in an order of their own: the index proposes rules of the list that others have, too. */
function visitReordered(use: ChainUse, order: RuleOrder, frame: Frame, context: WalkContext): Action {
  const { rules, index } = order.list;
  const candidates: number[] = [];
  const propose = (first: number): void => {
    for (let i = first; i !== index.end; i = index.next[i]!) candidates.push(i);
  };
  propose(index.firstByDestination(frame.dstIp));
  propose(index.firstBySource(frame.srcIp));
  propose(index.firstByPort(frame.protocol, context.dstPort));
  propose(index.firstUnkeyed);
  candidates.sort((a, b) => order.placeOf(a) - order.placeOf(b));
  let charged = 0;
  for (const i of candidates) {
    const matches = rules[i]!.matches(frame, context);
    if (!matches && !context.hotDrop) continue;
    const place = order.placeOf(i);
    context.rulesVisited += place + 1 - charged;
    if (!matches) return DROP;
    charged = place + 1;
    const action = execute(use, place, rules[i]!, frame, context);
    if (action !== CONTINUE) return action;
  }
  context.rulesVisited += index.end - charged;
  return CONTINUE;
}

/** A rule has matched. */
function execute(use: ChainUse, ruleIndex: number, rule: Rule, frame: Frame, context: WalkContext): Action {
  use.counters.count(ruleIndex, frame.sizeBytes - ETHERNET_HEADER_BYTES);
  const { recorder } = context;
  if (recorder.isRecording) recorder.countedBy(use.counters, ruleIndex);
  if (frame.journey !== undefined) recordRule(use, ruleIndex, rule, frame, context);
  switch (rule.action) {
    case CONTINUE:
      if (rule.effect === undefined) return CONTINUE;
      recorder.spoil();
      rule.effect(frame, context);
      return CONTINUE;
    case JUMP: {
      const end = enterChain(use, ruleIndex, rule, frame, context);
      return end === RETURN ? CONTINUE : end;
    }
    case GOTO: {
      const end = enterChain(use, ruleIndex, rule, frame, context);
      return end === CONTINUE ? RETURN : end;
    }
    case TARGET:
      context.decidingRule = rule;
      return TARGET;
    default:
      return rule.action;
  }
}

function enterChain(from: ChainUse, ruleIndex: number, rule: Rule, frame: Frame, context: WalkContext): Action {
  const use = context.table.use(rule.chainName);
  if (use === undefined || context.depth === MAX_DEPTH) {
    const problem = use === undefined ? 'has no chain of that name' : 'has a loop of jumps there';
    const place = `rule ${ruleIndex + 1} of chain ${from.chain.name}, "${rule.text}"`;
    throw new Error(`${place}: table ${context.table.name} of ${context.namespace} ${problem}`);
  }
  context.depth++;
  const end = walkChain(use, frame, context);
  context.depth--;
  return end;
}

function applyPolicy({ chain, counters }: ChainUse, frame: Frame, context: WalkContext): Verdict {
  counters.count(chain.ruleCount, frame.sizeBytes - ETHERNET_HEADER_BYTES);
  if (context.recorder.isRecording) context.recorder.countedBy(counters, chain.ruleCount);
  frame.journey?.add({
    at: context.cpus.instant,
    namespace: context.namespace,
    stage: 'hook',
    hook: context.hook,
    table: context.table.name,
    chain: chain.name,
    text: `policy ${chain.policy}`,
  });
  return chain.policy === 'DROP' ? DROP : ACCEPT;
}

function recordRule({ chain }: ChainUse, ruleIndex: number, rule: Rule, frame: Frame, context: WalkContext): void {
  frame.journey?.add({
    at: context.cpus.instant,
    namespace: context.namespace,
    stage: 'rule',
    hook: context.hook,
    table: context.table.name,
    chain: chain.name,
    ruleNumber: ruleIndex + 1,
    text: rule.text,
  });
}
