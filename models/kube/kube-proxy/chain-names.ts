// Names of the iptables chains that belong to one service port or one endpoint. A chain name has at most 28 characters,
// so kube-proxy hashes what it stands for: 16 characters of the base32 text of a SHA-256.

import { hash as digestOf } from 'node:crypto';

/** What the name of a service port's chains is made of: `namespace/name:port` and the protocol. */
export interface ChainOwner {
  readonly name: string;
  readonly protocol: string;
}

export interface ServiceChainNames {
  /** Load balancing over the endpoints of the whole cluster. */
  readonly cluster: string;
  /** Load balancing over the endpoints of this node: traffic policy Local. */
  readonly local: string;
  /** Where traffic from outside enters: node ports, external addresses, load balancers. */
  readonly external: string;
  /** Checks loadBalancerSourceRanges in front of `external`. */
  readonly firewall: string;
}

export function serviceChainNames({ name, protocol }: ChainOwner): ServiceChainNames {
  const hash = base32OfSha256(name + protocol, HASH_CHARACTERS);
  return {
    cluster: `KUBE-SVC-${hash}`,
    local: `KUBE-SVL-${hash}`,
    external: `KUBE-EXT-${hash}`,
    firewall: `KUBE-FW-${hash}`,
  };
}

/** The chain that translates to one endpoint, `10.244.1.5:8080` (an IPv6 address in brackets). */
export function endpointChainName({ name, protocol }: ChainOwner, endpoint: string): string {
  const hash = base32OfSha256(name + protocol + endpoint, HASH_CHARACTERS);
  return ['KUBE-SEP', hash].join('-'); // one text; a template's refers to its parts, and there are as many as endpoints
}

const HASH_CHARACTERS = 16;

/** RFC 4648, section 6. */
const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** The beginning of the digest's text; five bits make a character. */
export function base32OfSha256(text: string, characters: number): string {
  const bytes = digestOf('sha256', text, 'binary'); // a character each
  const hash: string[] = [];
  for (let bit = 0; hash.length < characters; bit += 5) {
    const at = bit >> 3;
    const pair = (bytes.charCodeAt(at) << 8) | bytes.charCodeAt(at + 1);
    hash.push(BASE32[(pair >> (11 - (bit & 7))) & 31]!);
  }
  return hash.join('');
}
