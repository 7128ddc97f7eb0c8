// What each stage of the data path costs a CPU, as data. Defaults are measurements of Linux 6.18 on one core of an AMD
// EPYC virtual machine (60-byte UDP frames; minimum or difference of minima, which repeat within 3 %); bare metal is
// perhaps twice as fast. calibration.json beside this file has every measured row.

/** Nanoseconds of CPU time per frame and stage, unless the name says otherwise. */
export interface CostModel {
  /** sendmsg() down to the first device, and the sender's share of waking up. Measured: AF_PACKET sender, 765. */
  readonly socketSendNs: number;
  /** IP local delivery up to the socket's queue. Measured: 735. */
  readonly localDeliveryNs: number;
  /** recvmsg() of one datagram or segment. Measured: recvmmsg per datagram, 433. */
  readonly socketReceiveNs: number;
  /** A frame through a veth pair: transmit, softirq, receive. */
  readonly vethNs: number;
  readonly bridgeNs: number;
  /** FIB lookup, TTL, header rewrite. */
  readonly forwardNs: number;
  /** A physical NIC's transmit or receive. Not measured (veth pairs only): taken as one veth traversal, halved per side. */
  readonly nicNs: number;
  /** br_netfilter's own work per bridged frame, without rules. */
  readonly bridgeNetfilterNs: number;
  /** Entering a base chain: one table at one hook. */
  readonly baseChainNs: number;
  /** Slope per rule visited, by how many rules one frame has visited so far: rules outgrow the cache. */
  readonly rulesNs: PiecewiseLinear;
  /** Lookup of an existing entry, by the number of entries in the table. */
  readonly conntrackLookupNs: PiecewiseLinear;
  /** Allocation and insertion of a new entry, beyond the failed lookup. */
  readonly conntrackNewNs: number;
  /** Extra on the first packet of a translated flow. */
  readonly dnatNewNs: number;
  readonly snatNewNs: number;
  /**
   * Extra per packet of a flow with a translation in place. Measured as a difference at 1 to 60,000 flows: 24 to 154, with
   * no trend; taken between the median (38) and the mean (78).
   */
  readonly natNs: number;
  /** A TCP segment's protocol work (state, timers, ACK), without socket calls. Not measured apart; see tcpOpenNs. */
  readonly tcpSegmentNs: number;
  /**
   * Opening a connection, beyond its segments, at either end: sockets, request socks, timers, wake-ups. Half of what a
   * connect() between two pods of a node took (tcp_setup.podpod_norules.connect_p50, 16.1 us) beyond the stages above.
   */
  readonly tcpOpenNs: number;
}

/** `[x, y]` knots with rising x; linear between them, with the last slope beyond the last. */
export type PiecewiseLinear = readonly (readonly [x: number, y: number])[];

/**
 * Sources: calibration.json, names in parentheses. Rules (per_rule_legacy, iptables-legacy): 2.58 ns up to 100, 2.42 up
 * to 1,000, 5.04 up to 5,000, 6.59 beyond. Conntrack (stage.conntrack_existing_*): 372 ns with 1 entry, 442 with 100, 519
 * with 1,000, from 10,000 on the mean of 875 and 838. New entries and translations (stage.conntrack_new_*,
 * stage.*_first_packet_extra_*): between the figures for 4,000 and 20,000 flows. Not measured, and assumed: nicNs,
 * tcpSegmentNs.
 */
export const LINUX_6_18: CostModel = {
  socketSendNs: 765,
  localDeliveryNs: 735,
  socketReceiveNs: 433,
  vethNs: 300,
  bridgeNs: 220,
  forwardNs: 313,
  nicNs: 150,
  bridgeNetfilterNs: 477,
  baseChainNs: 50,
  rulesNs: [
    [0, 0],
    [100, 258],
    [1_000, 2_436],
    [5_000, 22_596],
    [10_000, 55_546],
  ],
  conntrackLookupNs: [
    [1, 372],
    [100, 442],
    [1_000, 519],
    [10_000, 856],
    [10_001, 856],
  ],
  conntrackNewNs: 1_430,
  dnatNewNs: 920,
  snatNewNs: 1_910,
  natNs: 60,
  tcpSegmentNs: 400,
  tcpOpenNs: 6_050,
};

/** Everything is free: switches of the fabric, and tests of behaviour that do not care. */
export const FREE: CostModel = {
  socketSendNs: 0,
  localDeliveryNs: 0,
  socketReceiveNs: 0,
  vethNs: 0,
  bridgeNs: 0,
  forwardNs: 0,
  nicNs: 0,
  bridgeNetfilterNs: 0,
  baseChainNs: 0,
  rulesNs: [[0, 0]],
  conntrackLookupNs: [[0, 0]],
  conntrackNewNs: 0,
  dnatNewNs: 0,
  snatNewNs: 0,
  natNs: 0,
  tcpSegmentNs: 0,
  tcpOpenNs: 0,
};

/** Value at `x`, rounded to whole nanoseconds; constant below the first knot. */
export function interpolateNs(curve: PiecewiseLinear, x: number): number {
  const last = curve.length - 1;
  if (last === 0 || x <= curve[0]![0]) return curve[0]![1];
  let i = 1;
  while (i < last && curve[i]![0] < x) i++;
  const [x0, y0] = curve[i - 1]!;
  const [x1, y1] = curve[i]!;
  return Math.round(y0 + ((y1 - y0) * (x - x0)) / (x1 - x0));
}
