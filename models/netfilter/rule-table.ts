// One table of one network namespace: its chains, and how often their rules matched.
//
// Five thousand nodes have nearly the same chains, so a namespace keeps only its own chains in a Map of its own, and looks
// up the rest in one immutable base that all nodes share. Counters exist only for chains that a frame entered.

import { Chain, type ChainPolicy } from './chain.ts';
import { HOOK_NAMES } from './hook.ts';
import type { Rule } from './rule.ts';
import { RuleCounters } from './rule-counters.ts';
import { type MemoryMatch, memoryKey, withoutRepeats } from './rule-memories.ts';
import { BUILTIN_CHAINS, isBuiltin, type TableName } from './table-order.ts';

/** A chain as one namespace uses it: the chain, shared or not, and this namespace's counters for it. */
export interface ChainUse {
  readonly chain: Chain;
  readonly counters: RuleCounters;
}

interface ChainEdit {
  readonly rules: readonly Rule[];
  readonly placeOf: (rule: number) => number | undefined;
  readonly policy?: ChainPolicy;
}

const NO_CHAINS: ReadonlyMap<string, Chain> = new Map();
/** What builtin chains are until somebody changes them. */
const EMPTY_BUILTINS: ReadonlyMap<string, Chain> = new Map(
  HOOK_NAMES.map((name) => [name, new Chain(name, [], 'ACCEPT')]),
);

/** The chains of one table in one namespace. Changed by RuleTables only, which keeps count. */
export class RuleTable {
  readonly name: TableName;
  #base = NO_CHAINS;
  // Made for the first entry: five thousand nodes have eight tables each, most of which stay as they are.
  #own: Map<string, Chain> | undefined;
  /** Chains of the base that this namespace has deleted. */
  #deleted: Set<string> | undefined;
  #uses: Map<string, ChainUse> | undefined;
  /** How many own chains name each memory of rules, by its key. */
  #ownMemories: Map<string, number> | undefined;
  /** Counts its replacements: legacy iptables replaces the whole table with every change. */
  generation = 0;

  constructor(name: TableName) {
    this.name = name;
  }

  get isLoaded(): boolean {
    return (this.#own !== undefined && this.#own.size > 0) || this.#base.size > 0;
  }

  /** Somebody has made this chain; builtin ones exist without. */
  declares(name: string): boolean {
    return this.#own?.has(name) === true || (this.#base.has(name) && !this.#isDeleted(name));
  }

  chain(name: string): Chain | undefined {
    const own = this.#own?.get(name);
    if (own !== undefined) return own;
    const shared = this.#isDeleted(name) ? undefined : this.#base.get(name);
    if (shared !== undefined) return shared;
    return isBuiltin(this.name, name) ? EMPTY_BUILTINS.get(name) : undefined;
  }

  #isDeleted(name: string): boolean {
    return this.#deleted?.has(name) === true;
  }

  use(name: string): ChainUse | undefined {
    const known = this.#uses?.get(name);
    if (known !== undefined) return known;
    const chain = this.chain(name);
    if (chain === undefined) return undefined;
    const use = { chain, counters: new RuleCounters(chain.ruleCount) };
    this.#uses ??= new Map();
    this.#uses.set(name, use);
    return use;
  }

  counters(name: string): RuleCounters | undefined {
    return this.#uses?.get(name)?.counters;
  }

  chainNames(): string[] {
    const builtin = BUILTIN_CHAINS[this.name] as readonly string[];
    const others = new Set(this.#own?.keys());
    for (const name of this.#base.keys()) if (!this.#isDeleted(name)) others.add(name);
    for (const name of builtin) others.delete(name);
    return [...builtin, ...[...others].sort(byBytes)];
  }

  touchedChains(): Set<string> {
    return new Set([...(this.#own?.keys() ?? []), ...(this.#uses?.keys() ?? [])]);
  }

  put(chain: Chain): void {
    if (isBuiltin(this.name, chain.name) !== (chain.policy !== undefined)) {
      throw new RangeError(
        `chain ${chain.name} of table ${this.name} has ${chain.policy === undefined ? 'no policy' : 'a policy'}; ` +
          'expected one on builtin chains only',
      );
    }
    this.#setOwn(chain.name, chain);
    if (this.#uses?.get(chain.name)?.chain !== chain) this.#uses?.delete(chain.name);
  }

  share(chains: ReadonlyMap<string, Chain>): void {
    this.#base = chains;
    this.#deleted = undefined;
    for (const [name, { chain }] of this.#uses ?? []) if (this.chain(name) !== chain) this.#uses?.delete(name);
  }

  /** These chains and no others, as one change: memories that old and new rules name stay. */
  replaceAll(chains: readonly Chain[]): void {
    this.#base = NO_CHAINS;
    this.#deleted = undefined;
    const before = [...(this.#own?.keys() ?? [])];
    for (const chain of chains) this.put(chain);
    const kept = new Set(chains.map(({ name }) => name));
    for (const name of before) if (!kept.has(name)) this.#setOwn(name, undefined);
    for (const name of this.#uses?.keys() ?? []) if (!kept.has(name)) this.#uses?.delete(name);
  }

  delete(name: string): void {
    if (isBuiltin(this.name, name))
      throw new RangeError(`chain ${name} of table ${this.name} is builtin; cannot delete it`);
    if (this.chain(name) === undefined) throw new RangeError(`table ${this.name} has no chain ${name} to delete`);
    this.#setOwn(name, undefined);
    if (this.#base.has(name)) (this.#deleted ??= new Set()).add(name);
    this.#uses?.delete(name);
  }

  /** Other rules or policy for a chain; the counters of rule `i` go to rule `placeOf(i)`, or are lost. */
  edit(name: string, { rules, placeOf, policy }: ChainEdit): void {
    const before = this.#uses?.get(name);
    const chain = new Chain(name, rules, policy ?? this.chain(name)?.policy);
    this.#setOwn(name, chain);
    if (before === undefined) return;
    const last = before.chain.ruleCount;
    const counters = before.counters.moved({
      from: last,
      to: rules.length,
      placeOf: (rule) => (rule === last ? rules.length : placeOf(rule)),
    });
    this.#uses?.set(name, { chain, counters });
  }

  needsConntrack(): boolean {
    for (const chain of this.#own?.values() ?? []) if (chain.needsConntrack) return true;
    return factsOf(this.#base).needsConntrack;
  }

  /** Chains of the base count even where this namespace has deleted or replaced them. */
  namesMemory(key: string): boolean {
    return this.#ownMemories?.has(key) === true || factsOf(this.#base).memories.has(key);
  }

  /** Of the base's rules, by key. */
  get sharedMemories(): ReadonlyMap<string, MemoryMatch> {
    return factsOf(this.#base).memories;
  }

  #setOwn(name: string, chain: Chain | undefined): void {
    for (const memory of this.#own?.get(name)?.memories ?? []) {
      const key = memoryKey(memory);
      const count = this.#ownMemories!.get(key)! - 1;
      if (count > 0) this.#ownMemories!.set(key, count);
      else this.#ownMemories!.delete(key);
    }
    if (chain === undefined) {
      this.#own?.delete(name);
      return;
    }
    this.#own ??= new Map();
    this.#own.set(name, chain);
    for (const memory of chain.memories) {
      const key = memoryKey(memory);
      this.#ownMemories ??= new Map();
      this.#ownMemories.set(key, (this.#ownMemories.get(key) ?? 0) + 1);
    }
  }
}

interface BaseFacts {
  readonly needsConntrack: boolean;
  readonly memories: ReadonlyMap<string, MemoryMatch>;
}

/** Computed once per base, however many namespaces share it. */
const knownBases = new WeakMap<ReadonlyMap<string, Chain>, BaseFacts>();

function factsOf(base: ReadonlyMap<string, Chain>): BaseFacts {
  let facts = knownBases.get(base);
  if (facts === undefined) {
    const chains = [...base.values()];
    facts = {
      needsConntrack: chains.some((chain) => chain.needsConntrack),
      memories: byKey(chains.flatMap((chain) => chain.memories)),
    };
    knownBases.set(base, facts);
  }
  return facts;
}

const byKey = (memories: readonly MemoryMatch[]): ReadonlyMap<string, MemoryMatch> =>
  new Map(withoutRepeats(memories).map((memory) => [memoryKey(memory), memory]));

/** The table of a context that has not walked yet. */
export const NO_TABLE = new RuleTable('filter');

const byBytes = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
