// The tables of one network namespace: which chains it has, and how often their rules matched.
//
// Five thousand nodes have nearly the same chains, so a namespace keeps only its own chains in Maps of its own, and looks
// up the rest in one immutable base per table that all nodes share. Counters exist only for chains that a frame entered.

import { Chain, type ChainPolicy } from './chain.ts';
import type { RecentLists } from './matches/recent.ts';
import type { Rule } from './rule.ts';
import { RuleCounters } from './rule-counters.ts';

export type TableName = 'raw' | 'mangle' | 'nat' | 'filter';
export type BuiltinChain = 'PREROUTING' | 'INPUT' | 'FORWARD' | 'OUTPUT' | 'POSTROUTING';

/**
 * The tables of each hook in the order of their priorities (uapi/linux/netfilter_ipv4.h): raw -300, conntrack -200,
 * mangle -150, nat -100 for destinations, filter 0, nat 100 for sources; conntrack confirms last of all.
 */
export const TABLE_ORDER: Readonly<Record<BuiltinChain, readonly TableName[]>> = {
  PREROUTING: ['raw', 'mangle', 'nat'],
  INPUT: ['mangle', 'filter', 'nat'],
  FORWARD: ['mangle', 'filter'],
  OUTPUT: ['raw', 'mangle', 'nat', 'filter'],
  POSTROUTING: ['mangle', 'nat'],
};

export const TABLE_NAMES: readonly TableName[] = ['raw', 'mangle', 'nat', 'filter'];

/** The builtin chains of each table, in the order in which iptables-save lists them. */
export const BUILTIN_CHAINS: Readonly<Record<TableName, readonly BuiltinChain[]>> = {
  raw: ['PREROUTING', 'OUTPUT'],
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
};

export const isBuiltin = (table: TableName, chain: string): boolean =>
  (BUILTIN_CHAINS[table] as readonly string[]).includes(chain);

/** A chain as one namespace uses it: the chain, shared or not, and this namespace's counters for it. */
export interface ChainUse {
  readonly chain: Chain;
  readonly counters: RuleCounters;
}

export class RuleTables {
  readonly #tables: Readonly<Record<TableName, Table>> = {
    raw: new Table('raw'),
    mangle: new Table('mangle'),
    nat: new Table('nat'),
    filter: new Table('filter'),
  };
  #changes = 0;
  /** The lists of `-m recent` that a frame has touched. As in xt_recent, a list ends with the last rule that names it. */
  readonly recentLists: RecentLists = new Map();
  #needsConntrack: boolean | undefined = false;

  /** The chain of that name, own or shared. Builtin chains always exist. */
  chain(table: TableName, name: string): Chain | undefined {
    return this.#tables[table].chain(name);
  }

  /** The chain with this namespace's counters, for a frame that enters it. */
  use(table: TableName, name: string): ChainUse | undefined {
    return this.#tables[table].use(name);
  }

  /** Undefined for a chain that no frame has entered, or that does not exist. */
  counters(table: TableName, name: string): RuleCounters | undefined {
    return this.#tables[table].counters(name);
  }

  /** Builtin chains first, then the others by name, as iptables-save lists them. */
  chainNames(table: TableName): string[] {
    return this.#tables[table].chainNames();
  }

  /** Like `iptables-restore --noflush`: chains of these names are replaced, with counters at zero; others are kept. */
  replaceChains(table: TableName, chains: Iterable<Chain>): void {
    for (const chain of chains) this.#tables[table].put(chain);
    this.#changed(table);
  }

  /**
   * The immutable base of a table, in place of the one before. Own chains of the same name win. A chain object that the
   * bases have in common keeps its counters.
   */
  share(table: TableName, chains: ReadonlyMap<string, Chain>): void {
    this.#tables[table].share(chains);
    this.#changed(table);
  }

  deleteChain(table: TableName, name: string): void {
    this.#tables[table].delete(name);
    this.#changed(table);
  }

  appendRule(table: TableName, chainName: string, rule: Rule): void {
    const { rules } = this.#existing(table, chainName);
    this.#tables[table].edit(chainName, { rules: [...rules, rule], shift: 0 });
    this.#changed(table);
  }

  prependRule(table: TableName, chainName: string, rule: Rule): void {
    const { rules } = this.#existing(table, chainName);
    this.#tables[table].edit(chainName, { rules: [rule, ...rules], shift: 1 });
    this.#changed(table);
  }

  setPolicy(table: TableName, chainName: BuiltinChain, policy: ChainPolicy): void {
    const { rules } = this.#existing(table, chainName);
    this.#tables[table].edit(chainName, { rules, shift: 0, policy });
    this.#changed(table);
  }

  /** Chains or rules were put into this table: it takes part in its hooks, at a cost. */
  isLoaded(table: TableName): boolean {
    return this.#tables[table].isLoaded;
  }

  /** Counts the changes of a table. Legacy iptables replaces a whole table with every change. */
  generation(table: TableName): number {
    return this.#tables[table].generation;
  }

  /** Counts the changes of all tables: what was derived from them holds while it stays the same. */
  get changes(): number {
    return this.#changes;
  }

  /** Some rule, reachable or not, matches on connection state or translates addresses: frames are tracked. */
  get needsConntrack(): boolean {
    return (this.#needsConntrack ??= TABLE_NAMES.some((table) => this.#tables[table].needsConntrack()));
  }

  #existing(table: TableName, chainName: string): Chain {
    const chain = this.chain(table, chainName);
    if (chain === undefined) throw new RangeError(`table ${table} has no chain ${chainName}`);
    return chain;
  }

  #changed(table: TableName): void {
    this.#changes++;
    this.#tables[table].generation++;
    this.#needsConntrack = undefined;
    for (const list of this.recentLists.keys()) {
      if (!TABLE_NAMES.some((name) => this.#tables[name].namesList(list))) this.recentLists.delete(list);
    }
  }
}

const NO_CHAINS: ReadonlyMap<string, Chain> = new Map();
/** What the builtin chains are until somebody changes them. */
const EMPTY_BUILTINS: ReadonlyMap<string, Chain> = new Map(
  Object.keys(TABLE_ORDER).map((name) => [name, new Chain(name, [], 'ACCEPT')]),
);

class Table {
  readonly #name: TableName;
  readonly #own = new Map<string, Chain>();
  #base = NO_CHAINS;
  /** Chains of the base that this namespace has deleted. */
  readonly #deleted = new Set<string>();
  readonly #uses = new Map<string, ChainUse>();
  /** How many own chains name each list of `-m recent`. */
  readonly #ownLists = new Map<string, number>();
  generation = 0;

  constructor(name: TableName) {
    this.#name = name;
  }

  get isLoaded(): boolean {
    return this.#own.size > 0 || this.#base.size > 0;
  }

  chain(name: string): Chain | undefined {
    const own = this.#own.get(name);
    if (own !== undefined) return own;
    const shared = this.#deleted.has(name) ? undefined : this.#base.get(name);
    if (shared !== undefined) return shared;
    return isBuiltin(this.#name, name) ? EMPTY_BUILTINS.get(name) : undefined;
  }

  use(name: string): ChainUse | undefined {
    const known = this.#uses.get(name);
    if (known !== undefined) return known;
    const chain = this.chain(name);
    if (chain === undefined) return undefined;
    const use = { chain, counters: new RuleCounters(chain.rules.length) };
    this.#uses.set(name, use);
    return use;
  }

  counters(name: string): RuleCounters | undefined {
    return this.#uses.get(name)?.counters;
  }

  chainNames(): string[] {
    const builtin = BUILTIN_CHAINS[this.#name] as readonly string[];
    const others = new Set(this.#own.keys());
    for (const name of this.#base.keys()) if (!this.#deleted.has(name)) others.add(name);
    for (const name of builtin) others.delete(name);
    return [...builtin, ...[...others].sort(byBytes)];
  }

  put(chain: Chain): void {
    if (isBuiltin(this.#name, chain.name) !== (chain.policy !== undefined)) {
      throw new RangeError(
        `chain ${chain.name} of table ${this.#name} has ${chain.policy === undefined ? 'no policy' : 'a policy'}; ` +
          'expected one on builtin chains only',
      );
    }
    this.#setOwn(chain.name, chain);
    if (this.#uses.get(chain.name)?.chain !== chain) this.#uses.delete(chain.name);
  }

  share(chains: ReadonlyMap<string, Chain>): void {
    this.#base = chains;
    this.#deleted.clear();
    for (const [name, { chain }] of this.#uses) if (this.chain(name) !== chain) this.#uses.delete(name);
  }

  delete(name: string): void {
    if (isBuiltin(this.#name, name))
      throw new RangeError(`chain ${name} of table ${this.#name} is builtin; cannot delete it`);
    if (this.chain(name) === undefined) throw new RangeError(`table ${this.#name} has no chain ${name} to delete`);
    this.#setOwn(name, undefined);
    if (this.#base.has(name)) this.#deleted.add(name);
    this.#uses.delete(name);
  }

  /** Other rules or policy for a chain; the counters of rule `i` go to rule `i + shift`. */
  edit(name: string, { rules, shift, policy }: { rules: readonly Rule[]; shift: number; policy?: ChainPolicy }): void {
    const before = this.#uses.get(name);
    const chain = new Chain(name, rules, policy ?? this.chain(name)?.policy);
    this.#setOwn(name, chain);
    if (before === undefined) return;
    const last = before.chain.rules.length;
    const counters = before.counters.moved({
      from: last,
      to: rules.length,
      placeOf: (rule) => (rule === last ? rules.length : rule + shift),
    });
    this.#uses.set(name, { chain, counters });
  }

  needsConntrack(): boolean {
    for (const chain of this.#own.values()) if (chain.needsConntrack) return true;
    return factsOf(this.#base).needsConntrack;
  }

  /** Chains of the base count even where this namespace has deleted or replaced them. */
  namesList(name: string): boolean {
    return this.#ownLists.has(name) || factsOf(this.#base).recentLists.has(name);
  }

  #setOwn(name: string, chain: Chain | undefined): void {
    for (const list of this.#own.get(name)?.recentLists ?? []) {
      const count = this.#ownLists.get(list)! - 1;
      if (count > 0) this.#ownLists.set(list, count);
      else this.#ownLists.delete(list);
    }
    if (chain === undefined) {
      this.#own.delete(name);
      return;
    }
    this.#own.set(name, chain);
    for (const list of chain.recentLists) this.#ownLists.set(list, (this.#ownLists.get(list) ?? 0) + 1);
  }
}

interface BaseFacts {
  readonly needsConntrack: boolean;
  readonly recentLists: ReadonlySet<string>;
}

/** Computed once per base, however many namespaces share it. */
const knownBases = new WeakMap<ReadonlyMap<string, Chain>, BaseFacts>();

function factsOf(base: ReadonlyMap<string, Chain>): BaseFacts {
  let facts = knownBases.get(base);
  if (facts === undefined) {
    const chains = [...base.values()];
    facts = {
      needsConntrack: chains.some((chain) => chain.needsConntrack),
      recentLists: new Set(chains.flatMap((chain) => chain.recentLists)),
    };
    knownBases.set(base, facts);
  }
  return facts;
}

const byBytes = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
