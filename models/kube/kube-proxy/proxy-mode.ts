// kube-proxy on a node, whichever mode it runs in (`--proxy-mode`).

import type { RandomStream } from '../../../engine/random.ts';
import type { Duration, Instant } from '../../../engine/time.ts';
import type { Nftables } from '../../netfilter/nft/nftables.ts';
import type { RuleTables } from '../../netfilter/rule-tables.ts';
import type { IpFamily } from '../../packet/ip-address.ts';
import { type ClusterRanges, rangeOf } from '../ranges.ts';
import { DEFAULT_IPTABLES_CONFIG, IptablesProxier, type SyncReport } from './iptables.ts';
import { ServiceChainCache } from './iptables-chain-cache.ts';
import { DEFAULT_NFTABLES_CONFIG, NftablesProxier } from './nftables.ts';
import { NftChainCache } from './nftables-chain-cache.ts';
import type { ProxyNode } from './port-on-node.ts';
import type { ServiceSnapshot } from './service-tracker.ts';

export const PROXY_MODES = ['iptables', 'nftables'] as const;
export type ProxyMode = (typeof PROXY_MODES)[number];

/** What proxiers of one IP family of a cluster have in common, by mode. */
export class ProxyCaches {
  readonly iptables = new ServiceChainCache();
  readonly nftables = new NftChainCache();
}

export interface NodeRules {
  readonly tables: RuleTables;
  readonly tables6: RuleTables;
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
    readonly family: IpFamily;
    readonly ranges: ClusterRanges;
    readonly caches: ProxyCaches;
    readonly random: RandomStream;
    readonly sync: { readonly syncPeriod: Duration };
  },
): Proxier {
  const { node, family, ranges, caches, random } = options;
  const { syncPeriod } = options.sync;
  const localDetector = { mode: 'ClusterCIDR', cidr: rangeOf(ranges, 'pod', family)! } as const;
  if (mode === 'iptables') {
    const config = { ...DEFAULT_IPTABLES_CONFIG, family, localDetector };
    const proxier = new IptablesProxier({ node, config, cache: caches.iptables, random, syncPeriod });
    const ownTables = ({ tables, tables6 }: NodeRules): RuleTables => (family === 6 ? tables6 : tables);
    return {
      sync: (rules, services, now) => proxier.write(ownTables(rules), services, now),
      nextKind: (rules) => proxier.nextKind(ownTables(rules)),
      needFullSync: () => proxier.needFullSync(),
    };
  }
  const serviceRanges = [ranges.service, ranges.secondaryService].filter((range) => range !== undefined);
  const config = { ...DEFAULT_NFTABLES_CONFIG, family, localDetector, serviceRanges };
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
