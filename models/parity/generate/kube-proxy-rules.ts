// What kube-proxy writes on a node of a generated cluster, in either mode and for both families, with flags drawn at
// random; as text for the tools that load it.

import { RandomStream } from '../../../engine/random.ts';
import { START } from '../../../engine/time.ts';
import { DEFAULT_IPTABLES_CONFIG, type IptablesConfig, IptablesProxier } from '../../kube/kube-proxy/iptables.ts';
import type { LocalDetector } from '../../kube/kube-proxy/local-detector.ts';
import { DEFAULT_NFTABLES_CONFIG, type NftablesConfig, NftablesProxier } from '../../kube/kube-proxy/nftables.ts';
import type { NodePortAddresses } from '../../kube/kube-proxy/node-port-addresses.ts';
import type { ProxyNode } from '../../kube/kube-proxy/port-on-node.ts';
import type { ProxyCaches } from '../../kube/kube-proxy/proxy-mode.ts';
import { type ServiceSnapshot, ServiceTracker } from '../../kube/kube-proxy/service-tracker.ts';
import { printIptablesSave } from '../../netfilter/iptables-save.ts';
import { Nftables } from '../../netfilter/nft/nftables.ts';
import { RuleTables } from '../../netfilter/rule-tables.ts';
import { parseAddress, parseAnyPrefix } from '../../packet/ip-address.ts';
import type { NodeRules } from '../case.ts';
import type { Draw } from './draw.ts';
import type { DrawnService } from './service-cluster.ts';
import { type ClusterNode, POD_RANGE, POD_RANGE6, SERVICE_RANGE, SERVICE_RANGE6 } from './service-network.ts';

type Family = 4 | 6;
const FAMILIES = [4, 6] as const;

/** kube-proxy's command line, as far as rules depend on it. */
export interface ProxyFlags {
  readonly masqueradeAll: boolean;
  readonly detectLocalMode: LocalDetector['mode'];
  readonly nodePortAddresses: NodePortAddresses;
  readonly localhostNodePorts: boolean;
  readonly randomFully: boolean;
}

/** The modes of kube-proxy whose rules are all that it writes, so that any kernel can take them. */
export const SERVICE_PROXIES = ['iptables', 'nftables'] as const;
export type ServiceProxy = (typeof SERVICE_PROXIES)[number];

export const drawFlags = (draw: Draw, mode: ServiceProxy): ProxyFlags => ({
  masqueradeAll: draw.chance(0.15),
  detectLocalMode: draw.weighted<LocalDetector['mode']>([
    [6, () => 'ClusterCIDR'],
    [2, () => 'BridgeInterface'],
    [2, () => 'InterfaceNamePrefix'],
    [1, () => 'None'],
  ]),
  nodePortAddresses: draw.weighted<ProxyFlags['nodePortAddresses']>([
    [mode === 'nftables' ? 5 : 2, () => 'primary'],
    [mode === 'nftables' ? 2 : 5, () => []],
    [2, () => ['192.168.1.0/24', 'fd00:1::/64'].map(parseAnyPrefix)],
  ]),
  localhostNodePorts: draw.chance(0.8),
  randomFully: draw.chance(0.5),
});

/** What kube-proxies have heard, by family. */
export type Snapshots = Readonly<Record<Family, ServiceSnapshot>>;

export function snapshotsOf(services: readonly DrawnService[]): Snapshots {
  const snapshotOf = (family: Family): ServiceSnapshot => {
    const tracker = new ServiceTracker({ family });
    for (const { service, slices } of services)
      for (const object of [service, ...slices]) tracker.apply({ type: 'ADDED', object });
    return tracker.snapshot();
  };
  return { 4: snapshotOf(4), 6: snapshotOf(6) };
}

interface ProxiedNode {
  readonly node: ClusterNode;
  readonly flags: ProxyFlags;
  readonly snapshots: Snapshots;
  readonly caches: ProxyCaches;
}

/** `seed` of the order in which Services stand. */
export function iptablesRules(
  { node, flags, snapshots, caches }: ProxiedNode,
  { backend, seed }: { readonly backend: 'legacy' | 'nft'; readonly seed: string },
): NodeRules {
  const [text, text6] = FAMILIES.map((family) => {
    const { detectLocalMode, ...same } = flags;
    const config: IptablesConfig = {
      ...DEFAULT_IPTABLES_CONFIG,
      ...same,
      family,
      localDetector: detectorOf(detectLocalMode, family),
    };
    const tables = new RuleTables(family);
    const random = new RandomStream(`${seed}/${node.name}/${family}`);
    const proxier = new IptablesProxier({ node: proxyNode(node, family), config, cache: caches.iptables, random });
    proxier.sync(tables, snapshots[family], START);
    return printIptablesSave(tables);
  });
  return { backend, text: text!, text6: text6! };
}

export function nftablesRules({ node, flags, snapshots, caches }: ProxiedNode): NodeRules {
  const nftables = new Nftables(() => START);
  for (const family of FAMILIES) {
    const { masqueradeAll, nodePortAddresses, detectLocalMode } = flags;
    const config: NftablesConfig = {
      ...DEFAULT_NFTABLES_CONFIG,
      ...{ family, masqueradeAll, nodePortAddresses },
      localDetector: detectorOf(detectLocalMode, family),
      serviceRanges: [parseAnyPrefix(family === 4 ? SERVICE_RANGE : SERVICE_RANGE6)],
    };
    const proxier = new NftablesProxier({ node: proxyNode(node, family), config, cache: caches.nftables });
    proxier.sync(nftables, snapshots[family], START);
  }
  return { backend: 'nftnative', text: nftables.list() };
}

const proxyNode = ({ name, zone, ip, ip6, gateway, gateway6 }: ClusterNode, family: Family): ProxyNode => ({
  ...{ name, zone },
  ips: (family === 4 ? [ip, gateway] : [ip6, gateway6]).map((address) => parseAddress(address).ip),
});

function detectorOf(mode: LocalDetector['mode'], family: Family): LocalDetector {
  switch (mode) {
    case 'ClusterCIDR':
    case 'NodeCIDR':
      return { mode, cidr: parseAnyPrefix(family === 4 ? POD_RANGE : POD_RANGE6) };
    case 'BridgeInterface':
      return { mode, device: 'cbr0' };
    case 'InterfaceNamePrefix':
      return { mode, prefix: 'cbr' };
    case 'None':
      return { mode };
  }
}
