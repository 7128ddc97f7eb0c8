// How long a sync keeps kube-proxy busy: the wall time of the command that it feeds, measured on Linux 6.18 with iptables
// 1.8.9 and nft 1.0.6 (rows `programming.*` of models/cpu/calibration.json, minima of 7 rounds, of 3 or fewer from 5,000
// services on), for services of 5 endpoints in kube-proxy's layout.
//
// Left out: kube-proxy's own time to compute rules, its 20 or so runs of iptables before a full sync, the list of all
// objects that nft is asked for now and then, other numbers of endpoints, waiting for the xtables lock and for a CPU.

import { type Duration, ns } from '../../../engine/time.ts';
import { interpolateNs, type PiecewiseLinear } from '../../cpu/cost-model.ts';
import type { ProxyMode } from './proxy-mode.ts';

/** Nanoseconds, by the number of service ports. */
export interface SyncCost {
  /** Everything is written. */
  readonly full: PiecewiseLinear;
  /** One of them has changed: its chains are written, and what every sync writes. */
  readonly partial: PiecewiseLinear;
}

export type SyncCosts = Readonly<Record<ProxyMode, SyncCost>>;

export interface SyncExtent {
  readonly kind: 'full' | 'partial';
  readonly servicePorts: number;
  /** Service ports that are new or other than at the last sync. */
  readonly changed: number;
}

/** Ports that change together cost beyond the first what so many more do in a table of their own. */
export function syncDuration({ full, partial }: SyncCost, { kind, servicePorts, changed }: SyncExtent): Duration {
  if (kind === 'full') return ns(interpolateNs(full, servicePorts));
  const further = Math.max(0, interpolateNs(full, changed) - interpolateNs(full, 1));
  return ns(interpolateNs(partial, servicePorts) + further);
}

const curve = (...milliseconds: readonly (readonly [servicePorts: number, ms: number])[]): PiecewiseLinear =>
  milliseconds.map(([servicePorts, ms]) => [servicePorts, Math.round(ms * 1e6)]);

/** `programming.full_legacy_*` and `programming.kubepartial_legacy_*`: iptables-restore of the legacy tables. */
export const LEGACY_RESTORE: SyncCost = {
  full: curve([1, 6], [100, 19.9], [1_000, 152.6], [5_000, 919.5], [10_000, 3_644.1]),
  partial: curve([1, 13.3], [100, 12.8], [1_000, 90.8], [5_000, 473.3], [10_000, 954.6]),
};

/** `programming.full_nft_*` and `programming.kubepartial_nft_*`: iptables-restore that writes nf_tables. */
export const IPTABLES_NFT_RESTORE: SyncCost = {
  full: curve([1, 7.3], [100, 50.6], [1_000, 417.4], [5_000, 2_582.6], [10_000, 7_163.7]),
  partial: curve([1, 12], [100, 20], [1_000, 67.7], [5_000, 352], [10_000, 851.8]),
};

/** `programming.full_nftnative_*` and `programming.incr_nftnative_*`: nft -f. */
export const NFT_TRANSACTION: SyncCost = {
  full: curve([1, 11.9], [100, 43.3], [1_000, 469.6], [5_000, 35_102.2], [10_000, 144_581.4]),
  partial: curve([1, 12], [100, 19.8], [1_000, 39.5], [5_000, 173.3], [10_000, 328.3]),
};

/**
 * IPVS mode: one service port more takes 0.8 ms in a table of few, 0.85 to 0.97 ms up to 10,000 and 1.52 ms at 20,000, where
 * all of it was measured by others (flftuu.com 2019, 500 nodes of 2 cores; with 5 endpoints it is 6 entries that netlink is
 * asked for one by one). A sync also restores the iptables rules, which do not grow: as little as a table of one service.
 */
export const IPVS_PROGRAMMING: SyncCost = {
  full: curve([1, 6.8], [100, 91], [1_000, 856], [5_000, 4_506], [10_000, 9_706], [20_000, 24_906]),
  partial: curve([1, 6.8], [100, 6.85], [1_000, 6.85], [5_000, 6.9], [10_000, 6.97], [20_000, 7.52]),
};

/** eBPF-style replacement: assumed. A service port with 5 endpoints is 6 map entries, at about 2 us per system call. */
export const EBPF_MAP_UPDATES: SyncCost = {
  full: curve([0, 0], [1, 0.012], [10_000, 120]),
  partial: [[0, 12_000]],
};

/** What rules of iptables mode cost packets is that of the legacy tables, too. */
export const MEASURED_SYNC_COSTS: SyncCosts = {
  iptables: LEGACY_RESTORE,
  nftables: NFT_TRANSACTION,
  ipvs: IPVS_PROGRAMMING,
  ebpf: EBPF_MAP_UPDATES,
};

const NOTHING: SyncCost = { full: [[0, 0]], partial: [[0, 0]] };
export const NO_SYNC_COSTS: SyncCosts = { iptables: NOTHING, nftables: NOTHING, ipvs: NOTHING, ebpf: NOTHING };
