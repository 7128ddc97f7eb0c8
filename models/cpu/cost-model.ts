// What each stage of the data path costs a CPU, as data. Defaults are measurements of Linux 6.18 on one core of an AMD
// EPYC virtual machine (60-byte UDP frames; minimum or difference of minima, which repeat within 3 %); bare metal is
// perhaps twice as fast. calibration.json beside this file has every measured row; README.md says what each figure
// leaves out.

/** Nanoseconds of CPU time per frame and stage, unless the name says otherwise. */
export interface CostModel {
  // ── sockets ────────────────────────────────────────────────────────────────────────────────────────────────────────
  /** sendmsg() down to the first device, and the sender's share of waking up. */
  readonly socketSendNs: number;
  /** IP local delivery up to the socket's queue. */
  readonly localDeliveryNs: number;
  /** recvmsg() of one datagram or segment. */
  readonly socketReceiveNs: number;
  /** A TCP segment's protocol work (state, timers, ACK), without socket calls. */
  readonly tcpSegmentNs: number;
  /** Opening a connection, beyond its segments, at either end: sockets, request socks, timers, wake-ups. */
  readonly tcpOpenNs: number;

  // ── devices and routing ────────────────────────────────────────────────────────────────────────────────────────────
  /** A frame through a veth pair: transmit, softirq, receive. */
  readonly vethNs: number;
  /** A frame through a bridge whose FDB knows the destination. */
  readonly bridgeNs: number;
  /** A physical NIC's transmit or receive. */
  readonly nicNs: number;
  /** FIB lookup, TTL, header rewrite. */
  readonly forwardNs: number;
  /** Each fragment that a packet is cut into, beyond what it then costs as a frame. */
  readonly fragmentNs: number;
  /** Each fragment taken in, to be put together with others. */
  readonly reassemblyNs: number;
  /** Outer route, headers and UDP checksum, beyond what the inner and the outer frame pay for other devices and hooks. */
  readonly vxlanEncapNs: number;
  /** UDP socket lookup of the outer packet, header check, and the way back into the stack. */
  readonly vxlanDecapNs: number;
  /** The same for IP-in-IP, which has no UDP. */
  readonly ipipEncapNs: number;
  readonly ipipDecapNs: number;

  // ── netfilter ──────────────────────────────────────────────────────────────────────────────────────────────────────
  /** br_netfilter's own work per bridged frame, without rules. */
  readonly bridgeNetfilterNs: number;
  /** Entering a base chain of iptables-legacy: one table at one hook, even if it is empty. */
  readonly baseChainNs: number;
  /** Entering a base chain of nf_tables, made by nft or by iptables-nft. */
  readonly nftBaseChainNs: number;
  /** Rules of iptables-legacy, by how many one frame has visited so far at a hook: rules outgrow the cache. */
  readonly rulesNs: PiecewiseLinear;
  /** The same for rules of iptables-nft, whose matches are emulated. */
  readonly nftRulesNs: PiecewiseLinear;
  /** The same for rules written in nft's own language (`ip daddr ... tcp dport ... counter`). */
  readonly nativeRulesNs: PiecewiseLinear;
  /** One lookup in an nft verdict map, by its elements; beyond the rule that asks. */
  readonly verdictMapNs: PiecewiseLinear;
  /** One lookup in an nft set, by its elements. */
  readonly setLookupNs: PiecewiseLinear;
  /** `-m set`: one lookup in an ipset, by its elements. */
  readonly ipsetNs: PiecewiseLinear;
  /** Lookup of an existing entry, by the number of entries in the table. */
  readonly conntrackLookupNs: PiecewiseLinear;
  /** Allocation and insertion of a new entry, beyond the failed lookup. */
  readonly conntrackNewNs: number;
  /** DNAT or REDIRECT: extra on the first packet of a flow. */
  readonly dnatNewNs: number;
  /** SNAT or MASQUERADE: extra on the first packet of a flow. */
  readonly snatNewNs: number;
  /** The same with `--random-fully`, which does not try to keep the port first. */
  readonly snatRandomFullyNewNs: number;
  /** Extra per packet of a flow with a translation in place, beyond the lookup. */
  readonly natNs: number;
  /** IPVS: one lookup in its table of connections. */
  readonly ipvsLookupNs: number;
  /** IPVS: a new connection, scheduled and allocated. */
  readonly ipvsNewNs: number;

  // ── eBPF ───────────────────────────────────────────────────────────────────────────────────────────────────────────
  /** Entering a program at a device or a socket. */
  readonly ebpfProgramNs: number;
  /** One lookup in a hash map. */
  readonly ebpfLookupNs: number;
}

/** `[x, y]` knots with rising x; linear between them, with the last slope beyond the last. */
export type PiecewiseLinear = readonly (readonly [x: number, y: number])[];

export const LINUX_6_18: CostModel = {
  socketSendNs: 1_638,
  localDeliveryNs: 735,
  socketReceiveNs: 433,
  tcpSegmentNs: 400,
  tcpOpenNs: 4_804,
  vethNs: 300,
  bridgeNs: 220,
  nicNs: 150,
  forwardNs: 313,
  fragmentNs: 175,
  reassemblyNs: 710,
  vxlanEncapNs: 1_165,
  vxlanDecapNs: 1_446,
  ipipEncapNs: 1_165,
  ipipDecapNs: 1_446,
  bridgeNetfilterNs: 477,
  baseChainNs: 50,
  nftBaseChainNs: 38,
  rulesNs: [
    [0, 0],
    [100, 258],
    [1_000, 2_436],
    [5_000, 22_596],
    [10_000, 55_546],
  ],
  nftRulesNs: [
    [0, 0],
    [100, 1_601],
    [1_000, 15_716],
    [5_000, 79_471],
    [10_000, 161_827],
  ],
  nativeRulesNs: [
    [0, 0],
    [100, 484],
    [1_000, 4_416],
    [5_000, 24_652],
    [10_000, 49_121],
  ],
  verdictMapNs: [
    [0, 2],
    [100, 117],
    [10_000, 141],
    [10_001, 141],
  ],
  setLookupNs: [
    [0, 2],
    [100, 117],
    [10_000, 141],
    [10_001, 141],
  ],
  ipsetNs: [
    [0, 150],
    [10_000, 156],
    [10_001, 156],
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
  snatRandomFullyNewNs: 1_827,
  natNs: 60,
  ipvsLookupNs: 186,
  ipvsNewNs: 1_430,
  ebpfProgramNs: 38,
  ebpfLookupNs: 141,
};

/** Everything is free: switches of the fabric, and tests of behaviour that do not care. */
export const FREE: CostModel = {
  socketSendNs: 0,
  localDeliveryNs: 0,
  socketReceiveNs: 0,
  tcpSegmentNs: 0,
  tcpOpenNs: 0,
  vethNs: 0,
  bridgeNs: 0,
  nicNs: 0,
  forwardNs: 0,
  fragmentNs: 0,
  reassemblyNs: 0,
  vxlanEncapNs: 0,
  vxlanDecapNs: 0,
  ipipEncapNs: 0,
  ipipDecapNs: 0,
  bridgeNetfilterNs: 0,
  baseChainNs: 0,
  nftBaseChainNs: 0,
  rulesNs: [[0, 0]],
  nftRulesNs: [[0, 0]],
  nativeRulesNs: [[0, 0]],
  verdictMapNs: [[0, 0]],
  setLookupNs: [[0, 0]],
  ipsetNs: [[0, 0]],
  conntrackLookupNs: [[0, 0]],
  conntrackNewNs: 0,
  dnatNewNs: 0,
  snatNewNs: 0,
  snatRandomFullyNewNs: 0,
  natNs: 0,
  ipvsLookupNs: 0,
  ipvsNewNs: 0,
  ebpfProgramNs: 0,
  ebpfLookupNs: 0,
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
