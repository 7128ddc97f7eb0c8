// What experiments expect comes out also in a few of their runs: a mechanism that broke would show.

import { expect, test } from 'vitest';
import { describeFinding, type MeasuredRun, verdictOf } from './harness/expectation.ts';
import { planRuns, selectLevels } from './harness/plan.ts';
import { inFile, loadRegistered } from './registry.ts';

interface FewRuns {
  readonly name: string;
  /** As on the command line. */
  readonly set: readonly string[];
  readonly replications?: number;
  /** How many things are found out. */
  readonly findings: number;
}

// Some in clusters of IPv6, some in dual-stack ones: what comes out is the same.
const EXPERIMENTS: readonly FewRuns[] = [
  { name: 'coredns-overload', set: ['clients=two attempts', 'ipFamily=ipv6'], replications: 2, findings: 2 },
  {
    name: 'dns-race',
    set: ['case=Linux before 5.0,Linux 5.0 to 5.6', 'coreDnsPods=2'],
    replications: 2,
    findings: 5,
  },
  { name: 'bridge-netfilter-off', set: ['localEndpoints=2'], findings: 4 },
  { name: 'overlapping-ranges', set: ['ipFamily=ipv6'], replications: 2, findings: 38 },
  { name: 'pod-ip-reuse', set: ['ipFamily=dual'], replications: 2, findings: 8 },
  { name: 'port-allocation', set: ['applications=50'], replications: 6, findings: 7 },
  { name: 'vxlan-mtu', set: ['responseBytes=20000', 'ipFamily=ipv4,ipv6'], replications: 2, findings: 16 },
  { name: 'endpoint-split', set: ['proxy=ipvs'], replications: 2, findings: 1 },
  {
    name: 'external-traffic-policy',
    set: ['pods=2+1+0', 'proxy=iptables', 'ipFamily=ipv6'],
    replications: 1,
    findings: 4,
  },
  { name: 'first-server-bias', set: ['connectionsPerNode=6', 'proxy=ipvs'], replications: 2, findings: 1 },
  { name: 'hairpin', set: ['endpoints=2', 'proxy=iptables', 'ipFamily=ipv6'], findings: 5 },
  { name: 'ingress-pools', set: ['way=Ingress in turn'], replications: 3, findings: 2 },
  { name: 'invalid-segments', set: ['ipFamily=dual'], findings: 8 },
  { name: 'load-distribution', set: ['connections=10'], findings: 2 },
  { name: 'masquerade', set: ['proxy=iptables', 'ipFamily=ipv6'], findings: 8 },
  { name: 'ndots-amplification', set: ['searchDomains=4', 'ndots=5'], replications: 2, findings: 5 },
  { name: 'conntrack-full', set: ['tableFullOf=answered,unanswered', 'ipFamily=ipv6'], findings: 8 },
  { name: 'snat-ports', set: ['scenario=9 of 10 ports,12 of 10 ports,one port at once', 'ipFamily=dual'], findings: 6 },
  { name: 'source-ip', set: ['proxy=iptables', 'ipFamily=dual'], findings: 22 },
  { name: 'policy-window', set: ['delayMs=10'], replications: 2, findings: 12 },
  { name: 'programming-latency', set: ['services=100', 'minSyncPeriodSeconds=1'], findings: 4 },
  { name: 'rolling-update', set: ['preStopSeconds=0,3', 'proxy=nftables'], replications: 6, findings: 2 },
  {
    name: 'session-affinity',
    set: ['clients=20 addresses,240 addresses,one address', 'proxy=iptables'],
    replications: 8,
    findings: 4,
  },
  {
    name: 'stale-udp',
    set: ['ending=one drains,all are deleted,one stops as sync fails'],
    replications: 10,
    findings: 14,
  },
  { name: 'terminating-endpoints', set: ['proxy=iptables', 'ipFamily=dual'], findings: 3 },
  {
    name: 'topology-hints',
    set: ['pods=1+2+3', 'hints=none,PreferSameZone', 'proxy=iptables', 'ipFamily=dual'],
    replications: 3,
    findings: 4,
  },
];

test.each(EXPERIMENTS)('$name comes out as expected', { timeout: 180_000 }, async ({ name, set, ...few }) => {
  const experiment = await loadRegistered(inFile(name));
  const { replications = experiment.replications, findings: count } = few;
  const plan = planRuns({
    factors: selectLevels(experiment.factors, set, experiment.heldFactors),
    replications,
    seed: '1',
  });
  const runs = plan.map(
    ({ levels, seed }): MeasuredRun => ({ levels, measures: experiment.run(levels, seed).measures }),
  );
  const findings = experiment.findings(runs);
  expect(findings.filter((finding) => verdictOf(finding) !== 'as expected').map(describeFinding)).toEqual([]);
  expect(findings).toHaveLength(count);
});
