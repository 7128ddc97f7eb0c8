// Whole rulesets as iptables-save (legacy, 1.8.9) prints them, without its two lines of comment (they hold a date).

import { Chain, type ChainPolicy } from './chain.ts';
import { Rule, type RuleSpec } from './rule.ts';
import { RuleCounters } from './rule-counters.ts';
import { isBuiltin, RuleTables, TABLE_NAMES, type TableName } from './rule-tables.ts';
import { readRule } from './rule-text.ts';
import { targetKind } from './targets/registry.ts';
import { RuleTextError, Words } from './words.ts';

export interface SavedTable {
  readonly name: TableName;
  readonly chains: readonly SavedChain[];
}

export interface SavedChain {
  readonly chain: Chain;
  /** Undefined: all zero. */
  readonly counters: RuleCounters | undefined;
}

/** The tables that are in use in a namespace: raw, mangle, nat, filter, each with its chains in iptables-save's order. */
export function saveTables(tables: RuleTables): SavedTable[] {
  return TABLE_NAMES.filter((name) => tables.isLoaded(name)).map((name) => ({
    name,
    chains: tables.chainNames(name).map((chain) => ({
      chain: tables.chain(name, chain)!,
      counters: tables.counters(name, chain),
    })),
  }));
}

export function printIptablesSave(
  tables: RuleTables | readonly SavedTable[],
  { counters = false }: { counters?: boolean } = {},
): string {
  const saved = tables instanceof RuleTables ? saveTables(tables) : tables;
  const lines: string[] = [];
  for (const { name, chains } of saved) {
    lines.push(`*${name}`);
    for (const { chain, counters: counted } of chains) {
      const total = chain.policy === undefined || !counters ? '[0:0]' : printCount(counted, chain.rules.length);
      lines.push(`:${chain.name} ${chain.policy ?? '-'} ${total}`);
    }
    for (const { chain, counters: counted } of chains) {
      for (const [i, rule] of chain.rules.entries()) {
        const count = counters ? `${printCount(counted, i)} ` : '';
        const { text } = rule;
        lines.push(`${count}-A ${chain.name}${text === '' ? '' : ` ${text}`}`);
      }
    }
    lines.push('COMMIT');
  }
  return lines.map((line) => `${line}\n`).join('');
}

const printCount = (counters: RuleCounters | undefined, ruleIndex: number): string =>
  counters === undefined ? '[0:0]' : `[${counters.packets(ruleIndex)}:${counters.bytes(ruleIndex)}]`;

/**
 * Reads one or more tables. Chains must be declared before they have rules, and builtin chains that are not declared are
 * empty. Throws a RuleTextError that names file and line and tells what was expected.
 */
export function parseIptablesSave(text: string, fileName = 'iptables-save'): SavedTable[] {
  const tables: SavedTable[] = [];
  let open: TableDraft | undefined;
  let line = 0;
  for (const content of text.split('\n')) {
    line++;
    const first = content[0];
    if (first === undefined || first === '#') continue;
    const words = new Words(content, fileName, line);
    if (first === '*') {
      if (open !== undefined) throw words.failure(`table ${open.name} is not finished; expected COMMIT`);
      open = new TableDraft(words.takeAs('*raw, *mangle, *nat or *filter', readTableName));
    } else if (open === undefined) {
      throw words.error('a table: *raw, *mangle, *nat or *filter');
    } else if (first === ':') {
      open.declareChain(words);
    } else if (words.takeIf('COMMIT')) {
      tables.push(open.complete(fileName));
      open = undefined;
    } else {
      open.readRuleLine(words);
    }
    if (!words.atEnd) throw words.error('the end of the line');
  }
  if (open !== undefined) {
    throw new RuleTextError(`${fileName}:${line}: the text ends in table ${open.name}; expected COMMIT`);
  }
  return tables;
}

/** Puts parsed chains in place of those of the same names; like `iptables-restore --noflush`, counters start at zero. */
export function restoreTables(tables: RuleTables, saved: readonly SavedTable[]): void {
  for (const { name, chains } of saved) {
    tables.replaceChains(
      name,
      chains.map(({ chain }) => chain),
    );
  }
}

const readTableName = (word: string): TableName | undefined => TABLE_NAMES.find((name) => `*${name}` === word);

/** A table while its lines are read. */
class TableDraft {
  readonly name: TableName;
  readonly #chains = new Map<string, ChainDraft>();
  /** The line in which each chain is first jumped to, for when it is not declared. */
  readonly #jumps = new Map<string, number>();

  constructor(name: TableName) {
    this.name = name;
  }

  /** `:FORWARD DROP [12:3456]`, or `:KUBE-SERVICES - [0:0]`. */
  declareChain(words: Words): void {
    const name = words.take('a chain').slice(1);
    if (this.#chains.has(name)) throw words.failure(`chain ${name} is declared twice in table ${this.name}`);
    const policy = isBuiltin(this.name, name) ? words.takeOneOf(['ACCEPT', 'DROP'] as const) : undefined;
    if (policy === undefined && !words.takeIf('-')) {
      throw words.error(`- for chain ${name}, which is not builtin in table ${this.name}`);
    }
    const chain: ChainDraft = { name, policy, rules: [], counts: [] };
    if (!words.atEnd) chain.policyCount = words.takeAs('[PACKETS:BYTES]', readCount);
    this.#chains.set(name, chain);
  }

  /** `-A KUBE-SERVICES ...`, with `[12:3456]` before it if counters were saved. */
  readRuleLine(words: Words): void {
    const count = words.takeAs('-A CHAIN or [PACKETS:BYTES] -A CHAIN', (word) =>
      word === '-A' ? NO_COUNT : readCount(word),
    );
    if (count !== NO_COUNT && !words.takeIf('-A')) throw words.error('-A CHAIN');
    const chain = words.takeAs(`a chain that is declared in table ${this.name}`, (name) => this.#chains.get(name));
    const spec = readRule(words);
    const { target } = spec;
    if (target?.target === 'jump' || target?.target === 'goto') {
      if (!this.#jumps.has(target.chain)) this.#jumps.set(target.chain, words.line);
    } else if (target !== undefined) {
      const { tables } = targetKind(target.target);
      if (tables?.includes(this.name) === false) {
        throw words.failure(`${target.target} in table ${this.name}; expected it in ${tables.join(', ')}`);
      }
    }
    if (count.packets > 0) chain.counts.push({ ...count, ruleIndex: chain.rules.length });
    chain.rules.push(compile(spec, words));
  }

  complete(fileName: string): SavedTable {
    for (const [name, line] of this.#jumps) {
      if (!this.#chains.has(name)) {
        throw new RuleTextError(`${fileName}:${line}: no chain or target ${name} in table ${this.name}`);
      }
    }
    return { name: this.name, chains: [...this.#chains.values()].map(completeChain) };
  }
}

interface ChainDraft {
  readonly name: string;
  readonly policy: ChainPolicy | undefined;
  readonly rules: Rule[];
  readonly counts: (Count & { readonly ruleIndex: number })[];
  policyCount?: Count;
}

interface Count {
  readonly packets: number;
  readonly bytes: number;
}

const NO_COUNT: Count = { packets: 0, bytes: 0 };

function readCount(word: string): Count | undefined {
  const [, packets, bytes] = /^\[(\d+):(\d+)\]$/.exec(word) ?? [];
  return packets === undefined ? undefined : { packets: Number(packets), bytes: Number(bytes) };
}

function compile(spec: RuleSpec, words: Words): Rule {
  try {
    return new Rule(spec);
  } catch (error) {
    if (error instanceof RangeError) throw words.failure(error.message);
    throw error;
  }
}

function completeChain({ name, policy, rules, counts, policyCount = NO_COUNT }: ChainDraft): SavedChain {
  const chain = new Chain(name, rules, policy);
  if (counts.length === 0 && policyCount.packets === 0) return { chain, counters: undefined };
  const counters = new RuleCounters(rules.length);
  counters.add(rules.length, policyCount.packets, policyCount.bytes);
  for (const { ruleIndex, packets, bytes } of counts) counters.add(ruleIndex, packets, bytes);
  return { chain, counters };
}
