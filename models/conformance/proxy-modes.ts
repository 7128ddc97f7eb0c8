// A recorded node in each mode of kube-proxy: synced, and ready to put its rules into a netfilter.

import { syncIptablesNode } from './iptables-node.ts';
import { syncIpvsNode } from './ipvs-node.ts';
import { syncNftablesNode } from './nftables-node.ts';
import type { RecordedCase, RecordedMode, SyncedNode } from './recorded-case.ts';

export const SYNCED_NODES: Readonly<Record<RecordedMode, (recorded: RecordedCase) => SyncedNode>> = {
  iptables: syncIptablesNode,
  nftables: syncNftablesNode,
  ipvs: syncIpvsNode,
};
