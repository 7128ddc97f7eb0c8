// A recorded node with kube-proxy in iptables mode.

import { RandomStream } from '../../engine/random.ts';
import { START } from '../../engine/time.ts';
import {
  DEFAULT_IPTABLES_CONFIG,
  type IptablesConfig,
  IptablesProxier,
  type SyncReport,
} from '../kube/kube-proxy/iptables.ts';
import { ServiceChainCache } from '../kube/kube-proxy/iptables-chain-cache.ts';
import type { Chain } from '../netfilter/chain.ts';
import type { Netfilter } from '../netfilter/netfilter.ts';
import { RuleTables, TABLE_NAMES, type TableName } from '../netfilter/rule-tables.ts';
import { addressBits, type Ip, type Prefix } from '../packet/ip-address.ts';
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

export interface IptablesNode extends SyncedNode {
  readonly tables: RuleTables;
  /** Of the last sync. */
  readonly report: SyncReport;
}

/** With `isFull` every sync is full, as after a failure of iptables-restore; otherwise only the first. */
export function syncIptablesNode(recorded: RecordedCase, { isFull = false } = {}): IptablesNode {
  const { config } = recorded;
  const node = { name: config.nodeName, zone: zoneOf(config), ips: nodeIpsOf(config) };
  const proxier = new IptablesProxier({
    node,
    config: iptablesConfigOf(config),
    cache: new ServiceChainCache(),
    random: new RandomStream(recorded.id),
  });
  const tables = new RuleTables(config.ipFamily);
  const report = replay(recorded, (services) => {
    if (isFull) proxier.updateNode(node);
    return proxier.sync(tables, services, START);
  });
  return {
    ...{ tables, report },
    load: (netfilter) => loadTables(tables, netfilter),
    dispatches: (ip) => {
      const rules = tables.chain('nat', 'KUBE-SERVICES')?.rules ?? [];
      return rules.some(({ spec: { destination } }) => destination !== undefined && isAddress(destination, ip));
    },
  };
}

function iptablesConfigOf(config: RecordedConfig): IptablesConfig {
  const { ipFamily: family } = config;
  return {
    ...DEFAULT_IPTABLES_CONFIG,
    family,
    masqueradeAll: config.masqueradeAll,
    masqueradeBit: masqueradeBitOf(config),
    localDetector: localDetectorOf(config),
    nodePortAddresses: (config.nodePortAddresses ?? []).filter((range) => range.family === family),
    localhostNodePorts: config.localhostNodePorts,
    tcpBeLiberal: config.conntrackTCPLiberal,
    randomFully: config.iptablesHasRandomFully,
    accounts: config.nfacctCounters,
  };
}

function loadTables(from: RuleTables, { tables, tables6 }: Netfilter): void {
  const to = from.family === 6 ? tables6 : tables;
  for (const table of TABLE_NAMES) if (from.isLoaded(table)) to.share(table, chainsOf(from, table));
}

const isAddress = ({ net, length, family }: Prefix, ip: Ip): boolean => net === ip && length === addressBits(family);

const chainsOf = (tables: RuleTables, table: TableName): ReadonlyMap<string, Chain> =>
  new Map(tables.chainNames(table).map((name) => [name, tables.chain(table, name)!]));
