// kube-proxy on a node, whichever mode it runs in (`--proxy-mode`).

import type { RandomStream } from '../../../engine/random.ts';
import type { Instant } from '../../../engine/time.ts';
import type { Nftables } from '../../netfilter/nft/nftables.ts';
import type { RuleTables } from '../../netfilter/rule-tables.ts';
import type { ClusterRanges } from '../ranges.ts';
import { DEFAULT_IPTABLES_CONFIG, IptablesProxier, type SyncReport } from './iptables.ts';
import { ServiceChainCache } from './iptables-chain-cache.ts';
import { DEFAULT_NFTABLES_CONFIG, NftablesProxier } from './nftables.ts';
import { NftChainCache } from './nftables-chain-cache.ts';
import type { ProxyNode } from './port-on-node.ts';
import type { ServiceSnapshot } from './service-tracker.ts';

export const PROXY_MODES = ['iptables', 'nftables'] as const;
export type ProxyMode = (typeof PROXY_MODES)[number];

/** What proxiers of a cluster have in common, by mode. */
export class ProxyCaches {
  readonly iptables = new ServiceChainCache();
  readonly nftables = new NftChainCache();
}

interface NodeRules {
  readonly tables: RuleTables;
  readonly nftables: Nftables;
}

/** What every mode can do. */
export interface Proxier {
  /** Makes the node's rules serve these services; the report is not of all modes. */
  sync(
    rules: NodeRules,
    services: ServiceSnapshot,
    now: Instant,
  ): { readonly noLocalEndpoints?: SyncReport['noLocalEndpoints'] };
  /** What the next sync is going to be. */
  nextKind(rules: NodeRules): 'full' | 'partial';
  needFullSync(): void;
}

export function startProxy(
  mode: ProxyMode,
  options: {
    readonly node: ProxyNode;
    readonly ranges: ClusterRanges;
    readonly caches: ProxyCaches;
    readonly random: RandomStream;
  },
): Proxier {
  const { node, ranges, caches, random } = options;
  const localDetector = { mode: 'ClusterCIDR', cidr: ranges.pod } as const;
  if (mode === 'iptables') {
    const config = { ...DEFAULT_IPTABLES_CONFIG, localDetector };
    const proxier = new IptablesProxier({ node, config, cache: caches.iptables, random });
    return {
      sync: ({ tables }, services) => proxier.write(tables, services),
      nextKind: ({ tables }) => proxier.nextKind(tables),
      needFullSync: () => proxier.needFullSync(),
    };
  }
  const serviceRanges = [ranges.service, ranges.secondaryService].filter((range) => range !== undefined);
  const config = { ...DEFAULT_NFTABLES_CONFIG, localDetector, serviceRanges };
  const proxier = new NftablesProxier({ node, config, cache: caches.nftables });
  return {
    sync({ nftables }, services, now) {
      proxier.sync(nftables, services, now);
      return {};
    },
    nextKind: ({ nftables }) => proxier.nextKind(nftables),
    needFullSync: () => proxier.needFullSync(),
  };
}
