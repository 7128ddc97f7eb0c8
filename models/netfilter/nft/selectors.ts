// What rules may ask about a packet by a fixed name: header fields, metadata, the packet's connection. One table for
// reading, printing and evaluating.
//
// Not modelled: link layer headers, extension headers other than fragments, raw payload (`@th,16,16`), sockets, users of
// packets that no local process sent.

import { PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP } from '../../packet/frame.ts';
import {
  BOOLEAN,
  BYTE,
  CT_DIR,
  CT_STATE,
  CT_STATUS,
  type Datatype,
  DSCP,
  ECN,
  ETHER_TYPE,
  ICMP_CODE,
  ICMP_TYPE,
  ICMPV6_CODE,
  ICMPV6_TYPE,
  IFACE_INDEX,
  IFNAME,
  INET_PROTO,
  INET_SERVICE,
  INTEGER,
  IPV4_ADDR,
  IPV6_ADDR,
  MARK,
  NETWORK_INTEGER,
  NF_PROTO,
  PKT_TYPE,
  TCP_FLAG,
  TIME,
  UID,
} from './datatype.ts';

export interface Selector {
  /** As printed; also the key of the table. */
  readonly name: string;
  readonly type: Datatype;
  /** Only packets of this family have it. */
  readonly family?: 4 | 6;
  /** Only packets of this transport protocol have it. */
  readonly protocol?: number;
  /** Lies in the transport header: later fragments do not have it. */
  readonly isTransport?: boolean;
  /** Having it in a rule turns connection tracking on (nft_ct_get_init). */
  readonly needsConntrack?: boolean;
  /** Statements may set it: `meta mark set`. */
  readonly isSettable?: boolean;
}

const SELECTOR_LIST: readonly Selector[] = [
  { name: 'meta l4proto', type: INET_PROTO },
  { name: 'iif', type: IFACE_INDEX },
  { name: 'oif', type: IFACE_INDEX },
  { name: 'iifname', type: IFNAME },
  { name: 'oifname', type: IFNAME },
  { name: 'meta mark', type: MARK, isSettable: true },
  { name: 'meta nfproto', type: NF_PROTO },
  { name: 'meta protocol', type: ETHER_TYPE },
  { name: 'meta length', type: INTEGER },
  { name: 'meta pkttype', type: PKT_TYPE },
  { name: 'meta skuid', type: UID },
  { name: 'meta cpu', type: INTEGER },

  { name: 'ct state', type: CT_STATE, needsConntrack: true },
  { name: 'ct status', type: CT_STATUS, needsConntrack: true },
  { name: 'ct direction', type: CT_DIR, needsConntrack: true },
  { name: 'ct mark', type: MARK, needsConntrack: true, isSettable: true },
  { name: 'ct expiration', type: TIME, needsConntrack: true },
  { name: 'ct protocol', type: INET_PROTO, needsConntrack: true },
  { name: 'ct zone', type: NETWORK_INTEGER, needsConntrack: true, isSettable: true },
  ...(['original', 'reply'] as const).flatMap((direction): Selector[] => [
    { name: `ct ${direction} ip saddr`, type: IPV4_ADDR, family: 4, needsConntrack: true },
    { name: `ct ${direction} ip daddr`, type: IPV4_ADDR, family: 4, needsConntrack: true },
    { name: `ct ${direction} ip6 saddr`, type: IPV6_ADDR, family: 6, needsConntrack: true },
    { name: `ct ${direction} ip6 daddr`, type: IPV6_ADDR, family: 6, needsConntrack: true },
    { name: `ct ${direction} proto-src`, type: INET_SERVICE, needsConntrack: true },
    { name: `ct ${direction} proto-dst`, type: INET_SERVICE, needsConntrack: true },
    { name: `ct ${direction} protocol`, type: INET_PROTO, needsConntrack: true },
  ]),

  { name: 'ip saddr', type: IPV4_ADDR, family: 4 },
  { name: 'ip daddr', type: IPV4_ADDR, family: 4 },
  { name: 'ip protocol', type: INET_PROTO, family: 4 },
  { name: 'ip ttl', type: BYTE, family: 4 },
  { name: 'ip length', type: NETWORK_INTEGER, family: 4 },
  { name: 'ip id', type: NETWORK_INTEGER, family: 4 },
  { name: 'ip dscp', type: DSCP, family: 4 },
  { name: 'ip ecn', type: ECN, family: 4 },
  { name: 'ip frag-off', type: NETWORK_INTEGER, family: 4 },
  { name: 'ip6 saddr', type: IPV6_ADDR, family: 6 },
  { name: 'ip6 daddr', type: IPV6_ADDR, family: 6 },
  { name: 'ip6 nexthdr', type: INET_PROTO, family: 6 },
  { name: 'ip6 hoplimit', type: BYTE, family: 6 },
  { name: 'ip6 length', type: NETWORK_INTEGER, family: 6 },
  { name: 'ip6 dscp', type: DSCP, family: 6 },
  { name: 'exthdr frag', type: BOOLEAN, family: 6 },

  { name: 'th sport', type: INET_SERVICE, isTransport: true },
  { name: 'th dport', type: INET_SERVICE, isTransport: true },
  ...(
    [
      ['tcp', PROTOCOL_TCP],
      ['udp', PROTOCOL_UDP],
      ['sctp', PROTOCOL_SCTP],
    ] as const
  ).flatMap(([name, protocol]): Selector[] => [
    { name: `${name} sport`, type: INET_SERVICE, protocol, isTransport: true },
    { name: `${name} dport`, type: INET_SERVICE, protocol, isTransport: true },
  ]),
  { name: 'tcp flags', type: TCP_FLAG, protocol: PROTOCOL_TCP, isTransport: true },
  { name: 'icmp type', type: ICMP_TYPE, family: 4, protocol: PROTOCOL_ICMP, isTransport: true },
  { name: 'icmp code', type: ICMP_CODE, family: 4, protocol: PROTOCOL_ICMP, isTransport: true },
  { name: 'icmpv6 type', type: ICMPV6_TYPE, family: 6, protocol: PROTOCOL_ICMPV6, isTransport: true },
  { name: 'icmpv6 code', type: ICMPV6_CODE, family: 6, protocol: PROTOCOL_ICMPV6, isTransport: true },
];

export const SELECTORS: ReadonlyMap<string, Selector> = new Map(
  SELECTOR_LIST.map((selector) => [selector.name, selector]),
);

/** Words that may begin a selector. */
export const SELECTOR_WORDS: ReadonlySet<string> = new Set([
  ...SELECTOR_LIST.map(({ name }) => name.split(' ')[0]!),
  'mark',
  'meta',
]);
