// What a plugin answers an ADD with (CNI specification, section 5), and its JSON. Addresses are numbers here: there are as
// many results as pods.

import {
  addressBits,
  formatIp,
  formatPrefix,
  type Ip,
  type IpAddress,
  type Prefix,
  prefix,
} from '../packet/ip-address.ts';
import { formatMac, type Mac } from '../packet/mac.ts';
import type { Dns } from './network-config.ts';

export interface ResultInterface {
  readonly name: string;
  readonly mac: Mac;
  /** Of an interface inside: the path of its network namespace. */
  readonly sandbox?: string;
}

export interface ResultIp extends IpAddress {
  /** Of its subnet. */
  readonly length: number;
  readonly gateway?: Ip | undefined;
  /** In the list of interfaces. */
  readonly interface?: number;
}

export interface ResultRoute {
  readonly dst: Prefix;
  readonly gw?: Ip | undefined;
}

export interface CniResult {
  readonly interfaces: readonly ResultInterface[];
  /** One of each IP family that the network has, the first one first. */
  readonly ips: readonly ResultIp[];
  readonly routes: readonly ResultRoute[];
  readonly dns: Dns;
}

export const NO_RESULT: CniResult = { interfaces: [], ips: [], routes: [], dns: {} };

export const subnetOf = ({ ip, length, family }: ResultIp): Prefix => prefix(ip, length, family);

/** An address that is its own subnet: a /32 or /128. */
export const isAlone = ({ length, family }: ResultIp): boolean => length === addressBits(family);

/** Where the container runtime has put the namespace. */
export const sandboxPath = (namespace: string): string => `/var/run/netns/${namespace}`;

/** As a plugin prints it. What an IPAM plugin says has no interfaces. */
export function resultJson({ interfaces, ips, routes, dns }: CniResult, cniVersion: string): object {
  return {
    cniVersion,
    ...(interfaces.length > 0 && {
      interfaces: interfaces.map(({ name, mac, sandbox }) => ({
        name,
        mac: formatMac(mac),
        ...(sandbox && { sandbox }),
      })),
    }),
    ips: ips.map(({ family, ip, length, gateway, interface: index }) => ({
      address: `${formatIp(ip, family)}/${length}`,
      ...(gateway !== undefined && { gateway: formatIp(gateway, family) }),
      ...(index !== undefined && { interface: index }),
    })),
    routes: routes.map(({ dst, gw }) => ({
      dst: formatPrefix(dst),
      ...(gw !== undefined && { gw: formatIp(gw, dst.family) }),
    })),
    dns,
  };
}
