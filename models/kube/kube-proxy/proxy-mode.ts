// kube-proxy on a node, whichever mode it runs in (`--proxy-mode`).

import type { RandomStream } from '../../../engine/random.ts';
import type { Place } from '../../../engine/simulator.ts';
import { type Duration, type Instant, ms, s } from '../../../engine/time.ts';
import { Timer } from '../../../engine/timer.ts';
import type { EbpfDatapath } from '../../host/ebpf/datapath.ts';
import type { NodePortSettings } from '../../host/ebpf/node-port-program.ts';
import type { Nftables } from '../../netfilter/nft/nftables.ts';
import type { RuleTables } from '../../netfilter/rule-tables.ts';
import type { Ip, IpFamily } from '../../packet/ip-address.ts';
import { type ClusterRanges, rangeOf } from '../ranges.ts';
import { ebpfServices } from './ebpf.ts';
import { DEFAULT_IPTABLES_CONFIG, type IptablesConfig, IptablesProxier, type SyncReport } from './iptables.ts';
import { ServiceChainCache } from './iptables-chain-cache.ts';
import { servesLoopback } from './iptables-fixed-chains.ts';
import { DEFAULT_IPVS_CONFIG, type IpvsConfig, type IpvsNode, IpvsProxier } from './ipvs.ts';
import { IpvsChainCache } from './ipvs-chains.ts';
import { TERMINATION_CHECK_INTERVAL } from './ipvs-termination.ts';
import { DEFAULT_NFTABLES_CONFIG, NftablesProxier } from './nftables.ts';
import { NftChainCache } from './nftables-chain-cache.ts';
import type { ProxyNode } from './port-on-node.ts';
import type { ServiceSnapshot } from './service-tracker.ts';

/** `ebpf` is no mode of kube-proxy but a replacement of it, and a model without an oracle (ebpf.ts). */
export const PROXY_MODES = ['iptables', 'nftables', 'ipvs', 'ebpf'] as const;
export type ProxyMode = (typeof PROXY_MODES)[number];

/** What whoever reads results of a mode has to know of it. */
export const PROXY_MODE_NOTES: Readonly<Partial<Record<ProxyMode, string>>> = {
  ebpf: 'ebpf is an eBPF-style replacement of kube-proxy: a model without an oracle, its costs are assumed',
};

/** Modes that are modelled for IPv6, too. */
export const IPV6_MODES: readonly ProxyMode[] = ['iptables', 'nftables', 'ipvs'];

/** What proxiers of one IP family of a cluster have in common, by mode. */
export class ProxyCaches {
  readonly iptables = new ServiceChainCache();
  readonly nftables = new NftChainCache();
  readonly ipvs = new IpvsChainCache();
}

/** What of a node the modes write to; each to its own. */
export interface NodeRules {
  readonly tables: RuleTables;
  readonly tables6: RuleTables;
  readonly nftables: Nftables;
  readonly sets: IpvsNode['sets'];
  readonly ipvs: IpvsNode['ipvs'];
  /** `sysctl -w` on the node. */
  readonly sysctl: (name: string, value: number) => void;
  /** Gives the node these addresses of Services and no others of the family. */
  readonly bindServiceAddresses: (ips: ReadonlySet<Ip>, family: IpFamily) => void;
  readonly ebpf: Pick<EbpfDatapath, 'configure' | 'replaceServices' | 'services'>;
}

/** Flags of kube-proxy that belong to one mode. */
export interface ProxyFlags {
  readonly iptables?: Partial<Pick<IptablesConfig, 'localhostNodePorts' | 'nodePortAddresses' | 'accounts'>>;
  readonly ipvs?: Partial<Pick<IpvsConfig, 'scheduler' | 'endpointOrder' | 'masqueradeAll'>>;
  readonly ebpf?: Partial<NodePortSettings>;
}

/** What kube-proxy does without flags: in IPVS mode every change is written at once. */
export const DEFAULT_MIN_SYNC_PERIODS: Readonly<Record<ProxyMode, Duration>> = {
  iptables: s(1),
  nftables: s(1),
  ipvs: ms(0),
  ebpf: ms(0),
};

/** What every mode can do. */
export interface Proxier {
  /** Makes the node's rules serve these services; the report is not of all modes. */
  sync(
    rules: NodeRules,
    services: ServiceSnapshot,
    now: Instant,
  ): { readonly noLocalEndpoints?: SyncReport['noLocalEndpoints'] };
  /** What the next sync is going to be. */
  nextKind(rules: NodeRules): 'full' | 'partial';
  needFullSync(): void;
  /** It looks at nothing any more. */
  stop?(): void;
}

export interface StartOptions {
  readonly place: Place;
  readonly node: ProxyNode;
  readonly family: IpFamily;
  readonly ranges: ClusterRanges;
  readonly caches: ProxyCaches;
  readonly random: RandomStream;
  readonly flags: ProxyFlags;
  readonly sync: { readonly syncPeriod: Duration };
}

/** Throws a ProxyModeError for a mode that is not modelled for the family. */
export function startProxy(mode: ProxyMode, options: StartOptions): Proxier {
  if (options.family === 6 && !IPV6_MODES.includes(mode)) {
    const others = IPV6_MODES.join(', ');
    throw new ProxyModeError(`proxy ${mode} serves no IPv6; expected ipFamily ipv4, or another proxy: ${others}`);
  }
  switch (mode) {
    case 'iptables':
      return startIptables(options);
    case 'nftables':
      return startNftables(options);
    case 'ipvs':
      return startIpvs(options);
    case 'ebpf':
      return startEbpf(options);
  }
}

/** A mode that cannot serve the cluster. */
export class ProxyModeError extends Error {
  override readonly name = 'ProxyModeError';
}

const localDetectorOf = ({ ranges, family }: StartOptions) =>
  ({ mode: 'ClusterCIDR', cidr: rangeOf(ranges, 'pod', family)! }) as const;

const tablesOf = ({ tables, tables6 }: NodeRules, family: IpFamily): RuleTables => (family === 6 ? tables6 : tables);

function startIptables(options: StartOptions): Proxier {
  const { node, family, caches, random, flags } = options;
  const { syncPeriod } = options.sync;
  const config = { ...DEFAULT_IPTABLES_CONFIG, family, localDetector: localDetectorOf(options), ...flags.iptables };
  const proxier = new IptablesProxier({ node, config, cache: caches.iptables, random, syncPeriod });
  let isFirst = true;
  return {
    sync(rules, services, now) {
      // NewProxier sets it once: without it, what a node sends to a node port on loopback does not get out to a pod.
      if (isFirst && servesLoopback(config)) rules.sysctl('net.ipv4.conf.all.route_localnet', 1);
      isFirst = false;
      return proxier.write(tablesOf(rules, family), services, now);
    },
    nextKind: (rules) => proxier.nextKind(tablesOf(rules, family)),
    needFullSync: () => proxier.needFullSync(),
  };
}

function startNftables(options: StartOptions): Proxier {
  const { node, family, ranges, caches } = options;
  const localDetector = localDetectorOf(options);
  const serviceRanges = [ranges.service, ranges.secondaryService].filter((range) => range !== undefined);
  const config = { ...DEFAULT_NFTABLES_CONFIG, family, localDetector, serviceRanges };
  const proxier = new NftablesProxier({ node, config, cache: caches.nftables });
  return {
    sync({ nftables }, services, now) {
      proxier.sync(nftables, services, now);
      return {};
    },
    nextKind: ({ nftables }) => proxier.nextKind(nftables),
    needFullSync: () => proxier.needFullSync(),
  };
}

function startIpvs(options: StartOptions): Proxier {
  const { place, node, family, caches, random, flags } = options;
  const config = { ...DEFAULT_IPVS_CONFIG, family, localDetector: localDetectorOf(options), ...flags.ipvs };
  const proxier = new IpvsProxier({ node, config, cache: caches.ipvs, random });
  const startedAt = place.now;
  let written: NodeRules | undefined;
  const check = new Timer(place, () => {
    if (written !== undefined) proxier.checkDraining(written.ipvs);
    checkLater();
  });
  /** Each whole minute since the start, while there is something to look at. */
  const checkLater = (): void => {
    const interval = TERMINATION_CHECK_INTERVAL;
    const rounds = Math.floor((place.now - startedAt) / interval) + 1;
    if (proxier.isDraining) check.startAt((startedAt + rounds * interval) as Instant);
  };
  return {
    sync(rules, services) {
      written = rules;
      const { sets, ipvs } = rules;
      const bindServiceAddresses = (ips: ReadonlySet<Ip>): void => rules.bindServiceAddresses(ips, family);
      const report = proxier.sync({ tables: tablesOf(rules, family), sets, ipvs, bindServiceAddresses }, services);
      checkLater();
      return report;
    },
    nextKind: () => proxier.nextKind,
    needFullSync: () => proxier.needFullSync(),
    stop: () => check.stop(),
  };
}

/** Only what has changed is written there, but the first time. */
function startEbpf({ node, flags }: StartOptions): Proxier {
  let isFirst = true;
  return {
    sync({ ebpf }, services) {
      if (isFirst) ebpf.configure(flags.ebpf ?? {});
      isFirst = false;
      ebpf.replaceServices(ebpfServices(services, node));
      return {};
    },
    nextKind: () => (isFirst ? 'full' : 'partial'),
    needFullSync: () => {
      isFirst = true;
    },
  };
}
