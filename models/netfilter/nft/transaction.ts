// A transaction on a ruleset: a draft that commands change, and that becomes the next ruleset as a whole, or not at all.
// Tables, chains and sets that are not touched stay the same objects.

import { inOrder, merged, overlap } from './set.ts';
import type {
  BaseChainSpec,
  Expression,
  KeyPart,
  NftChain,
  NftFamily,
  NftObject,
  NftRule,
  NftRuleset,
  NftSet,
  NftTable,
  SetElement,
  Statement,
} from './syntax.ts';
import { rulesetProblem } from './validate.ts';

/** What nft would refuse; the reader adds the place. */
export class TransactionError extends Error {}

export class Transaction {
  readonly #tables: Map<string, DraftTable>;

  constructor(ruleset: NftRuleset) {
    this.#tables = new Map([...ruleset.tables].map(([key, table]) => [key, new DraftTable(table)]));
  }

  /** The ruleset after it. Throws a TransactionError if something refers to what is not there. */
  commit(): NftRuleset {
    const tables = new Map([...this.#tables].map(([key, draft]) => [key, draft.finish()]));
    const problem = rulesetProblem({ tables });
    if (problem !== undefined) throw new TransactionError(problem);
    return { tables };
  }

  table(family: NftFamily, name: string): DraftTable {
    const table = this.#tables.get(`${family} ${name}`);
    if (table === undefined) throw new TransactionError(`there is no table ${family} ${name}`);
    return table;
  }

  hasTable(family: NftFamily, name: string): boolean {
    return this.#tables.has(`${family} ${name}`);
  }

  /** The table, made if it is not there. */
  addTable(family: NftFamily, name: string): DraftTable {
    const key = `${family} ${name}`;
    let table = this.#tables.get(key);
    if (table === undefined) {
      table = new DraftTable({
        family,
        name,
        objects: new Map(),
        sets: new Map(),
        chains: new Map(),
        nextHandle: 1,
      });
      this.#tables.set(key, table);
    }
    return table;
  }

  deleteTable(family: NftFamily, name: string): void {
    this.table(family, name);
    this.#tables.delete(`${family} ${name}`);
  }

  flushRuleset(family?: NftFamily): void {
    for (const [key, { spec }] of this.#tables)
      if (family === undefined || spec.family === family) this.#tables.delete(key);
  }

  flushTable(family: NftFamily, name: string): void {
    for (const chain of this.table(family, name).chains.keys()) this.table(family, name).flushChain(chain);
  }
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** A table while it is changed. */
export class DraftTable {
  readonly spec: NftTable;
  readonly chains: Map<string, NftChain>;
  readonly sets: Map<string, NftSet>;
  readonly objects: Map<string, NftObject>;
  comment: string | undefined;
  dormant: boolean;
  /** Rules of chains that this transaction has touched. */
  readonly #rules = new Map<string, NftRule[]>();
  /** Elements, by key, of sets that it has touched. */
  readonly #elements = new Map<string, Map<string, SetElement>>();
  #nextHandle: number;

  constructor(spec: NftTable) {
    this.spec = spec;
    this.chains = new Map(spec.chains);
    this.sets = new Map(spec.sets);
    this.objects = new Map(spec.objects);
    this.comment = spec.comment;
    this.dormant = spec.dormant === true;
    this.#nextHandle = spec.nextHandle;
  }

  get family(): NftFamily {
    return this.spec.family;
  }

  takeHandle(): number {
    return this.#nextHandle++;
  }

  finish(): NftTable {
    for (const [name, rules] of this.#rules) {
      const chain = this.chains.get(name);
      if (chain !== undefined) this.chains.set(name, { ...chain, rules });
    }
    for (const [name, elements] of this.#elements) {
      const set = this.sets.get(name);
      if (set !== undefined)
        this.sets.set(name, { ...set, elements: inOrder(set, withoutOverlaps(set, [...elements.values()])) });
    }
    const { spec } = this;
    const isSame =
      this.#nextHandle === spec.nextHandle &&
      this.comment === spec.comment &&
      this.dormant === (spec.dormant === true) &&
      sameEntries(this.chains, spec.chains) &&
      sameEntries(this.sets, spec.sets) &&
      sameEntries(this.objects, spec.objects);
    if (isSame) return spec;
    const table: Mutable<NftTable> = {
      family: spec.family,
      name: spec.name,
      objects: this.objects,
      sets: this.sets,
      chains: this.chains,
      nextHandle: this.#nextHandle,
    };
    if (this.comment !== undefined) table.comment = this.comment;
    if (this.dormant) table.dormant = true;
    return table;
  }

  // ── chains and rules ───────────────────────────────────────────────────────────────────────────────────────────────

  addChain(name: string, { base, comment }: { base?: BaseChainSpec | undefined; comment?: string | undefined }): void {
    const known = this.chains.get(name);
    if (known === undefined) {
      this.chains.set(name, {
        name,
        ...(base !== undefined && { base }),
        ...(comment !== undefined && { comment }),
        rules: [],
        handle: this.takeHandle(),
      });
      return;
    }
    if (base === undefined) return;
    const { type, hook, priority } = known.base ?? {};
    if (type !== base.type || hook !== base.hook || priority !== base.priority) {
      throw new TransactionError(`chain ${name} exists with another type, hook or priority`);
    }
    this.chains.set(name, { ...known, base });
  }

  chain(name: string): NftChain {
    const chain = this.chains.get(name);
    if (chain === undefined) throw new TransactionError(`table ${this.#title} has no chain ${name}`);
    return chain;
  }

  flushChain(name: string): void {
    this.chain(name);
    this.#rules.set(name, []);
  }

  deleteChain(name: string): void {
    this.chain(name);
    this.chains.delete(name);
    this.#rules.delete(name);
  }

  /** Before (`insert`) or after the rule at that place; without one at the chain's beginning or end. */
  addRule(
    chain: string,
    rule: Omit<NftRule, 'handle'>,
    { isInsert = false, at }: { isInsert?: boolean; at?: number } = {},
  ): void {
    const rules = this.#rulesOf(chain);
    this.#prepare(rule.statements);
    const place = at === undefined ? (isInsert ? 0 : rules.length) : at + (isInsert ? 0 : 1);
    rules.splice(place, 0, { ...rule, handle: this.takeHandle() });
  }

  /** Chains must be there before a rule leads to them; sets that rules fill are bounded (nft_dynset_init). */
  #prepare(statements: readonly Statement[]): void {
    for (const statement of statements) {
      this.#nextHandle += anonymousSets(statement);
      if (statement.kind === 'verdict' && 'chain' in statement.verdict) this.chain(statement.verdict.chain);
      if (statement.kind !== 'update' || statement.operation === 'delete') continue;
      const set = this.set(statement.set);
      if (set.size === undefined) this.sets.set(set.name, { ...set, size: DYNAMIC_SET_SIZE });
    }
  }

  replaceRule(chain: string, at: number, rule: Omit<NftRule, 'handle'>): void {
    this.#prepare(rule.statements);
    this.#rulesOf(chain)[at] = { ...rule, handle: this.takeHandle() };
  }

  deleteRule(chain: string, at: number): void {
    this.#rulesOf(chain).splice(at, 1);
  }

  ruleAt(chain: string, { handle, index }: { handle?: number; index?: number }): number {
    const rules = this.#rulesOf(chain);
    const at = handle === undefined ? (index ?? -1) : rules.findIndex((rule) => rule.handle === handle);
    if (rules[at] === undefined) {
      const which = handle === undefined ? `index ${index}` : `handle ${handle}`;
      throw new TransactionError(`chain ${chain} of table ${this.#title} has no rule with ${which}`);
    }
    return at;
  }

  #rulesOf(name: string): NftRule[] {
    let rules = this.#rules.get(name);
    if (rules === undefined) this.#rules.set(name, (rules = [...this.chain(name).rules]));
    return rules;
  }

  // ── sets and objects ───────────────────────────────────────────────────────────────────────────────────────────────

  set(name: string): NftSet {
    const set = this.sets.get(name);
    if (set === undefined) throw new TransactionError(`table ${this.#title} has no set or map ${name}`);
    return set;
  }

  addSet(set: Omit<NftSet, 'handle' | 'elements'>): void {
    const known = this.sets.get(set.name);
    if (known === undefined) {
      this.sets.set(set.name, { ...set, elements: [], handle: this.takeHandle() });
      return;
    }
    const sameKey =
      known.keyTypes.length === set.keyTypes.length && known.keyTypes.every((type, i) => type === set.keyTypes[i]);
    if (!sameKey || known.data?.kind !== set.data?.kind) {
      throw new TransactionError(`set ${set.name} exists with another type`);
    }
  }

  addElement(name: string, element: SetElement): void {
    const set = this.set(name);
    if (element.data?.kind === 'verdict' && 'chain' in element.data.verdict) this.chain(element.data.verdict.chain);
    const elements = this.#elementsOf(name);
    const key = keyText(element.key);
    const known = elements.get(key);
    if (known === undefined) {
      elements.set(key, element);
      return;
    }
    if (set.data !== undefined && JSON.stringify(known.data) !== JSON.stringify(element.data)) {
      throw new TransactionError(`map ${name} has that key already, with other data`);
    }
  }

  deleteElement(name: string, { key }: SetElement, { ifExists = false }: { ifExists?: boolean } = {}): void {
    this.set(name);
    if (!this.#elementsOf(name).delete(keyText(key)) && !ifExists) {
      throw new TransactionError(`set ${name} of table ${this.#title} has no such element`);
    }
  }

  flushSet(name: string): void {
    this.set(name);
    this.#elements.set(name, new Map());
  }

  deleteSet(name: string): void {
    this.set(name);
    this.sets.delete(name);
    this.#elements.delete(name);
  }

  addObject(object: NftObject): void {
    if (!this.objects.has(object.name)) this.objects.set(object.name, object);
  }

  deleteObject(name: string): void {
    if (!this.objects.delete(name)) throw new TransactionError(`table ${this.#title} has no object ${name}`);
  }

  #elementsOf(name: string): Map<string, SetElement> {
    let elements = this.#elements.get(name);
    if (elements === undefined) {
      elements = new Map(this.set(name).elements.map((element) => [keyText(element.key), element]));
      this.#elements.set(name, elements);
    }
    return elements;
  }

  get #title(): string {
    return `${this.spec.family} ${this.spec.name}`;
  }
}

const keyText = (key: readonly KeyPart[]): string =>
  key.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`)).join(' . ');

function sameEntries<T>(a: ReadonlyMap<string, T>, b: ReadonlyMap<string, T>): boolean {
  if (a.size !== b.size) return false;
  for (const [key, value] of a) if (b.get(key) !== value) return false;
  return true;
}

/** Sets that rules fill have a bound, this one if they were made without (nft_dynset_init). */
export const DYNAMIC_SET_SIZE = 65_535;

/** How many anonymous sets the statement brings along: each takes a handle before its rule. */
function anonymousSets(statement: Statement): number {
  switch (statement.kind) {
    case 'match':
      return statement.right.kind === 'set' && statement.right.set.kind === 'anonymous' ? 1 : 0;
    case 'vmap':
      return statement.map.kind === 'anonymous' ? 1 : 0;
    case 'nat':
      return [statement.address, statement.port].filter(
        (operand) => operand?.kind === 'expression' && hasAnonymousMap(operand.expression),
      ).length;
    case 'set':
      return hasAnonymousMap(statement.value) ? 1 : 0;
    default:
      return 0;
  }
}

const hasAnonymousMap = (expression: Expression): boolean =>
  expression.kind === 'map' && expression.map.kind === 'anonymous';

/** Intervals that overlap are an error, unless the set says that they are to become one. */
function withoutOverlaps(set: NftSet, elements: readonly SetElement[]): readonly SetElement[] {
  if (set.autoMerge) return merged(set, elements);
  if (!set.flags.includes('interval') || set.keyTypes.length !== 1) return elements;
  const parts = inOrder(set, elements).flatMap(({ key }) => key);
  const overlaps = parts.some((own, i) => i > 0 && overlap(set.keyTypes[0]!, parts[i - 1]!, own));
  if (overlaps) throw new TransactionError(`set ${set.name}: intervals overlap`);
  return elements;
}
