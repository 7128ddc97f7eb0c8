// A recorded node in each mode of kube-proxy: synced, and ready to put its rules into a netfilter.

import { syncIptablesNode } from './iptables-node.ts';
import type { ProxyMode, RecordedCase, SyncedNode } from './recorded-case.ts';

/** Facts about a mode that is not here count as not modelled. */
export const PROXY_MODES: Readonly<Partial<Record<ProxyMode, (recorded: RecordedCase) => SyncedNode>>> = {
  iptables: syncIptablesNode,
};
