// iptables(8) and ip6tables(8) as network plugins call them, in their own words.

import type { NetworkNamespace } from '../host/network-namespace.ts';
import { Chain } from '../netfilter/chain.ts';
import { Rule } from '../netfilter/rule.ts';
import type { RuleTables, TableName } from '../netfilter/rule-tables.ts';
import { parseRule } from '../netfilter/rule-text.ts';
import type { IpFamily } from '../packet/ip-address.ts';

export class IptablesCommands {
  readonly #tables: RuleTables;
  readonly #table: TableName;
  readonly #family: IpFamily;

  constructor(namespace: NetworkNamespace, table: TableName, family: IpFamily) {
    const { tables, tables6 } = namespace.enableNetfilter();
    this.#tables = family === 6 ? tables6 : tables;
    this.#table = table;
    this.#family = family;
  }

  /** `-N CHAIN`, or `-F CHAIN` if it is there. */
  clearChain(chain: string): void {
    this.#tables.replaceChains(this.#table, [new Chain(chain, [])]);
  }

  /** `-N CHAIN` unless it is there. */
  ensureChain(chain: string): void {
    if (!this.hasChain(chain)) this.clearChain(chain);
  }

  hasChain(chain: string): boolean {
    return this.#tables.chain(this.#table, chain) !== undefined;
  }

  /** `-F CHAIN`, `-X CHAIN`, if it is there. */
  removeChain(chain: string): void {
    if (this.hasChain(chain)) this.#tables.deleteChain(this.#table, chain);
  }

  /** `-A CHAIN RULE` */
  append(chain: string, rule: string): void {
    this.#tables.appendRule(this.#table, chain, this.#read(rule));
  }

  /** `-C CHAIN RULE || -A CHAIN RULE` */
  ensure(chain: string, rule: string): void {
    if (!this.has(chain, rule)) this.append(chain, rule);
  }

  /** `-C CHAIN RULE || -I CHAIN RULE` */
  ensureFirst(chain: string, rule: string): void {
    if (!this.has(chain, rule)) this.#tables.prependRule(this.#table, chain, this.#read(rule));
  }

  has(chain: string, rule: string): boolean {
    const { text } = this.#read(rule);
    return this.#tables.chain(this.#table, chain)?.rules.some((known) => known.text === text) === true;
  }

  /** `-D CHAIN RULE`, if it is there. */
  remove(chain: string, rule: string): void {
    if (this.hasChain(chain)) this.#tables.deleteRule(this.#table, chain, this.#read(rule).text);
  }

  /** `-D CHAIN RULE` for every rule that jumps to `target`. */
  removeJumps(chain: string, target: string): void {
    for (const { spec, text } of this.#tables.chain(this.#table, chain)?.rules ?? [])
      if (spec.target?.target === 'jump' && spec.target.chain === target)
        this.#tables.deleteRule(this.#table, chain, text);
  }

  #read(rule: string): Rule {
    return new Rule(parseRule(rule, { family: this.#family }));
  }
}

/** A word of rule text that holds blanks. */
export const quoted = (text: string): string => `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
