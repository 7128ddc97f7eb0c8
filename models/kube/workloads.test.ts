import { describe, expect, test } from 'vitest';
import {
  type ControlPlane,
  controlPlane,
  endGracePeriods,
  namesOf,
  nodeAt,
  setReady,
} from './control-plane.fixture.ts';
import { type Deployment, isReady, isTerminating, keyOf, type Pod, type StatefulSet } from './objects.ts';

const workload = (kind: string, name: string, spec = '') => `
apiVersion: apps/v1
kind: ${kind}
metadata: {name: ${name}}
spec:
  ${spec}
  selector: {matchLabels: {app: ${name}}}
  template:
    metadata: {labels: {app: ${name}}}
    spec: {containers: [{name: main}]}
`;

const ownedPod = (name: string, owner: string, { labels = '{app: web}', node = 'node-1', ip = '' } = {}) => `
apiVersion: v1
kind: Pod
metadata:
  name: ${name}
  labels: ${labels}
  ownerReferences: [{apiVersion: apps/v1, kind: ${owner.split('/')[0]}, name: ${owner.split('/')[1]}, controller: true}]
spec: {nodeName: ${node}, containers: [{name: main}]}
status: {podIP: ${ip}, phase: Running}
`;

describe('a Deployment', () => {
  test('gets a ReplicaSet, and that gets pods with names as Kubernetes gives them', () => {
    const cluster = controlPlane();
    cluster.apply(workload('Deployment', 'web', 'replicas: 2'));
    const [replicaSet] = cluster.api.list('ReplicaSet');
    expect(replicaSet?.metadata.name).toMatch(/^web-[bcdf-hj-np-tv-z24-9]{6,10}$/);
    for (const pod of cluster.api.list('Pod')) {
      expect(pod.metadata.name).toMatch(new RegExp(`^${replicaSet?.metadata.name}-[bcdf-hj-np-tv-z24-9]{5}$`));
      expect(pod.metadata.labels).toEqual({
        app: 'web',
        'pod-template-hash': replicaSet?.metadata.name.slice('web-'.length),
      });
    }
  });

  test('names its pods by the seed, whatever else there is', () => {
    const web = (seed: string, ...others: string[]) => {
      const cluster = controlPlane({ seed });
      cluster.apply([...others.map((name) => workload('Deployment', name)), workload('Deployment', 'web')].join('---'));
      return cluster
        .pods()
        .find((pod) => pod.startsWith('web-'))
        ?.split(' ')[0];
    };
    expect(web('one')).toBe(web('one', 'idle', 'other'));
    expect(web('one')).not.toBe(web('two'));
  });

  test('that is scaled down gives up pods that are not ready, then the newest', () => {
    const cluster = controlPlane();
    cluster.apply(workload('Deployment', 'web', 'replicas: 3'));
    const [oldest, middle, newest] = namesOf(cluster.api.list('Pod'));
    setReady(cluster.api, `default/${oldest}`, false);
    const scale = (replicas: number) => {
      const web = cluster.api.get('Deployment', 'default/web') as Deployment;
      cluster.api.update({ ...web, spec: { ...web.spec, replicas } });
      endGracePeriods(cluster.api);
      return namesOf(cluster.api.list('Pod'));
    };
    expect(scale(2)).toEqual([middle, newest]);
    expect(scale(1)).toEqual([middle]);
    expect(scale(4)).toHaveLength(4);
    expect(scale(0)).toEqual([]);
  });

  test('replaces a pod as soon as it begins to terminate', () => {
    const cluster = controlPlane();
    cluster.apply(workload('Deployment', 'web', 'replicas: 2'));
    const [first] = namesOf(cluster.api.list('Pod'));
    cluster.api.delete('Pod', `default/${first}`);
    expect(cluster.api.list('Pod')).toHaveLength(3);
    endGracePeriods(cluster.api);
    expect(cluster.api.list('Pod')).toHaveLength(2);
  });

  test('takes its ReplicaSet and pods with it', () => {
    const cluster = controlPlane();
    cluster.apply(workload('Deployment', 'web', 'replicas: 2'));
    cluster.api.delete('Deployment', 'default/web');
    endGracePeriods(cluster.api);
    expect([...cluster.api.list('ReplicaSet'), ...cluster.api.list('Pod')]).toEqual([]);
  });

  const update = (cluster: ControlPlane, version: string, more: Partial<Deployment['spec']> = {}): void => {
    const web = cluster.api.get('Deployment', 'default/web') as Deployment;
    const template = { ...web.spec.template, metadata: { labels: { app: 'web', version }, annotations: {} } };
    cluster.api.update({ ...web, spec: { ...web.spec, template, ...more } });
  };
  /** `1: 3, 2: 1 (1 not ready)`: pods by version; terminating ones are not counted. */
  const versions = ({ api }: ControlPlane): string => {
    const counts = new Map<string, { pods: number; notReady: number }>();
    for (const pod of api.list('Pod')) {
      if (isTerminating(pod)) continue;
      const version = pod.metadata.labels.version ?? '1';
      const { pods, notReady } = counts.get(version) ?? { pods: 0, notReady: 0 };
      counts.set(version, { pods: pods + 1, notReady: notReady + (isReady(pod) ? 0 : 1) });
    }
    return [...counts]
      .map(([version, { pods, notReady }]) => `${version}: ${pods}${notReady > 0 ? ` (${notReady} not ready)` : ''}`)
      .join(', ');
  };

  test('is updated at once if its pods are ready at once', () => {
    const cluster = controlPlane();
    cluster.apply(workload('Deployment', 'web', 'replicas: 4'));
    update(cluster, '2');
    endGracePeriods(cluster.api);
    expect(versions(cluster)).toBe('2: 4');
    expect(cluster.api.list('ReplicaSet').map(({ spec }) => spec.replicas)).toEqual([0, 4]);
  });

  test('waits for new pods to be ready, within maxSurge and maxUnavailable', () => {
    const cluster = controlPlane();
    cluster.apply(workload('Deployment', 'web', 'replicas: 4'));
    const isNotReady = (pod: Pod) => pod.metadata.labels.version === '2' && pod.status.conditions === undefined;
    cluster.api.watch('Pod', (events) => {
      for (const { type, object } of events)
        if (type === 'ADDED' && isNotReady(object)) setReady(cluster.api, keyOf(object), false);
    });
    const makeOneReady = () => {
      const pod = cluster.api.list('Pod').find((candidate) => !isReady(candidate) && !isTerminating(candidate));
      setReady(cluster.api, keyOf(pod as Pod), true);
      endGracePeriods(cluster.api);
      return versions(cluster);
    };
    update(cluster, '2'); // 25 % of 4: one more, and one less available
    expect(versions(cluster)).toBe('1: 3, 2: 2 (2 not ready)');
    expect(makeOneReady()).toBe('1: 2, 2: 3 (2 not ready)');
    expect(makeOneReady()).toBe('1: 1, 2: 4 (2 not ready)');
    expect(makeOneReady()).toBe('2: 4 (1 not ready)');
    expect(makeOneReady()).toBe('2: 4');
  });

  test('that goes back to an earlier template takes up its ReplicaSet again', () => {
    const cluster = controlPlane();
    cluster.apply(workload('Deployment', 'web', 'replicas: 2'));
    update(cluster, '2');
    endGracePeriods(cluster.api);
    const web = cluster.api.get('Deployment', 'default/web') as Deployment;
    const template = { ...web.spec.template, metadata: { labels: { app: 'web' }, annotations: {} } };
    cluster.api.update({ ...web, spec: { ...web.spec, template } });
    endGracePeriods(cluster.api);
    expect(versions(cluster)).toBe('1: 2');
    expect(cluster.api.list('ReplicaSet').map(({ spec }) => spec.replicas)).toEqual([2, 0]);
  });

  test('with strategy Recreate has no pods in between', () => {
    const cluster = controlPlane();
    cluster.apply(workload('Deployment', 'web', 'replicas: 2\n  strategy: {type: Recreate}'));
    update(cluster, '2');
    expect(versions(cluster)).toBe('');
    endGracePeriods(cluster.api);
    expect(versions(cluster)).toBe('2: 2');
  });
});

describe('a template that changes', () => {
  /** As kubectl set env would. */
  function changeTemplate({ api }: ControlPlane, kind: 'StatefulSet' | 'DaemonSet', key: string, version: string) {
    const owner = api.get(kind, key) as StatefulSet;
    const { template } = owner.spec;
    const metadata = { labels: { ...template.metadata.labels, version }, annotations: {} };
    api.update({ ...owner, spec: { ...owner.spec, template: { ...template, metadata } } });
  }
  /** `db-0 v2`, one line per pod that does not terminate, by name. */
  const versions = ({ api }: ControlPlane) =>
    api
      .list('Pod')
      .filter((pod) => !isTerminating(pod))
      .map(({ metadata }) => `${metadata.name} ${metadata.labels.version ?? 'v1'}`)
      .toSorted();
  const db = (spec: string) => {
    const cluster = controlPlane();
    cluster.apply(workload('StatefulSet', 'db', `replicas: 3\n  ${spec}`));
    return cluster;
  };

  test('replaces the pods of a StatefulSet, the last one first', () => {
    const cluster = db('');
    changeTemplate(cluster, 'StatefulSet', 'default/db', 'v2');
    expect(versions(cluster)).toEqual(['db-0 v1', 'db-1 v1']);
    endGracePeriods(cluster.api);
    expect(versions(cluster)).toEqual(['db-0 v1', 'db-2 v2']);
    endGracePeriods(cluster.api);
    endGracePeriods(cluster.api);
    expect(versions(cluster)).toEqual(['db-0 v2', 'db-1 v2', 'db-2 v2']);
  });

  test('but for those below its partition, which come back as they were', () => {
    const cluster = db('updateStrategy: {rollingUpdate: {partition: 2}}');
    changeTemplate(cluster, 'StatefulSet', 'default/db', 'v2');
    endGracePeriods(cluster.api);
    cluster.api.delete('Pod', 'default/db-0');
    endGracePeriods(cluster.api);
    expect(versions(cluster)).toEqual(['db-0 v1', 'db-1 v1', 'db-2 v2']);
    // The next change is one of the same update: those below still are what all were before.
    changeTemplate(cluster, 'StatefulSet', 'default/db', 'v3');
    endGracePeriods(cluster.api);
    cluster.api.delete('Pod', 'default/db-1');
    endGracePeriods(cluster.api);
    expect(versions(cluster)).toEqual(['db-0 v1', 'db-1 v1', 'db-2 v3']);
  });

  test('waits with OnDelete until somebody deletes a pod', () => {
    const cluster = db('updateStrategy: {type: OnDelete}');
    changeTemplate(cluster, 'StatefulSet', 'default/db', 'v2');
    expect(versions(cluster)).toEqual(['db-0 v1', 'db-1 v1', 'db-2 v1']);
    cluster.api.delete('Pod', 'default/db-1');
    endGracePeriods(cluster.api);
    expect(versions(cluster)).toEqual(['db-0 v1', 'db-1 v2', 'db-2 v1']);
  });

  test('replaces the pods of a DaemonSet, as many at once as its strategy has it', () => {
    const cluster = controlPlane();
    cluster.apply(workload('DaemonSet', 'agent', 'updateStrategy: {rollingUpdate: {maxUnavailable: 2}}'));
    changeTemplate(cluster, 'DaemonSet', 'default/agent', 'v2');
    expect(versions(cluster)).toEqual([expect.stringContaining('v1')]); // of three, two terminate
    endGracePeriods(cluster.api);
    expect(versions(cluster).map((line) => line.slice(-2))).toEqual(['v2', 'v2']);
    endGracePeriods(cluster.api);
    expect(versions(cluster).map((line) => line.slice(-2))).toEqual(['v2', 'v2', 'v2']);
    const nodes = cluster.api.list('Pod').map(({ spec }) => spec.nodeName);
    expect(new Set(nodes).size).toBe(3);
  });

  test('leaves pods of a snapshot as they are until then', () => {
    const cluster = controlPlane();
    cluster.apply(
      [
        workload('StatefulSet', 'db', 'replicas: 3'),
        ...['db-0', 'db-2'].map((name) => ownedPod(name, 'StatefulSet/db', { labels: '{app: db}' })),
      ].join('---'),
    );
    expect(versions(cluster)).toEqual(['db-0 v1', 'db-2 v1']);
    changeTemplate(cluster, 'StatefulSet', 'default/db', 'v2');
    endGracePeriods(cluster.api);
    endGracePeriods(cluster.api);
    expect(versions(cluster)).toEqual(['db-0 v2', 'db-2 v2']);
  });
});

describe('a snapshot', () => {
  test('keeps its pods, with node and address; none is added, even where some were missing', () => {
    const cluster = controlPlane();
    cluster.apply(
      [
        workload('Deployment', 'web', 'replicas: 3'),
        ownedPod('web-7d4b9c6f5-x2x7k', 'ReplicaSet/web-7d4b9c6f5', { node: 'node-2', ip: '10.244.1.5' }),
        ownedPod('web-7d4b9c6f5-8mz4q', 'ReplicaSet/web-7d4b9c6f5', { node: 'node-1', ip: '10.244.0.9' }),
      ].join('---'),
    );
    expect(namesOf(cluster.api.list('ReplicaSet'))).toEqual(['web-7d4b9c6f5']);
    expect(cluster.pods()).toEqual(['web-7d4b9c6f5-x2x7k node-2', 'web-7d4b9c6f5-8mz4q node-1']);
    expect(cluster.api.list('Pod').map(({ status }) => status.podIP)).toEqual(['10.244.1.5', '10.244.0.9']);
  });

  test('with ReplicaSets of older revisions scales the newest', () => {
    const cluster = controlPlane();
    const replicaSet = (name: string, revision: number, replicas: number) =>
      workload('ReplicaSet', name, `replicas: ${replicas}`).replace(
        `{name: ${name}}`,
        `{name: ${name}, annotations: {deployment.kubernetes.io/revision: "${revision}"}, ownerReferences: [{kind: Deployment, name: web}]}`,
      );
    cluster.apply([workload('Deployment', 'web'), replicaSet('web-2', 2, 1), replicaSet('web-1', 1, 0)].join('---'));
    const web = cluster.api.get('Deployment', 'default/web') as Deployment;
    cluster.api.update({ ...web, spec: { ...web.spec, replicas: 2 } });
    expect(cluster.api.list('ReplicaSet').map(({ metadata, spec }) => `${metadata.name} ${spec.replicas}`)).toEqual([
      'web-2 2',
      'web-1 0',
    ]);
    expect(cluster.api.list('Pod')).toHaveLength(2);
  });

  test('of a DaemonSet spares the nodes that it spared, but not new ones', () => {
    const cluster = controlPlane();
    cluster.api.createAll([nodeAt(1), nodeAt(2)]);
    cluster.apply(
      `${workload('DaemonSet', 'agent')}---${ownedPod('agent-x2x7k', 'DaemonSet/agent', { labels: '{app: agent}' })}`,
    );
    expect(cluster.pods()).toEqual(['agent-x2x7k node-1']);
    cluster.api.create(nodeAt(3));
    expect(cluster.pods()).toEqual(['agent-x2x7k node-1', expect.stringMatching(/^agent-\w{5} node-3$/)]);
  });
});

test('a StatefulSet numbers its pods, and a pod that goes comes back under its name', () => {
  const cluster = controlPlane();
  cluster.apply(workload('StatefulSet', 'db', 'replicas: 3\n  serviceName: db'));
  expect(cluster.pods()).toEqual(['db-0 node-1', 'db-1 node-2', 'db-2 node-3']);
  expect(cluster.api.get('Pod', 'default/db-1')?.spec).toMatchObject({ hostname: 'db-1', subdomain: 'db' });
  cluster.api.delete('Pod', 'default/db-1');
  expect(namesOf(cluster.api.list('Pod'))).toEqual(['db-0', 'db-1', 'db-2']); // db-1 terminates; its name is still taken
  endGracePeriods(cluster.api);
  expect(namesOf(cluster.api.list('Pod'))).toEqual(['db-0', 'db-2', 'db-1']);
});

test('a DaemonSet has a pod on every node that accepts it, cordoned ones too', () => {
  const cluster = controlPlane();
  const tainted = nodeAt(1, {
    taints: [{ key: 'node-role.kubernetes.io/control-plane', value: '', effect: 'NoSchedule' }],
  });
  const cordoned = nodeAt(2);
  cluster.api.createAll([tainted, { ...cordoned, spec: { ...cordoned.spec, unschedulable: true } }, nodeAt(3)]);
  cluster.apply(workload('DaemonSet', 'agent'));
  const everywhere = 'tolerations: [{operator: Exists}], containers:';
  cluster.apply(workload('DaemonSet', 'proxy').replace('containers:', everywhere));
  const nodesOf = (name: string) =>
    cluster
      .pods()
      .filter((pod) => pod.startsWith(name))
      .map((pod) => pod.split(' ')[1]);
  expect(nodesOf('agent')).toEqual(['node-2', 'node-3']);
  expect(nodesOf('proxy')).toEqual(['node-1', 'node-2', 'node-3']);
});
