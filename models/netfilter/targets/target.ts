// What a target module provides: its options as data, as text, and what it does to a frame.

import type { Frame } from '../../packet/frame.ts';
import type { IpFamily } from '../../packet/ip-address.ts';
import type { Action } from '../action.ts';
import type { RuleSpec } from '../rule.ts';
import type { BuiltinChain, TableName } from '../table-order.ts';
import type { WalkContext } from '../walk-context.ts';
import type { Words } from '../words.ts';

/** `Fields` is what its options may set, one by one, until the spec is complete. */
export interface TargetKind<Spec extends { readonly target: string }, Fields extends object = Partial<Spec>> {
  readonly name: Spec['target'];
  readonly action: Action;
  /** Only in rules of these families; absent: both. */
  readonly families?: readonly IpFamily[];
  /** What stands after `-j NAME`, as iptables-save prints it, with a space before each word; empty without options. */
  print(spec: Spec, family: IpFamily): string;
  /** By option: reads the values of the option, and returns the fields of the spec that they set. */
  readonly options?: Readonly<Record<string, (words: Words) => Fields>>;
  /** The spec of all fields read, or what is missing. */
  complete(fields: Fields): Spec | string;
  /** What iptables would say against this target in this rule, if anything. */
  problem?(spec: Spec, rule: RuleSpec): string | undefined;
  /** What it does to a frame when the walk goes on after it. */
  effect?(spec: Spec): (frame: Frame, context: WalkContext) => void;
  /** The only tables that accept it. */
  readonly tables?: readonly TableName[];
  /** The only hooks from which a walk may come to it; undefined: all. */
  hooks?(spec: Spec): readonly BuiltinChain[] | undefined;
  /** Having such a rule turns connection tracking on in a namespace. */
  readonly needsConntrack?: boolean;
  /** The same, where it depends on the options. */
  tracks?(spec: Spec): boolean;
}
