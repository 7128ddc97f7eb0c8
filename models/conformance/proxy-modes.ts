// A recorded node in each mode of kube-proxy: synced, and ready to put its rules into a netfilter.

import { syncIptablesNode } from './iptables-node.ts';
import { syncNftablesNode } from './nftables-node.ts';
import type { RecordedCase, RecordedMode, SyncedNode } from './recorded-case.ts';

/** Facts about a mode that is not here count as not modelled. */
export const SYNCED_NODES: Readonly<Partial<Record<RecordedMode, (recorded: RecordedCase) => SyncedNode>>> = {
  iptables: syncIptablesNode,
  nftables: syncNftablesNode,
};
