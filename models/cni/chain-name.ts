// Names of the iptables chains that plugins make for one container of one network: at most 28 characters, so that most of
// them are a hash (pkg/utils of containernetworking/plugins).

import { createHash } from 'node:crypto';

const MOST_CHARACTERS = 28;

export function chainNameOf(network: string, containerId: string, prefix = ''): string {
  const hash = createHash('sha512')
    .update(network + containerId)
    .digest('hex');
  return `CNI-${prefix}${hash}`.slice(0, MOST_CHARACTERS);
}

/** Of the rules about a container. */
export const commentOf = (network: string, containerId: string): string => `name: "${network}" id: "${containerId}"`;

/** As the same rules' comments in nftables: short, and found again by it. */
export const hashOf = (text: string): string => createHash('sha512').update(text).digest('hex').slice(0, 16);
