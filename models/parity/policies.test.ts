// The rules and sets that agents write for NetworkPolicies, in the kernel: it takes them, does with packets what the
// simulator does, and lets through what the evaluator allows.

import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import type { Cluster } from '../cluster.ts';
import { anyPolicies, clusterOf, type RandomPolicies } from '../cluster-policies.fixture.ts';
import { judgeReachability, partiesOf } from '../cluster-reachability.ts';
import { addressesOf, type RunningPod } from '../kube/kubelet.ts';
import type { KubeObject } from '../kube/objects.ts';
import { podCidrsOf } from '../kube/objects.ts';
import { printIpsets } from '../netfilter/ipset/ipset-text.ts';
import { printIptablesSave } from '../netfilter/iptables-save.ts';
import type { RuleTables } from '../netfilter/rule-tables.ts';
import { formatIp, type IpFamily } from '../packet/ip-address.ts';
import type { NodeRules, PacketStep, ParityCase, ParityNode } from './case.ts';
import { formatDifference } from './compare.ts';
import { differencesOf } from './judge.ts';
import { KernelRunner } from './kernel/runner.ts';

const probe = await KernelRunner.probe();
const kernel = probe.ok ? new KernelRunner() : undefined;
afterAll(() => kernel?.close());

const FAMILIES = [4, 6] as const;
const PORT = 80;

test('packets through rules of random policies', { timeout: 300_000 }, async ({ skip }) => {
  if (kernel === undefined) return skip(probe.ok ? '' : `needs ${probe.missing.join('; ')}`);
  for (const policies of fc.sample(anyPolicies, { seed: 11, numRuns: 10 })) {
    const cluster = clusterOf(dualStack(policies));
    cluster.start();
    const parityCase = caseOf(cluster);
    expect((await differencesOf(parityCase, kernel)).map(formatDifference)).toEqual([]);
    const { steps } = await kernel.run(parityCase);
    const arrived = parityCase.packets.map((step, i) => {
      const { dst } = step as PacketStep;
      const [target] = cluster.pods.filter((pod) => addressesOf(pod).some((own) => textOf(own) === dst));
      return steps[i]!.captures!.some(({ ns, dir, dport }) => ns === nameOf(target!) && dir === 'in' && dport === PORT);
    });
    expect(arrived).toEqual(verdictsOf(cluster));
  }
});

/** Of both families, and without pods on the network of their node. */
const dualStack = (policies: RandomPolicies): RandomPolicies => ({
  ...policies,
  ipFamily: 'dual',
  objects: policies.objects.map(
    (object): KubeObject =>
      object.kind === 'Pod' ? { ...object, spec: { ...object.spec, hostNetwork: false } } : object,
  ),
});

const nameOf = ({ name }: RunningPod): string => name.slice(name.indexOf('/') + 1);
const textOf = ({ ip, family }: ReturnType<typeof addressesOf>[number]): string => formatIp(ip, family);
const addressOf = (pod: RunningPod, family: IpFamily): string =>
  textOf(addressesOf(pod).find((own) => own.family === family)!);

function caseOf(cluster: Cluster): ParityCase {
  // A bridge without ports has no carrier.
  const used = cluster.nodes.filter(({ kubelet }) => kubelet.pods.length > 0);
  const nodes = used.map((node): ParityNode => {
    const [podCIDR, podCIDR6] = podCidrsOf(cluster.api.get('Node', node.name)!) as [string, string];
    const [ip, ip6] = FAMILIES.map((family) => formatIp(node.addressOf(family)!, family)) as [string, string];
    const pods = node.kubelet.pods.map((pod) => ({
      ...{ name: nameOf(pod), ip: addressOf(pod, 4), ip6: addressOf(pod, 6) },
    }));
    return { name: node.name, ip, ip6, podCIDR, podCIDR6, pods };
  });
  const rules = Object.fromEntries(used.map((node) => [node.name, policyRulesOf(node)]));
  return { topology: { nodes }, rules, packets: packetsOf(cluster) };
}

function policyRulesOf({ machine }: Cluster['nodes'][number]): NodeRules {
  const { sets, tables, tables6 } = machine.root.enableNetfilter();
  return { backend: 'legacy', text: policyText(tables), text6: policyText(tables6), ipset: printIpsets(sets) };
}

/** The rules of policies alone: kube-proxy's have tests of their own. */
function policyText(tables: RuleTables): string {
  const lines = printIptablesSave(tables).split('\n');
  return [
    '*filter',
    ':FORWARD ACCEPT [0:0]',
    ':OUTPUT ACCEPT [0:0]',
    ...lines.filter((line) => /KUBE-PO(LICY|[DL]-)/.test(line)),
    'COMMIT',
    '',
  ].join('\n');
}

/** The first packet of a connection between every two pods, in both families. */
function packetsOf({ pods }: Cluster): PacketStep[] {
  let sport = 40_000;
  return FAMILIES.flatMap((family) =>
    pods.flatMap((from) =>
      pods.flatMap((to): PacketStep[] => {
        if (from === to) return [];
        const [src, dst] = [addressOf(from, family), addressOf(to, family)];
        return [{ from: nameOf(from), proto: 'tcp', src, dst, sport: ++sport, dport: PORT }];
      }),
    ),
  );
}

/** In the order of the packets. */
const verdictsOf = (cluster: Cluster): boolean[] =>
  FAMILIES.flatMap((family) => {
    const parties = partiesOf(cluster, family, { outside: false });
    const verdicts = judgeReachability(cluster, parties, { family, protocol: 'TCP', port: PORT });
    return verdicts.flatMap((row, from) => row.filter((_verdict, to) => to !== from).map(({ isAllowed }) => isAllowed));
  });
