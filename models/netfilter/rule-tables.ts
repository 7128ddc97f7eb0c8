// The tables of one network namespace, as the commands that change them see them: iptables, iptables-restore.

import type { IpFamily } from '../packet/ip-address.ts';
import { Chain, type ChainPolicy } from './chain.ts';
import type { Rule } from './rule.ts';
import type { RuleCounters } from './rule-counters.ts';
import { type MemoryMatch, RuleMemories } from './rule-memories.ts';
import { RuleTable } from './rule-table.ts';
import { BUILTIN_CHAINS, type BuiltinChain, isBuiltin, TABLE_NAMES, type TableName } from './table-order.ts';

export {
  BUILTIN_CHAINS,
  type BuiltinChain,
  isBuiltin,
  TABLE_NAMES,
  type TableName,
} from './table-order.ts';

/**
 * The two iptables: `legacy` registers all builtin chains of a table that is in use; `nft`, which writes its rules into
 * nf_tables, only those that were declared or have had a rule.
 */
export type RuleBackend = 'legacy' | 'nft';

export class RuleTables {
  /** iptables or ip6tables: the family of the frames that pass here, and of all addresses in the rules. */
  readonly family: IpFamily;
  #backend: RuleBackend = 'legacy';
  readonly #tables: Readonly<Record<TableName, RuleTable>> = {
    raw: new RuleTable('raw'),
    mangle: new RuleTable('mangle'),
    nat: new RuleTable('nat'),
    filter: new RuleTable('filter'),
  };
  readonly memories = new RuleMemories();
  #needsConntrack: boolean | undefined = false;

  constructor(family: IpFamily = 4) {
    this.family = family;
  }

  /** The chain of that name, own or shared. Builtin chains always exist. */
  chain(table: TableName, name: string): Chain | undefined {
    return this.#tables[table].chain(name);
  }

  /** For a walk. */
  table(name: TableName): RuleTable {
    return this.#tables[name];
  }

  /** Undefined for a chain that no frame has entered, or that does not exist. */
  counters(table: TableName, name: string): RuleCounters | undefined {
    return this.#tables[table].counters(name);
  }

  /** Builtin chains first, then the others by name, as iptables-save lists them. */
  chainNames(table: TableName): string[] {
    return this.#tables[table].chainNames();
  }

  /** Chains that are not only as the shared base has them: this namespace has its own, or a frame has entered them. */
  touchedChains(table: TableName): Set<string> {
    return this.#tables[table].touchedChains();
  }

  /** Like `iptables-restore --noflush`: chains of these names are replaced, with counters at zero; others are kept. */
  replaceChains(table: TableName, chains: Iterable<Chain>): void {
    const put = [...chains];
    for (const chain of put) this.#tables[table].put(chain);
    this.#changed(table, this.#memoriesOf(table, put));
  }

  /**
   * Like `iptables-restore`: these chains and no others. What is no longer declared is empty in a legacy table, which stays
   * registered with all its builtin chains until its namespace goes, and gone with nft, which makes the table anew.
   */
  replaceTable(table: TableName, chains: readonly Chain[]): void {
    const declared = new Set(chains.map(({ name }) => name));
    const undeclared = this.#backend === 'legacy' ? BUILTIN_CHAINS[table].filter((name) => !declared.has(name)) : [];
    this.#tables[table].replaceAll([...undeclared.map((name) => new Chain(name, [], 'ACCEPT')), ...chains]);
    this.#changed(table, this.#memoriesOf(table, chains));
  }

  /**
   * The immutable base of a table, in place of the one before. Own chains of the same name win. A chain object that the
   * bases have in common keeps its counters.
   */
  share(table: TableName, chains: ReadonlyMap<string, Chain>): void {
    this.#tables[table].share(chains);
    this.#changed(table, this.#tables[table].sharedMemories.values());
  }

  deleteChain(table: TableName, name: string): void {
    this.#tables[table].delete(name);
    this.#changed(table);
  }

  appendRule(table: TableName, chainName: string, rule: Rule): void {
    const { rules } = this.#existing(table, chainName);
    this.#tables[table].edit(chainName, { rules: [...rules, rule], placeOf: (place) => place });
    this.#changed(table, this.#existing(table, chainName).memories);
  }

  prependRule(table: TableName, chainName: string, rule: Rule): void {
    const { rules } = this.#existing(table, chainName);
    this.#tables[table].edit(chainName, { rules: [rule, ...rules], placeOf: (place) => place + 1 });
    this.#changed(table, this.#existing(table, chainName).memories);
  }

  /** `iptables -D CHAIN RULE`: the first rule with this text; returns whether there was one. */
  deleteRule(table: TableName, chainName: string, text: string): boolean {
    const { rules } = this.#existing(table, chainName);
    const gone = rules.findIndex((rule) => rule.text === text);
    if (gone < 0) return false;
    this.#tables[table].edit(chainName, {
      rules: rules.filter((_, place) => place !== gone),
      placeOf: (place) => (place === gone ? undefined : place < gone ? place : place - 1),
    });
    this.#changed(table, this.#existing(table, chainName).memories);
    return true;
  }

  setPolicy(table: TableName, chainName: BuiltinChain, policy: ChainPolicy): void {
    const { rules } = this.#existing(table, chainName);
    this.#tables[table].edit(chainName, { rules, placeOf: (place) => place, policy });
    this.#changed(table);
  }

  /** Chains or rules were put into this table: it takes part in its hooks, at a cost. */
  isLoaded(table: TableName): boolean {
    return this.#tables[table].isLoaded;
  }

  /** Frames at this hook meet the table's builtin chain. */
  isRegistered(table: TableName, chain: BuiltinChain): boolean {
    if (!isBuiltin(table, chain)) return false;
    return this.#backend === 'legacy' ? this.isLoaded(table) : this.#tables[table].declares(chain);
  }

  get backend(): RuleBackend {
    return this.#backend;
  }

  /** Which kernel code runs the rules; before any are loaded. */
  set backend(backend: RuleBackend) {
    this.#backend = backend;
    this.whenChanged();
  }

  /** Told of every change: what was derived from the tables no longer holds. */
  whenChanged: () => void = () => {};

  /** Some rule, reachable or not, matches on connection state or translates addresses: frames are tracked. */
  get needsConntrack(): boolean {
    return (this.#needsConntrack ??= TABLE_NAMES.some((table) => this.#tables[table].needsConntrack()));
  }

  #existing(table: TableName, chainName: string): Chain {
    const chain = this.chain(table, chainName);
    if (chain === undefined) throw new RangeError(`table ${table} has no chain ${chainName}`);
    return chain;
  }

  /** What the rules of chains remember, in the order in which they are checked: by legacy, builtin chains first. */
  #memoriesOf(table: TableName, chains: readonly Chain[]): MemoryMatch[] {
    const naming = chains.filter(({ memories }) => memories.length > 0);
    if (this.#backend === 'legacy') {
      const builtin: readonly string[] = BUILTIN_CHAINS[table];
      const rank = ({ name }: Chain): number => (isBuiltin(table, name) ? builtin.indexOf(name) : builtin.length);
      naming.sort((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1));
    }
    return naming.flatMap(({ memories }) => memories);
  }

  /** `memories`: those of the rules that came, in the order in which they were checked. */
  #changed(table: TableName, memories: Iterable<MemoryMatch> = []): void {
    this.whenChanged();
    // nft changes rules one by one: those that stay remember what they knew.
    if (this.#backend === 'legacy') this.#tables[table].generation++;
    this.#needsConntrack = undefined;
    for (const memory of memories) this.memories.open(memory, this.family);
    this.memories.close((key) => TABLE_NAMES.some((name) => this.#tables[name].namesMemory(key)));
  }
}
