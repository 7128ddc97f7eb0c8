// The contract of the Container Network Interface (CNI specification 1.0): a plugin connects the network namespace of a
// container on ADD and disconnects it on DEL; an IPAM plugin hands out the addresses.

import type { Machine } from '../host/machine.ts';
import type { NetworkNamespace } from '../host/network-namespace.ts';
import type { Ip, IpAddress, Prefix } from '../packet/ip-address.ts';

export interface CniArguments {
  readonly containerId: string;
  readonly namespace: NetworkNamespace;
  readonly machine: Machine;
  /** Name of the interface inside, `eth0` in Kubernetes. */
  readonly interfaceName: string;
  /** Addresses that must be used, as for a pod of a snapshot; of other families the IPAM plugin chooses. */
  readonly requestedIps?: readonly IpAddress[];
}

export interface CniResult {
  /** One of each IP family that the network has, the first one first. */
  readonly ips: readonly IpamLease[];
}

export interface CniPlugin {
  readonly type: string;
  add(args: CniArguments): CniResult;
  /** Idempotent: deleting what is not there is fine. */
  del(args: CniArguments): void;
  /** Throws an Error that says what is missing. */
  check(args: CniArguments): void;
}

export interface IpamLease extends IpAddress {
  readonly subnet: Prefix;
  readonly gateway: Ip;
}

export interface Ipam {
  readonly type: string;
  /** The node's own address in each range that pods get one of. */
  readonly gateways: readonly IpamLease[];
  /** One lease of each range, or none and an error. */
  allocate(containerId: string, requestedIps?: readonly IpAddress[]): readonly IpamLease[];
  release(containerId: string): void;
}
