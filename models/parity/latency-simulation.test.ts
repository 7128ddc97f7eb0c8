import { describe, expect, test } from 'vitest';
import { type CostModel, FREE, interpolateNs, LINUX_6_18 } from '../cpu/cost-model.ts';
import { kubeProxyIptables } from './calibration/rulesets.ts';
import type { NodeRules, Topology } from './case.ts';
import { simulateLatency } from './latency-simulation.ts';

const pod = (name: string, ip: string) => ({ name, ip, stack: true });
const pods = [pod('client', '10.244.0.2'), pod('server', '10.244.0.3')];
const ROUTED: Topology = { nodes: [{ name: 'n1', podCIDR: '10.244.0.0/24', bridge: false, pods }] };
const BRIDGED: Topology = { nodes: [{ name: 'n1', podCIDR: '10.244.0.0/24', pods }] };
const ENDPOINT = '10.244.0.3:9000';
const server = { to: { ip: '10.244.0.3', port: 9_000 }, serverPort: 9_000 };
const lastOf = (services: number) => ({
  to: { ip: `10.96.${services >> 8}.${services & 255}`, port: 80 },
  serverPort: 9_000,
});

const rulesFor = (services: number, protocol: 'tcp' | 'udp', backend: NodeRules['backend'] = 'legacy'): NodeRules => ({
  backend,
  text: kubeProxyIptables({ services, protocol, endpoint: ENDPOINT }),
});

const { vethNs, bridgeNs, bridgeNetfilterNs, forwardNs, socketSendNs, localDeliveryNs, socketReceiveNs } = LINUX_6_18;
const handshake = LINUX_6_18.socketSendNs + 2 * LINUX_6_18.tcpOpenNs + 6 * LINUX_6_18.tcpSegmentNs;

describe('a conversation takes what the stages on its way cost', () => {
  test('a UDP round trip over a bridge', () => {
    const oneWay = socketSendNs + 2 * vethNs + bridgeNs + bridgeNetfilterNs + localDeliveryNs + socketReceiveNs;
    expect(simulateLatency({ topology: BRIDGED, costs: LINUX_6_18, protocol: 'udp', ...server })).toBe(2 * oneWay);
  });

  test('a UDP round trip in two fragments each way', () => {
    const { fragmentNs, reassemblyNs } = LINUX_6_18;
    const perFragment = fragmentNs + 2 * vethNs + forwardNs + reassemblyNs;
    const oneWay = socketSendNs + 2 * perFragment + localDeliveryNs + socketReceiveNs;
    const large = { ...server, sizeBytes: 2_000 };
    expect(simulateLatency({ topology: ROUTED, costs: LINUX_6_18, protocol: 'udp', ...large })).toBe(2 * oneWay);
  });

  test('a UDP round trip through DNAT on one bridge: the way there is routed to find its MAC', () => {
    // All but the first round trip are of a tracked and translated flow, whose packets do not walk nat's rules.
    const stages = socketSendNs + 2 * vethNs + bridgeNs + bridgeNetfilterNs + localDeliveryNs + socketReceiveNs;
    const oneWay = stages + interpolateNs(LINUX_6_18.conntrackLookupNs, 1) + LINUX_6_18.natNs;
    const there = { ...lastOf(1), rules: rulesFor(1, 'udp') };
    const roundTrip = simulateLatency({ topology: BRIDGED, costs: LINUX_6_18, protocol: 'udp', ...there });
    expect(roundTrip).toBe(2 * oneWay + forwardNs);
  });

  test('connect() over a router: three segments each way, the ACK included', () => {
    const connect = simulateLatency({ topology: ROUTED, costs: LINUX_6_18, protocol: 'tcp', ...server });
    expect(connect).toBe(handshake + 3 * (2 * vethNs + forwardNs));
  });

  test('connect() through the last of 300 services: the SYN alone walks the list', () => {
    // PREROUTING's jump, 300 services, then one rule in each of two chains. nat's chains are entered at PREROUTING and
    // POSTROUTING. Three lookups find 1 entry, 2 segments are of a translated flow.
    const walk = interpolateNs(LINUX_6_18.rulesNs, 1 + 300 + 2) + 2 * LINUX_6_18.baseChainNs;
    const tracking = 3 * interpolateNs(LINUX_6_18.conntrackLookupNs, 1) + LINUX_6_18.conntrackNewNs;
    const translation = LINUX_6_18.dnatNewNs + 2 * LINUX_6_18.natNs;
    const connect = simulateLatency({
      ...{ topology: ROUTED, costs: LINUX_6_18, rules: rulesFor(300, 'tcp'), protocol: 'tcp' },
      ...lastOf(300),
    });
    // The table grows by an entry with each connection, and a lookup by a nanosecond or two.
    const expected = handshake + 3 * (2 * vethNs + forwardNs) + walk + tracking + translation;
    expect(Math.abs(connect - expected)).toBeLessThan(3 * 10);
  });

  test('rules of iptables-nft cost what they do there', () => {
    const costs: CostModel = {
      ...FREE,
      nftRulesNs: [
        [0, 0],
        [1, 7],
      ],
      nftBaseChainNs: 1_000,
    };
    const rules = rulesFor(300, 'tcp', 'nft');
    const connect = simulateLatency({ topology: ROUTED, costs, rules, protocol: 'tcp', ...lastOf(300) });
    expect(connect).toBe(7 * (1 + 300 + 2) + 2 * 1_000);
  });
});
