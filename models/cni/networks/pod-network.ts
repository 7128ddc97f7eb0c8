// A cluster's network for pods, as an administrator chooses it: what its daemon does on every node (devices, rules, the
// configuration that it leaves for the kubelet), and how nodes learn the ways to each other's pods.

import type { NetDevice } from '../../link/net-device.ts';
import type { Ip, IpAddress, IpFamily, Prefix } from '../../packet/ip-address.ts';
import type { CniHost } from '../cni-host.ts';
import type { NetworkConfigList } from '../network-config.ts';
import type { CniPlugin } from '../plugin.ts';

/** What a network knows of the cluster. */
export interface NetworkCluster {
  /** The first one first. */
  readonly families: readonly IpFamily[];
  /** Of all pods. */
  readonly podRange: (family: IpFamily) => Prefix;
  readonly bridge: BridgeSettings;
  /** Do packets that leave the cluster get their node's address from the network? If not, it is left to others. */
  readonly masquerades: boolean;
}

/** Of the nodes' bridges, where a network has them. */
export interface BridgeSettings {
  /** Name of the bridge; absent: the network's own. */
  readonly bridge?: string;
  /** Of bridge and pods; absent: what the network finds. */
  readonly mtuBytes?: number;
  /** May a pod reach itself through a Service? Sets hairpin mode on its port. */
  readonly hairpinMode?: boolean;
  /** net.bridge.bridge-nf-call-iptables, and -ip6tables where pods have IPv6: do bridged frames pass iptables? */
  readonly bridgeNfCallIptables?: boolean;
  /** Bridge in promiscuous mode: kubenet's other way to let pods reach themselves. */
  readonly promiscuous?: boolean;
}

/** A node as a network's daemon finds it, with its addresses and default route. */
export interface NetworkNode {
  readonly name: string;
  readonly host: CniHost;
  readonly nic: NetDevice;
  readonly families: readonly NetworkNodeFamily[];
}

/** The node's address of one family, and the range that is cut for its pods. */
export interface NetworkNodeFamily extends IpAddress {
  readonly podRange: Prefix;
}

export interface PodNetwork {
  /** Do nodes give their pods addresses of the range that is cut for them? */
  readonly usesNodeRanges: boolean;
  /** Sets a node up, before it has pods. Throws a CniError for a node that it cannot use. */
  join(node: NetworkNode): NodeNetwork;
  /** These nodes are known from now on: every node finds the ways to their pods, and they to those of the others. */
  connect(added: readonly NetworkNode[]): void;
  /** The way to one address that lies in no range of its node, as of a pod of a snapshot. */
  routeAlone(address: IpAddress, home: NetworkNode): void;
}

/** What a node has of the network. */
export interface NodeNetwork {
  /** In `/etc/cni/net.d`. */
  readonly configList: NetworkConfigList;
  /** Plugins that come with the network, beside those that every node has. */
  readonly plugins?: readonly CniPlugin[];
  /** The node's own addresses among its pods', where it has such. */
  readonly gateways: readonly IpAddress[];
  /** Is a pod of this node found at the address without more being done? */
  covers(address: IpAddress): boolean;
}

/** How nodes learn the ways to each other's pods: one of the components that networks are made of. */
export interface NodeRouting {
  attach(node: NetworkNode): void;
  /** Every node but `home` finds `destination` by way of `home`, those that come later, too. */
  add(destination: Prefix, home: NetworkNode): void;
  /** The same for many at once. */
  addAll(routes: readonly { readonly destination: Prefix; readonly home: NetworkNode }[]): void;
}

/** The node's address of a family. */
export function addressOf({ name, families }: NetworkNode, family: IpFamily): Ip {
  const own = families.find((candidate) => candidate.family === family);
  if (own === undefined) throw new RangeError(`node ${name} has no IPv${family} address`);
  return own.ip;
}
