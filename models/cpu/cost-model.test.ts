import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { interpolateNs, LINUX_6_18 } from './cost-model.ts';

const calibration = JSON.parse(readFileSync(new URL('./calibration.json', import.meta.url), 'utf8')) as {
  measurements: { name: string; best: number }[];
  models: { model: string; stat: string; piecewise_slopes_ns_per_rule: Record<string, number> }[];
};

const measured = (name: string): number => calibration.measurements.find((row) => row.name === name)!.best;

describe('the default costs are the measured ones', () => {
  // Name in the cost model, and the measurement it rounds.
  test.each([
    ['localDeliveryNs', 'stage.local_deliver_udp_socket_full'],
    ['socketReceiveNs', 'stage.udp_recv_syscall'],
    ['vethNs', 'stage.veth_hop_perf_split'],
    ['bridgeNs', 'stage.bridge_hop_perf_split'],
    ['fragmentNs', 'stage.fragment_made'],
    ['reassemblyNs', 'stage.fragment_reassembled'],
    ['bridgeNetfilterNs', 'stage.br_netfilter_enabled_no_rules'],
    ['baseChainNs', 'stage.hook_legacy_table_empty'],
    ['nftBaseChainNs', 'stage.hook_nft_base_chain'],
  ] as const)('%s is %s', (cost, name) => {
    expect(Math.abs(LINUX_6_18[cost] - measured(name))).toBeLessThanOrEqual(1);
  });

  test('a datagram takes from socket to socket over a bridge what it did', () => {
    const { socketSendNs, vethNs, bridgeNs, localDeliveryNs, socketReceiveNs } = LINUX_6_18;
    const oneWay = socketSendNs + 2 * vethNs + bridgeNs + localDeliveryNs + socketReceiveNs;
    expect(oneWay).toBe(Math.round(measured('capacity.udp_socket_to_socket.br')));
  });

  test('routing is a veth hop with forwarding, less the veth', () => {
    expect(LINUX_6_18.forwardNs).toBe(Math.round(measured('stage.veth_plus_ip_forward_hop') - 300));
  });

  test('a lookup costs what it did with 1, 100 and 1,000 flows', () => {
    for (const flows of [1, 100, 1_000]) {
      expect(interpolateNs(LINUX_6_18.conntrackLookupNs, flows)).toBe(
        Math.round(measured(`stage.conntrack_existing_${flows}flows`)),
      );
    }
  });

  test('new entries and translations cost what lies between the measurements', () => {
    const lookup = measured('stage.conntrack_existing_1flows');
    const ranges = [
      [LINUX_6_18.conntrackNewNs + lookup, 'stage.conntrack_new_20000flows', 'stage.conntrack_new_4000flows'],
      [LINUX_6_18.dnatNewNs, 'stage.dnat_first_packet_extra_20000flows', 'stage.dnat_first_packet_extra_4000flows'],
      [
        LINUX_6_18.snatNewNs,
        'stage.masquerade_first_packet_extra_20000flows',
        'stage.masquerade_first_packet_extra_4000flows',
      ],
      [
        LINUX_6_18.snatRandomFullyNewNs,
        'stage.masquerade_random_fully_first_packet_extra_20000flows',
        'stage.masquerade_random_fully_first_packet_extra_4000flows',
      ],
    ] as const;
    for (const [cost, least, most] of ranges) {
      expect(cost).toBeGreaterThan(measured(least) - 5);
      expect(cost).toBeLessThan(measured(most));
    }
    const extras = [1, 100, 1_000, 10_000, 60_000].map(
      (flows) =>
        measured(`stage.conntrack_plus_dnat_existing_${flows}flows`) -
        measured(`stage.conntrack_existing_${flows}flows`),
    );
    expect(LINUX_6_18.natNs).toBeGreaterThan(Math.min(...extras));
    expect(LINUX_6_18.natNs).toBeLessThan(extras.reduce((sum, extra) => sum + extra, 0) / extras.length);
  });

  test.each([
    ['rulesNs', 'per_rule_legacy'],
    ['nftRulesNs', 'per_rule_nft'],
    ['nativeRulesNs', 'per_rule_natnft'],
  ] as const)('%s has the measured slopes, range by range', (cost, name) => {
    const { piecewise_slopes_ns_per_rule: slopes } = calibration.models.find(
      ({ model, stat }) => model === name && stat === 'min',
    )!;
    for (const [range, slope] of Object.entries(slopes)) {
      const [from, to] = range.split('-').map(Number) as [number, number];
      const curve = LINUX_6_18[cost];
      expect((interpolateNs(curve, to) - interpolateNs(curve, from)) / (to - from)).toBeCloseTo(slope, 2);
    }
  });

  test.each([
    ['verdictMapNs', 'stage.nftvmap_lookup', 0],
    ['verdictMapNs', 'stage.nftvmap_lookup', 100],
    ['verdictMapNs', 'stage.nftvmap_lookup', 10_000],
    ['setLookupNs', 'stage.nftvmap_lookup', 10_000],
    ['ipsetNs', 'stage.ipset_lookup', 0],
    ['ipsetNs', 'stage.ipset_lookup', 10_000],
  ] as const)('%s is %s with %i elements', (cost, name, elements) => {
    expect(interpolateNs(LINUX_6_18[cost], elements)).toBe(Math.round(measured(`${name}_${elements}elems`)));
  });

  test('a tunnel costs what both of its ends did together', () => {
    const both = LINUX_6_18.vxlanEncapNs + LINUX_6_18.vxlanDecapNs;
    expect(both).toBe(Math.round(measured('stage.vxlan_encap_plus_decap')));
    expect(LINUX_6_18.vxlanEncapNs / both).toBeCloseTo(measured('stage.vxlan_encap_share'), 3);
  });
});

test('a curve is linear between its knots, constant before the first, and goes on with its last slope', () => {
  const curve = [
    [10, 100],
    [20, 200],
    [40, 300],
  ] as const;
  expect([0, 10, 15, 20, 30, 40, 60].map((x) => interpolateNs(curve, x))).toEqual([100, 100, 150, 200, 250, 300, 400]);
});
