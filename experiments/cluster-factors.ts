// What every experiment on a cluster can vary without saying so: `podwire run … --set ipFamily=ipv4,dual`.

import { PROXY_MODES } from '../models/kube/kube-proxy/proxy-mode.ts';
import { CLUSTER_IP_FAMILIES } from '../models/kube/ranges.ts';

/** Names are those of `ClusterOptions`. */
export const CLUSTER_FACTORS = { proxy: PROXY_MODES, ipFamily: CLUSTER_IP_FAMILIES } as const;
