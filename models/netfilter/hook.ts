// The five places of the IP layer where netfilter sees packets, as small integers for the hot path.

import type { BuiltinChain } from './table-order.ts';

export const PREROUTING = 0;
export const INPUT = 1;
export const FORWARD = 2;
export const OUTPUT = 3;
export const POSTROUTING = 4;
export type Hook = typeof PREROUTING | typeof INPUT | typeof FORWARD | typeof OUTPUT | typeof POSTROUTING;

export const HOOKS: readonly Hook[] = [PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING];

/** By hook: what its builtin chains are called. */
export const HOOK_NAMES: readonly BuiltinChain[] = ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'];
