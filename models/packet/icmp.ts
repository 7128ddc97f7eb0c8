// ICMP types and codes, and what people call them (RFC 792, RFC 1812; names as in `iptables -p icmp -h`, with spaces).
// Those of ICMPv6 are in icmpv6.ts.

export const ICMP_ECHO_REPLY = 0;
export const ICMP_DEST_UNREACHABLE = 3;
export const ICMP_REDIRECT = 5;
export const ICMP_ECHO_REQUEST = 8;
export const ICMP_TIME_EXCEEDED = 11;

/** Of {@link ICMP_DEST_UNREACHABLE}: nobody takes it here. */
export const ICMP_PORT_UNREACHABLE = 3;
/** Code of {@link ICMP_DEST_UNREACHABLE} that carries the MTU of the next hop (RFC 1191). */
export const ICMP_FRAGMENTATION_NEEDED = 4;

/** `port unreachable` for type 3, code 3; only the type's name for a code without one; `` for an unknown type. */
export function icmpName(type: number, code: number): string {
  const known = ICMP_NAMES.get(type);
  return known === undefined ? '' : (known.codes[code] ?? known.type);
}

const ICMP_NAMES: ReadonlyMap<number, { readonly type: string; readonly codes: readonly string[] }> = new Map([
  [ICMP_ECHO_REPLY, { type: 'echo reply', codes: [] }],
  [
    ICMP_DEST_UNREACHABLE,
    {
      type: 'destination unreachable',
      codes: [
        'network unreachable',
        'host unreachable',
        'protocol unreachable',
        'port unreachable',
        'fragmentation needed',
        'source route failed',
        'network unknown',
        'host unknown',
        'source host isolated',
        'network prohibited',
        'host prohibited',
        'network unreachable for this type of service',
        'host unreachable for this type of service',
        'communication prohibited',
        'host precedence violation',
        'precedence cutoff',
      ],
    },
  ],
  [
    ICMP_REDIRECT,
    {
      type: 'redirect',
      codes: [
        'network redirect',
        'host redirect',
        'network redirect for this type of service',
        'host redirect for this type of service',
      ],
    },
  ],
  [ICMP_ECHO_REQUEST, { type: 'echo request', codes: [] }],
  [ICMP_TIME_EXCEEDED, { type: 'time exceeded', codes: ['ttl exceeded in transit', 'ttl exceeded during reassembly'] }],
]);
