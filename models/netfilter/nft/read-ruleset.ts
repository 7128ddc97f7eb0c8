// Reads what `nft -f` reads: commands (`add rule ip t c ...`) and tables written as blocks, all of them one transaction.
//
// Not modelled: families arp, bridge and netdev, flow tables, helpers, secmarks, synproxies.

import { DATATYPES, type Datatype } from './datatype.ts';
import { readPriority } from './priority.ts';
import { partsOf, readElements, readExpression, takeComment, takeDuration, typeOf } from './read-expression.ts';
import { atRuleEnd, readLimit, readQuota, readRule } from './read-rule.ts';
import {
  type BaseChainSpec,
  type CounterStatement,
  type Expression,
  type LimitStatement,
  type NftFamily,
  type NftHook,
  type NftObject,
  type NftRule,
  type NftRuleset,
  type NftSet,
  type QuotaStatement,
  SET_FLAGS,
  type SetElement,
} from './syntax.ts';
import { type Token, TokenReader, tokenize } from './tokens.ts';
import { type DraftTable, Transaction, TransactionError } from './transaction.ts';

export interface ReadOptions {
  /** For messages. */
  readonly fileName?: string;
  /** Told of every rule that is not modelled, which then matches nothing; without it such a rule is an error. */
  readonly lenient?: (problem: string) => void;
  /** The text of a file that `include` names; undefined if there is none. */
  readonly include?: (name: string) => string | undefined;
}

/** The ruleset after the commands. Throws a RuleTextError that names file and line, and then nothing has changed. */
export function applyNftText(ruleset: NftRuleset, text: string, options: ReadOptions = {}): NftRuleset {
  const { fileName = 'nft' } = options;
  const transaction = new Transaction(ruleset);
  const reader = new TokenReader(tokenize(text, fileName), fileName);
  const commands = new Commands(reader, transaction, options);
  try {
    commands.readAll();
    return transaction.commit();
  } catch (error) {
    if (error instanceof TransactionError) throw reader.failure(error.message);
    throw error;
  }
}

const OBJECTS = ['counter', 'limit', 'quota'] as const;
const VERBS = ['add', 'create', 'insert', 'replace', 'delete', 'destroy', 'flush'] as const;

class Commands {
  readonly #reader: TokenReader;
  readonly #transaction: Transaction;
  readonly #options: ReadOptions;
  #includeDepth = 0;

  constructor(reader: TokenReader, transaction: Transaction, options: ReadOptions) {
    this.#reader = reader;
    this.#transaction = transaction;
    this.#options = options;
  }

  readAll(): void {
    const reader = this.#reader;
    for (;;) {
      while (reader.takeIf('\n') || reader.takeIf(';'));
      if (reader.atEnd) return;
      this.#readCommand();
      if (!reader.at('\n') && !reader.at(';') && !reader.atEnd) throw reader.error('the end of the command');
    }
  }

  #readCommand(): void {
    const reader = this.#reader;
    if (reader.takeIf('define') || reader.takeIf('redefine')) return this.#define();
    if (reader.takeIf('undefine')) return reader.undefine(reader.takeName('a variable'));
    if (reader.takeIf('include')) return this.#include();
    const verb = VERBS.find((word) => reader.takeIf(word)) ?? 'add';
    switch (verb) {
      case 'add':
      case 'create':
        return this.#add(verb);
      case 'insert':
        reader.expect('rule');
        return this.#addRule({ isInsert: true });
      case 'replace':
        reader.expect('rule');
        return this.#replaceRule();
      case 'delete':
      case 'destroy':
        return this.#delete(verb === 'destroy');
      case 'flush':
        return this.#flush();
    }
  }

  #define(): void {
    const reader = this.#reader;
    const name = reader.takeName('the name of a variable');
    reader.expect('=');
    const value: Token[] = [];
    let depth = 0;
    while (!reader.atEnd && (depth > 0 || !(reader.at('\n') || reader.at(';')))) {
      if (reader.at('{')) depth++;
      if (reader.at('}')) depth--;
      value.push(reader.take());
    }
    if (value.length === 0) throw reader.error('a value');
    reader.define(name, value);
  }

  #include(): void {
    const reader = this.#reader;
    const name = reader.takeString('the name of a file in quotes');
    const text = this.#options.include?.(name);
    if (text === undefined) throw reader.failure(`cannot include "${name}"; expected a file that is there`);
    // Files that include each other would never end.
    if (++this.#includeDepth > 16) throw reader.failure(`"${name}" is included too often; expected at most 16 files`);
    // The line that names it ends before its text begins.
    const lineEnd: Token = { kind: 'symbol', text: '\n', line: reader.line };
    reader.insert([lineEnd, ...tokenize(text, name).slice(0, -1)]);
  }

  // ── add ────────────────────────────────────────────────────────────────────────────────────────────────────────────

  #add(verb: 'add' | 'create'): void {
    const reader = this.#reader;
    if (reader.takeIf('table')) return this.#addTable(verb);
    if (reader.takeIf('chain')) {
      const table = this.#takeTable();
      const name = reader.takeName('the name of a chain');
      if (verb === 'create' && table.chains.has(name)) throw reader.failure(`chain ${name} exists already`);
      const chain = this.#readChain(table.family, name);
      table.addChain(name, chain);
      for (const rule of chain.rules) table.addRule(name, rule);
      return;
    }
    if (reader.takeIf('rule')) return this.#addRule({ isInsert: false });
    if (reader.at('set') || reader.at('map')) {
      const kind = reader.takeOneOf(['set', 'map'] as const);
      const table = this.#takeTable();
      return addSet(table, this.#readSet(table, kind, reader.takeName(`the name of a ${kind}`)));
    }
    if (reader.takeIf('element')) {
      const { table, name, elements } = this.#takeElements();
      for (const element of elements) table.addElement(name, element);
      return;
    }
    const object = OBJECTS.find((word) => reader.takeIf(word));
    if (object !== undefined) {
      const table = this.#takeTable();
      const spec = this.#readObject(object, reader.takeName(`the name of a ${object}`));
      return table.addObject({ ...spec, handle: table.takeHandle() });
    }
    this.#refuseUnmodelled();
    throw reader.error('table, chain, rule, set, map, element, counter, limit or quota');
  }

  #refuseUnmodelled(): void {
    const other = [
      'flowtable',
      'ct',
      'secmark',
      'synproxy',
      'list',
      'reset',
      'monitor',
      'rename',
      'export',
      'describe',
    ];
    const word = other.find((each) => this.#reader.at(each));
    if (word !== undefined) throw this.#reader.unmodelled(`"${word}"`);
  }

  #addTable(verb: 'add' | 'create'): void {
    const reader = this.#reader;
    const { family, name } = this.#takeTableName();
    if (verb === 'create' && this.#transaction.hasTable(family, name)) {
      throw reader.failure(`table ${family} ${name} exists already`);
    }
    const table = this.#transaction.addTable(family, name);
    if (reader.takeIf('{')) this.#readTableBlock(table);
  }

  /** As nft does: all chains first, then objects and sets, then rules, whatever the order in which they are written. */
  #readTableBlock(table: DraftTable): void {
    const reader = this.#reader;
    const chains: (() => void)[] = [];
    const objects: (() => void)[] = [];
    const sets: (() => void)[] = [];
    const rules: (() => void)[] = [];
    for (;;) {
      while (reader.takeIf('\n') || reader.takeIf(';'));
      if (reader.takeIf('}')) break;
      if (reader.takeIf('comment')) table.comment = takeComment(reader);
      else if (reader.takeIf('flags')) {
        reader.expect('dormant');
        table.dormant = true;
      } else if (reader.takeIf('chain')) {
        const chain = this.#readChain(table.family, reader.takeName('the name of a chain'));
        chains.push(() => table.addChain(chain.name, chain));
        rules.push(() => {
          for (const rule of chain.rules) table.addRule(chain.name, rule);
        });
      } else if (reader.at('set') || reader.at('map')) {
        const kind = reader.takeOneOf(['set', 'map'] as const);
        const set = this.#readSet(table, kind, reader.takeName(`the name of a ${kind}`));
        sets.push(() => addSet(table, set));
      } else {
        const kind = OBJECTS.find((word) => reader.takeIf(word));
        if (kind === undefined) {
          this.#refuseUnmodelled();
          throw reader.error('chain, set, map, counter, limit, quota or }');
        }
        const object = this.#readObject(kind, reader.takeName(`the name of a ${kind}`));
        objects.push(() => table.addObject({ ...object, handle: table.takeHandle() }));
      }
      if (!reader.at('\n') && !reader.at(';') && !reader.at('}')) throw reader.error('the end of the line');
    }
    for (const add of [...chains, ...objects, ...sets, ...rules]) add();
  }

  #readChain(family: NftFamily, name: string): ReadChain {
    const reader = this.#reader;
    const rules: Omit<NftRule, 'handle'>[] = [];
    let base: BaseChainSpec | undefined;
    let comment: string | undefined;
    if (!reader.takeIf('{')) return { name, base, comment, rules };
    for (;;) {
      while (reader.takeIf('\n') || reader.takeIf(';'));
      if (reader.takeIf('}')) break;
      if (reader.takeIf('type')) base = readBase(reader);
      else if (reader.takeIf('comment')) comment = takeComment(reader);
      else if (reader.takeIf('policy')) {
        if (base === undefined) throw reader.failure('a policy of a chain without a hook');
        base = { ...base, policy: reader.takeOneOf(['accept', 'drop'] as const) };
      } else if (reader.at('devices') || reader.at('device')) throw reader.unmodelled('a chain of a device');
      else rules.push(readRule(reader, { family, report: this.#options.lenient }));
      if (!atRuleEnd(reader)) throw reader.error('the end of the line');
    }
    return { name, base, comment, rules };
  }

  #readSet(table: DraftTable, kind: 'set' | 'map', name: string): ReadSet {
    const reader = this.#reader;
    const draft: Mutable<Partial<ReadSet>> = {};
    reader.expect('{');
    for (;;) {
      while (reader.takeIf('\n') || reader.takeIf(';'));
      if (reader.takeIf('}')) break;
      if (reader.takeIf('type')) Object.assign(draft, readTypes(reader, kind));
      else if (reader.takeIf('typeof')) Object.assign(draft, readTypeof(reader, kind, table.family));
      else if (reader.takeIf('flags')) {
        const flags = [reader.takeOneOf(SET_FLAGS)];
        while (reader.takeIf(',')) flags.push(reader.takeOneOf(SET_FLAGS));
        draft.flags = SET_FLAGS.filter((flag) => flags.includes(flag));
      } else if (reader.takeIf('timeout')) draft.timeoutMs = takeDuration(reader);
      else if (reader.takeIf('gc-interval')) draft.gcIntervalMs = takeDuration(reader);
      else if (reader.takeIf('size')) draft.size = reader.takeNumber({ first: 1, last: 0xffff_ffff });
      else if (reader.takeIf('policy')) draft.policy = reader.takeOneOf(['performance', 'memory'] as const);
      else if (reader.takeIf('auto-merge')) draft.autoMerge = true;
      else if (reader.takeIf('counter')) draft.hasCounters = true;
      else if (reader.takeIf('comment')) draft.comment = takeComment(reader);
      else if (reader.takeIf('elements')) {
        reader.expect('=');
        if (draft.keyTypes === undefined) throw reader.failure(`elements of ${kind} ${name} before its type`);
        draft.elements = readElements(reader, draft.keyTypes, draft.data);
      } else
        throw reader.error('type, typeof, flags, timeout, gc-interval, size, policy, auto-merge, comment or elements');
      if (!reader.at('\n') && !reader.at(';') && !reader.at('}')) throw reader.error('the end of the line');
    }
    const { keyTypes, flags = [], elements = [], ...rest } = draft;
    if (keyTypes === undefined) throw reader.failure(`${kind} ${name} has no type`);
    // A timeout for all elements makes a set of elements with timeouts.
    const hasTimeout = rest.timeoutMs !== undefined && !flags.includes('timeout');
    return { name, keyTypes, flags: hasTimeout ? [...flags, 'timeout'] : flags, elements, ...rest };
  }

  #readObject(kind: (typeof OBJECTS)[number], name: string): NftObject {
    const reader = this.#reader;
    let object: CounterStatement | LimitStatement | QuotaStatement | undefined =
      kind === 'counter' ? { kind: 'counter', packets: 0, bytes: 0 } : undefined;
    let comment: string | undefined;
    if (reader.takeIf('{')) {
      for (;;) {
        while (reader.takeIf('\n') || reader.takeIf(';'));
        if (reader.takeIf('}')) break;
        if (reader.takeIf('comment')) comment = takeComment(reader);
        else if (kind === 'counter') object = readCounterBody(reader);
        else object = kind === 'limit' ? readLimit(reader) : readQuota(reader);
      }
    } else if (kind !== 'counter') object = kind === 'limit' ? readLimit(reader) : readQuota(reader);
    if (object === undefined) throw reader.failure(`${kind} ${name} is empty`);
    return { ...object, name, ...(comment !== undefined && { comment }), handle: 0 };
  }

  #addRule({ isInsert }: { isInsert: boolean }): void {
    const reader = this.#reader;
    const table = this.#takeTable();
    const chain = reader.takeName('the name of a chain');
    const place = this.#takePlace(table, chain);
    const rule = readRule(reader, { family: table.family, report: this.#options.lenient });
    table.addRule(chain, rule, { isInsert, ...(place !== undefined && { at: place }) });
  }

  #replaceRule(): void {
    const reader = this.#reader;
    const table = this.#takeTable();
    const chain = reader.takeName('the name of a chain');
    const place = this.#takePlace(table, chain);
    if (place === undefined) throw reader.error('handle NUMBER');
    table.replaceRule(chain, place, readRule(reader, { family: table.family, report: this.#options.lenient }));
  }

  #takePlace(table: DraftTable, chain: string): number | undefined {
    const reader = this.#reader;
    if (reader.takeIf('handle') || reader.takeIf('position'))
      return table.ruleAt(chain, { handle: reader.takeNumber() });
    return reader.takeIf('index') ? table.ruleAt(chain, { index: reader.takeNumber() }) : undefined;
  }

  // ── delete and flush ───────────────────────────────────────────────────────────────────────────────────────────────

  /** `destroy` is content with what is not there. */
  #delete(ifExists: boolean): void {
    const reader = this.#reader;
    if (reader.takeIf('table')) {
      const { family, name } = this.#takeTableName();
      if (ifExists && !this.#transaction.hasTable(family, name)) return;
      return this.#transaction.deleteTable(family, name);
    }
    if (reader.takeIf('rule')) {
      const table = this.#takeTable();
      const chain = reader.takeName('the name of a chain');
      const place = this.#takePlace(table, chain);
      if (place === undefined) throw reader.error('handle NUMBER');
      return table.deleteRule(chain, place);
    }
    if (reader.takeIf('element')) {
      const { table, name, elements } = this.#takeElements({ isDelete: true });
      for (const element of elements) table.deleteElement(name, element, { ifExists });
      return;
    }
    const kind = reader.takeOneOf(['chain', 'set', 'map', ...OBJECTS] as const);
    const { family, name: tableName } = this.#takeTableName();
    const name = reader.takeName(`the name of a ${kind}`);
    if (ifExists && !this.#transaction.hasTable(family, tableName)) return;
    const table = this.#transaction.table(family, tableName);
    switch (kind) {
      case 'chain':
        if (!ifExists || table.chains.has(name)) table.deleteChain(name);
        return;
      case 'set':
      case 'map':
        if (!ifExists || table.sets.has(name)) table.deleteSet(name);
        return;
      default:
        if (!ifExists || table.objects.has(name)) table.deleteObject(name);
    }
  }

  #flush(): void {
    const reader = this.#reader;
    if (reader.takeIf('ruleset'))
      return this.#transaction.flushRuleset(FAMILIES.find((family) => reader.takeIf(family)));
    if (reader.takeIf('table')) {
      const { family, name } = this.#takeTableName();
      return this.#transaction.flushTable(family, name);
    }
    const kind = reader.takeOneOf(['chain', 'set', 'map'] as const);
    const table = this.#takeTable();
    const name = reader.takeName(`the name of a ${kind}`);
    if (kind === 'chain') table.flushChain(name);
    else table.flushSet(name);
  }

  // ── names ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  #takeTable(): DraftTable {
    const { family, name } = this.#takeTableName();
    return this.#transaction.table(family, name);
  }

  #takeTableName(): { family: NftFamily; name: string } {
    const reader = this.#reader;
    const other = ['arp', 'bridge', 'netdev'].find((word) => reader.at(word));
    if (other !== undefined && reader.ahead(1).kind === 'name') throw reader.unmodelled(`family ${other}`);
    const isFamily = FAMILIES.some((word) => reader.at(word)) && reader.ahead(1).kind === 'name';
    const family = isFamily ? reader.takeOneOf(FAMILIES) : 'ip';
    return { family, name: reader.takeName('the name of a table') };
  }

  #takeElements({ isDelete = false } = {}): { table: DraftTable; name: string; elements: readonly SetElement[] } {
    const reader = this.#reader;
    const table = this.#takeTable();
    const name = reader.takeName('the name of a set');
    const { keyTypes, data } = table.set(name);
    // The data need not be said of an element that goes.
    return { table, name, elements: readElements(reader, keyTypes, data, { isDataOptional: isDelete }) };
  }
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type ReadSet = Omit<NftSet, 'handle'>;

interface ReadChain {
  readonly name: string;
  readonly base: BaseChainSpec | undefined;
  readonly comment: string | undefined;
  readonly rules: readonly Omit<NftRule, 'handle'>[];
}

const FAMILIES: readonly NftFamily[] = ['ip', 'ip6', 'inet'];

function addSet(table: DraftTable, { elements, ...set }: ReadSet): void {
  table.addSet(set);
  for (const element of elements) table.addElement(set.name, element);
}

const HOOKS: readonly NftHook[] = ['prerouting', 'input', 'forward', 'output', 'postrouting'];

/** After `type`: `filter hook forward priority filter; policy drop;` up to the first semicolon. */
function readBase(reader: TokenReader): BaseChainSpec {
  const type = reader.takeOneOf(['filter', 'nat', 'route'] as const);
  reader.expect('hook');
  if (reader.at('ingress') || reader.at('egress')) throw reader.unmodelled(`hook ${reader.peek.text}`);
  const hook = reader.takeOneOf(HOOKS);
  if (reader.at('device') || reader.at('devices')) throw reader.unmodelled('a chain of a device');
  reader.expect('priority');
  return { type, hook, priority: readPriority(reader, hook), policy: 'accept' };
}

/** `ipv4_addr . inet_service : verdict` */
function readTypes(reader: TokenReader, kind: 'set' | 'map'): Pick<NftSet, 'keyTypes' | 'data'> {
  const keyTypes = takeTypes(reader);
  if (kind === 'set') return { keyTypes };
  reader.expect(':');
  if (reader.takeIf('verdict')) return { keyTypes, data: { kind: 'verdict' } };
  const object = OBJECTS.find((word) => reader.takeIf(word));
  if (object !== undefined) return { keyTypes, data: { kind: 'object', object } };
  const isInterval = reader.takeIf('interval');
  return { keyTypes, data: { kind: 'value', types: takeTypes(reader), ...(isInterval && { isInterval }) } };
}

function takeTypes(reader: TokenReader): Datatype[] {
  const types: Datatype[] = [];
  do {
    const type = DATATYPES.get(reader.peek.text);
    if (type === undefined) throw reader.error(`a type of ${[...DATATYPES.keys()].join(', ')}`);
    reader.take();
    types.push(type);
  } while (reader.takeIf('.'));
  return types;
}

/** `ip daddr . tcp dport : meta mark` */
function readTypeof(
  reader: TokenReader,
  kind: 'set' | 'map',
  family: NftFamily,
): Pick<NftSet, 'keyTypes' | 'keyExpressions' | 'data'> {
  const takeExpressions = () => partsOf(readExpression(reader, family));
  const keyExpressions = takeExpressions();
  const keyTypes = keyExpressions.map((part) => typeOfPart(reader, part));
  if (kind === 'set') return { keyTypes, keyExpressions };
  reader.expect(':');
  if (reader.takeIf('verdict')) return { keyTypes, keyExpressions, data: { kind: 'verdict' } };
  const isInterval = reader.takeIf('interval');
  const expressions = takeExpressions();
  const types = expressions.map((part) => typeOfPart(reader, part));
  return { keyTypes, keyExpressions, data: { kind: 'value', types, expressions, ...(isInterval && { isInterval }) } };
}

function typeOfPart(reader: TokenReader, part: Expression): Datatype {
  const type = typeOf(part);
  if (type === undefined) throw reader.failure('typeof a map; expected an expression about packets');
  return type;
}

function readCounterBody(reader: TokenReader): CounterStatement {
  reader.expect('packets');
  const packets = reader.takeNumber();
  reader.expect('bytes');
  return { kind: 'counter', packets, bytes: reader.takeNumber() };
}
