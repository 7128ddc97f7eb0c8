import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ms, s } from '../engine/time.ts';
import { Cluster } from './cluster.ts';
import { anyPolicies, clusterOf } from './cluster-policies.fixture.ts';
import { PROXY_MODES, type ProxyMode } from './kube/kube-proxy/proxy-mode.ts';
import type { EnforcementSettings } from './kube/network-policy/policy-agent.ts';
import { type Manifest, objectFrom } from './kube/objects.ts';
import { printIpsets } from './netfilter/ipset/ipset-text.ts';
import { printIptablesSave } from './netfilter/iptables-save.ts';

const WATCH_DELAY = ms(5);
const DELAY = ms(500);

/** `web` behind a Service and `near` on node-1, `far` on node-2. */
function webCluster(networkPolicy: Partial<EnforcementSettings> = {}, proxy: ProxyMode = 'iptables'): Cluster {
  const cluster = new Cluster({
    ...{ seed: 'policies', watchDelay: WATCH_DELAY, networkPolicy: { delay: DELAY, ...networkPolicy }, proxy },
  });
  cluster.addNodes(2);
  cluster.apply(
    [
      { name: 'web', nodeName: 'node-1' },
      { name: 'near', nodeName: 'node-1' },
      { name: 'far', nodeName: 'node-2' },
    ].map(({ name, nodeName }) =>
      objectFrom('Pod', {
        metadata: { name, labels: { app: name } },
        spec: { nodeName, containers: [{ name, ports: [{ containerPort: 8080 }] }] },
      }),
    ),
  );
  cluster.addService({ name: 'web', port: 80, selects: { name: 'web' } });
  return cluster;
}

const policy = (name: string, spec: NonNullable<Manifest<'NetworkPolicy'>['spec']>) =>
  objectFrom('NetworkPolicy', { metadata: { name }, spec });

const DENY_INGRESS = policy('deny-ingress', { policyTypes: ['Ingress'] });
const FROM_FAR = policy('from-far', { ingress: [{ from: [{ podSelector: { matchLabels: { app: 'far' } } }] }] });

/** One request on a new connection: `answered`, or how it failed. */
function outcomeOf(cluster: Cluster, from: string, to = 'web:80'): string {
  const sender = from.startsWith('node-') ? cluster.node(from).process : cluster.pod(`default/${from}`);
  const load = cluster.closedLoop(sender, { to: cluster.resolve(to), requests: 1, thinkTime: ms(0), timeout: ms(100) });
  cluster.runFor(ms(200));
  return [...load.failures.keys()][0] ?? 'answered';
}

describe('through a Service', () => {
  test.for(PROXY_MODES)('the policy of the pod behind it counts, on whichever node the client is (%s)', (proxy) => {
    const cluster = webCluster({}, proxy);
    cluster.apply([FROM_FAR]);
    expect(outcomeOf(cluster, 'far')).toBe('answered');
    expect(outcomeOf(cluster, 'near')).toBe('refused');
    cluster.assertConserved();
  });

  test.for(PROXY_MODES)('the policy of the client counts (%s)', (proxy) => {
    const cluster = webCluster({}, proxy);
    cluster.apply([policy('no-way-out', { podSelector: { matchLabels: { app: 'far' } }, policyTypes: ['Egress'] })]);
    expect(outcomeOf(cluster, 'far')).toBe('refused');
    expect(outcomeOf(cluster, 'near')).toBe('answered');
    expect(outcomeOf(cluster, 'node-2')).toBe('answered');
  });

  test('a pod reaches itself whatever policies say', () => {
    const cluster = webCluster();
    cluster.apply([policy('deny-all', { policyTypes: ['Ingress', 'Egress'] })]);
    expect(outcomeOf(cluster, 'web')).toBe('answered');
  });
});

test('kubelet probes pass where everything is denied; other nodes are denied', () => {
  const cluster = webCluster({ unknownPods: 'closed' });
  cluster.apply([policy('deny-all', { policyTypes: ['Ingress', 'Egress'] })]);
  expect(outcomeOf(cluster, 'node-1', 'near:8080')).toBe('answered');
  expect(outcomeOf(cluster, 'node-2', 'near:8080')).toBe('refused');
});

describe('a policy that comes during a run', () => {
  test('is in force when the news has come and the rules are written', () => {
    const cluster = webCluster();
    cluster.start();
    cluster.apply([DENY_INGRESS]);
    cluster.runFor((WATCH_DELAY + DELAY - ms(250)) as typeof DELAY);
    expect(outcomeOf(cluster, 'far')).toBe('answered'); // ends 50 ms before
    cluster.runFor(ms(60));
    expect(outcomeOf(cluster, 'far')).toBe('refused');
  });

  test.each([
    ['kept', 'go on'],
    ['cut', 'end'],
  ] as const)('with connections %s, those that are open %s', (established, outcome) => {
    const cluster = webCluster({ established });
    const load = cluster.closedLoop(cluster.pod('default/far'), {
      ...{ to: cluster.resolve('web:80'), keepAlive: true, thinkTime: ms(10), timeout: s(1) },
    });
    cluster.runFor(s(1));
    expect(load.failed).toBe(0);
    cluster.apply([DENY_INGRESS]);
    cluster.runFor(s(1));
    const before = load.completed;
    cluster.runFor(s(4));
    if (outcome === 'go on') {
      expect(load.completed - before).toBeGreaterThan(300); // 4 s, 10 ms each
      expect(load.failed).toBe(0);
    } else {
      expect(load.completed).toBe(before);
      expect(load.failed).toBeGreaterThan(0);
    }
    // Refused or timed out: the node sends few errors to a host that it has sent many.
    expect(outcomeOf(cluster, 'far')).not.toBe('answered');
  });

  test('and is taken away leaves the tables and sets of a node as they were', () => {
    const cluster = webCluster();
    cluster.start();
    const before = rulesOf(cluster);
    cluster.apply([FROM_FAR]);
    cluster.runFor(s(1));
    expect(rulesOf(cluster)).toContain('KUBE-POLICY');
    cluster.api.delete('NetworkPolicy', 'default/from-far');
    cluster.runFor(s(1));
    expect(rulesOf(cluster)).toBe(before);
  });
});

describe('a pod that no rules are about yet', () => {
  test.each([
    ['open', 'answered'],
    ['closed', 'timed out'],
  ] as const)('is %s: a request is %s, until the rules are there', (unknownPods, outcome) => {
    const cluster = webCluster({ unknownPods });
    cluster.apply([FROM_FAR]);
    cluster.start();
    const spec = { nodeName: 'node-1', containers: [{ name: 'main', ports: [{ containerPort: 8080 }] }] };
    cluster.apply([objectFrom('Pod', { metadata: { name: 'late' }, spec })]);
    cluster.runFor(ms(20));
    expect(outcomeOf(cluster, 'near', 'default/late:8080')).toBe(outcome);
    cluster.runFor(s(1));
    expect(outcomeOf(cluster, 'near', 'default/late:8080')).toBe('refused');
    expect(outcomeOf(cluster, 'far', 'default/late:8080')).toBe('answered');
  });
});

/** What `ipset save` and `iptables-save` print on a node. */
function textsOf(cluster: Cluster, node = 'node-1'): { sets: string; tables: string; tables6: string } {
  const { sets, tables, tables6 } = cluster.node(node).machine.root.enableNetfilter();
  const save = (one: typeof tables): string => printIptablesSave(one).replace(/\[\d+:\d+\]/g, '[0:0]');
  return { sets: printIpsets(sets), tables: save(tables), tables6: save(tables6) };
}

const rulesOf = (cluster: Cluster): string => Object.values(textsOf(cluster)).join('\n');

/** Random names of Services and what kube-proxy writes are no matter of policies. */
const policyLines = (text: string): string[] =>
  text
    .split('\n')
    .filter((line) => /KUBE-(POLICY|PO[DL]-|PODS-|SRC-|DST-|PORT-)/.test(line))
    .sort();

test('after any changes a node has the rules and sets that it would have been given at the start', () => {
  fc.assert(
    fc.property(anyPolicies, anyPolicies, (first, second) => {
      const enforcement = { ...second.enforcement, delay: ms(100) };
      const changed = clusterOf({ ...first, ipFamily: second.ipFamily, enforcement });
      changed.start();
      for (const { kind, metadata } of first.objects) {
        const key = 'namespace' in metadata ? `${metadata.namespace}/${metadata.name}` : metadata.name;
        changed.api.remove(kind, key);
      }
      changed.runFor(s(1));
      // Pods get other addresses now: what else differs is what the agents have written.
      changed.apply(second.objects);
      changed.runFor(s(1));
      const fresh = new Cluster({ ...{ seed: 'fresh', ipFamily: second.ipFamily, networkPolicy: enforcement } });
      fresh.addNodes(2);
      fresh.apply([...changed.api.list('Namespace'), ...changed.api.list('Pod'), ...changed.api.list('NetworkPolicy')]);
      fresh.start();
      for (const node of ['node-1', 'node-2'])
        for (const what of ['sets', 'tables', 'tables6'] as const)
          expect(policyLines(textsOf(changed, node)[what])).toEqual(policyLines(textsOf(fresh, node)[what]));
    }),
    { numRuns: 100 },
  );
});

test('iptables-restore and ipset restore of the kernel take them, and print them alike', ({ skip }) => {
  const probe = spawnSync('unshare', ['-n', 'sh', '-c', 'ipset list -n && iptables-save && ip6tables-save']);
  if (probe.status !== 0)
    skip(`needs root, ipset and iptables: ${probe.error?.message ?? probe.stderr.toString().trim()}`);
  for (const policies of fc.sample(anyPolicies, { seed: 7, numRuns: 20 })) {
    const cluster = clusterOf(policies);
    cluster.start();
    const { sets, tables, tables6 } = textsOf(cluster);
    const commands = [
      ...[
        'ipset restore <<END',
        sets,
        'END',
        'iptables-restore <<END',
        tables,
        'END',
        'ip6tables-restore <<END',
        tables6,
      ],
      ...['END', 'ipset save', 'iptables-save', 'ip6tables-save'],
    ].join('\n');
    const { status, stderr, stdout } = spawnSync('unshare', ['-n', 'sh'], { input: commands, encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    // The kernel draws what was not given.
    const real = stdout.replace(/ bucketsize \d+ initval \w+/g, '');
    expect(policyLines(real)).toEqual(policyLines(sets + tables + tables6));
  }
});
