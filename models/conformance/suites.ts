// Every suite. A new one is a file in this folder and its name in this list; its recorded facts go into NAME.json.

import { dns } from './dns.ts';
import { endpointSlices } from './endpoint-slices.ts';
import { endpointTopology } from './endpoint-topology.ts';
import { ipamCni } from './ipam-cni.ts';
import { kubeProxyFlows } from './kube-proxy-flows.ts';
import { kubeProxyIptablesRules } from './kube-proxy-iptables-rules.ts';
import { kubeProxyNftablesRules } from './kube-proxy-nftables-rules.ts';
import { networkPolicyCyclonus } from './network-policy-cyclonus.ts';
import { networkPolicyE2e } from './network-policy-e2e.ts';
import type { Suite } from './suite.ts';

export const SUITES: readonly Suite[] = [
  kubeProxyFlows,
  kubeProxyIptablesRules,
  kubeProxyNftablesRules,
  endpointTopology,
  endpointSlices,
  ipamCni,
  dns,
  networkPolicyE2e,
  networkPolicyCyclonus,
];
