// The default: a bridge per node, addresses of the node's range, routes between nodes (host-gw) and one masquerade rule. As
// kubenet and flannel's host-gw do it, but for details of theirs.

import { DEFAULT_MTU_BYTES } from '../../link/net-device.ts';
import { defaultRoutes, rangesOf, setUpBridge } from './bridged-network.ts';
import { HostGateway } from './host-gateway.ts';
import { masqueradeEgress } from './masquerade-egress.ts';
import { NodeRangeNetwork } from './node-range-network.ts';
import type { NetworkCluster, PodNetwork } from './pod-network.ts';

export function bridgeNetwork(cluster: NetworkCluster): PodNetwork {
  const { bridge: settings } = cluster;
  const { bridge: name = 'cbr0', mtuBytes = DEFAULT_MTU_BYTES, hairpinMode = true, promiscuous = false } = settings;
  return new NodeRangeNetwork(new HostGateway(cluster.families), (node) => {
    if (cluster.masquerades) masqueradeEgress(node, cluster);
    const gateways = setUpBridge(node, { name, mtuBytes, settings });
    const ipam = { type: 'host-local', ranges: rangesOf(node), routes: defaultRoutes(node) };
    const bridge = {
      type: 'bridge',
      bridge: name,
      mtu: mtuBytes,
      isGateway: true,
      hairpinMode,
      promiscMode: promiscuous,
      ipam,
    };
    const plugins = [bridge, ...HOST_PORTS_AND_LIMITS];
    return { configList: { cniVersion: '1.0.0', name: 'pods', plugins }, gateways };
  });
}

/** Behind the plugin that connects a container: its host ports, and its annotations of bandwidth. */
export const HOST_PORTS_AND_LIMITS = [
  { type: 'portmap', capabilities: { portMappings: true } },
  { type: 'bandwidth', capabilities: { bandwidth: true } },
] as const;
