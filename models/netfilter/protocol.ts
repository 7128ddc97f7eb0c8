// IP protocols as `-p` names them: the numbers of /etc/protocols and the names that iptables-save prints for them.

import { readNumber } from './words.ts';

/** As in Debian 12 (netbase), which is what iptables-save asks first. */
export const PROTOCOL_NUMBERS = {
  icmp: 1,
  igmp: 2,
  ggp: 3,
  ipencap: 4,
  st: 5,
  tcp: 6,
  egp: 8,
  igp: 9,
  pup: 12,
  udp: 17,
  hmp: 20,
  'xns-idp': 22,
  rdp: 27,
  'iso-tp4': 29,
  dccp: 33,
  xtp: 36,
  ddp: 37,
  'idpr-cmtp': 38,
  ipv6: 41,
  'ipv6-route': 43,
  'ipv6-frag': 44,
  idrp: 45,
  rsvp: 46,
  gre: 47,
  esp: 50,
  ah: 51,
  skip: 57,
  'ipv6-icmp': 58,
  'ipv6-nonxt': 59,
  'ipv6-opts': 60,
  rspf: 73,
  vmtp: 81,
  eigrp: 88,
  ospf: 89,
  'ax.25': 93,
  ipip: 94,
  etherip: 97,
  encap: 98,
  pim: 103,
  ipcomp: 108,
  vrrp: 112,
  l2tp: 115,
  isis: 124,
  sctp: 132,
  fc: 133,
  'mobility-header': 135,
  udplite: 136,
  'mpls-in-ip': 137,
  manet: 138,
  hip: 139,
  shim6: 140,
  wesp: 141,
  rohc: 142,
  ethernet: 143,
} as const;

export type ProtocolName = keyof typeof PROTOCOL_NUMBERS;
/** By name if it has one. */
export type Protocol = ProtocolName | number;

export const protocolNumber = (protocol: Protocol): number =>
  typeof protocol === 'number' ? protocol : PROTOCOL_NUMBERS[protocol];

const NAMES = new Map<number, ProtocolName>();
const BY_WORD = new Map<string, Protocol | 'all'>([
  ['all', 'all'],
  ['ip', 'all'],
  ['hopopt', 'all'],
  // What iptables itself calls them, whatever /etc/protocols says.
  ['icmpv6', 'ipv6-icmp'],
  ['mh', 'mobility-header'],
  ['ipv6-mh', 'mobility-header'],
]);
for (const [name, number] of Object.entries(PROTOCOL_NUMBERS) as [ProtocolName, number][]) {
  NAMES.set(number, name);
  BY_WORD.set(name, name);
}

/** Reads a name, in any case, or a number. Undefined for what is neither. */
export function readProtocol(word: string): Protocol | 'all' | undefined {
  const known = BY_WORD.get(word) ?? BY_WORD.get(word.toLowerCase());
  if (known !== undefined) return known;
  const number = readNumber(word, 255);
  if (number === undefined) return undefined;
  return number === 0 ? 'all' : (NAMES.get(number) ?? number);
}

/** By name if it has one. */
export const printProtocol = (number: number): string => `${NAMES.get(number) ?? number}`;
