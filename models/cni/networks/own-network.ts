// A network of the user's own: a list of plugins, some of which may be the user's, over routes between nodes (host-gw).
//
//   new Cluster({ seed, cni: ownNetwork({ plugins: [mine], configList: ({ ranges }) => ({ … }) }) })

import { readNetworkConfigList } from '../network-config.ts';
import type { CniPlugin } from '../plugin.ts';
import type { RangeConfig } from '../plugins/address-range.ts';
import { rangesOf } from './bridged-network.ts';
import { HostGateway } from './host-gateway.ts';
import { masqueradeEgress } from './masquerade-egress.ts';
import { NodeRangeNetwork } from './node-range-network.ts';
import type { NetworkCluster, PodNetwork } from './pod-network.ts';

export interface OwnNetwork {
  /** Beside those that every node has; one of the same type goes first. */
  readonly plugins?: readonly CniPlugin[];
  /** What stands in the node's `/etc/cni/net.d`. `ranges` are for host-local: the node's. */
  readonly configList: (node: {
    readonly name: string;
    readonly ranges: readonly (readonly RangeConfig[])[];
  }) => unknown;
  /** One rule for what leaves the cluster, as the default network has it. */
  readonly masquerade?: boolean;
}

export const ownNetwork =
  ({ plugins = [], configList, masquerade = true }: OwnNetwork) =>
  (cluster: NetworkCluster): PodNetwork =>
    new NodeRangeNetwork(new HostGateway(cluster.families), (node) => {
      if (masquerade && cluster.masquerades) masqueradeEgress(node, cluster);
      const list = readNetworkConfigList(
        configList({ name: node.name, ranges: rangesOf(node) }),
        `network of ${node.name}`,
      );
      return { configList: list, plugins, gateways: [] };
    });
