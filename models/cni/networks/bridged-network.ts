// What networks with a bridge per node have in common: br_netfilter's switch, and the bridge with the gateways' addresses,
// made before there are pods, as kubelets and the first pod of a real node make it.

import type { IpAddress, IpFamily } from '../../packet/ip-address.ts';
import { contains, formatPrefix } from '../../packet/ip-address.ts';
import type { RangeConfig } from '../plugins/address-range.ts';
import { ensureBridge, ensureGateway } from '../plugins/bridge.ts';
import { gatewaysOf, type RouteConfig } from '../plugins/host-local.ts';
import type { BridgeSettings, NetworkNode } from './pod-network.ts';

export interface BridgeOnNode {
  readonly name: string;
  readonly mtuBytes: number;
  readonly settings: BridgeSettings;
}

/** Returns the gateways: the bridge's own addresses. */
export function setUpBridge(node: NetworkNode, { name, mtuBytes, settings }: BridgeOnNode): readonly IpAddress[] {
  const { host, families } = node;
  const iptables = settings.bridgeNfCallIptables ?? true;
  host.root.bridgeCalls = { iptables, ip6tables: iptables && families.some(({ family }) => family === 6) };
  const promiscMode = settings.promiscuous ?? false;
  const made = ensureBridge(host.machine, { bridge: name, mtu: mtuBytes, promiscMode });
  const gateways = gatewaysOf({ ranges: rangesOf(node) }, host.isReserved);
  for (const gateway of gateways) ensureGateway(host.machine, made, { ...gateway, gateway: gateway.ip });
  return gateways;
}

/** For host-local: a set of the node's range of each family. */
export const rangesOf = ({ families }: NetworkNode): readonly (readonly RangeConfig[])[] =>
  families.map(({ podRange }) => [{ subnet: formatPrefix(podRange) }]);

export const defaultRoutes = ({ families }: NetworkNode): readonly RouteConfig[] =>
  families.map(({ family }) => ({ dst: ANYWHERE[family] }));

const ANYWHERE: Readonly<Record<IpFamily, string>> = { 4: '0.0.0.0/0', 6: '::/0' };

/** In the node's range of the address's family. */
export const isInPodRange = ({ families }: NetworkNode, { family, ip }: IpAddress): boolean =>
  families.some(({ podRange }) => podRange.family === family && contains(podRange, ip));
