// The contract of the Container Network Interface (CNI specification 1.0): a plugin connects the network namespace of a
// container on ADD and disconnects it on DEL; an IPAM plugin hands out the addresses.

import type { Machine } from '../host/machine.ts';
import type { NetworkNamespace } from '../host/network-namespace.ts';
import type { Ip, Prefix } from '../packet/ip-address.ts';

export interface CniArguments {
  readonly containerId: string;
  readonly namespace: NetworkNamespace;
  readonly machine: Machine;
  /** Name of the interface inside, `eth0` in Kubernetes. */
  readonly interfaceName: string;
  /** An address that must be used, as for a pod of a snapshot; else the IPAM plugin chooses. */
  readonly requestedIp?: Ip;
}

export interface CniResult {
  readonly ip: Ip;
  readonly subnet: Prefix;
  readonly gateway: Ip;
}

export interface CniPlugin {
  readonly type: string;
  add(args: CniArguments): CniResult;
  /** Idempotent: deleting what is not there is fine. */
  del(args: CniArguments): void;
  /** Throws an Error that says what is missing. */
  check(args: CniArguments): void;
}

export interface IpamLease {
  readonly ip: Ip;
  readonly subnet: Prefix;
  readonly gateway: Ip;
}

export interface Ipam {
  readonly type: string;
  readonly gateway: Ip;
  allocate(containerId: string, requestedIp?: Ip): IpamLease;
  release(containerId: string): void;
}
