// Every match that rules may use. A new one is a file in this folder and its name in this list.

import type { IpFamily } from '../../packet/ip-address.ts';
import { addrtype } from './addrtype.ts';
import { comment } from './comment.ts';
import { connlimit } from './connlimit.ts';
import { connmark } from './connmark.ts';
import { conntrack, state } from './conntrack.ts';
import { hashlimit } from './hashlimit.ts';
import { icmp } from './icmp.ts';
import { icmp6 } from './icmp6.ts';
import { iprange } from './iprange.ts';
import { ipvs } from './ipvs.ts';
import { length } from './length.ts';
import { limit } from './limit.ts';
import { mac } from './mac.ts';
import { mark } from './mark.ts';
import type { MatchKind } from './match.ts';
import { multiport } from './multiport.ts';
import { nfacct } from './nfacct.ts';
import { owner } from './owner.ts';
import { physdev } from './physdev.ts';
import { pkttype } from './pkttype.ts';
import { recent } from './recent.ts';
import { rpfilter } from './rpfilter.ts';
import { sctp } from './sctp.ts';
import { set } from './set.ts';
import { statistic } from './statistic.ts';
import { tcp } from './tcp.ts';
import { dscp, tos } from './tos.ts';
import { hl, ttl } from './ttl.ts';
import { udp } from './udp.ts';

const MATCHES = [
  addrtype,
  comment,
  connlimit,
  connmark,
  conntrack,
  dscp,
  hashlimit,
  hl,
  icmp,
  icmp6,
  iprange,
  ipvs,
  length,
  limit,
  mac,
  mark,
  multiport,
  nfacct,
  owner,
  physdev,
  pkttype,
  recent,
  rpfilter,
  sctp,
  set,
  state,
  statistic,
  tcp,
  tos,
  ttl,
  udp,
] as const;

/** One match of a rule, as data; `match` tells which. */
export type MatchSpec = SpecOf<(typeof MATCHES)[number]>;
type SpecOf<Kind> = Kind extends MatchKind<infer Spec, infer _Fields> ? Spec : never;

export type AnyMatchKind = MatchKind<MatchSpec, object>;

const KINDS: ReadonlyMap<string, AnyMatchKind> = new Map(MATCHES.map((kind) => [kind.name, kind]));

export const matchKind = (name: MatchSpec['match']): AnyMatchKind => KINDS.get(name)!;

const ALL_KINDS = [...KINDS.values()];
const kindsOf = (family: IpFamily): readonly AnyMatchKind[] =>
  ALL_KINDS.filter(({ families }) => families === undefined || families.includes(family));
const byName = (kinds: readonly AnyMatchKind[]): ReadonlyMap<string, AnyMatchKind> =>
  new Map(kinds.flatMap((kind) => [kind.name, ...(kind.aliases ?? [])].map((name) => [name, kind] as const)));
const KINDS_4 = byName(kindsOf(4));
const KINDS_6 = byName(kindsOf(6));

/** For text: undefined for a match that this family does not have, or that is not modelled. */
export const findMatchKind = (name: string, family: IpFamily): AnyMatchKind | undefined =>
  (family === 6 ? KINDS_6 : KINDS_4).get(name);

export const matchNames = (family: IpFamily): string[] => kindsOf(family).map(({ name }) => name);
