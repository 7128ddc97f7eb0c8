// From measured paths to costs of stages: one formula per figure. Every figure is a difference between paths that
// differ in one thing, so that what all paths share (the sender, the clock) cancels out.
//
// The sums are those that the simulator charges: a formula that takes away what other stages cost takes away exactly what
// the simulator adds for them on the same path.

import type { CostName } from '../../cpu/cost-file.ts';
import type { PiecewiseLinear } from '../../cpu/cost-model.ts';
import { ELEMENT_COUNTS, FLOW_COUNTS } from './sites.ts';

/** Time of a path by name, in nanoseconds. Throws if it was not measured. */
export type TimeOf = (path: string) => number;

export interface Formula<V> {
  readonly how: string;
  /** Without a measurement of its own. */
  readonly derived?: true;
  of(time: TimeOf): V;
}

const veth = (time: TimeOf): number => time('veth') - time('sender');
const delivery = (time: TimeOf): number => time('veth.fullSocket') - time('veth');
const receive = (time: TimeOf): number => time('veth.datagram.receive');
const send = (time: TimeOf): number => time('veth.roundTrip') / 2 - veth(time) - delivery(time) - receive(time);
const segment = (time: TimeOf): number =>
  (time('veth.exchange') / 2 - send(time) - veth(time) - delivery(time) - receive(time)) / 2;
const baseChain = (time: TimeOf): number => (time('hook.five') - time('route')) / 5;
const nftBaseChain = (time: TimeOf): number => (time('hook.nftFive') - time('route')) / 5;
const lookup = (time: TimeOf): number => time('conntrack.1') - time('hook.filter');
const forward = (time: TimeOf): number => time('route') - time('veth') - veth(time);
/** The second fragment crosses one more veth pair. */
const fragment = (time: TimeOf): number => (time('fragments.cut') - time('fragments.whole') - veth(time)) / 2;
const encapsulation = (time: TimeOf): number => time('vxlan.encapsulated') - time('route');

const decapsulation = (time: TimeOf): number => time('vxlan') - time('route.twice') - encapsulation(time);
const conntrackNew = (time: TimeOf): number =>
  time('conntrack.request') - time('hook.filter.request') - 2 * lookup(time);
const natLater = (time: TimeOf): number => time('dnat') - time('conntrack.1');
/** Of the first packet; the answer is one of a translated flow. nat's chains are entered at PREROUTING and POSTROUTING. */
const translation = (time: TimeOf, path: string): number =>
  time(`${path}.request`) - time('conntrack.request') - 2 * baseChain(time) - natLater(time);

export const FORMULAS: { readonly [Name in CostName]?: Formula<number> } = {
  vethNs: { how: 'frames over a veth pair, less frames into a device that drops them', of: veth },
  bridgeNs: {
    how: 'frames over a bridge between two veth pairs, less two veth pairs',
    of: (time) => time('bridge') - time('veth') - veth(time),
  },
  forwardNs: {
    how: 'frames over a router between two veth pairs, less two veth pairs',
    of: forward,
  },
  fragmentNs: { how: 'half of what a router adds that cuts frames in two, less a veth pair', of: fragment },
  reassemblyNs: {
    // A router that puts together forwards one packet instead of two, looks it up, and cuts it again.
    how: 'half of what conntrack adds to two fragments, less a lookup and two new fragments, plus a packet to forward',
    of: (time) => {
      const added = time('fragments.joined') - time('fragments.passed');
      return (added - lookup(time) - 2 * fragment(time) + forward(time) + baseChain(time)) / 2;
    },
  },
  nicNs: { how: 'half a veth pair; no physical interface is measured', derived: true, of: (time) => veth(time) / 2 },
  localDeliveryNs: { how: 'frames to a UDP socket whose buffer is full, less frames that are dropped', of: delivery },
  socketReceiveNs: { how: 'recv() of a waiting datagram', of: receive },
  socketSendNs: { how: 'half a UDP round trip over a veth pair, less the pair, delivery and recv()', of: send },
  tcpSegmentNs: {
    how: 'half of what a byte over TCP and back takes beyond a UDP round trip, shared by both ends',
    of: segment,
  },
  tcpOpenNs: {
    how: 'half a connect() over a veth pair, less the call, three segments at both ends and the pair three times',
    of: (time) => (time('veth.connect') - send(time) - 6 * segment(time) - 3 * veth(time)) / 2,
  },
  bridgeNetfilterNs: {
    how: 'frames over a bridge with bridge-nf-call-iptables, without rules, less frames without it',
    of: (time) => time('bridge.netfilter') - time('bridge'),
  },
  baseChainNs: { how: 'a fifth of what five empty tables at hooks add to routing (iptables-legacy)', of: baseChain },
  nftBaseChainNs: {
    how: 'a fifth of what five empty base chains add to routing (nft)',
    of: nftBaseChain,
  },
  vxlanEncapNs: {
    how: 'frames routed into a tunnel and dropped on the wire, less frames routed and dropped',
    of: encapsulation,
  },
  vxlanDecapNs: {
    how: 'frames through a tunnel between two routers, less two routers and the encapsulation',
    of: decapsulation,
  },
  // The module ipip is seldom there.
  ipipEncapNs: { how: "assumed: as VXLAN's", derived: true, of: encapsulation },
  ipipDecapNs: { how: "assumed: as VXLAN's", derived: true, of: decapsulation },
  natNs: {
    how: 'frames of a flow with DNAT, less frames of a tracked flow',
    of: natLater,
  },
  // Modules of IPVS are seldom there, and a virtual server is not among the paths.
  ipvsLookupNs: {
    how: 'assumed: half a lookup of conntrack, which also follows sequence numbers',
    derived: true,
    of: (time) => lookup(time) / 2,
  },
  ipvsNewNs: {
    how: 'assumed: as a new entry of conntrack',
    derived: true,
    of: conntrackNew,
  },
  // Programs are not among the paths.
  ebpfProgramNs: {
    how: 'assumed: as a base chain of nft',
    derived: true,
    of: nftBaseChain,
  },
  ebpfLookupNs: {
    how: 'assumed: as a lookup in a large verdict map of nft',
    derived: true,
    of: (time) => time(`set.map${ELEMENT_COUNTS.at(-1)}`) - time('set.none'),
  },
  conntrackNewNs: {
    how: 'a UDP request from a new socket with conntrack, less without, less two lookups',
    of: conntrackNew,
  },
  dnatNewNs: {
    how: 'a UDP request from a new socket with DNAT, less with conntrack, less two chains and the answer',
    of: (time) => translation(time, 'dnat'),
  },
  snatNewNs: {
    how: 'the same with MASQUERADE',
    of: (time) => translation(time, 'masquerade'),
  },
  snatRandomFullyNewNs: {
    how: 'the same with MASQUERADE --random-fully',
    of: (time) => translation(time, 'masquerade.random'),
  },
};

/** Knots of curves. `counts`: for how many services rules were measured. */
export const CURVES = (counts: readonly number[]): { readonly [Name in CostName]?: Formula<PiecewiseLinear> } => ({
  rulesNs: {
    how: 'a UDP request from a new socket past all services of an iptables-legacy nat table, less past one',
    of: (time) => ruleCurve(time, 'legacy', counts),
  },
  nftRulesNs: {
    how: 'the same with iptables-nft',
    of: (time) => ruleCurve(time, 'nft', counts),
  },
  nativeRulesNs: {
    how: 'the same with a list of nft rules',
    of: (time) => ruleCurve(time, 'native', counts),
  },
  verdictMapNs: {
    how: 'frames looked up in a verdict map and not found, less an empty base chain',
    of: (time) => elementCurve(time, 'map', 'set.none'),
  },
  setLookupNs: {
    how: 'frames looked up in a set and not found, less an empty base chain',
    of: (time) => elementCurve(time, 'set', 'set.none'),
  },
  ipsetNs: {
    how: 'frames looked up in a hash:ip,port and not found, less an empty filter table',
    of: (time) => elementCurve(time, 'ipset', 'hook.filter'),
  },
  conntrackLookupNs: {
    how: 'frames of 1 to 10,000 flows in turn with conntrack, less without',
    of: (time) => flat(FLOW_COUNTS.map((flows) => [flows, time(`conntrack.${flows}`) - time('hook.filter')])),
  },
});

/** Beyond the first service; the services before the last one make `count - 1` rules more. */
function ruleCurve(time: TimeOf, backend: string, counts: readonly number[]): PiecewiseLinear {
  const total = (count: number): number => time(`${backend}.${count}`);
  const [first = 1, ...more] = counts;
  return [[0, 0], ...more.map((count): [number, number] => [count - first, total(count) - total(first)])];
}

const elementCurve = (time: TimeOf, kind: string, without: string): PiecewiseLinear =>
  flat(ELEMENT_COUNTS.map((count) => [count, time(`set.${kind}${count}`) - time(without)]));

/** Constant beyond the last measurement: what is looked up by hash does not grow without end. */
function flat(knots: readonly (readonly [number, number])[]): PiecewiseLinear {
  const [count, ns] = knots.at(-1) ?? [0, 0];
  return [...knots, [count + 1, ns]];
}
