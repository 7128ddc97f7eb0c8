// What a match module provides: its options as data, as text, and as a test of frames.

import type { IpFamily } from '../../packet/ip-address.ts';
import type { ProtocolName } from '../protocol.ts';
import type { RuleSpec } from '../rule.ts';
import type { FrameTest, Selector } from '../selector.ts';
import type { BuiltinChain, TableName } from '../table-order.ts';
import type { Words } from '../words.ts';

/** `Fields` is what its options may set, one by one, until the spec is complete. */
export interface MatchKind<Spec extends { readonly match: string }, Fields extends object = Partial<Spec>> {
  readonly name: Spec['match'];
  /** Other names that `-m` accepts. */
  readonly aliases?: readonly string[];
  /** Only in rules of these families; absent: both. */
  readonly families?: readonly IpFamily[];
  /** What stands after `-m name`, as iptables-save prints it, with a space before each word; empty without options. */
  print(spec: Spec, family: IpFamily): string;
  /** By option: reads the values of the option, and returns the fields of the spec that they set. */
  readonly options?: Readonly<Record<string, (words: Words) => Fields>>;
  /** Options that may have `!` before them. */
  readonly negatableOptions?: Readonly<Record<string, (words: Words, negated: boolean) => Fields>>;
  /** The spec of all fields read, or what is missing. */
  complete(fields: Fields): Spec | string;
  /** What iptables would say against the spec, if anything. */
  problem?(spec: Spec, rule: RuleSpec): string | undefined;
  /** The only tables that accept it. */
  readonly tables?: readonly TableName[];
  /** The only hooks from which a walk may come to it; undefined: all. */
  hooks?(spec: Spec): readonly BuiltinChain[] | undefined;
  /** The rule must have `-p` one of these. */
  readonly protocols?: readonly ProtocolName[];
  /** Narrows the flat fields of the selector, which are tested first, or returns a test if they cannot say it. */
  compile(spec: Spec, selector: Selector, family: IpFamily): FrameTest | undefined;
  /** Testing has an effect (a list, a credit, a draw): matches to its right are tested only after it has passed. */
  readonly remembers?: boolean;
  /**
   * It finds the same for every packet of an established connection between the same devices, until addresses or routes
   * change: no coin, count or time, nothing of a packet but addresses and ports. Absent: false.
   */
  isOfFlow?(spec: Spec): boolean;
  /** Having such a rule turns connection tracking on in a namespace. */
  readonly needsConntrack?: boolean;
}
