// What the experiment load-distribution assumes: kube-proxy's chain of coins gives every endpoint the same share. At a
// hundred thousand connections the chi-square test has the power to tell a right chain from one with a single wrong coin.

import { describe, expect, test } from 'vitest';
import { Cluster } from '../models/cluster.ts';
import { Chain } from '../models/netfilter/chain.ts';
import { PREROUTING } from '../models/netfilter/netfilter.ts';
import { Rule } from '../models/netfilter/rule.ts';
import { PROTOCOL_TCP, TCP_SYN } from '../models/packet/frame.ts';
import { formatIp, type Ip, parseIp } from '../models/packet/ip-address.ts';
import { chiSquarePValue } from './harness/confidence.ts';

const ENDPOINTS = 10;
const CONNECTIONS = 100_000;

/** A Service with its pods on two nodes; the first node's netfilter is under test. */
function webCluster() {
  const cluster = new Cluster({ seed: 'load-distribution' });
  cluster.addNodes(2);
  const web = cluster.addDeployment({ name: 'web', replicas: ENDPOINTS });
  cluster.addService({ name: 'web', port: 80, selects: web });
  cluster.start();
  const { machine } = cluster.node('node-1');
  return { cluster, machine, netfilter: machine.root.netfilter! };
}

/** SYNs of distinct connections through PREROUTING, in one visit of a CPU: how many went to which endpoint. */
function connect({ cluster, machine, netfilter }: ReturnType<typeof webCluster>): Map<string, number> {
  const { ip, port } = cluster.resolve('web:80');
  const bridge = machine.root.deviceNamed('cbr0');
  const firstClient = parseIp('10.244.0.100');
  const counts = new Map<string, number>();
  const sendAll = (): void => {
    for (let i = 0; i < CONNECTIONS; i++) {
      const frame = cluster.frames.allocate();
      frame.protocol = PROTOCOL_TCP;
      frame.tcpFlags = TCP_SYN;
      frame.srcIp = (firstClient + Math.floor(i / 50_000)) as Ip;
      frame.srcPort = 10_000 + (i % 50_000);
      frame.dstIp = ip;
      frame.dstPort = port;
      expectTrue(netfilter.run(PREROUTING, frame, bridge, undefined));
      const endpoint = formatIp(frame.dstIp);
      counts.set(endpoint, (counts.get(endpoint) ?? 0) + 1);
      cluster.frames.deliver(frame);
    }
  };
  machine.cpus.submit(0, sendAll, undefined);
  return counts;
}

/** Not expect(), which takes longer than the frame. */
function expectTrue(value: boolean): void {
  if (!value) throw new Error('netfilter has dropped a SYN');
}

function chiSquareP(counts: ReadonlyMap<string, number>): number {
  const expected = CONNECTIONS / ENDPOINTS;
  return chiSquarePValue([...counts.values()].map((observed) => ({ observed, expected })));
}

describe(`${CONNECTIONS} connections to a Service with ${ENDPOINTS} endpoints`, () => {
  test('spread evenly', () => {
    const web = webCluster();
    const counts = connect(web);
    const addresses = web.cluster.pods.map(({ ip }) => formatIp(ip));
    expect([...counts.keys()].sort()).toEqual(addresses.sort());
    expect(chiSquareP(counts)).toBeGreaterThan(0.001);
  });

  test('do not when one probability is wrong', () => {
    const web = webCluster();
    const { tables } = web.netfilter;
    const name = tables.chainNames('nat').find((chain) => chain.startsWith('KUBE-SVC-'))!;
    const { rules } = tables.chain('nat', name)!;
    // The fifth endpoint: 1/6 of what the four before it have left. Off by a tenth, it gets 1,000 too few of 10,000.
    const probabilities = rules.map(({ spec }) => probabilityOf(spec));
    expect(probabilities.filter((value) => value !== undefined)).toHaveLength(ENDPOINTS - 1);
    const fifth = probabilities.findIndex((value) => value !== undefined && Math.abs(value - 1 / 6) < 1e-6);
    const wrong = rules.with(fifth, new Rule(withProbability(rules[fifth]!.spec, 0.9 / 6)));
    tables.replaceChains('nat', [new Chain(name, wrong)]);
    const counts = connect(web);
    expect(counts.size).toBe(ENDPOINTS);
    expect(chiSquareP(counts)).toBeLessThan(1e-6);
  });
});

type RuleSpec = Rule['spec'];

function probabilityOf({ matches = [] }: RuleSpec): number | undefined {
  for (const match of matches) if (match.match === 'statistic' && match.mode === 'random') return match.probability;
  return undefined;
}

function withProbability(spec: RuleSpec, probability: number): RuleSpec {
  const matches = (spec.matches ?? []).map((match) =>
    match.match === 'statistic' && match.mode === 'random' ? { ...match, probability } : match,
  );
  return { ...spec, matches };
}
