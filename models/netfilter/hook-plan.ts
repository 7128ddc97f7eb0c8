// What netfilter does at one hook for the packets of one family, in the kernel's order of priorities, worked out whenever
// tables change so that a packet only follows the list:
//
//   PREROUTING   defragment, raw, conntrack, mangle, nat (destination)
//   INPUT        mangle, filter, nat (source), confirm
//   FORWARD      mangle, filter
//   OUTPUT       defragment, raw, conntrack, mangle, nat (destination), filter
//   POSTROUTING  mangle, nat (source), confirm
//
// Not modelled: the security table, SELinux's and IPVS's hooks.

import { FORWARD, HOOK_NAMES, type Hook, INPUT, OUTPUT, POSTROUTING, PREROUTING } from './hook.ts';
import { DESTINATION, type NatSide, SOURCE } from './nat.ts';
import type { RuleTables } from './rule-tables.ts';
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
export type StepKind =
  | typeof DEFRAGMENT
  | typeof WALK
  | typeof POLICY
  | typeof TRACK
  | typeof TRANSLATE
  | typeof CONFIRM;

/** One shape for all kinds of step. */
export class HookStep {
  readonly kind: StepKind;
  readonly priority: number;
  /** WALK, POLICY: where to enter the table. TRANSLATE: whom to ask about new connections, if anybody. */
  readonly chain: BaseChain | undefined;
  /** TRANSLATE: which end of packets. */
  readonly side: NatSide;

  constructor(kind: StepKind, priority: number, chain?: BaseChain, side: NatSide = DESTINATION) {
    this.kind = kind;
    this.priority = priority;
    this.chain = chain;
    this.side = side;
  }
}

/** include/uapi/linux/netfilter_ipv4.h, the same in netfilter_ipv6.h. */
const DEFRAGMENT_PRIORITY = -400;
const CONNTRACK_PRIORITY = -200;
const NAT_DESTINATION_PRIORITY = -100;
const NAT_SOURCE_PRIORITY = 100;
const CONFIRM_PRIORITY = 0x7fff_ffff;
const FILTERING_TABLES = [
  { table: 'raw', priority: -300 },
  { table: 'mangle', priority: -150 },
  { table: 'filter', priority: 0 },
] as const;

/** The steps of one hook in order. Empty where netfilter has nothing to do. */
export type HookPlan = readonly HookStep[];

export function planHook(hook: Hook, tables: RuleTables): HookPlan {
  const steps = filteringSteps(hook, tables);
  if (tables.needsConntrack) steps.push(...trackingSteps(hook), ...translationSteps(hook, tables));
  return steps.sort((a, b) => a.priority - b.priority);
}

function filteringSteps(hook: Hook, tables: RuleTables): HookStep[] {
  const name = HOOK_NAMES[hook]!;
  return FILTERING_TABLES.filter(({ table }) => tables.isRegistered(table, name)).map(({ table, priority }) => {
    const chain = baseChain(tables, table, name);
    return new HookStep(chain.use.chain.rules.length === 0 ? POLICY : WALK, priority, chain);
  });
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
function translationSteps(hook: Hook, tables: RuleTables): HookStep[] {
  if (hook === FORWARD || !tables.isLoaded('nat')) return [];
  const name = HOOK_NAMES[hook]!;
  const chain = tables.isRegistered('nat', name) ? baseChain(tables, 'nat', name) : undefined;
  return hook === PREROUTING || hook === OUTPUT
    ? [new HookStep(TRANSLATE, NAT_DESTINATION_PRIORITY, chain, DESTINATION)]
    : [new HookStep(TRANSLATE, NAT_SOURCE_PRIORITY, chain, SOURCE)];
}
