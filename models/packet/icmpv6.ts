// ICMPv6 types and codes, and what people call them (RFC 4443, RFC 4861; names as in `ip6tables -p icmpv6 -h`, with
// spaces and one spelling of "neighbor").

export const ICMPV6_DEST_UNREACHABLE = 1;
export const ICMPV6_PACKET_TOO_BIG = 2;
export const ICMPV6_TIME_EXCEEDED = 3;
export const ICMPV6_PARAMETER_PROBLEM = 4;
export const ICMPV6_ECHO_REQUEST = 128;
export const ICMPV6_ECHO_REPLY = 129;
export const ICMPV6_ROUTER_SOLICITATION = 133;
export const ICMPV6_ROUTER_ADVERTISEMENT = 134;
export const ICMPV6_NEIGHBOR_SOLICITATION = 135;
export const ICMPV6_NEIGHBOR_ADVERTISEMENT = 136;
export const ICMPV6_REDIRECT = 137;

/** Codes of {@link ICMPV6_DEST_UNREACHABLE}. */
export const ICMPV6_NO_ROUTE = 0;
export const ICMPV6_ADMIN_PROHIBITED = 1;
export const ICMPV6_BEYOND_SCOPE = 2;
export const ICMPV6_ADDRESS_UNREACHABLE = 3;
export const ICMPV6_PORT_UNREACHABLE = 4;
export const ICMPV6_POLICY_FAIL = 5;
export const ICMPV6_REJECT_ROUTE = 6;

/** Code of {@link ICMPV6_PARAMETER_PROBLEM}. */
export const ICMPV6_UNKNOWN_NEXT_HEADER = 1;

/** Errors have types below 128, informational messages the others (RFC 4443 2.1). */
export const isIcmpv6Error = (type: number): boolean => type < 128;

/** `port unreachable` for type 1, code 4; only the type's name for a code without one; `` for an unknown type. */
export function icmpv6Name(type: number, code: number): string {
  const known = ICMPV6_NAMES.get(type);
  return known === undefined ? '' : (known.codes[code] ?? known.type);
}

const ICMPV6_NAMES: ReadonlyMap<number, { readonly type: string; readonly codes: readonly string[] }> = new Map([
  [
    ICMPV6_DEST_UNREACHABLE,
    {
      type: 'destination unreachable',
      codes: [
        'no route',
        'communication prohibited',
        'beyond scope',
        'address unreachable',
        'port unreachable',
        'failed policy',
        'reject route',
      ],
    },
  ],
  [ICMPV6_PACKET_TOO_BIG, { type: 'packet too big', codes: [] }],
  [ICMPV6_TIME_EXCEEDED, { type: 'time exceeded', codes: ['ttl zero during transit', 'ttl zero during reassembly'] }],
  [
    ICMPV6_PARAMETER_PROBLEM,
    { type: 'parameter problem', codes: ['bad header', 'unknown header type', 'unknown option'] },
  ],
  [ICMPV6_ECHO_REQUEST, { type: 'echo request', codes: [] }],
  [ICMPV6_ECHO_REPLY, { type: 'echo reply', codes: [] }],
  [ICMPV6_ROUTER_SOLICITATION, { type: 'router solicitation', codes: [] }],
  [ICMPV6_ROUTER_ADVERTISEMENT, { type: 'router advertisement', codes: [] }],
  [ICMPV6_NEIGHBOR_SOLICITATION, { type: 'neighbor solicitation', codes: [] }],
  [ICMPV6_NEIGHBOR_ADVERTISEMENT, { type: 'neighbor advertisement', codes: [] }],
  [ICMPV6_REDIRECT, { type: 'redirect', codes: [] }],
]);
