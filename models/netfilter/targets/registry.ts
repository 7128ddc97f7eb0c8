// Every target that rules may have, beside jumping to a chain. A new one is a file in this folder and its name in this list.

import type { IpFamily } from '../../packet/ip-address.ts';
import { connmarkTarget } from './connmark.ts';
import { ct, notrack } from './ct.ts';
import { dnat } from './dnat.ts';
import { log } from './log.ts';
import { markTarget } from './mark.ts';
import { masquerade } from './masquerade.ts';
import { netmap } from './netmap.ts';
import { nflog, trace } from './nflog.ts';
import { redirect } from './redirect.ts';
import { reject } from './reject.ts';
import { setTarget } from './set.ts';
import { snat } from './snat.ts';
import { accept, drop, returnTarget } from './standard.ts';
import type { TargetKind } from './target.ts';
import { tcpmss } from './tcpmss.ts';
import { dscpTarget, tosTarget } from './tos.ts';

const TARGETS = [
  accept,
  connmarkTarget,
  ct,
  dnat,
  drop,
  dscpTarget,
  log,
  markTarget,
  masquerade,
  netmap,
  nflog,
  notrack,
  redirect,
  reject,
  returnTarget,
  setTarget,
  snat,
  tcpmss,
  tosTarget,
  trace,
] as const;

/** `-j CHAIN`: into a chain and back. */
export interface JumpTarget {
  readonly target: 'jump';
  readonly chain: string;
}

/** `-g CHAIN`: into a chain, and from its end to where this chain was entered from. */
export interface GotoTarget {
  readonly target: 'goto';
  readonly chain: string;
}

export type ExtensionTarget = SpecOf<(typeof TARGETS)[number]>;
type SpecOf<Kind> = Kind extends TargetKind<infer Spec, infer _Fields> ? Spec : never;

/** The target of a rule, as data; `target` tells which. */
export type TargetSpec = ExtensionTarget | JumpTarget | GotoTarget;

export type AnyTargetKind = TargetKind<ExtensionTarget, object>;

const KINDS: ReadonlyMap<string, AnyTargetKind> = new Map(TARGETS.map((kind) => [kind.name, kind]));

export const targetKind = (name: ExtensionTarget['target']): AnyTargetKind => KINDS.get(name)!;

/** For text: undefined for anything else, which is a chain. */
export function findTargetKind(name: string, family: IpFamily): AnyTargetKind | undefined {
  const kind = KINDS.get(name);
  return kind?.families?.includes(family) === false ? undefined : kind;
}
