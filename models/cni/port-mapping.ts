// Host ports of a container, as kubelets give them to the network's plugins (capability `portMappings`).

import type { Ip, IpFamily } from '../packet/ip-address.ts';
import { formatIp, parseAddress } from '../packet/ip-address.ts';
import { invalidConfig } from './cni-error.ts';
import { show } from './options.ts';

/** As in `runtimeConfig`. */
export interface PortMapping {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: string;
  /** Absent, `0.0.0.0` or `::`: every address of the node. */
  readonly hostIP?: string;
}

export interface HostPort {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  /** Undefined: any. */
  readonly hostIp: Ip | undefined;
  /** Undefined: both. */
  readonly family: IpFamily | undefined;
}

/** Throws a CniError for what is no mapping. */
export function readPortMapping(mapping: PortMapping): HostPort {
  const { hostPort, containerPort, protocol, hostIP } = mapping;
  if (!isPort(containerPort))
    throw invalidConfig(`plugin portmap: invalid container port ${show(containerPort)}; expected 1 to 65535`);
  if (!isPort(hostPort))
    throw invalidConfig(`plugin portmap: invalid host port ${show(hostPort)}; expected 1 to 65535`);
  const name = protocol.toLowerCase();
  if (name !== 'tcp' && name !== 'udp' && name !== 'sctp')
    throw invalidConfig(`plugin portmap: protocol ${show(protocol)}; expected tcp, udp or sctp`);
  const address = hostIP === undefined || hostIP === '' ? undefined : parseAddress(hostIP);
  const isAny = address === undefined || ['0.0.0.0', '::'].includes(formatIp(address.ip, address.family));
  return { hostPort, containerPort, protocol: name, hostIp: isAny ? undefined : address?.ip, family: address?.family };
}

const isPort = (port: unknown): boolean =>
  Number.isInteger(port) && (port as number) >= 1 && (port as number) <= 65_535;
