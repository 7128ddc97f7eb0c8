// Which tables there are, which builtin chains each has, and in which order a hook walks them.

export type TableName = 'raw' | 'mangle' | 'nat' | 'filter';
export type BuiltinChain = 'PREROUTING' | 'INPUT' | 'FORWARD' | 'OUTPUT' | 'POSTROUTING';

/**
 * The tables of each hook in the order of their priorities (uapi/linux/netfilter_ipv4.h): raw -300, conntrack -200,
 * mangle -150, nat -100 for destinations, filter 0, nat 100 for sources; conntrack confirms last of all.
 */
export const TABLE_ORDER: Readonly<Record<BuiltinChain, readonly TableName[]>> = {
  PREROUTING: ['raw', 'mangle', 'nat'],
  INPUT: ['mangle', 'filter', 'nat'],
  FORWARD: ['mangle', 'filter'],
  OUTPUT: ['raw', 'mangle', 'nat', 'filter'],
  POSTROUTING: ['mangle', 'nat'],
};

export const TABLE_NAMES: readonly TableName[] = ['raw', 'mangle', 'nat', 'filter'];

/** The builtin chains of each table, in the order in which iptables-save lists them. */
export const BUILTIN_CHAINS: Readonly<Record<TableName, readonly BuiltinChain[]>> = {
  raw: ['PREROUTING', 'OUTPUT'],
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
};

export const isBuiltin = (table: TableName, chain: string): boolean =>
  (BUILTIN_CHAINS[table] as readonly string[]).includes(chain);
