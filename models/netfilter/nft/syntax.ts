// Rulesets of nftables as data: tables, chains, rules, sets. Everything here is immutable: namespaces that have the same
// table share one object, and a transaction replaces what it changes.

import type { Datatype, Value } from './datatype.ts';
import type { Selector } from './selectors.ts';

export type NftFamily = 'ip' | 'ip6' | 'inet';
export type ChainType = 'filter' | 'nat' | 'route';
export type NftHook = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';

export interface NftRuleset {
  /** By `FAMILY NAME`, in the order in which they were made. */
  readonly tables: ReadonlyMap<string, NftTable>;
}

export const EMPTY_RULESET: NftRuleset = { tables: new Map() };

export interface NftTable {
  readonly family: NftFamily;
  readonly name: string;
  readonly comment?: string;
  /** `flags dormant`: its chains are not registered. */
  readonly dormant?: boolean;
  readonly objects: ReadonlyMap<string, NftObject>;
  /** Sets and maps share one space of names. */
  readonly sets: ReadonlyMap<string, NftSet>;
  readonly chains: ReadonlyMap<string, NftChain>;
  /** The handle of what is made next. */
  readonly nextHandle: number;
}

export interface NftChain {
  readonly name: string;
  readonly base?: BaseChainSpec;
  readonly comment?: string;
  readonly rules: readonly NftRule[];
  readonly handle: number;
}

export interface BaseChainSpec {
  readonly type: ChainType;
  readonly hook: NftHook;
  readonly priority: number;
  readonly policy: 'accept' | 'drop';
}

export interface NftRule {
  readonly statements: readonly Statement[];
  readonly comment?: string;
  readonly handle: number;
}

/** A named counter, limit or quota. */
export type NftObject = { readonly name: string; readonly comment?: string; readonly handle: number } & (
  | CounterStatement
  | LimitStatement
  | QuotaStatement
);

// ── sets and maps ────────────────────────────────────────────────────────────────────────────────────────────────────

export interface NftSet {
  readonly name: string;
  /** One type per part of the key. */
  readonly keyTypes: readonly Datatype[];
  /** The key as `typeof` gave it. */
  readonly keyExpressions?: readonly Expression[];
  /** Present: it is a map. */
  readonly data?: MapData;
  readonly flags: readonly SetFlag[];
  readonly timeoutMs?: number;
  readonly gcIntervalMs?: number;
  readonly size?: number;
  readonly policy?: 'performance' | 'memory';
  readonly autoMerge?: boolean;
  /** Every element has a counter. */
  readonly hasCounters?: boolean;
  readonly comment?: string;
  readonly elements: readonly SetElement[];
  readonly handle: number;
}

export type SetFlag = 'constant' | 'interval' | 'dynamic' | 'timeout';
export const SET_FLAGS: readonly SetFlag[] = ['dynamic', 'constant', 'interval', 'timeout'];

export type MapData =
  | { readonly kind: 'verdict' }
  | { readonly kind: 'object'; readonly object: 'counter' | 'limit' | 'quota' }
  | {
      readonly kind: 'value';
      readonly types: readonly Datatype[];
      readonly expressions?: readonly Expression[];
      readonly isInterval?: boolean;
    };

/** One part of a key: a value, or a range of them. */
export interface KeyPart {
  readonly first: Value;
  readonly last: Value;
}

export interface SetElement {
  /** Empty: `*`, what no other element has. */
  readonly key: readonly KeyPart[];
  readonly timeoutMs?: number;
  readonly expiresMs?: number;
  readonly counter?: CounterStatement;
  readonly comment?: string;
  readonly data?: ElementData;
}

export type ElementData =
  | { readonly kind: 'verdict'; readonly verdict: NftVerdict }
  | { readonly kind: 'object'; readonly name: string }
  | { readonly kind: 'value'; readonly parts: readonly KeyPart[] };

/** A set by name, or written out in the rule. */
export type SetReference =
  | { readonly kind: 'named'; readonly name: string }
  | {
      readonly kind: 'anonymous';
      readonly set: NftSet;
      /** Was written with more elements, some of which are one now. */
      readonly isMerged?: boolean;
    };

// ── expressions ──────────────────────────────────────────────────────────────────────────────────────────────────────

export type Expression =
  | { readonly kind: 'selector'; readonly selector: Selector }
  | { readonly kind: 'fib'; readonly inputs: readonly FibInput[]; readonly result: FibResult }
  | NumgenExpression
  | HashExpression
  | { readonly kind: 'concat'; readonly parts: readonly Expression[] }
  | BitwiseExpression
  | { readonly kind: 'value'; readonly type: Datatype; readonly value: Value }
  | { readonly kind: 'map'; readonly key: Expression; readonly map: SetReference };

export type FibInput = 'saddr' | 'daddr' | 'mark' | 'iif' | 'oif';
/** `exists`: whether there is a route. */
export type FibResult = 'type' | 'oif' | 'oifname';

export interface NumgenExpression {
  readonly kind: 'numgen';
  readonly mode: 'random' | 'inc';
  readonly modulus: number;
  readonly offset: number;
}

export interface HashExpression {
  readonly kind: 'jhash' | 'symhash';
  /** Of jhash. */
  readonly input?: Expression;
  readonly modulus: number;
  readonly seed?: number;
  readonly offset: number;
}

export interface BitwiseExpression {
  readonly kind: 'bitwise';
  readonly operator: '&' | '|' | '^';
  readonly left: Expression;
  readonly right: number;
}

export type Comparison = '==' | '!=' | '<' | '>' | '<=' | '>=';

/** What the left side is compared with. */
export type Operand =
  | { readonly kind: 'value'; readonly value: Value }
  /** Matches any of these bits. */
  | { readonly kind: 'flags'; readonly bits: number }
  | { readonly kind: 'prefix'; readonly first: Value; readonly last: Value; readonly length: number }
  | { readonly kind: 'range'; readonly first: Value; readonly last: Value }
  /** `exists` or `missing`. */
  | { readonly kind: 'exists'; readonly exists: boolean }
  /** A device name's beginning, `eth*`. */
  | { readonly kind: 'wildcard'; readonly beginning: string }
  | { readonly kind: 'set'; readonly set: SetReference };

// ── statements ───────────────────────────────────────────────────────────────────────────────────────────────────────

export type Statement =
  | MatchStatement
  | { readonly kind: 'vmap'; readonly key: Expression; readonly map: SetReference }
  | { readonly kind: 'verdict'; readonly verdict: NftVerdict }
  | CounterStatement
  | LimitStatement
  | QuotaStatement
  | { readonly kind: 'object'; readonly object: 'counter' | 'limit' | 'quota'; readonly name: string }
  | { readonly kind: 'objectMap'; readonly object: 'counter' | 'limit' | 'quota'; readonly map: Expression }
  | { readonly kind: 'set'; readonly selector: Selector; readonly value: Expression }
  | SetUpdateStatement
  | NatStatement
  | RejectStatement
  | { readonly kind: 'notrack' }
  | LogStatement
  | MssStatement
  /** Read leniently: a part that is not modelled. The rule matches nothing. */
  | { readonly kind: 'unmodelled'; readonly text: string };

export interface MatchStatement {
  readonly kind: 'match';
  readonly left: Expression;
  readonly comparison: Comparison;
  readonly right: Operand;
  /** `ct state == new` where flags would match otherwise. */
  readonly isExplicit?: boolean;
}

export type NftVerdict =
  | { readonly code: 'accept' | 'drop' | 'continue' | 'return' }
  | { readonly code: 'jump' | 'goto'; readonly chain: string };

export interface CounterStatement {
  readonly kind: 'counter';
  readonly packets: number;
  readonly bytes: number;
}

export interface LimitStatement {
  readonly kind: 'limit';
  readonly over: boolean;
  readonly rate: number;
  readonly unit: 'packets' | 'bytes';
  readonly perSeconds: number;
  readonly burst: number;
}

export interface QuotaStatement {
  readonly kind: 'quota';
  readonly over: boolean;
  readonly bytes: number;
  readonly used: number;
}

export interface SetUpdateStatement {
  readonly kind: 'update';
  readonly operation: 'add' | 'update' | 'delete';
  readonly set: string;
  readonly key: Expression;
  readonly timeoutMs?: number;
  readonly statements: readonly (CounterStatement | LimitStatement)[];
}

export interface NatStatement {
  readonly kind: 'nat';
  readonly type: 'dnat' | 'snat' | 'masquerade' | 'redirect';
  /** Said by the rule: needed in tables of family inet. */
  readonly family?: 4 | 6;
  /** One expression for both ends, or a range; a map may give address and port together. */
  readonly address?: NatOperand;
  readonly port?: NatOperand;
  readonly random: boolean;
  readonly fullyRandom: boolean;
  readonly persistent: boolean;
}

export type NatOperand =
  | { readonly kind: 'range'; readonly type: Datatype; readonly first: number; readonly last: number }
  | { readonly kind: 'expression'; readonly expression: Expression };

export interface RejectStatement {
  readonly kind: 'reject';
  /** Absent: port-unreachable in the packet's own family. */
  readonly with?:
    | { readonly kind: 'icmp' | 'icmpv6' | 'icmpx'; readonly code: number }
    | { readonly kind: 'tcp reset' };
}

export interface LogStatement {
  readonly kind: 'log';
  /** In the order in which they are printed. */
  readonly options: readonly string[];
}

/** `tcp option maxseg size set`. */
export interface MssStatement {
  readonly kind: 'mss';
  readonly bytes: number;
}
