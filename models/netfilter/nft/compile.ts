// From the statements of a rule to functions that run one after another for a packet. Made once per rule, however many
// namespaces share it; what a rule remembers belongs to the namespace (NftWalk).

import { ETHERNET_HEADER_BYTES, type Frame, PROTOCOL_TCP } from '../../packet/frame.ts';
import { type Ip, prefix } from '../../packet/ip-address.ts';
import { ipv6SharesPrefix } from '../../packet/ipv6-address.ts';
import { ACCEPT, type Action, CONTINUE, DROP, GOTO, JUMP, RETURN, TARGET } from '../action.ts';
import type { RejectType } from '../targets/reject.ts';
import { type Datatype, ICMP_CODE, IFACE_INDEX, INTEGER, IPV6_ADDR, type Value } from './datatype.ts';
import { orderOf } from './element-index.ts';
import { compileLoad, type Load, NOTHING } from './load.ts';
import { partsOf, typeOf } from './read-expression.ts';
import type {
  Comparison,
  ElementData,
  Expression,
  LimitStatement,
  MatchStatement,
  NatOperand,
  NatStatement,
  NftFamily,
  NftRule,
  NftVerdict,
  QuotaStatement,
  RejectStatement,
  SetReference,
  SetUpdateStatement,
  Statement,
} from './syntax.ts';
import type { NftWalk } from './walk.ts';

/** The rule does not match: on to the next one (NFT_BREAK). CONTINUE goes on to the rule's next statement. */
export const BREAK = 7;
export type StepResult = Action | typeof BREAK;

/** One statement. */
export type Step = (frame: Frame, walk: NftWalk) => StepResult;

export interface CompiledRule {
  readonly rule: NftRule;
  readonly steps: readonly Step[];
  /** Numbers that its statements remember, and by statement, where its own begin. */
  readonly memorySize: number;
  readonly memoryAt: readonly number[];
}

export function compileRule(rule: NftRule, family: NftFamily): CompiledRule {
  let compiled = knownRules.get(rule);
  if (compiled === undefined) {
    const compiler = new RuleCompiler(rule, family);
    const memoryAt: number[] = [];
    const steps = rule.statements.map((statement) => {
      memoryAt.push(compiler.memorySize);
      return compiler.compile(statement);
    });
    compiled = { rule, steps, memorySize: compiler.memorySize, memoryAt };
    knownRules.set(rule, compiled);
  }
  return compiled;
}

const knownRules = new WeakMap<NftRule, CompiledRule>();

class RuleCompiler {
  readonly #rule: NftRule;
  readonly #family: NftFamily;
  memorySize = 0;

  constructor(rule: NftRule, family: NftFamily) {
    this.#rule = rule;
    this.#family = family;
  }

  compile(statement: Statement): Step {
    switch (statement.kind) {
      case 'match':
        return this.#match(statement);
      case 'vmap':
        return this.#verdictMap(statement.key, statement.map);
      case 'verdict':
        return verdictStep(statement.verdict);
      case 'counter': {
        const at = this.#remember();
        const rule = this.#rule;
        return (frame, walk) => {
          const memory = walk.memoryOf(rule);
          memory[at]!++;
          memory[at + 1]! += lengthOf(frame);
          return CONTINUE;
        };
      }
      case 'limit': {
        const at = this.#remember();
        const rule = this.#rule;
        return (frame, walk) => (takeLimit(statement, walk.memoryOf(rule), at, frame, walk) ? CONTINUE : BREAK);
      }
      case 'quota': {
        const at = this.#remember();
        const rule = this.#rule;
        return (frame, walk) => (takeQuota(statement, walk.memoryOf(rule), at, frame) ? CONTINUE : BREAK);
      }
      case 'object':
        return (frame, walk) => runObject(statement.name, frame, walk);
      case 'objectMap':
        return this.#objectMap(statement.map);
      case 'set':
        return this.#assignment(statement.selector.name, statement.value);
      case 'update':
        return this.#update(statement);
      case 'nat':
        return this.#nat(statement);
      case 'reject':
        return rejectStep(statement);
      case 'notrack':
        return (frame, walk) => {
          walk.untrack(frame);
          return CONTINUE;
        };
      case 'mss':
        return (frame, walk) => walk.clampMss(frame, statement.bytes);
      case 'log':
        return () => CONTINUE;
      case 'unmodelled':
        return () => BREAK;
    }
  }

  /** Two numbers in what the rule remembers. */
  #remember(): number {
    this.memorySize += 2;
    return this.memorySize - 2;
  }

  #load(expression: Expression): Load {
    return compileLoad(expression, { family: this.#family, rule: this.#rule, remember: () => this.#remember() });
  }

  #match({ left, comparison, right }: MatchStatement): Step {
    if (right.kind === 'set') return this.#membership(left, right.set, comparison === '!=');
    const load = this.#load(left);
    const type = typeOf(left) ?? INTEGER;
    const isNegated = comparison === '!=';
    switch (right.kind) {
      case 'value':
        if (type === IFACE_INDEX && typeof right.value === 'number') {
          // No device: `oif 0`.
          return testing(load, (name) => (name === '') !== isNegated);
        }
        return comparing(load, type, comparison, right.value);
      case 'exists':
        return testing(load, (value) => (value !== '' && value !== 0) === right.exists);
      case 'flags': {
        const { bits } = right;
        return testing(load, (value) => ((Number(value) & bits) !== 0) !== isNegated);
      }
      case 'prefix': {
        const { first, length } = right;
        if (type === IPV6_ADDR) {
          return testing(load, (value) => ipv6SharesPrefix(value as Ip, first as Ip, length) !== isNegated);
        }
        const { net, mask } = prefix((Number(first) | 0) as Ip, length);
        return testing(load, (value) => ((Number(value) & mask) === net) !== isNegated);
      }
      case 'range': {
        const { first, last } = right;
        const compare = orderOf(type);
        return testing(load, (value) => (compare(first, value) <= 0 && compare(value, last) <= 0) !== isNegated);
      }
      case 'wildcard':
        return testing(load, (value) => String(value).startsWith(right.beginning) !== isNegated);
    }
  }

  #membership(key: Expression, set: SetReference, isNegated: boolean): Step {
    const find = this.#lookup(key, set);
    return (frame, walk) => {
      const found = find(frame, walk);
      if (found === NOTHING) return BREAK;
      return (found !== false) === isNegated ? BREAK : CONTINUE;
    };
  }

  /** Finds the data of the key's element; `true` for a set, `false` without an element. */
  #lookup(
    key: Expression,
    reference: SetReference,
  ): (frame: Frame, walk: NftWalk) => ElementData | boolean | typeof NOTHING {
    const loads = partsOf(key).map((part) => this.#load(part));
    const values = new Array<Value>(loads.length).fill(0);
    return (frame, walk) => {
      for (let i = 0; i < loads.length; i++) {
        const value = loads[i]!(frame, walk);
        if (value === undefined) return NOTHING;
        values[i] = value;
      }
      return walk.find(reference, values, frame);
    };
  }

  #verdictMap(key: Expression, map: SetReference): Step {
    const find = this.#lookup(key, map);
    return (frame, walk) => {
      const data = find(frame, walk);
      if (typeof data !== 'object' || data.kind !== 'verdict') return BREAK;
      return runVerdict(data.verdict, walk);
    };
  }

  #objectMap(expression: Expression): Step {
    if (expression.kind !== 'map') return () => BREAK;
    const find = this.#lookup(expression.key, expression.map);
    return (frame, walk) => {
      const data = find(frame, walk);
      if (typeof data !== 'object' || data.kind !== 'object') return BREAK;
      return runObject(data.name, frame, walk);
    };
  }

  /** The value of an expression: of a map, the first value of its data. */
  #value(expression: Expression): Load {
    if (expression.kind !== 'map') return this.#load(expression);
    const find = this.#lookup(expression.key, expression.map);
    return (frame, walk) => {
      const data = find(frame, walk);
      if (typeof data !== 'object' || data.kind !== 'value') return NOTHING;
      return data.parts[0]!.first;
    };
  }

  #assignment(target: string, expression: Expression): Step {
    const load = this.#value(expression);
    return (frame, walk) => {
      const value = load(frame, walk);
      if (value === NOTHING) return BREAK;
      walk.assign(target, Number(value), frame);
      return CONTINUE;
    };
  }

  #update(update: SetUpdateStatement): Step {
    const loads = partsOf(update.key).map((part) => this.#load(part));
    return (frame, walk) => {
      const key: Value[] = [];
      for (const load of loads) {
        const value = load(frame, walk);
        if (value === NOTHING) return BREAK;
        key.push(value);
      }
      const live = walk.update(update, key);
      if (update.operation === 'delete') return CONTINUE;
      if (live === undefined) return BREAK;
      return live.statements.every((statement, i) =>
        statement.kind === 'limit'
          ? takeLimit(statement, live.memory, 2 * i, frame, walk)
          : count(live.memory, 2 * i, frame),
      )
        ? CONTINUE
        : BREAK;
    };
  }

  // ── address translation ────────────────────────────────────────────────────────────────────────────────────────────

  #nat(nat: NatStatement): Step {
    const address = nat.address === undefined ? NO_PARTS : this.#natOperand(nat.address);
    const port = nat.port === undefined ? NO_PARTS : this.#natOperand(nat.port);
    const flags = {
      ...(nat.random && { random: true }),
      ...(nat.fullyRandom && { randomFully: true }),
      ...(nat.persistent && { persistent: true }),
    };
    const family = nat.family;
    return (frame, walk) => {
      if (family !== undefined && family !== frame.family) return BREAK;
      const to = address(frame, walk);
      const ports = port(frame, walk);
      if (to === NOTHING || ports === NOTHING) return BREAK;
      // A map may give both.
      const [addresses, mappedPorts = ports[0]] = to;
      walk.translate(nat.type, {
        ...(addresses !== undefined && { minIp: addresses.first as Ip, maxIp: addresses.last as Ip }),
        ...(mappedPorts !== undefined && { minPort: Number(mappedPorts.first), maxPort: Number(mappedPorts.last) }),
        ...flags,
      });
      return TARGET;
    };
  }

  #natOperand(operand: NatOperand): (frame: Frame, walk: NftWalk) => readonly NatPart[] | typeof NOTHING {
    if (operand.kind === 'range') {
      const parts = [operand];
      return () => parts;
    }
    const { expression } = operand;
    if (expression.kind !== 'map') {
      const load = this.#load(expression);
      return (frame, walk) => {
        const value = load(frame, walk);
        return value === NOTHING ? NOTHING : [{ first: value, last: value }];
      };
    }
    const find = this.#lookup(expression.key, expression.map);
    return (frame, walk) => {
      const data = find(frame, walk);
      if (typeof data !== 'object' || data.kind !== 'value') return NOTHING;
      return data.parts;
    };
  }
}

const NO_PARTS = (): readonly NatPart[] => [];

interface NatPart {
  readonly first: Value;
  readonly last: Value;
}

// ── comparisons ──────────────────────────────────────────────────────────────────────────────────────────────────────

const testing =
  (load: Load, test: (value: Value) => boolean): Step =>
  (frame, walk) => {
    const value = load(frame, walk);
    return value !== NOTHING && test(value) ? CONTINUE : BREAK;
  };

function comparing(load: Load, type: Datatype, comparison: Comparison, right: Value): Step {
  switch (comparison) {
    case '==':
      return (frame, walk) => (load(frame, walk) === right ? CONTINUE : BREAK);
    case '!=':
      return testing(load, (value) => value !== right);
    default: {
      const compare = orderOf(type);
      return testing(load, (value) => holds(comparison, compare(value, right)));
    }
  }
}

function holds(comparison: Comparison, order: number): boolean {
  switch (comparison) {
    case '<':
      return order < 0;
    case '<=':
      return order <= 0;
    case '>':
      return order > 0;
    case '>=':
      return order >= 0;
    default:
      return (order === 0) === (comparison === '==');
  }
}

// ── verdicts ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const verdictStep =
  (verdict: NftVerdict): Step =>
  (_frame, walk) =>
    runVerdict(verdict, walk);

function runVerdict(verdict: NftVerdict, walk: NftWalk): StepResult {
  switch (verdict.code) {
    case 'accept':
      return ACCEPT;
    case 'drop':
      return DROP;
    case 'continue':
      return CONTINUE;
    case 'return':
      return RETURN;
    case 'jump':
      walk.nextChain = verdict.chain;
      return JUMP;
    case 'goto':
      walk.nextChain = verdict.chain;
      return GOTO;
  }
}

/** NFT_REJECT_ICMPX_*: the same answer in each family's words. */
const ICMPX: readonly (readonly [RejectType, RejectType])[] = [
  ['icmp-net-unreachable', 'icmp6-no-route'],
  ['icmp-port-unreachable', 'icmp6-port-unreachable'],
  ['icmp-host-unreachable', 'icmp6-addr-unreachable'],
  ['icmp-admin-prohibited', 'icmp6-adm-prohibited'],
];
const ICMPX_PORT_UNREACHABLE = 1;
const ICMP_TYPES: Readonly<Record<string, RejectType>> = {
  'net-unreachable': 'icmp-net-unreachable',
  'host-unreachable': 'icmp-host-unreachable',
  'prot-unreachable': 'icmp-proto-unreachable',
  'port-unreachable': 'icmp-port-unreachable',
  'net-prohibited': 'icmp-net-prohibited',
  'host-prohibited': 'icmp-host-prohibited',
  'admin-prohibited': 'icmp-admin-prohibited',
};
const ICMPV6_TYPES: Readonly<Record<number, RejectType>> = {
  0: 'icmp6-no-route',
  1: 'icmp6-adm-prohibited',
  3: 'icmp6-addr-unreachable',
  4: 'icmp6-port-unreachable',
  5: 'icmp6-policy-fail',
  6: 'icmp6-reject-route',
};

function rejectStep({ with: answer }: RejectStatement): Step {
  if (answer?.kind === 'tcp reset') {
    return ({ protocol }, walk) => (protocol === PROTOCOL_TCP ? walk.reject('tcp-reset') : BREAK);
  }
  if (answer?.kind === 'icmp') {
    const type = ICMP_TYPES[ICMP_CODE.print(answer.code)];
    return ({ family }, walk) => (family === 4 && type !== undefined ? walk.reject(type) : BREAK);
  }
  if (answer?.kind === 'icmpv6') {
    const type = ICMPV6_TYPES[answer.code];
    return ({ family }, walk) => (family === 6 && type !== undefined ? walk.reject(type) : BREAK);
  }
  const [type4, type6] = ICMPX[answer?.code ?? ICMPX_PORT_UNREACHABLE]!;
  return ({ family }, walk) => walk.reject(family === 6 ? type6 : type4);
}

// ── what remembers ───────────────────────────────────────────────────────────────────────────────────────────────────

export const lengthOf = (frame: Frame): number => frame.sizeBytes - ETHERNET_HEADER_BYTES;

function count(memory: Float64Array, at: number, frame: Frame): true {
  memory[at]!++;
  memory[at + 1]! += lengthOf(frame);
  return true;
}

/** A named counter, limit or quota. */
function runObject(name: string, frame: Frame, walk: NftWalk): StepResult {
  const object = walk.objectNamed(name);
  if (object === undefined) return BREAK;
  const { spec, memory } = object;
  switch (spec.kind) {
    case 'counter':
      count(memory, 0, frame);
      return CONTINUE;
    case 'limit':
      return takeLimit(spec, memory, 0, frame, walk) ? CONTINUE : BREAK;
    case 'quota':
      return takeQuota(spec, memory, 0, frame) ? CONTINUE : BREAK;
  }
}

const NS_PER_SECOND = 1e9;

/**
 * A token bucket in nanoseconds (nft_limit_eval): a packet costs its share of the period, and the bucket holds the burst.
 * Memory: tokens, less than full; the instant of the last packet.
 */
function takeLimit(
  { over, rate, unit, perSeconds, burst }: LimitStatement,
  memory: Float64Array,
  at: number,
  frame: Frame,
  walk: NftWalk,
): boolean {
  const periodNs = perSeconds * NS_PER_SECOND;
  const share = unit === 'packets' ? 1 : lengthOf(frame);
  const cost = Math.floor((periodNs * share) / rate);
  const full =
    unit === 'packets' ? Math.floor(periodNs / rate) * burst : Math.floor((periodNs * (rate + burst)) / rate);
  const { now } = walk;
  // What is missing from a full bucket, so that new memory is full.
  const missing = Math.max(0, memory[at]! - (now - memory[at + 1]!));
  memory[at + 1] = now;
  const passes = full - missing >= cost;
  memory[at] = passes ? missing + cost : missing;
  return passes !== over;
}

/** nft_overquota: reached counts as over. */
function takeQuota({ over, bytes, used }: QuotaStatement, memory: Float64Array, at: number, frame: Frame): boolean {
  memory[at]! += lengthOf(frame);
  return used + memory[at]! >= bytes === over;
}
