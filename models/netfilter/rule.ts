// A rule of iptables: what it selects and what happens to the frames selected. `RuleSpec` is the rule as data, free of
// text and of compiled state; `Rule` is the same rule compiled once, immutable, shared by all namespaces that use it.
//
// Not modelled: masks that are no prefix.

import type { Frame } from '../packet/frame.ts';
import type { IpFamily, Prefix } from '../packet/ip-address.ts';
import { type Action, CONTINUE, GOTO, JUMP } from './action.ts';
import { compileSelector } from './compile-selector.ts';
import type { MatchSpec } from './matches/registry.ts';
import { matchKind } from './matches/registry.ts';
import type { Protocol } from './protocol.ts';
import { printRule } from './rule-text.ts';
import { Selector } from './selector.ts';
import type { TargetSpec } from './targets/registry.ts';
import { targetKind } from './targets/registry.ts';
import type { WalkContext } from './walk-context.ts';

export type { MatchSpec, TargetSpec };

/** Absent means any. A rule without a target only counts. */
export interface RuleSpec {
  /** Absent: 4. Its addresses are of this family, and so are the frames that it sees. */
  readonly family?: IpFamily;
  readonly source?: Prefix;
  readonly sourceNegated?: boolean;
  readonly destination?: Prefix;
  readonly destinationNegated?: boolean;
  /** A device name, or the beginning of one with `+` at its end. */
  readonly inDevice?: string;
  readonly inDeviceNegated?: boolean;
  readonly outDevice?: string;
  readonly outDeviceNegated?: boolean;
  readonly protocol?: Protocol;
  readonly protocolNegated?: boolean;
  /** `-f`: only second and later fragments; `! -f`: only whole packets and first fragments. IPv4 only. */
  readonly fragment?: 'later' | 'first';
  /** The text of a rule that is not modelled: it matches no frame. */
  readonly unmodelled?: string;
  /** Tested in this order, after addresses, devices and protocol. */
  readonly matches?: readonly MatchSpec[];
  readonly target?: TargetSpec;
}

/** The flat record that a walk tests (inherited: one load less per rule visited) and what follows when it matches. */
export class Rule extends Selector {
  readonly spec: RuleSpec;
  readonly action: Action;
  /** The chain of a JUMP or GOTO; empty otherwise. */
  readonly chainName: string;
  /** What a target does after which the walk continues (MARK). */
  readonly effect: ((frame: Frame, context: WalkContext) => void) | undefined;
  /** Having such a rule turns connection tracking on in a namespace. */
  readonly needsConntrack: boolean;

  /** Throws a RangeError that shows the rule, for one that iptables would refuse. */
  constructor(spec: RuleSpec) {
    super();
    this.spec = spec;
    const { target, matches = [] } = spec;
    const problem = compileSelector(spec, this) ?? targetProblem(spec);
    if (problem !== undefined) throw new RangeError(`rule "${printRule(spec)}": ${problem}`);
    const matchNeedsConntrack = matches.some(({ match }) => matchKind(match).needsConntrack);
    if (target === undefined) {
      this.action = CONTINUE;
      this.chainName = '';
      this.effect = undefined;
      this.needsConntrack = matchNeedsConntrack;
    } else if (target.target === 'jump' || target.target === 'goto') {
      this.action = target.target === 'jump' ? JUMP : GOTO;
      this.chainName = target.chain;
      this.effect = undefined;
      this.needsConntrack = matchNeedsConntrack;
    } else {
      const kind = targetKind(target.target);
      this.action = kind.action;
      this.chainName = '';
      this.effect = kind.effect?.(target);
      this.needsConntrack = matchNeedsConntrack || kind.needsConntrack === true || kind.tracks?.(target) === true;
    }
  }

  /** As iptables-save prints it, without `-A CHAIN`. Made on demand. */
  get text(): string {
    return printRule(this.spec);
  }
}

function targetProblem(spec: RuleSpec): string | undefined {
  const { target, family = 4 } = spec;
  if (target === undefined || target.target === 'jump' || target.target === 'goto') return undefined;
  const kind = targetKind(target.target);
  if (kind.families?.includes(family) === false) return `-j ${kind.name} is not for IPv${family}`;
  return kind.problem?.(target, spec);
}
