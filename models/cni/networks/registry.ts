// The networks that a cluster can have by name: one line each.

import type { IpFamily } from '../../packet/ip-address.ts';
import { CNI_ERROR, CniError } from '../cni-error.ts';
import { bridgeNetwork } from './bridge-network.ts';
import { calicoNetwork } from './calico.ts';
import { flannelNetwork } from './flannel.ts';
import { kindnetNetwork } from './kindnet.ts';
import { kubenetNetwork } from './kubenet.ts';
import type { NetworkCluster, PodNetwork } from './pod-network.ts';

export const CNI_NETWORKS = [
  'bridge',
  'kubenet',
  'flannel-vxlan',
  'flannel-direct',
  'flannel-host-gw',
  'kindnet',
  'calico',
  'calico-ipip',
  'calico-vxlan',
] as const;
export type CniNetworkName = (typeof CNI_NETWORKS)[number];

/** By name, or a user's own. */
export type NetworkChoice = CniNetworkName | ((cluster: NetworkCluster) => PodNetwork);

interface Entry {
  readonly make: (cluster: NetworkCluster) => PodNetwork;
  /** Its nodes have a bridge, which the bridge's settings are about. */
  readonly hasBridge: boolean;
  readonly families: readonly IpFamily[];
}

const BOTH: readonly IpFamily[] = [4, 6];
const IPV4: readonly IpFamily[] = [4];

const NETWORKS: Readonly<Record<CniNetworkName, Entry>> = {
  bridge: { make: bridgeNetwork, hasBridge: true, families: BOTH },
  kubenet: { make: (cluster) => kubenetNetwork(cluster), hasBridge: true, families: BOTH },
  'flannel-vxlan': { make: (cluster) => flannelNetwork(cluster, { Type: 'vxlan' }), hasBridge: true, families: BOTH },
  'flannel-direct': {
    make: (cluster) => flannelNetwork(cluster, { Type: 'vxlan', DirectRouting: true }),
    ...{ hasBridge: true, families: BOTH },
  },
  'flannel-host-gw': {
    make: (cluster) => flannelNetwork(cluster, { Type: 'host-gw' }),
    hasBridge: true,
    families: BOTH,
  },
  kindnet: { make: kindnetNetwork, hasBridge: false, families: BOTH },
  calico: { make: (cluster) => calicoNetwork(cluster, 'none'), hasBridge: false, families: BOTH },
  'calico-ipip': { make: (cluster) => calicoNetwork(cluster, 'ipip'), hasBridge: false, families: IPV4 },
  'calico-vxlan': { make: (cluster) => calicoNetwork(cluster, 'vxlan'), hasBridge: false, families: BOTH },
};

/** What each of them is, for help texts. */
export const CNI_NETWORK_NOTES: Readonly<Record<CniNetworkName, string>> = {
  bridge: 'a bridge per node, routes between nodes',
  kubenet: 'cbr0 as up to Kubernetes 1.23',
  'flannel-vxlan': 'cni0 and tunnels, MTU 1450',
  'flannel-direct': 'the same with DirectRouting',
  'flannel-host-gw': 'cni0 and routes',
  kindnet: 'routed veths of the plugin ptp',
  calico: 'routed veths with proxy ARP, blocks of addresses',
  'calico-ipip': 'the same through IP-in-IP, MTU 1480, IPv4 only',
  'calico-vxlan': 'the same through VXLAN, MTU 1450, with IPv6 1430',
};

/** Throws a CniError for a network that cannot be had with these families or settings. */
export function makeNetwork(choice: NetworkChoice, cluster: NetworkCluster): PodNetwork {
  if (typeof choice === 'function') return choice(cluster);
  if (!Object.hasOwn(NETWORKS, choice))
    throw new CniError(
      CNI_ERROR.invalidConfig,
      `cni ${choice}: unknown network; expected one of ${CNI_NETWORKS.join(', ')}`,
    );
  const { make, hasBridge, families } = NETWORKS[choice];
  const missing = cluster.families.find((family) => !families.includes(family));
  if (missing !== undefined)
    throw new CniError(
      CNI_ERROR.unsupportedField,
      `cni ${choice}: there is no IP-in-IP over IPv${missing}; expected a cluster of IPv4 only, or another network`,
    );
  const { mtuBytes: _, ...ofBridge } = cluster.bridge;
  const [setting] = hasBridge ? [] : Object.keys(ofBridge);
  if (setting !== undefined)
    throw new CniError(CNI_ERROR.unsupportedField, `cni ${choice}: has no bridge; expected no setting ${setting}`);
  return make(cluster);
}
