// kindnet, the network of kind: the plugins ptp and host-local, routes to other nodes' ranges by their addresses, and a
// chain that masquerades what leaves the pods' networks. Without a bridge: pods of one node reach each other by its routes.

import { formatPrefix, type Prefix } from '../../packet/ip-address.ts';
import type { CniHost } from '../cni-host.ts';
import { IptablesCommands } from '../iptables-commands.ts';
import { HOST_PORTS_AND_LIMITS } from './bridge-network.ts';
import { defaultRoutes, rangesOf } from './bridged-network.ts';
import { HostGateway } from './host-gateway.ts';
import { NodeRangeNetwork } from './node-range-network.ts';
import type { NetworkCluster, PodNetwork } from './pod-network.ts';

const CHAIN = 'KIND-MASQ-AGENT';

export function kindnetNetwork(cluster: NetworkCluster): PodNetwork {
  return new NodeRangeNetwork(new HostGateway(cluster.families), (node) => {
    if (cluster.masquerades)
      for (const { family } of node.families) setMasqueradeChain(node.host, cluster.podRange(family));
    const ipam = {
      ...{ type: 'host-local', dataDir: '/run/cni-ipam-state' },
      ...{ ranges: rangesOf(node), routes: defaultRoutes(node) },
    };
    const mtu = cluster.bridge.mtuBytes ?? node.nic.mtuBytes;
    const plugins = [{ type: 'ptp', ipMasq: false, mtu, ipam }, ...HOST_PORTS_AND_LIMITS];
    return { configList: { cniVersion: '0.3.1', name: 'kindnet', plugins }, gateways: [] };
  });
}

/** What leaves the pods' network has the node's address outside. */
export function setMasqueradeChain({ root }: CniHost, podRange: Prefix): void {
  const nat = new IptablesCommands(root, 'nat', podRange.family);
  nat.clearChain(CHAIN);
  nat.append(CHAIN, `-d ${formatPrefix(podRange)} -j RETURN`);
  nat.append(CHAIN, '-j MASQUERADE');
  nat.ensure('POSTROUTING', `-m addrtype ! --dst-type LOCAL -j ${CHAIN}`);
}
