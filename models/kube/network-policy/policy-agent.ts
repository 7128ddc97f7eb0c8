// The program on each node that enforces NetworkPolicies, beside kube-proxy: hears of changes and makes the node's tables
// and sets say the same. What it writes takes effect a while after it has begun, all at once; what comes meanwhile waits
// for the next time.
//
// Until there is a policy it writes nothing, unless pods that it does not know yet are to be cut off.
//
// Not modelled: what the writing costs on the node's CPUs, and that it grows with the number of policies and pods. If others
// put rules before its own in FORWARD or OUTPUT, as a kube-proxy that starts later does, that is put right with the next change only.

import type { Place } from '../../../engine/simulator.ts';
import { type Duration, ms } from '../../../engine/time.ts';
import { Chain } from '../../netfilter/chain.ts';
import { IpSets } from '../../netfilter/ipset/ip-sets.ts';
import { Rule, type RuleSpec } from '../../netfilter/rule.ts';
import type { BuiltinChain, RuleTables } from '../../netfilter/rule-tables.ts';
import type { Prefix } from '../../packet/ip-address.ts';
import { type EstablishedChoice, isPolicyChain, isPolicySet, POLICY_CHAIN, type PolicyRules } from './policy-rules.ts';
import type { PolicySnapshot } from './policy-tracker.ts';

/** A pod that no rules are about yet: everything passes, or nothing but what comes from its node. */
export const UNKNOWN_POD_CHOICES = ['open', 'closed'] as const;

export interface EnforcementSettings {
  /** From the news of a change until the rules are in force. */
  readonly delay: Duration;
  readonly established: EstablishedChoice;
  readonly unknownPods: (typeof UNKNOWN_POD_CHOICES)[number];
}

/** The delay is an assumption: users report from less than a second to minutes (k3s#947, calico#9706). */
export const DEFAULT_ENFORCEMENT: EnforcementSettings = { delay: ms(100), established: 'kept', unknownPods: 'open' };

/** As much of the node's netfilter as an agent sees. */
export interface PolicedRules {
  readonly tables: RuleTables;
  readonly tables6: RuleTables;
  readonly sets: IpSets;
}

export interface PolicyAgentOptions {
  readonly place: Place;
  readonly node: {
    readonly name: string;
    /** Of its pods, one of each family. */
    readonly podRanges: readonly Prefix[];
  };
  readonly settings: EnforcementSettings;
  /** What agents have heard of until now. */
  readonly snapshot: () => PolicySnapshot;
  readonly rules: () => PolicedRules;
}

export class PolicyAgent {
  readonly #options: PolicyAgentOptions;
  #hasWritten = false;
  #isWriting = false;
  #hasNews = false;

  constructor(options: PolicyAgentOptions) {
    this.#options = options;
  }

  /** Something has changed. */
  hear(): void {
    this.#hasNews = true;
    if (!this.#isWriting) this.#begin();
  }

  /** Enforces what is known, in no time: how a cluster is found when a run starts. */
  syncAtOnce(): void {
    this.#write(this.#options.snapshot());
  }

  #begin(): void {
    const { place, settings, snapshot } = this.#options;
    const known = snapshot();
    this.#hasNews = false;
    if (!this.#isNeeded(known) && !this.#hasWritten) return;
    const end = (): void => {
      this.#write(known);
      this.#isWriting = false;
      if (this.#hasNews) this.#begin();
    };
    this.#isWriting = true;
    place.schedule(settings.delay, end, undefined);
  }

  #write(snapshot: PolicySnapshot): void {
    const { node, rules } = this.#options;
    const isNeeded = this.#isNeeded(snapshot);
    if (!isNeeded && !this.#hasWritten) return;
    this.#hasWritten = isNeeded;
    const { tables, tables6, sets } = rules();
    const former = new Set([...sets].map(({ name }) => name).filter(isPolicySet));
    for (const podRange of node.podRanges) {
      const { family } = podRange;
      const ofFamily = snapshot.rules(family);
      if (isNeeded) for (const name of this.#putSets(sets, snapshot, ofFamily)) former.delete(name);
      const chains = isNeeded ? this.#chains(snapshot, ofFamily, podRange) : [];
      replacePolicyChains(family === 6 ? tables6 : tables, chains);
    }
    for (const name of former) sets.destroy(name);
  }

  #isNeeded({ objects: { policies } }: PolicySnapshot): boolean {
    return policies.length > 0 || this.#isClosed;
  }

  /** Their names. */
  #putSets(sets: IpSets, snapshot: PolicySnapshot, rules: PolicyRules): string[] {
    const own = this.#isClosed ? rules.setOfKnownPods(snapshot.podsOn(this.#options.node.name)) : new IpSets();
    for (const added of [rules.sets, own]) sets.share(added);
    return [...rules.sets, ...own].map(({ name }) => name);
  }

  #chains(snapshot: PolicySnapshot, rules: PolicyRules, podRange: Prefix): Chain[] {
    const { node, settings } = this.#options;
    const closedRange = this.#isClosed ? podRange : undefined;
    const { established } = settings;
    return [...rules.chainsOfNode(snapshot.podsOn(node.name), { established, closedRange }), ...rules.policyChains];
  }

  get #isClosed(): boolean {
    return this.#options.settings.unknownPods === 'closed';
  }
}

/** These and no others. The ways into them go before all other rules: kube-proxy's accept what is established. */
function replacePolicyChains(tables: RuleTables, chains: readonly Chain[]): void {
  const ways = WAYS_IN.flatMap(([name, spec]) => wayIn(tables, name, spec, chains.length > 0) ?? []);
  tables.replaceChains('filter', [...chains, ...ways]);
  const kept = new Set(chains.map(({ name }) => name));
  for (const name of tables.chainNames('filter'))
    if (isPolicyChain(name) && !kept.has(name)) tables.deleteChain('filter', name);
}

/** The builtin chain with the jump in first place, or without it; undefined if that is so. */
function wayIn(tables: RuleTables, name: BuiltinChain, spec: RuleSpec, isNeeded: boolean): Chain | undefined {
  const { rules, policy } = tables.chain('filter', name)!;
  const jump = new Rule({ ...spec, family: tables.family });
  const isJump = (rule: Rule | undefined): boolean => rule?.text === jump.text;
  if (isNeeded ? isJump(rules[0]) : !rules.some(isJump)) return undefined;
  const others = rules.filter((rule) => !isJump(rule));
  return new Chain(name, isNeeded ? [jump, ...others] : others, policy);
}

const COMMENT = { match: 'comment', comment: 'network policies' } as const;
const POLICIES = { target: 'jump', chain: POLICY_CHAIN } as const;

/**
 * IPVS takes what is for a Service in at INPUT and sends it on by OUTPUT, so that it never comes to FORWARD. What the node
 * itself sends is known by its address, and not judged.
 */
const WAYS_IN: readonly (readonly [BuiltinChain, RuleSpec])[] = [
  ['FORWARD', { matches: [COMMENT], target: POLICIES }],
  [
    'OUTPUT',
    { matches: [COMMENT, { match: 'addrtype', srcTypes: ['LOCAL'], srcTypesNegated: true }], target: POLICIES },
  ],
];
