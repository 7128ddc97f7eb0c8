// One rule for traffic that leaves the cluster: pods appear outside with the address of their node. As kubenet and
// ip-masq-agent write it, appended to POSTROUTING: it leaves out local destinations and everything in the cluster's range.

import { formatPrefix, type Prefix } from '../../packet/ip-address.ts';
import { IptablesCommands, quoted } from '../iptables-commands.ts';
import type { NetworkCluster, NetworkNode } from './pod-network.ts';

export function masqueradeEgress({ host, families }: NetworkNode, { podRange }: NetworkCluster): void {
  for (const { family } of families) {
    const nat = new IptablesCommands(host.root, 'nat', family);
    const range = formatPrefix(podRange(family));
    nat.append(
      'POSTROUTING',
      `-s ${range} ! -d ${range} -m comment --comment ${quoted(COMMENT)} -m addrtype ! --dst-type LOCAL -j MASQUERADE`,
    );
  }
}

const COMMENT = 'masquerade pod traffic that leaves the cluster';

/** kubenet's own, by `--non-masquerade-cidr`; none for 0.0.0.0/0, which leaves it to ip-masq-agent. */
export const kubenetMasqueradeRule = (nonMasqueradeRange: Prefix): string | undefined =>
  nonMasqueradeRange.length === 0
    ? undefined
    : `! -d ${formatPrefix(nonMasqueradeRange)} -m addrtype ! --dst-type LOCAL -j MASQUERADE`;
