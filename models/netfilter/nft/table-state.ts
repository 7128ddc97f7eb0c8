// What a table of one namespace remembers: counters, limits, elements of sets that change by themselves. The table itself
// is shared with all namespaces that have the same.

import type { Instant } from '../../../engine/time.ts';
import { compileRule } from './compile.ts';
import { isLive, LiveSet } from './live-set.ts';
import type { NftObject, NftRule, NftSet, NftTable, SetElement } from './syntax.ts';

export interface ObjectState {
  readonly spec: NftObject;
  /** A counter's packets and bytes, what a limit or quota has used. */
  readonly memory: Float64Array;
}

export class TableState {
  #table: NftTable;
  /** Only of rules that a frame has come to: a node uses few of ten thousand. */
  #memories = new WeakMap<NftRule, Float64Array>();
  #elementMemories = new WeakMap<SetElement, Float64Array>();
  readonly #liveSets = new Map<string, LiveSet>();
  readonly #objects = new Map<string, ObjectState>();

  constructor(table: NftTable) {
    this.#table = table;
  }

  get table(): NftTable {
    return this.#table;
  }

  /** After a transaction: what rules, sets and objects that are still there remember stays. */
  set table(table: NftTable) {
    this.#table = table;
    for (const [name, live] of this.#liveSets) if (table.sets.get(name) !== live.set) this.#liveSets.delete(name);
    for (const [name, { spec }] of this.#objects) if (table.objects.get(name) !== spec) this.#objects.delete(name);
  }

  memoryOf(rule: NftRule): Float64Array {
    let memory = this.#memories.get(rule);
    if (memory === undefined) {
      memory = new Float64Array(compileRule(rule, this.#table.family).memorySize);
      this.#memories.set(rule, memory);
    }
    return memory;
  }

  elementMemory(element: SetElement): Float64Array {
    let memory = this.#elementMemories.get(element);
    if (memory === undefined) this.#elementMemories.set(element, (memory = new Float64Array(2)));
    return memory;
  }

  liveSet(set: NftSet, now: Instant): LiveSet {
    let live = this.#liveSets.get(set.name);
    if (live === undefined) this.#liveSets.set(set.name, (live = new LiveSet(set, now)));
    return live;
  }

  objectNamed(name: string): ObjectState | undefined {
    const known = this.#objects.get(name);
    if (known !== undefined) return known;
    const spec = this.#table.objects.get(name);
    if (spec === undefined) return undefined;
    const state: ObjectState = { spec, memory: new Float64Array(2) };
    this.#objects.set(name, state);
    return state;
  }

  /** The times of elements begin now, whether or not a frame comes by. */
  start(now: Instant): void {
    for (const set of this.#table.sets.values()) if (isLive(set)) this.liveSet(set, now);
  }

  /** The table with the elements that its sets have now: what the next transaction changes. */
  withLiveElements(now: Instant): NftTable {
    if (this.#liveSets.size === 0) return this.#table;
    const sets = new Map(this.#table.sets);
    for (const [name, live] of this.#liveSets) sets.set(name, { ...live.set, elements: live.list(now) });
    return { ...this.#table, sets };
  }

  /** `after` is `before`, made by {@link withLiveElements}, and changed: sets that it did not touch live on. */
  keepingLiveSets(before: NftTable, after: NftTable): NftTable {
    if (before === this.#table) return after;
    const sets = new Map(after.sets);
    for (const [name, { set }] of this.#liveSets) if (sets.get(name) === before.sets.get(name)) sets.set(name, set);
    return { ...after, sets };
  }

  /** The table as `nft list` shows it: with what its statements have counted. */
  listed(now: Instant): NftTable {
    const table = this.withLiveElements(now);
    return {
      ...table,
      objects: new Map([...table.objects].map(([name, object]) => [name, this.#listedObject(object)])),
      sets: new Map([...table.sets].map(([name, set]) => [name, this.#listedSet(set)])),
      chains: new Map(
        [...table.chains].map(([name, chain]) => [
          name,
          { ...chain, rules: chain.rules.map((rule) => this.#listedRule(rule)) },
        ]),
      ),
    };
  }

  #listedObject(object: NftObject): NftObject {
    const [first = 0, second = 0] = this.#objects.get(object.name)?.memory ?? [];
    switch (object.kind) {
      case 'counter':
        return { ...object, packets: object.packets + first, bytes: object.bytes + second };
      case 'quota':
        return { ...object, used: object.used + first };
      case 'limit':
        return object;
    }
  }

  #listedSet(set: NftSet): NftSet {
    if (isLive(set) || !(set.hasCounters || set.elements.some(({ counter }) => counter !== undefined))) return set;
    return {
      ...set,
      elements: set.elements.map((element) => {
        const [packets = 0, bytes = 0] = this.#elementMemories.get(element) ?? [];
        const { packets: before = 0, bytes: bytesBefore = 0 } = element.counter ?? {};
        return { ...element, counter: { kind: 'counter', packets: before + packets, bytes: bytesBefore + bytes } };
      }),
    };
  }

  #listedRule(rule: NftRule): NftRule {
    const memory = this.#memories.get(rule);
    if (memory === undefined) return rule;
    const { memoryAt } = compileRule(rule, this.#table.family);
    const statements = rule.statements.map((statement, i) => {
      const first = memory[memoryAt[i]!] ?? 0;
      const second = memory[memoryAt[i]! + 1] ?? 0;
      switch (statement.kind) {
        case 'counter':
          return { ...statement, packets: statement.packets + first, bytes: statement.bytes + second };
        case 'quota':
          return { ...statement, used: statement.used + first };
        default:
          return statement;
      }
    });
    return { ...rule, statements };
  }
}
