// Which hooks lead to a chain, through jumps: iptables refuses a rule whose match or target does not suit them, and a loop.

import { matchKind } from './matches/registry.ts';
import type { Rule } from './rule.ts';
import type { BuiltinChain } from './table-order.ts';
import { targetKind } from './targets/registry.ts';

/** A chain with its rules, and the line of each. */
export interface ReadChain {
  readonly name: string;
  readonly isBuiltin: boolean;
  readonly rules: readonly Rule[];
  readonly lines: readonly number[];
}

export interface HookProblem {
  readonly line: number;
  readonly problem: string;
}

/** The first rule that a hook leads to and that does not suit it, or whose jump closes a loop. */
export function findHookProblem(chains: ReadonlyMap<string, ReadChain>): HookProblem | undefined {
  for (const chain of chains.values()) {
    if (!chain.isBuiltin) continue;
    const problem = walkFrom(chain, chains);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/** Depth first, each chain once; without recursion, for rulesets are as deep as they like. */
function walkFrom(start: ReadChain, chains: ReadonlyMap<string, ReadChain>): HookProblem | undefined {
  const hook = start.name as BuiltinChain;
  const seen = new Set([start.name]);
  const path: { readonly chain: ReadChain; next: number }[] = [{ chain: start, next: 0 }];
  const onPath = new Set([start.name]);
  for (;;) {
    const here = path.at(-1);
    if (here === undefined) return undefined;
    const rule = here.chain.rules[here.next];
    if (rule === undefined) {
      onPath.delete(here.chain.name);
      path.pop();
      continue;
    }
    const line = here.chain.lines[here.next++]!;
    const problem = hookProblemOf(rule, hook, here.chain.name);
    if (problem !== undefined) return { line, problem };
    if (rule.chainName === '') continue;
    if (onPath.has(rule.chainName)) return { line, problem: `a loop: chain ${rule.chainName} leads back to itself` };
    const next = chains.get(rule.chainName);
    if (next === undefined || seen.has(next.name)) continue;
    seen.add(next.name);
    onPath.add(next.name);
    path.push({ chain: next, next: 0 });
  }
}

function hookProblemOf({ spec }: Rule, hook: BuiltinChain, chain: string): string | undefined {
  const { matches = [], target } = spec;
  for (const match of matches) {
    const problem = unsuited(`-m ${match.match}`, matchKind(match.match).hooks?.(match), hook, chain);
    if (problem !== undefined) return problem;
  }
  if (target === undefined || target.target === 'jump' || target.target === 'goto') return undefined;
  return unsuited(`-j ${target.target}`, targetKind(target.target).hooks?.(target), hook, chain);
}

function unsuited(
  what: string,
  hooks: readonly BuiltinChain[] | undefined,
  hook: BuiltinChain,
  chain: string,
): string | undefined {
  if (hooks === undefined || hooks.includes(hook)) return undefined;
  const place = chain === hook ? `chain ${chain}` : `chain ${chain}, which ${hook} leads to`;
  return `${what} in ${place}; expected it only under ${hooks.join(', ')}`;
}
