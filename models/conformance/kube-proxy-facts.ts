// Reads the recorded facts about kube-proxy. The types say what is in the files, nulls included; README.md how to read it.

import { readFileSync } from 'node:fs';
import type { Manifest } from '../kube/objects.ts';

export interface RecordedConfig {
  readonly ipFamily: 'IPv4' | 'IPv6';
  readonly nodeName: string;
  readonly nodeIP: string;
  readonly nodeIPs: readonly string[];
  readonly masqueradeAll: boolean;
  readonly localDetector: { readonly kind: 'podCIDR'; readonly cidr: string } | { readonly kind: 'none' };
  readonly nodePortAddresses: readonly string[] | null;
  /** Of mode nftables. */
  readonly serviceCIDRs?: readonly string[];
  readonly localhostNodePorts: boolean;
  readonly conntrackTCPLiberal: boolean;
  readonly featureGates: { readonly LoadBalancerIPMode?: boolean };
  readonly iptablesHasRandomFully?: boolean;
}

export interface RecordedObjects {
  readonly services: readonly Manifest<'Service'>[];
  readonly endpointSlices: readonly Manifest<'EndpointSlice'>[];
}

export interface RecordedCase extends RecordedObjects {
  readonly id: string;
  readonly about: string;
  readonly mode: 'iptables' | 'nftables';
  readonly config: RecordedConfig;
  /** What an earlier sync saw. */
  readonly before?: RecordedObjects;
}

export interface RecordedFlow {
  readonly about: string;
  readonly srcIP: string;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
  readonly dstIP: string;
  readonly dstPort: number;
  readonly masquerade: boolean;
  readonly expect:
    | { readonly endpoints: readonly string[] }
    | { readonly verdict: 'REJECT' | 'DROP' | 'ACCEPT-UNCHANGED'; readonly explicitAccept?: boolean };
}

export interface FlowCase extends RecordedCase {
  readonly flows: readonly RecordedFlow[];
}

export interface RecordedTable {
  /** Chains that the sync declares, and thereby flushes. */
  readonly chains: readonly string[];
  readonly rules: readonly string[];
  readonly deletedChains?: readonly string[];
}

export interface RuleCase extends RecordedCase {
  readonly sync: 'full' | 'partial';
  readonly expected: { readonly filter: RecordedTable; readonly nat: RecordedTable };
}

/** The rules of one chain. */
export interface ChainFact extends RecordedCase {
  readonly table: 'filter' | 'nat';
  readonly chain: string;
  readonly rules: readonly string[];
}

export type NamingExample = {
  readonly hashInput: string;
  readonly servicePortName: string;
  readonly protocol: string;
} & (
  | { readonly kind: 'service'; readonly chains: readonly string[] }
  | { readonly kind: 'endpoint'; readonly endpoint: string; readonly chain: string }
);

export interface IptablesRuleFacts {
  readonly naming: { readonly examples: readonly NamingExample[] };
  readonly probability: { readonly examples: readonly { readonly n: number; readonly text: string }[] };
  readonly cases: readonly RuleCase[];
  readonly chainFacts: readonly ChainFact[];
}

/** A table as `nft` commands. */
export interface NftablesRuleCase extends RecordedCase {
  /** Beside the base. */
  readonly extra: readonly string[];
  /** Chains that earlier syncs have emptied are old enough to be deleted. */
  readonly staleChainsAged?: boolean;
  readonly transactionOperations?: number;
}

export interface NftablesRuleFacts {
  readonly naming: {
    readonly examples: readonly {
      readonly namespace: string;
      readonly name: string;
      readonly port: string;
      readonly protocol: string;
      readonly endpoint: string | null;
      readonly base: string;
    }[];
  };
  readonly base: readonly string[];
  readonly cases: readonly NftablesRuleCase[];
}

export interface TopologyCase {
  readonly id: string;
  readonly about: string;
  readonly featureGates?: { readonly PreferSameTrafficDistribution?: boolean };
  readonly node: { readonly name: string | null; readonly labels: Readonly<Record<string, string>> | null };
  readonly service: {
    readonly internalTrafficPolicy: 'Cluster' | 'Local';
    readonly externalTrafficPolicy: 'Cluster' | 'Local';
    /** 0 is none. */
    readonly nodePort: number;
    readonly externalIPs: readonly string[];
    readonly loadBalancerIPs: readonly string[];
  };
  readonly endpoints: readonly {
    readonly endpoint: string;
    readonly ready: boolean;
    readonly serving: boolean;
    readonly terminating: boolean;
    readonly local: boolean;
    readonly zoneHints: readonly string[] | null;
    readonly nodeHints: readonly string[] | null;
  }[];
  readonly expect: {
    /** null: the service does not use this list. */
    readonly cluster: readonly string[] | null;
    readonly local: readonly string[] | null;
    readonly all: readonly string[];
    readonly hasAnyEndpoints: boolean;
  };
}

/** By `namespace/name:port/PROTOCOL`. */
export type RecordedEndpoints = Readonly<
  Record<
    string,
    readonly {
      readonly endpoint: string;
      readonly local: boolean;
      readonly ready?: boolean;
      readonly serving?: boolean;
      readonly terminating?: boolean;
    }[]
  >
>;

export interface EndpointSliceFacts {
  readonly endpointsFromSlices: readonly {
    readonly id: string;
    readonly about: string;
    readonly nodeName: string;
    readonly endpointSlices: readonly Manifest<'EndpointSlice'>[];
    readonly expect: RecordedEndpoints;
  }[];
  readonly endpointUpdates: readonly {
    readonly id: string;
    readonly about: string;
    readonly nodeName: string;
    readonly before: readonly Manifest<'EndpointSlice'>[];
    readonly after: readonly Manifest<'EndpointSlice'>[];
    readonly expectBefore: RecordedEndpoints;
    readonly expectAfter: RecordedEndpoints;
  }[];
  readonly servicesToPorts: readonly {
    readonly id: string;
    readonly about: string;
    readonly featureGates?: { readonly LoadBalancerIPMode?: boolean };
    readonly service: Manifest<'Service'>;
    readonly expect: Readonly<
      Record<
        string,
        {
          readonly clusterIP: string;
          readonly port: number;
          readonly protocol: string;
          /** 0 is none. */
          readonly healthCheckNodePort: number;
          readonly externalIPs: readonly string[];
          readonly loadBalancerSourceRanges: readonly string[];
          readonly loadBalancerVIPs: readonly string[];
        }
      >
    >;
  }[];
}

export const readFlowCases = (): readonly FlowCase[] => read('kube-proxy-flows.json');
export const readIptablesRuleFacts = (): IptablesRuleFacts => read('kube-proxy-iptables-rules.json');
export const readNftablesRuleFacts = (): NftablesRuleFacts => read('kube-proxy-nftables-rules.json');
export const readTopologyCases = (): readonly TopologyCase[] => read('endpoint-topology.json');
export const readEndpointSliceFacts = (): EndpointSliceFacts => read('endpoint-slices.json');

function read<T>(file: string): T {
  return JSON.parse(readFileSync(new URL(file, import.meta.url), 'utf8'));
}
