// What rules remember under a name, and share with all rules of that name in their namespace and family: lists of `-m recent`,
// tables of `-m hashlimit`. A memory begins with the first rule that names it and ends with the last.

import type { IpFamily } from '../packet/ip-address.ts';
import { type HashlimitMatch, type HashlimitTables, openHashlimitTable } from './matches/hashlimit.ts';
import { listNameOf, type RecentLists, type RecentMatch } from './matches/recent.ts';
import type { Rule } from './rule.ts';

export type MemoryMatch = RecentMatch | HashlimitMatch;

const NONE: readonly MemoryMatch[] = [];

/** Most chains have none; those share one empty array. */
export function memoriesOf(rules: readonly Rule[]): readonly MemoryMatch[] {
  let found: MemoryMatch[] | undefined;
  for (const { spec } of rules) {
    for (const match of spec.matches ?? [])
      if (match.match === 'recent' || match.match === 'hashlimit') (found ??= []).push(match);
  }
  return found === undefined ? NONE : withoutRepeats(found);
}

/** The first of each name. */
export function withoutRepeats(memories: readonly MemoryMatch[]): readonly MemoryMatch[] {
  if (memories.length < 2) return memories;
  const first = new Map<string, MemoryMatch>();
  for (const memory of memories) if (!first.has(memoryKey(memory))) first.set(memoryKey(memory), memory);
  return [...first.values()];
}

export const memoryKey = (memory: MemoryMatch): string =>
  memory.match === 'recent' ? `recent ${listNameOf(memory)}` : `hashlimit ${memory.name}`;

/** The memories of one namespace and family. */
export class RuleMemories {
  readonly recentLists: RecentLists = new Map();
  readonly hashlimitTables: HashlimitTables = new Map();

  /** A rule that names it has come: a table of `hashlimit` is as its first rule wants it. */
  open(memory: MemoryMatch, family: IpFamily): void {
    if (memory.match === 'hashlimit') openHashlimitTable(this.hashlimitTables, memory, family);
  }

  /** Forgets those that no rule names any longer. */
  close(isNamed: (key: string) => boolean): void {
    for (const name of this.recentLists.keys()) if (!isNamed(`recent ${name}`)) this.recentLists.delete(name);
    for (const name of this.hashlimitTables.keys())
      if (!isNamed(`hashlimit ${name}`)) this.hashlimitTables.delete(name);
  }
}
