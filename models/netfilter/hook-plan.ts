// What netfilter does at one hook for the packets of one family, in the kernel's order of priorities, worked out whenever
// tables change so that a packet only follows the list:
//
//   PREROUTING   defragment, raw, conntrack, mangle, nat (destination)
//   INPUT        mangle, filter, IPVS, nat (source), confirm
//   FORWARD      mangle, filter, IPVS
//   OUTPUT       defragment, raw, conntrack, mangle, nat (destination), IPVS, filter
//   POSTROUTING  mangle, nat (source), confirm
//
// Base chains of nftables stand among them by their own priorities. Of equals, the one that was registered last comes
// first (nf_hook_entries_grow). Chains of type nat are ordered among themselves only: all of them are asked where nat is.
//
// Not modelled: the security table, SELinux's hooks.

import { FORWARD, HOOK_NAMES, HOOKS, type Hook, INPUT, OUTPUT, POSTROUTING, PREROUTING } from './hook.ts';
import { DESTINATION, type NatSide, SOURCE } from './nat.ts';
import type { Nftables, NftBaseChain } from './nft/nftables.ts';
import { type RuleTables, TABLE_NAMES } from './rule-tables.ts';
import { type BaseChain, baseChain } from './walk.ts';

/** A fragment waits for the others: conntrack sees whole packets. */
export const DEFRAGMENT = 0;
/** The rules of a table decide. */
export const WALK = 1;
/** A builtin chain without rules, as mangle's on every node of kube-proxy: only its policy counts. */
export const POLICY = 2;
export const TRACK = 3;
/** Connections are translated; the nat table's rules are asked about new ones. */
export const TRANSLATE = 4;
export const CONFIRM = 5;
/** A base chain of nftables decides. */
export const NFT = 6;
/** Virtual servers: the packet may go to one of their real servers. */
export const IPVS = 7;
/** What IPVS remembers and conntrack with it may be over: before the packet is looked up. */
export const IPVS_TIMERS = 8;
export type StepKind =
  | typeof DEFRAGMENT
  | typeof WALK
  | typeof POLICY
  | typeof TRACK
  | typeof TRANSLATE
  | typeof CONFIRM
  | typeof NFT
  | typeof IPVS
  | typeof IPVS_TIMERS;

/** One shape for all kinds of step. */
export class HookStep {
  readonly kind: StepKind;
  readonly priority: number;
  /** WALK, POLICY: where to enter the table. */
  readonly chain: BaseChain | undefined;
  /** NFT. */
  readonly nft: NftBaseChain | undefined;
  /** TRANSLATE: which end of packets, and whom to ask about new connections: steps of kind WALK and NFT. */
  readonly side: NatSide;
  readonly natChains: readonly HookStep[];

  constructor(
    kind: StepKind,
    priority: number,
    {
      chain,
      nft,
      side = DESTINATION,
      natChains = [],
    }: Partial<Pick<HookStep, 'chain' | 'nft' | 'side' | 'natChains'>> = {},
  ) {
    this.kind = kind;
    this.priority = priority;
    this.chain = chain;
    this.nft = nft;
    this.side = side;
    this.natChains = natChains;
  }
}

/** include/uapi/linux/netfilter_ipv4.h, the same in netfilter_ipv6.h. */
const DEFRAGMENT_PRIORITY = -400;
const CONNTRACK_PRIORITY = -200;
const NAT_DESTINATION_PRIORITY = -100;
const NAT_SOURCE_PRIORITY = 100;
const CONFIRM_PRIORITY = 0x7fff_ffff;
/** Of ip_vs_out and ip_vs_in, which are neighbors at each of their hooks (ip_vs_core.c): the first of the two. */
const IPVS_PRIORITIES: Readonly<Partial<Record<Hook, number>>> = {
  [INPUT]: NAT_SOURCE_PRIORITY - 2,
  [OUTPUT]: NAT_DESTINATION_PRIORITY + 1,
  [FORWARD]: NAT_SOURCE_PRIORITY - 1,
};
const FILTERING_TABLES = [
  { table: 'raw', priority: -300 },
  { table: 'mangle', priority: -150 },
  { table: 'filter', priority: 0 },
] as const;

/** The steps of one hook in order. Empty where netfilter has nothing to do. */
export type HookPlan = readonly HookStep[];

/** What has rules for the packets of one family. */
export interface HookUsers {
  readonly tables: RuleTables;
  readonly nftables: Nftables;
  readonly registrations: Registrations;
  /** There are virtual servers of this family. */
  readonly hasVirtualServers?: boolean;
}

export function planHook(hook: Hook, users: HookUsers): HookPlan {
  const steps = [...filteringSteps(hook, users), ...nftSteps(hook, users), ...ipvsSteps(hook, users)];
  const { tables, nftables } = users;
  if (tables.needsConntrack || nftables.needsConntrack(tables.family)) {
    steps.push(...trackingSteps(hook), ...translationSteps(hook, users));
  }
  return inOrder(steps, users.registrations);
}

function filteringSteps(hook: Hook, { tables }: HookUsers): HookStep[] {
  const name = HOOK_NAMES[hook]!;
  return FILTERING_TABLES.filter(({ table }) => tables.isRegistered(table, name)).map(({ table, priority }) => {
    const chain = baseChain(tables, table, name);
    return new HookStep(chain.use.chain.ruleCount === 0 ? POLICY : WALK, priority, { chain });
  });
}

/** Chains of type nat are not hooks of their own. */
const nftSteps = (hook: Hook, { tables, nftables }: HookUsers): HookStep[] =>
  nftables
    .baseChains(hook, tables.family)
    .filter(({ base }) => base.type !== 'nat')
    .map((nft) => new HookStep(NFT, nft.base.priority, { nft }));

function ipvsSteps(hook: Hook, { hasVirtualServers = false }: HookUsers): HookStep[] {
  if (!hasVirtualServers) return [];
  const priority = IPVS_PRIORITIES[hook];
  const steps = priority === undefined ? [] : [new HookStep(IPVS, priority)];
  if (hook === PREROUTING || hook === OUTPUT) steps.push(new HookStep(IPVS_TIMERS, CONNTRACK_PRIORITY - 1));
  return steps;
}

/** Registered by the first rule that needs conntrack (nf_ct_netns_get), for its family. */
function trackingSteps(hook: Hook): HookStep[] {
  switch (hook) {
    case PREROUTING:
    case OUTPUT:
      return [new HookStep(DEFRAGMENT, DEFRAGMENT_PRIORITY), new HookStep(TRACK, CONNTRACK_PRIORITY)];
    case INPUT:
    case POSTROUTING:
      return [new HookStep(CONFIRM, CONFIRM_PRIORITY)];
    case FORWARD:
      return [];
  }
}

/** All four as soon as one chain of type nat exists (nf_nat_register_fn), whichever hook that chain is for. */
function translationSteps(hook: Hook, users: HookUsers): HookStep[] {
  const { tables, nftables } = users;
  if (hook === FORWARD || !(tables.isLoaded('nat') || nftables.hasChains('nat', tables.family))) return [];
  const isDestination = hook === PREROUTING || hook === OUTPUT;
  const priority = isDestination ? NAT_DESTINATION_PRIORITY : NAT_SOURCE_PRIORITY;
  const name = HOOK_NAMES[hook]!;
  const natChains = nftables
    .baseChains(hook, tables.family)
    .filter(({ base }) => base.type === 'nat')
    .map((nft) => new HookStep(NFT, nft.base.priority, { nft }));
  if (tables.isRegistered('nat', name)) {
    natChains.push(new HookStep(WALK, priority, { chain: baseChain(tables, 'nat', name) }));
  }
  const side = isDestination ? DESTINATION : SOURCE;
  return [new HookStep(TRANSLATE, priority, { side, natChains: inOrder(natChains, users.registrations) })];
}

const inOrder = (steps: HookStep[], registrations: Registrations): HookStep[] =>
  steps.sort((a, b) => a.priority - b.priority || registrations.of(b) - registrations.of(a));

/** When tables and base chains were first seen at their hooks. */
export class Registrations {
  readonly #numbers = new Map<object, number>();
  #next = 1;

  /** Notes what is new, in the order in which it was made, and forgets what is gone. */
  update(tables: RuleTables, nftables: Nftables): void {
    const present = new Set<object>(
      TABLE_NAMES.filter((name) => tables.isLoaded(name)).map((name) => tables.table(name)),
    );
    for (const { base } of HOOKS.flatMap((hook) => nftables.baseChains(hook, tables.family))) present.add(base);
    for (const known of this.#numbers.keys()) if (!present.has(known)) this.#numbers.delete(known);
    for (const registered of present) if (!this.#numbers.has(registered)) this.#numbers.set(registered, this.#next++);
  }

  /** 0 for what the kernel registers itself. */
  of({ nft, chain }: HookStep): number {
    const registered = nft?.base ?? chain?.table;
    return registered === undefined ? 0 : (this.#numbers.get(registered) ?? 0);
  }
}
