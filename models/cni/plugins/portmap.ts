// The plugin `portmap`: host ports of a container, by NAT on its node (plugins/meta/portmap of containernetworking/plugins).
// It stands behind the plugin that connects the container, and passes that one's result on.

import { stackOf } from '../../host/ip-setup.ts';
import { PROTOCOL_UDP } from '../../packet/frame.ts';
import { CNI_ERROR, CniError, failure, invalidConfig } from '../cni-error.ts';
import type { CniHost } from '../cni-host.ts';
import { flag, list, oneOf, optional, text, wholeNumber } from '../options.ts';
import { type CniCall, cniPlugin } from '../plugin.ts';
import { type HostPort, type PortMapping, readPortMapping } from '../port-mapping.ts';
import type { ResultIp } from '../result.ts';
import { IptablesPorts } from './portmap-iptables.ts';
import { NftablesPorts } from './portmap-nftables.ts';

export interface PortmapOptions {
  readonly backend: PortmapBackend | undefined;
  /** Are connections that a container or the node itself makes to the host port masqueraded? */
  readonly snat: boolean;
  readonly markMasqBit: number | undefined;
  readonly externalSetMarkChain: string | undefined;
  readonly masqAll: boolean;
  /** Further matches of the entry rules, in words of iptables. */
  readonly conditionsV4: readonly string[];
  readonly conditionsV6: readonly string[];
}

export const PORTMAP_BACKENDS = ['iptables', 'nftables'] as const;
export type PortmapBackend = (typeof PORTMAP_BACKENDS)[number];

/** What a backend writes for one container and one address. */
export interface MappedContainer {
  readonly host: CniHost;
  readonly network: string;
  readonly containerId: string;
  readonly options: PortmapOptions;
  readonly address: ResultIp;
  readonly ports: readonly HostPort[];
}

export const portmap = cniPlugin<PortmapOptions>({
  type: 'portmap',
  options: {
    backend: optional(oneOf(PORTMAP_BACKENDS, 'iptables')),
    snat: flag(true),
    markMasqBit: optional(wholeNumber(0, { least: -(2 ** 31), most: 2 ** 31 })),
    externalSetMarkChain: optional(text('')),
    masqAll: flag(),
    conditionsV4: list(),
    conditionsV6: list(),
  },

  add(call) {
    const { prevResult, host } = call;
    if (prevResult === undefined)
      throw new CniError(
        CNI_ERROR.invalidConfig,
        'plugin portmap: must be behind a plugin that connects the container',
      );
    checkOptions(call.options);
    const ports = portsOf(call);
    if (ports.length === 0) return prevResult;
    for (const address of firstOfEachFamily(prevResult.ips)) {
      backendOf(call.options).forward({ ...call, address, ports });
      if (call.options.snat) letLocalhostThrough(host, address);
    }
    forgetOldFlows(host, ports);
    return prevResult;
  },

  del(call) {
    if (call.host.root.netfilter === undefined) return;
    const ports = portsOf(call);
    if (ports.length === 0) return; // nothing was forwarded
    const { host, network, containerId } = call;
    for (const backend of Object.values(BACKENDS)) backend.remove({ host, network, containerId });
    forgetOldFlows(host, ports);
  },

  check(call) {
    const { prevResult } = call;
    if (prevResult === undefined) throw invalidConfig('plugin portmap: prevResult: expected the result of ADD');
    const ports = portsOf(call);
    if (ports.length === 0) return;
    for (const address of firstOfEachFamily(prevResult.ips))
      if (!backendOf(call.options).isForwarded({ ...call, address, ports }))
        throw failure(`plugin portmap: rules of container ${call.containerId} are missing`);
  },
});

const BACKENDS = { iptables: new IptablesPorts(), nftables: new NftablesPorts() } as const;

/** Options that only one of them has decide; else iptables, which the nodes here always have. */
export function backendNameOf({
  backend,
  externalSetMarkChain,
  conditionsV4,
  conditionsV6,
}: PortmapOptions): PortmapBackend {
  const isForIptables = externalSetMarkChain !== undefined || conditionsV4.length + conditionsV6.length > 0;
  if (backend === 'nftables' && isForIptables)
    throw invalidConfig('plugin portmap: externalSetMarkChain, conditionsV4 and conditionsV6 are for backend iptables');
  return backend ?? 'iptables';
}

const backendOf = (options: PortmapOptions) => BACKENDS[backendNameOf(options)];

function checkOptions({ markMasqBit, externalSetMarkChain }: PortmapOptions): void {
  if (markMasqBit === undefined) return;
  if (externalSetMarkChain !== undefined)
    throw invalidConfig('plugin portmap: markMasqBit and externalSetMarkChain: expected one of them');
  if (markMasqBit < 0 || markMasqBit > 31)
    throw invalidConfig(`plugin portmap: markMasqBit ${markMasqBit}: out of 0-31`);
}

function portsOf({ config }: CniCall<PortmapOptions>): readonly HostPort[] {
  const { portMappings = [] } = (config.runtimeConfig ?? {}) as { portMappings?: readonly PortMapping[] };
  return portMappings.map(readPortMapping);
}

const firstOfEachFamily = (ips: readonly ResultIp[]): readonly ResultIp[] =>
  ips.filter(({ family }, i) => ips.findIndex((other) => other.family === family) === i);

/** route_localnet on the device that leads to the container: 127.0.0.1 may leave by it. IPv6 has nothing like it. */
function letLocalhostThrough({ root }: CniHost, { family, ip }: ResultIp): void {
  if (family === 6) return;
  const device = stackOf(root, 4).fib.lookup(ip)?.device;
  if (device !== undefined) root.sysctl(`net.ipv4.conf.${device.name}.route_localnet`, 1);
}

/** UDP flows that were tracked before the rules came would go past them. */
function forgetOldFlows({ root }: CniHost, ports: readonly HostPort[]): void {
  const udp = new Set(ports.flatMap(({ protocol, hostPort }) => (protocol === 'udp' ? [hostPort] : [])));
  if (udp.size === 0) return;
  root.netfilter?.conntrack.delete(({ original }) => original.protocol === PROTOCOL_UDP && udp.has(original.dstPort));
}
