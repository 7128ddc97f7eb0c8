// A recorded node with kube-proxy in nftables mode.

import { type Instant, START, s } from '../../engine/time.ts';
import {
  DEFAULT_NFTABLES_CONFIG,
  type NftablesConfig,
  NftablesProxier,
  type NftSyncReport,
} from '../kube/kube-proxy/nftables.ts';
import { NftChainCache } from '../kube/kube-proxy/nftables-chain-cache.ts';
import { Nftables } from '../netfilter/nft/nftables.ts';
import {
  localDetectorOf,
  masqueradeBitOf,
  nodeIpsOf,
  type RecordedCase,
  type RecordedConfig,
  replay,
  type SyncedNode,
  zoneOf,
} from './recorded-case.ts';

export interface NftablesNode extends SyncedNode {
  readonly nftables: Nftables;
  /** Of the last sync. */
  readonly report: NftSyncReport;
}

/** With `staleChainsAged` the last sync comes so late that it deletes the chains which the one before has emptied. */
export function syncNftablesNode(recorded: RecordedCase, { staleChainsAged = false } = {}): NftablesNode {
  const { config } = recorded;
  const proxier = new NftablesProxier({
    node: { name: config.nodeName, zone: zoneOf(config), ips: nodeIpsOf(config) },
    config: nftablesConfigOf(config),
    cache: new NftChainCache(),
  });
  let now = START;
  const nftables = new Nftables(() => now);
  const report = replay(recorded, (services) => {
    const report = proxier.sync(nftables, services, now);
    if (staleChainsAged) now = (now + s(2)) as Instant;
    return report;
  });
  return {
    ...{ nftables, report },
    load: (netfilter) => (netfilter.nftables.ruleset = nftables.ruleset),
    dispatches: (ip) => {
      const table = nftables.table(config.ipFamily === 6 ? 'ip6' : 'ip', 'kube-proxy');
      const elements = table?.sets.get('service-ips')?.elements ?? [];
      return elements.some(({ key: [address] }) => address?.first === ip);
    },
  };
}

function nftablesConfigOf(config: RecordedConfig): NftablesConfig {
  return {
    ...DEFAULT_NFTABLES_CONFIG,
    family: config.ipFamily,
    masqueradeAll: config.masqueradeAll,
    masqueradeBit: masqueradeBitOf(config),
    localDetector: localDetectorOf(config),
    serviceRanges: config.serviceCIDRs,
    nodePortAddresses: config.nodePortAddresses ?? [],
  };
}
