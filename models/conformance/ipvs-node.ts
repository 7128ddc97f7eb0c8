// A recorded node with kube-proxy in IPVS mode.

import { RandomStream } from '../../engine/random.ts';
import { DEFAULT_IPVS_CONFIG, type IpvsConfig, IpvsProxier } from '../kube/kube-proxy/ipvs.ts';
import { IpvsChainCache } from '../kube/kube-proxy/ipvs-chains.ts';
import type { ServiceSnapshot } from '../kube/kube-proxy/service-tracker.ts';
import type { Netfilter } from '../netfilter/netfilter.ts';
import type { Ip } from '../packet/ip-address.ts';
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

export function syncIpvsNode(recorded: RecordedCase): SyncedNode {
  const { config } = recorded;
  const snapshots: ServiceSnapshot[] = [];
  replay(recorded, (services) => snapshots.push(services));
  let ownAddresses: ReadonlySet<Ip> = new Set();
  /** Connections and turns are the netfilter's: kube-proxy writes into each anew. */
  const load = (netfilter: Netfilter): void => {
    const proxier = new IpvsProxier({
      node: { name: config.nodeName, zone: zoneOf(config), ips: nodeIpsOf(config) },
      config: ipvsConfigOf(config),
      cache: new IpvsChainCache(),
      random: new RandomStream(recorded.id),
    });
    const { sets, ipvs } = netfilter;
    const tables = config.ipFamily === 6 ? netfilter.tables6 : netfilter.tables;
    const bindServiceAddresses = (ips: ReadonlySet<Ip>): void => {
      ownAddresses = ips;
    };
    for (const services of snapshots) proxier.sync({ tables, sets, ipvs, bindServiceAddresses }, services);
  };
  return {
    ...{ load, isServiceAddress: (ip) => ownAddresses.has(ip) },
    dispatches: (ip) => {
      const ports = snapshots.at(-1)?.ports ?? [];
      return ports.some(({ clusterIp, externalIps, loadBalancerVips }) =>
        [clusterIp, ...externalIps, ...loadBalancerVips].includes(ip),
      );
    },
  };
}

function ipvsConfigOf(config: RecordedConfig): IpvsConfig {
  return {
    ...DEFAULT_IPVS_CONFIG,
    family: config.ipFamily,
    masqueradeAll: config.masqueradeAll,
    masqueradeBit: masqueradeBitOf(config),
    localDetector: localDetectorOf(config),
    nodePortAddresses: config.nodePortAddresses ?? [],
    randomFully: config.iptablesHasRandomFully,
  };
}
