import { describe, expect, test } from 'vitest';
import { type Duration, ms, s } from '../engine/time.ts';
import { Cluster } from './cluster.ts';
import { readManifests } from './kube/manifests.ts';

/** Three nodes, `web` with three pods behind a Service, a client on node-1; changes take 200 ms to each watcher. */
function webCluster({ lifecycle = '', settings = '' }: { lifecycle?: string; settings?: string } = {}) {
  const text = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  ${settings}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, ports: [{containerPort: 8080}], ${lifecycle}}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`;
  const manifests = readManifests([{ name: 'web.yaml', text }]);
  const cluster = Cluster.fromManifests(manifests, { seed: 'lifecycle', watchDelay: ms(200) });
  const client = cluster.addPod({ name: 'client', node: 'node-1' });
  const ask = (settings: { keepAlive?: boolean; thinkTime?: Duration; timeout?: Duration } = {}) =>
    cluster.closedLoop(client, {
      to: cluster.resolve('web:80'),
      users: 4,
      thinkTime: ms(20),
      ...settings,
    });
  return { cluster, ask };
}
const webPods = (cluster: Cluster) => cluster.pods.filter(({ name }) => name.startsWith('default/web')).length;

describe('a rolling update', () => {
  test('loses connections to pods that stop before all nodes know', () => {
    const { cluster, ask } = webCluster();
    const load = ask();
    cluster.runFor(s(1));
    expect(load.failed).toBe(0);
    cluster.restart('web');
    cluster.runFor(s(10));
    // SIGTERM comes one watch delay after the deletion, the rules without the endpoint two after it and with the next sync.
    expect([...load.failures.keys()]).toEqual(['refused']);
    const refused = load.failures.get('refused');
    expect(refused).toBeGreaterThan(10);
    cluster.runFor(s(15));
    expect(load.failures.get('refused')).toBe(refused);
    // Half a second after it has ended a pod is gone, perhaps before the rules are: whoever asks then, asks in vain.
    expect(load.failed).toBeLessThanOrEqual(refused! + 4);
    expect(webPods(cluster)).toBe(3);
    cluster.assertConserved();
  });

  test('loses none if a preStop hook sleeps longer than that', () => {
    const { cluster, ask } = webCluster({ lifecycle: 'lifecycle: {preStop: {sleep: {seconds: 3}}}' });
    const before = new Map(cluster.pods.map(({ name, ip }) => [name, ip]));
    const load = ask();
    cluster.runFor(s(1));
    cluster.restart('web');
    cluster.runFor(s(20));
    expect(load.failed).toBe(0);
    const after = cluster.pods.filter(({ name }) => !before.has(name));
    expect(after).toHaveLength(3);
    for (const { ip } of after) expect([...before.values()]).not.toContain(ip); // host-local goes on counting
    cluster.assertConserved();
  });

  test('with keep-alive connections loses none either: they are closed, and made anew', () => {
    const { cluster, ask } = webCluster({ lifecycle: 'lifecycle: {preStop: {sleep: {seconds: 3}}}' });
    const load = ask({ keepAlive: true, thinkTime: ms(50) });
    cluster.runFor(s(1));
    cluster.restart('web');
    cluster.runFor(s(20));
    expect(load.failed).toBe(0);
    expect([...load.perServer.keys()].length).toBeGreaterThan(3);
  });

  test('waits for the readiness of the new pods', () => {
    const probe = 'readinessProbe: {initialDelaySeconds: 10, periodSeconds: 5}';
    const { cluster } = webCluster({
      lifecycle: probe,
      settings: 'strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}',
    });
    cluster.runFor(s(1));
    cluster.restart('web');
    cluster.runFor(s(5));
    expect(webPods(cluster)).toBe(4);
    cluster.runFor(s(45)); // three times 10 s, one pod after the other
    expect(webPods(cluster)).toBe(3);
    expect(cluster.api.list('ReplicaSet').map(({ spec }) => spec.replicas)).toEqual([0, 3]);
  });
});

describe('minReadySeconds', () => {
  const replicas = (cluster: Cluster) => cluster.api.list('ReplicaSet').map(({ spec }) => spec.replicas);

  test('makes every step of a rolling update wait until the new pod has been ready for so long', () => {
    const { cluster } = webCluster({
      settings: 'minReadySeconds: 10\n  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}',
    });
    cluster.runFor(s(20)); // the first pods are available
    cluster.restart('web');
    cluster.runFor(s(9)); // a new pod is ready after half a second
    expect(replicas(cluster)).toEqual([3, 1]);
    cluster.runFor(s(3));
    expect(replicas(cluster)).toEqual([2, 2]);
    cluster.runFor(s(25));
    expect(replicas(cluster)).toEqual([0, 3]);
    expect(webPods(cluster)).toBe(3);
  });

  test('begins anew for a pod that was not ready in between', () => {
    const { cluster } = webCluster({
      settings: 'minReadySeconds: 10\n  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}',
    });
    cluster.runFor(s(20));
    const before = new Set(cluster.pods.map(({ name }) => name));
    cluster.restart('web');
    cluster.runFor(s(5));
    const added = cluster.pods.find(({ name }) => !before.has(name))!;
    cluster.setReady(added.name, false);
    cluster.runFor(s(1));
    cluster.setReady(added.name, true);
    cluster.runFor(s(9));
    expect(replicas(cluster)).toEqual([3, 1]);
    cluster.runFor(s(3));
    expect(replicas(cluster)).toEqual([2, 2]);
  });
});

test('pods of a StatefulSet start one after the other, each when the one before is ready', () => {
  const cluster = new Cluster({ seed: 'ordered', watchDelay: ms(200) });
  cluster.addNodes(1);
  cluster.runFor(s(1));
  const text = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 3
  minReadySeconds: 5
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: main, readinessProbe: {initialDelaySeconds: 10, periodSeconds: 10}}]}
`;
  cluster.apply(readManifests([{ name: 'db.yaml', text }]).objects);
  const started: number[] = [];
  for (let second = 0; second < 40; second++) {
    started.push(cluster.pods.length);
    cluster.runFor(s(1));
  }
  // Each is ready 10 s after its start, and available 5 s later; the next is heard of by scheduler and kubelet, 200 ms each.
  // The first by the controller before: they start at 0.6 s, 16 s and 31.4 s.
  expect([1, 2, 3].map((count) => started.indexOf(count))).toEqual([1, 16, 32]);
});

test('a rolling update of a DaemonSet goes from node to node, each when the pod before is ready', () => {
  const cluster = new Cluster({ seed: 'agents', watchDelay: ms(200) });
  cluster.addNodes(3);
  const text = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {containers: [{name: main, readinessProbe: {initialDelaySeconds: 10, periodSeconds: 10}}]}
`;
  cluster.apply(readManifests([{ name: 'agent.yaml', text }]).objects);
  cluster.runFor(s(1));
  const before = new Set(cluster.pods.map(({ name }) => name));
  const replaced = () => cluster.pods.filter(({ name }) => !before.has(name)).length;
  cluster.restart('agent', { kind: 'DaemonSet' });
  // Every 11.5 s or so: an old pod takes half a second to go, and the new one is ready 10 s after its start.
  const seen = [5, 10, 10, 10].map((seconds) => {
    cluster.runFor(s(seconds));
    return replaced();
  });
  expect(seen).toEqual([1, 2, 3, 3]);
  expect(cluster.pods).toHaveLength(3);
});

describe('a node that is cut off', () => {
  test('takes its share of new connections until it is given up, and no more', () => {
    const { cluster, ask } = webCluster();
    // Few enough requests that no source port comes again: conntrack would still send it to the lost pod.
    const load = ask({ timeout: ms(500), thinkTime: ms(100) });
    cluster.runFor(s(1));
    cluster.failNode('node-3');
    cluster.runFor(s(25)); // not before 30 s
    expect([...load.failures.keys()]).toEqual(['timed out']);
    const before = load.failed;
    expect(before).toBeGreaterThan(100); // 4 users, 25 s, and one request of three takes half a second in vain
    cluster.runFor(s(25)); // at the latest after 45 s
    const atDetection = load.failed;
    expect(atDetection).toBeGreaterThan(before);
    cluster.runFor(s(10));
    expect(load.failed).toBe(atDetection);
  });

  test('has its pods replaced after 5 minutes, and ends the old ones when it is back', () => {
    const { cluster } = webCluster();
    cluster.runFor(s(1));
    cluster.failNode('node-3');
    cluster.runFor(s(360));
    expect(cluster.pods.map(({ node }) => node).filter((node) => node === 'node-3')).toHaveLength(1); // it runs on
    expect(webPods(cluster)).toBe(4);
    cluster.recoverNode('node-3');
    cluster.runFor(s(10));
    expect(webPods(cluster)).toBe(3);
    expect(cluster.pods.map(({ node }) => node)).not.toContain('node-3');
    cluster.assertConserved();
  });
});
