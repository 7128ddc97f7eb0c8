// Every match that rules may use. A new one is a file in this folder and its name in this list.

import { addrtype } from './addrtype.ts';
import { comment } from './comment.ts';
import { conntrack, state } from './conntrack.ts';
import { icmp } from './icmp.ts';
import { iprange } from './iprange.ts';
import { limit } from './limit.ts';
import { mark } from './mark.ts';
import type { MatchKind } from './match.ts';
import { multiport } from './multiport.ts';
import { physdev } from './physdev.ts';
import { recent } from './recent.ts';
import { sctp } from './sctp.ts';
import { statistic } from './statistic.ts';
import { tcp } from './tcp.ts';
import { udp } from './udp.ts';

const MATCHES = [
  addrtype,
  comment,
  conntrack,
  icmp,
  iprange,
  limit,
  mark,
  multiport,
  physdev,
  recent,
  sctp,
  state,
  statistic,
  tcp,
  udp,
] as const;

/** One match of a rule, as data; `match` tells which. */
export type MatchSpec = SpecOf<(typeof MATCHES)[number]>;
type SpecOf<Kind> = Kind extends MatchKind<infer Spec, infer _Fields> ? Spec : never;

export type AnyMatchKind = MatchKind<MatchSpec, object>;

const KINDS: ReadonlyMap<string, AnyMatchKind> = new Map(MATCHES.map((kind) => [kind.name, kind]));

export const matchKind = (name: MatchSpec['match']): AnyMatchKind => KINDS.get(name)!;

/** For text: undefined for a match that is not modelled. */
export const findMatchKind = (name: string): AnyMatchKind | undefined => KINDS.get(name);

export const MATCH_NAMES: readonly string[] = [...KINDS.keys()];
