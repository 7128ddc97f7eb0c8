// What every experiment on a cluster can vary without saying so: `podwire run … --set ipFamily=ipv4,dual`.

import { CNI_NETWORKS } from '../models/cni/networks/registry.ts';
import { PROXY_MODES } from '../models/kube/kube-proxy/proxy-mode.ts';
import { CLUSTER_IP_FAMILIES } from '../models/kube/ranges.ts';

/** Names are those of `ClusterOptions`. */
export const CLUSTER_FACTORS = { proxy: PROXY_MODES, ipFamily: CLUSTER_IP_FAMILIES, cni: CNI_NETWORKS } as const;
