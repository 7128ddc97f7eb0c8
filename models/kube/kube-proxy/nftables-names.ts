// Names of the chains and sets in table kube-proxy that belong to one service port or one endpoint. They say what they
// stand for; a hash in front keeps those apart that are cut.

import { base32OfSha256, type ChainOwner } from './chain-names.ts';
import type { Endpoint } from './service-ports.ts';

export interface NftServiceNames {
  /** Load balancing over the endpoints of the whole cluster. */
  readonly cluster: string;
  /** Load balancing over the endpoints of this node: traffic policy Local. */
  readonly local: string;
  /** Where traffic from outside enters: node ports, external addresses, load balancers. */
  readonly external: string;
  /** Drops what loadBalancerSourceRanges do not let in. */
  readonly firewall: string;
}

export function nftServiceNames(owner: ChainOwner): NftServiceNames {
  const base = hashed(ownerText(owner));
  return {
    cluster: `service-${base}`,
    local: `local-${base}`,
    external: `external-${base}`,
    firewall: `firewall-${base}`,
  };
}

export interface NftEndpointNames {
  /** Translates to the endpoint. */
  readonly chain: string;
  /** The clients that stick to the endpoint. */
  readonly affinity: string;
}

/** `address` is `10.244.1.5:8080` or `[fd00::5]:8080`. */
export function nftEndpointNames(
  owner: ChainOwner,
  { address, port }: Pick<Endpoint, 'address' | 'port'>,
): NftEndpointNames {
  // Names have no colons.
  const ip = address.slice(0, address.lastIndexOf(':')).replace(/[[\]]/g, '').replaceAll(':', '.');
  const base = hashed(`${ownerText(owner)}__${ip}/${port}`);
  return { chain: `endpoint-${base}`, affinity: `affinity-${base}` };
}

/** `namespace/name/protocol/port`; of a port without a name, the last part is empty. */
function ownerText({ name, protocol }: ChainOwner): string {
  const [service, port = ''] = name.split(':');
  return `${service}/${protocol}/${port}`;
}

/** What the kernel lets a name have, less the longest of the prefixes above and a reserve (NFT_NAME_MAXLEN). */
const LONGEST_BASE = 240;
const HASH_CHARACTERS = 8;

function hashed(text: string): string {
  const name = `${base32OfSha256(text, HASH_CHARACTERS)}-${text}`;
  return name.length <= LONGEST_BASE ? name : `${name.slice(0, LONGEST_BASE - 3)}...`;
}
