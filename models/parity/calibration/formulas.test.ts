import { describe, expect, test } from 'vitest';
import { COST_NAMES } from '../../cpu/cost-file.ts';
import { type CostModel, interpolateNs, LINUX_6_18 } from '../../cpu/cost-model.ts';
import { CURVES, FORMULAS } from './formulas.ts';
import { ELEMENT_COUNTS, FLOW_COUNTS, RULE_COUNTS } from './sites.ts';

const SENDER = 1_000;

/** What a machine with these costs would measure: for each path the stages that its packets pass. */
function timesOf(costs: CostModel): Map<string, number> {
  const { vethNs: veth, forwardNs: forward, localDeliveryNs: delivery, baseChainNs: chain } = costs;
  const { socketSendNs: send, socketReceiveNs: receive, tcpSegmentNs: segment, tcpOpenNs: open } = costs;
  const lookup = interpolateNs(costs.conntrackLookupNs, 1);
  const route = SENDER + 2 * veth + forward;
  const routeTwice = route + veth + forward;
  const filter = route + chain;
  const request = 2 * (send + 2 * veth + forward + chain + delivery + receive);
  const tracked = request + 2 * lookup + costs.conntrackNewNs;
  const translated = tracked + 2 * chain + costs.natNs;
  const oneWay = send + veth + delivery + receive;
  const times = new Map([
    ['sender', SENDER],
    ['veth', SENDER + veth],
    ['veth.fullSocket', SENDER + veth + delivery],
    ['veth.datagram.receive', receive],
    ['veth.roundTrip', 2 * oneWay],
    ['veth.exchange', 2 * (oneWay + 2 * segment)],
    ['veth.connect', send + 2 * open + 3 * (segment + veth + segment)],
    ['bridge', SENDER + 2 * veth + costs.bridgeNs],
    ['bridge.netfilter', SENDER + 2 * veth + costs.bridgeNs + costs.bridgeNetfilterNs],
    ['route', route],
    ['route.twice', routeTwice],
    ['fragments.whole', route],
    ['fragments.cut', route + 2 * costs.fragmentNs + veth],
    ['fragments.passed', route + 2 * costs.fragmentNs + veth + 2 * (veth + forward + chain)],
    [
      'fragments.joined',
      route +
        2 * costs.fragmentNs +
        veth +
        2 * costs.reassemblyNs +
        lookup +
        forward +
        chain +
        2 * costs.fragmentNs +
        2 * veth,
    ],
    ['vxlan', routeTwice + costs.vxlanEncapNs + costs.vxlanDecapNs],
    ['vxlan.encapsulated', route + costs.vxlanEncapNs],
    ['hook.filter', filter],
    ['hook.five', route + 5 * chain],
    ['hook.nftFive', route + 5 * costs.nftBaseChainNs],
    ['hook.filter.request', request],
    ['conntrack.request', tracked],
    ['dnat', filter + lookup + costs.natNs],
    ['dnat.request', translated + costs.dnatNewNs],
    ['masquerade.request', translated + costs.snatNewNs],
    ['masquerade.random.request', translated + costs.snatRandomFullyNewNs],
    ['set.none', filter],
  ]);
  for (const flows of FLOW_COUNTS)
    times.set(`conntrack.${flows}`, filter + interpolateNs(costs.conntrackLookupNs, flows));
  for (const count of ELEMENT_COUNTS) {
    times.set(`set.map${count}`, filter + interpolateNs(costs.verdictMapNs, count));
    times.set(`set.set${count}`, filter + interpolateNs(costs.setLookupNs, count));
    times.set(`set.ipset${count}`, filter + interpolateNs(costs.ipsetNs, count));
  }
  for (const services of RULE_COUNTS) {
    const curves = { legacy: costs.rulesNs, nft: costs.nftRulesNs, native: costs.nativeRulesNs };
    for (const [backend, curve] of Object.entries(curves)) {
      times.set(`${backend}.${services}`, tracked + interpolateNs(curve, services - 1));
    }
  }
  return times;
}

describe('a machine is found to cost what it costs', () => {
  const times = timesOf(LINUX_6_18);
  const time = (path: string): number => {
    const found = times.get(path);
    if (found === undefined) throw new Error(`${path} is no path`);
    return found;
  };

  const numbers = COST_NAMES.flatMap((name) => {
    const formula = FORMULAS[name];
    return formula === undefined ? [] : [{ name, formula }];
  });
  test.each(numbers)('$name', ({ name, formula }) => {
    expect(formula.of(time)).toBeCloseTo(Number(LINUX_6_18[name]), 6);
  });

  test.each([
    ['rulesNs', [0, 99, 999, 4_999, 9_999]],
    ['nftRulesNs', [0, 99, 999, 4_999, 9_999]],
    ['nativeRulesNs', [0, 99, 999, 4_999, 9_999]],
    ['conntrackLookupNs', [1, 100, 1_000, 10_000, 50_000]],
    ['verdictMapNs', [100, 10_000, 50_000]],
    ['setLookupNs', [100, 10_000, 50_000]],
    ['ipsetNs', [100, 10_000, 50_000]],
  ] as const)('%s', (name, counts) => {
    const curve = CURVES(RULE_COUNTS)[name]?.of(time) ?? [];
    for (const count of counts) expect(interpolateNs(curve, count)).toBe(interpolateNs(LINUX_6_18[name], count));
  });

  test('every figure has a formula', () => {
    const names = [...Object.keys(FORMULAS), ...Object.keys(CURVES(RULE_COUNTS))];
    expect(names.sort()).toEqual([...COST_NAMES].sort());
  });
});
