// kubenet, the kubelet's own network up to Kubernetes 1.23: the plugins bridge, host-local and loopback with the bridge
// cbr0, one masquerade rule, and routes that the cloud makes (here as host-gw). Source: pkg/kubelet/dockershim/network/
// kubenet/kubenet_linux.go. IPv4 and dual stack.
//
// Not modelled: ebtables' deduplication in hairpin mode `promiscuous-bridge` (a pod may get packets that a Service
// sends it on its own node twice; on Linux 6.18 that mode lets no pod reach itself), and its own manager of host ports, in place of which portmap does it.

import { LoopbackDevice } from '../../link/loopback.ts';
import type { NetDevice } from '../../link/net-device.ts';
import { type Prefix, parsePrefix } from '../../packet/ip-address.ts';
import { failure } from '../cni-error.ts';
import { IptablesCommands } from '../iptables-commands.ts';
import type { NetworkConfigList } from '../network-config.ts';
import type { RangeConfig } from '../plugins/address-range.ts';
import type { RouteConfig } from '../plugins/host-local.ts';
import { HOST_PORTS_AND_LIMITS } from './bridge-network.ts';
import { defaultRoutes, rangesOf, setUpBridge } from './bridged-network.ts';
import { HostGateway } from './host-gateway.ts';
import { kubenetMasqueradeRule } from './masquerade-egress.ts';
import { NodeRangeNetwork } from './node-range-network.ts';
import type { NetworkCluster, PodNetwork } from './pod-network.ts';

export const KUBENET_BRIDGE = 'cbr0';

/** `--hairpin-mode` of the kubelet. */
export const HAIRPIN_MODES = ['promiscuous-bridge', 'hairpin-veth', 'none'] as const;
export type HairpinMode = (typeof HAIRPIN_MODES)[number];

/** `--non-masquerade-cidr` of the kubelet: its default. */
export const DEFAULT_NON_MASQUERADE_RANGE = parsePrefix('10.0.0.0/8');

/** Where no interface says. */
const FALLBACK_MTU_BYTES = 1460;

/** The smallest MTU of the node's interfaces, loopback aside. */
export function mtuOfNode(devices: readonly Pick<NetDevice, 'name' | 'mtuBytes'>[]): number {
  const others = devices.filter((device) => !(device instanceof LoopbackDevice) && device.name !== 'lo');
  return others.length === 0 ? FALLBACK_MTU_BYTES : Math.min(...others.map(({ mtuBytes }) => mtuBytes));
}

export const hairpinOptions = (mode: HairpinMode) => ({
  hairpinMode: mode === 'hairpin-veth',
  promiscMode: mode === 'promiscuous-bridge',
});

export interface KubenetConfig {
  readonly mtuBytes: number;
  readonly hairpin: HairpinMode;
  /** Undefined: the node has none yet. */
  readonly ranges: readonly (readonly RangeConfig[])[] | undefined;
  readonly routes: readonly RouteConfig[];
}

/** What kubenet hands to the plugins. Later changes of the node's ranges are ignored: call it once. Throws a CniError before. */
export function kubenetConfigList({ mtuBytes, hairpin, ranges, routes }: KubenetConfig): NetworkConfigList {
  if (ranges === undefined || ranges.length === 0) throw failure('kubenet: not ready: the node has no pod range yet');
  const ipam = { type: 'host-local', ranges, routes };
  const { hairpinMode } = hairpinOptions(hairpin);
  const bridge = {
    type: 'bridge',
    bridge: KUBENET_BRIDGE,
    mtu: mtuBytes,
    isGateway: true,
    ipMasq: false,
    hairpinMode,
    ipam,
  };
  const version = ranges.length > 1 ? '0.3.0' : KUBENET_CNI_VERSION; // one address per family
  return { cniVersion: version, name: 'kubenet', plugins: [bridge, { type: 'loopback' }] };
}

export const KUBENET_CNI_VERSION = '0.1.0';

export function kubenetNetwork(
  cluster: NetworkCluster,
  nonMasqueradeRange: Prefix = DEFAULT_NON_MASQUERADE_RANGE,
): PodNetwork {
  const { bridge: settings } = cluster;
  return new NodeRangeNetwork(new HostGateway(cluster.families), (node) => {
    const mtuBytes = settings.mtuBytes ?? mtuOfNode(node.host.root.devices);
    const hairpin = settings.promiscuous
      ? 'promiscuous-bridge'
      : (settings.hairpinMode ?? true)
        ? 'hairpin-veth'
        : 'none';
    const gateways = setUpBridge(node, { name: KUBENET_BRIDGE, mtuBytes, settings });
    for (const { family } of node.families) {
      const range = family === 4 ? nonMasqueradeRange : cluster.podRange(6);
      const rule = kubenetMasqueradeRule(range);
      if (rule !== undefined && cluster.masquerades)
        new IptablesCommands(node.host.root, 'nat', family).append('POSTROUTING', rule);
    }
    const { plugins, ...list } = kubenetConfigList({
      mtuBytes,
      hairpin,
      ranges: rangesOf(node),
      routes: defaultRoutes(node),
    });
    return { configList: { ...list, plugins: [...plugins, ...HOST_PORTS_AND_LIMITS] }, gateways };
  });
}
