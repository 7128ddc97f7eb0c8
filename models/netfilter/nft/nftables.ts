// nftables of one network namespace: its ruleset, as `nft -f` changes it and `nft list ruleset` shows it, and what is
// registered at each hook.

import type { Instant } from '../../../engine/time.ts';
import { HOOK_NAMES, type Hook } from '../hook.ts';
import { type PrintOptions, printRuleset } from './print.ts';
import { printRulesetJson } from './print-json.ts';
import { applyNftText, type ReadOptions } from './read-ruleset.ts';
import {
  type BaseChainSpec,
  type ChainType,
  EMPTY_RULESET,
  type NftChain,
  type NftFamily,
  type NftRuleset,
  type NftTable,
} from './syntax.ts';
import { factsOf } from './table-facts.ts';
import { TableState } from './table-state.ts';

/** A base chain where a hook enters it. Good until the ruleset changes. */
export interface NftBaseChain {
  readonly state: TableState;
  readonly chain: NftChain;
  readonly base: BaseChainSpec;
}

export class Nftables {
  readonly #now: () => Instant;
  #ruleset = EMPTY_RULESET;
  readonly #states = new Map<string, TableState>();

  constructor(now: () => Instant) {
    this.#now = now;
  }

  /** Told of every change: what was derived from the ruleset no longer holds. */
  whenChanged: () => void = () => {};

  /** Without what it has counted: what other namespaces can share. */
  get ruleset(): NftRuleset {
    return this.#ruleset;
  }

  /** Takes the place of the one before; what stays the same object keeps what it remembers. */
  set ruleset(ruleset: NftRuleset) {
    this.#ruleset = ruleset;
    this.whenChanged();
    const before = new Map(this.#states);
    // In the ruleset's order: a table that was deleted and made again is the youngest.
    this.#states.clear();
    for (const [key, table] of ruleset.tables) {
      const state = before.get(key) ?? new TableState(table);
      state.table = table;
      state.start(this.#now());
      this.#states.set(key, state);
    }
  }

  /** Without what it has counted; undefined if there is none of that name. */
  table(family: NftFamily, name: string): NftTable | undefined {
    return this.#ruleset.tables.get(`${family} ${name}`);
  }

  /**
   * One table, by whoever knows that it is valid, in place of the one before. What stays the same object keeps what it
   * remembers. If its facts are given (table-facts.ts), this costs nothing that grows with the table; in return, times of
   * elements that a new set brings along begin when a frame asks for them first.
   */
  replaceTable(table: NftTable): void {
    const key = `${table.family} ${table.name}`;
    this.#ruleset = { tables: new Map(this.#ruleset.tables).set(key, table) };
    const state = this.#states.get(key);
    if (state === undefined) {
      this.#states.set(key, new TableState(table));
      this.whenChanged();
      return;
    }
    const before = factsOf(state.table);
    state.table = table;
    if (factsOf(table) !== before) this.whenChanged();
  }

  /** `nft -f`: one transaction. Throws a RuleTextError, and nothing has changed. */
  apply(text: string, options: ReadOptions = {}): void {
    const now = this.#now();
    const before = new Map([...this.#states].map(([key, state]) => [key, state.withLiveElements(now)]));
    const { tables } = applyNftText({ tables: before }, text, options);
    this.ruleset = {
      tables: new Map(
        [...tables].map(([key, table]) => {
          const known = before.get(key);
          return [key, known === undefined ? table : this.#states.get(key)!.keepingLiveSets(known, table)];
        }),
      ),
    };
  }

  /** `nft list ruleset`. */
  list(options: PrintOptions = {}): string {
    return printRuleset(this.#listed(), options);
  }

  /** `nft -j list ruleset`. */
  listJson(): string {
    return printRulesetJson(this.#listed());
  }

  #listed(): NftRuleset {
    const now = this.#now();
    return { tables: new Map([...this.#states].map(([key, state]) => [key, state.listed(now)])) };
  }

  get isEmpty(): boolean {
    return this.#states.size === 0;
  }

  /** The base chains of this family's packets at this hook, in the order in which they were made. */
  baseChains(hook: Hook, family: 4 | 6): NftBaseChain[] {
    const name = HOOK_NAMES[hook]!.toLowerCase();
    return this.#tablesOf(family).flatMap((state) => {
      return factsOf(state.table).baseChains.flatMap((chain) => {
        const { base } = chain;
        return base?.hook === name ? [{ state, chain, base }] : [];
      });
    });
  }

  hasChains(type: ChainType, family: 4 | 6): boolean {
    return this.#tablesOf(family).some(({ table }) =>
      factsOf(table).baseChains.some(({ base }) => base?.type === type),
    );
  }

  /** Some rule, reachable or not, asks about connections or translates addresses: frames of the family are tracked. */
  needsConntrack(family: 4 | 6): boolean {
    return this.#tablesOf(family).some(({ table }) => factsOf(table).needsConntrack);
  }

  #tablesOf(family: 4 | 6): TableState[] {
    const own = family === 6 ? 'ip6' : 'ip';
    return [...this.#states.values()].filter(({ table }) => table.family === own || table.family === 'inet');
  }
}
