// The walk of one frame through the chains of nftables at one hook: from rule to rule, into chains and back, to a verdict
// (nft_do_chain). Of a rule, statement after statement, until one does not match or gives a verdict.

import type { RandomStream } from '../../../engine/random.ts';
import type { Instant } from '../../../engine/time.ts';
import { type CostModel, interpolateNs } from '../../cpu/cost-model.ts';
import type { CpuSet } from '../../cpu/cpu-set.ts';
import { type Frame, PROTOCOL_TCP } from '../../packet/frame.ts';
import { ACCEPT, type Action, CONTINUE, DROP, GOTO, JUMP, RETURN, TARGET, type Verdict } from '../action.ts';
import type { ConnectionQuery } from '../connection-query.ts';
import { zoneOf } from '../connection-zone.ts';
import { CT_UNTRACKED } from '../conntrack-state.ts';
import type { NatMapping } from '../nat.ts';
import type { TargetSpec } from '../targets/registry.ts';
import type { RejectType } from '../targets/reject.ts';
import type { WalkContext } from '../walk-context.ts';
import { BREAK, compileRule, lengthOf, type StepResult } from './compile.ts';
import type { Value } from './datatype.ts';
import { elementLookup } from './element-index.ts';
import { isLive, type LiveElement } from './live-set.ts';
import { printRule } from './print.ts';
import type {
  ElementData,
  NftChain,
  NftRule,
  NftTable,
  SetElement,
  SetReference,
  SetUpdateStatement,
} from './syntax.ts';
import type { ObjectState, TableState } from './table-state.ts';
import { DEEPEST_JUMP } from './validate.ts';

export interface NftWalkOptions {
  readonly context: WalkContext;
  readonly connections: ConnectionQuery;
  readonly cpus: CpuSet;
}

/** One per namespace. What statements ask and do goes through it. */
export class NftWalk {
  readonly context: WalkContext;
  readonly connections: ConnectionQuery;
  readonly #cpus: CpuSet;
  readonly #costs: CostModel;
  #state: TableState | undefined;
  /** Where a JUMP or GOTO leads. */
  nextChain = '';
  /** What netfilter is to do, after a walk with the verdict TARGET. */
  target: TargetSpec | undefined;
  /** Of the last walk. */
  rulesVisited = 0;
  lookupsNs = 0;

  constructor({ context, connections, cpus }: NftWalkOptions) {
    this.context = context;
    this.connections = connections;
    this.#cpus = cpus;
    this.#costs = cpus.costs;
  }

  get random(): RandomStream {
    return this.context.random;
  }

  get now(): Instant {
    return this.#cpus.instant;
  }

  get cpu(): number {
    return this.#cpus.current;
  }

  walk(state: TableState, chain: NftChain, frame: Frame): Verdict {
    this.#state = state;
    this.rulesVisited = 0;
    this.lookupsNs = 0;
    this.target = undefined;
    const end = this.#walkChain(state.table, chain, frame, 0);
    if (end === ACCEPT || end === DROP || end === TARGET) return end;
    const policy = chain.base?.policy ?? 'accept';
    frame.journey?.add({ ...this.#place(state.table, chain), stage: 'hook', text: `policy ${policy}` });
    return policy === 'drop' ? DROP : ACCEPT;
  }

  /** How a chain ended: with a verdict, or RETURN, or CONTINUE when no rule has decided. */
  #walkChain(table: NftTable, chain: NftChain, frame: Frame, depth: number): Action {
    const { rules } = chain;
    for (let i = 0; i < rules.length; i++) {
      this.rulesVisited++;
      const result = this.#runRule(table, chain, i, frame);
      switch (result) {
        case BREAK:
        case CONTINUE:
          break;
        case JUMP: {
          const end = this.#enter(table, chain, frame, depth);
          if (end !== RETURN && end !== CONTINUE) return end;
          break;
        }
        case GOTO: {
          const end = this.#enter(table, chain, frame, depth);
          return end === CONTINUE ? RETURN : end;
        }
        default:
          return result;
      }
    }
    return CONTINUE;
  }

  #enter(table: NftTable, from: NftChain, frame: Frame, depth: number): Action {
    const chain = table.chains.get(this.nextChain);
    if (chain === undefined || depth === DEEPEST_JUMP) {
      throw new Error(
        `chain ${from.name} leads to ${this.nextChain}, ${chain === undefined ? 'which is not there' : 'too deep'}`,
      );
    }
    return this.#walkChain(table, chain, frame, depth + 1);
  }

  #runRule(table: NftTable, chain: NftChain, at: number, frame: Frame): StepResult {
    const rule = chain.rules[at]!;
    const { steps } = compileRule(rule, table.family);
    let result: StepResult = CONTINUE;
    for (let i = 0; i < steps.length && result === CONTINUE; i++) result = steps[i]!(frame, this);
    if (result !== BREAK && frame.journey !== undefined) {
      const text = printRule(rule, table.family, { stateless: true });
      frame.journey.add({ ...this.#place(table, chain), stage: 'rule', ruleNumber: at + 1, text });
    }
    return result;
  }

  #place(table: NftTable, chain: NftChain) {
    const { namespace, hook } = this.context;
    return { at: this.now, namespace, hook, table: `${table.family} ${table.name}`, chain: chain.name };
  }

  // ── what statements ask ────────────────────────────────────────────────────────────────────────────────────────────

  memoryOf(rule: NftRule): Float64Array {
    return this.#tableState.memoryOf(rule);
  }

  objectNamed(name: string): ObjectState | undefined {
    return this.#tableState.objectNamed(name);
  }

  /** The data of the element with that key, `true` in a set, `false` without an element. */
  find(reference: SetReference, key: readonly Value[], frame: Frame): ElementData | boolean {
    const state = this.#tableState;
    const set = reference.kind === 'anonymous' ? reference.set : state.table.sets.get(reference.name);
    if (set === undefined) return false;
    const curve = set.data?.kind === 'verdict' ? this.#costs.verdictMapNs : this.#costs.setLookupNs;
    const lookup = elementLookup(set);
    this.lookupsNs += interpolateNs(curve, lookup.size);
    let element: SetElement | undefined;
    if (isLive(set)) {
      const live = state.liveSet(set, this.now).find(key, this.now);
      element = live?.element;
      if (live !== undefined) countElement(live, frame);
    } else {
      element = lookup.find(key);
      if (element !== undefined && (set.hasCounters || element.counter !== undefined)) {
        const memory = state.elementMemory(element);
        memory[0]!++;
        memory[1]! += lengthOf(frame);
      }
    }
    return element === undefined ? false : (element.data ?? true);
  }

  // ── what statements do ─────────────────────────────────────────────────────────────────────────────────────────────

  /** `meta mark set`, `ct mark set`, `ct zone set`. What needs a connection is nothing without one. */
  assign(selector: string, value: number, frame: Frame): void {
    switch (selector) {
      case 'meta mark':
        frame.mark = value | 0;
        break;
      case 'ct mark':
        if (frame.conntrackEntry !== 0) this.connections.setMark(frame, value | 0);
        break;
      case 'ct zone':
        if (frame.conntrackEntry === 0 && frame.conntrackState === 0 && frame.conntrackZone === 0) {
          frame.conntrackZone = zoneOf(value & 0xffff);
        }
        break;
    }
  }

  /** nft_notrack_eval: what conntrack knows already stays tracked. */
  untrack(frame: Frame): void {
    if (frame.conntrackEntry === 0) frame.conntrackState = CT_UNTRACKED;
  }

  /** Never makes the option larger (nft_exthdr_tcp_set_eval). */
  clampMss(frame: Frame, bytes: number): StepResult {
    if (frame.protocol !== PROTOCOL_TCP || frame.fragmentOffset > 0) return BREAK;
    if (frame.mssOption > bytes) frame.mssOption = bytes;
    return CONTINUE;
  }

  /** undefined: the set is full, or an element went. */
  update(update: SetUpdateStatement, key: readonly Value[]): LiveElement | undefined {
    const state = this.#tableState;
    const set = state.table.sets.get(update.set);
    if (set === undefined) return undefined;
    const live = state.liveSet(set, this.now);
    this.lookupsNs += interpolateNs(this.#costs.setLookupNs, live.size);
    if (update.operation !== 'delete') return live.touch(key, update, this.now);
    live.delete(key);
    return undefined;
  }

  translate(type: 'dnat' | 'snat' | 'masquerade' | 'redirect', mapping: NatMapping): void {
    const names = { dnat: 'DNAT', snat: 'SNAT', masquerade: 'MASQUERADE', redirect: 'REDIRECT' } as const;
    this.target = { target: names[type], ...mapping };
  }

  reject(rejectWith: RejectType): StepResult {
    this.target = { target: 'REJECT', rejectWith };
    return TARGET;
  }

  get #tableState(): TableState {
    if (this.#state === undefined) throw new Error('a statement outside a walk');
    return this.#state;
  }
}

function countElement({ memory, statements }: LiveElement, frame: Frame): void {
  statements.forEach(({ kind }, i) => {
    if (kind !== 'counter') return;
    memory[2 * i]!++;
    memory[2 * i + 1]! += lengthOf(frame);
  });
}
