// What random cases are made of. A feature adds its ingredients; a case has some of those that its features allow.

import type { RuleBackend } from '../case.ts';

export const INGREDIENTS = {
  nat: 'nat tables: DNAT, SNAT, MASQUERADE, REDIRECT, NETMAP',
  filter: 'filter tables: ACCEPT, DROP, REJECT of all types, policies',
  mangle: 'mangle and raw tables: marks, TCPMSS, NOTRACK, LOG, rpfilter',
  kube: 'the rules that kube-proxy writes, beside random ones',
  bridge: 'pods behind a bridge: bridge-nf-call-iptables on and off, hairpin mode, physdev',
  routed: 'pods behind routed veths',
  ptp: 'pods behind routed veths as the CNI plugin ptp makes them',
  cni: 'the rules that network plugins and daemons write: portmap, ipMasq, flannel, kindnet, kubenet',
  vxlan: 'nodes joined by VXLAN instead of routes',
  conntrack: 'states, marks and zones of connections, odd segments, rules replaced and entries flushed in between',
  icmp: 'echo requests, unsolicited replies, packets that die on the way',
  fragments: 'datagrams in fragments, packets bigger than a link, with and without DF',
  ipv6: 'dual-stack networks, ip6tables, IPv6 packets',
  ipset: 'sets of addresses and ports, and rules that ask them',
  sockets: 'pods with a stack of their own, which answers by itself',
  remember: 'matches that count: limit, hashlimit, recent, statistic nth, connlimit',
  random: 'rules that toss coins: statistic random, random ports, ranges of addresses',
  nft: 'the backends nft and nftnative beside legacy',
  vxlan6: 'with ipv6: nodes joined by VXLAN over IPv6, for both families or for IPv6 alone',
} as const;

export type Feature = keyof typeof INGREDIENTS;

export const FEATURES = Object.keys(INGREDIENTS) as readonly Feature[];

export const isFeature = (word: string): word is Feature => Object.hasOwn(INGREDIENTS, word);

export const backendsOf = (features: readonly Feature[]): readonly RuleBackend[] =>
  features.includes('nft') ? ['legacy', 'nft', 'nftnative'] : ['legacy'];
