import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { controlPlane, nodeAt } from './control-plane.fixture.ts';
import { type Manifest, type Node, objectFrom, type Pod, type PodSpec } from './objects.ts';
import { nodeAccepts } from './scheduler.ts';

const pod = (name: string, spec: Partial<Manifest<'Pod'>['spec']> = {}, owner?: string): Pod =>
  objectFrom('Pod', {
    metadata: {
      name,
      ownerReferences: owner === undefined ? [] : [{ kind: 'ReplicaSet', name: owner, controller: true }],
    },
    spec: { containers: [{ name: 'main' }], ...spec },
  });
const deployment = (replicas: number, spec = '') => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: ${replicas}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {${spec} containers: [{name: main}]}
`;
const nodesOf = (pods: readonly string[]) => pods.map((line) => line.split(' ')[1]);

describe('pods are spread', () => {
  test('evenly by owner first, then by number, then in the order of the nodes', () => {
    const { api, pods } = controlPlane();
    api.createAll([nodeAt(1), nodeAt(2), nodeAt(3)]);
    api.createAll([pod('a1', {}, 'a'), pod('a2', {}, 'a'), pod('b1', {}, 'b'), pod('b2', {}, 'b'), pod('b3', {}, 'b')]);
    // b1 to the empty node-3; b2, b3 to nodes without a pod of b
    expect(pods()).toEqual(['a1 node-1', 'a2 node-2', 'b1 node-3', 'b2 node-1', 'b3 node-2']);
  });

  test('around those that have a node already', () => {
    const { api, pods } = controlPlane();
    api.createAll([nodeAt(1), nodeAt(2)]);
    api.createAll([pod('a1', {}, 'a'), pod('a2', { nodeName: 'node-1' }, 'a')]);
    expect(pods()).toEqual(['a1 node-2', 'a2 node-1']);
  });

  test('again when one has gone', () => {
    const { api, pods } = controlPlane();
    api.createAll([nodeAt(1), nodeAt(2)]);
    api.createAll([pod('a1', {}, 'a'), pod('a2', {}, 'a')]);
    api.remove('Pod', 'default/a1');
    api.create(pod('a3', {}, 'a'));
    expect(pods()).toEqual(['a2 node-2', 'a3 node-1']);
  });
});

test('whatever came and went before, the next pod goes where a look at every node says', () => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ act: fc.constant('pod' as const), which: fc.nat(1) }) },
    { weight: 2, arbitrary: fc.record({ act: fc.constant('remove' as const), which: fc.nat(99) }) },
    {
      weight: 1,
      arbitrary: fc.record({ act: fc.constantFrom('node' as const, 'remove node' as const), which: fc.nat(99) }),
    },
  );
  fc.assert(
    fc.property(fc.array(step, { minLength: 40, maxLength: 80 }), (steps) => {
      const { api } = controlPlane();
      const nodes: string[] = [];
      const bound: { name: string; owner: string; node: string }[] = [];
      for (const [i, { act, which }] of [{ act: 'node' as const, which: 0 }, ...steps].entries()) {
        if (act === 'node') {
          api.create(nodeAt(i + 1));
          nodes.push(`node-${i + 1}`);
        } else if (act === 'remove node' && nodes.length > 1) {
          api.remove('Node', nodes.splice(which % nodes.length, 1)[0]!);
        } else if (act === 'remove' && bound.length > 0) {
          api.remove('Pod', `default/${bound.splice(which % bound.length, 1)[0]!.name}`);
        } else if (act === 'pod') {
          const placed = { name: `pod-${i}`, owner: `set-${which}`, node: emptiest(nodes, bound, `set-${which}`) };
          api.create(pod(placed.name, {}, placed.owner));
          expect(api.get('Pod', `default/${placed.name}`)?.spec.nodeName).toBe(placed.node);
          bound.push(placed);
        }
      }
    }),
  );
});

/** The first node with the fewest pods of the owner, and of those the fewest pods. */
function emptiest(nodes: readonly string[], bound: readonly { owner: string; node: string }[], owner: string): string {
  const load = (node: string): number => {
    const there = bound.filter((other) => other.node === node);
    return there.filter((other) => other.owner === owner).length * 1_000 + there.length;
  };
  return nodes.reduce((best, node) => (load(node) < load(best) ? node : best));
}

test('nodeName and nodeSelector are honoured', () => {
  const { api, apply, pods } = controlPlane();
  api.createAll([nodeAt(1), nodeAt(2, { labels: { disk: 'ssd' } })]);
  api.create(pod('there', { nodeName: 'node-2' }));
  apply(deployment(2, 'nodeSelector: {disk: ssd, kubernetes.io/os: linux},'));
  expect(nodesOf(pods())).toEqual(['node-2', 'node-2', 'node-2']); // node-1 is as empty as can be
});

describe('a node accepts a pod', () => {
  const master: Node['spec']['taints'] = [
    { key: 'node-role.kubernetes.io/control-plane', value: '', effect: 'NoSchedule' },
  ];
  const gpu: Node['spec']['taints'] = [{ key: 'gpu', value: 'a100', effect: 'NoExecute' }];
  test.each<[string, Node['spec']['taints'], Manifest<'Pod'>['spec']['tolerations'], boolean]>([
    ['without taints', [], [], true],
    ['not a control plane', master, [], false],
    [
      'a control plane that it tolerates',
      master,
      [{ key: 'node-role.kubernetes.io/control-plane', operator: 'Exists' }],
      true,
    ],
    ['whatever, if it tolerates all', [...master, ...gpu], [{ operator: 'Exists' }], true],
    [
      'not for another effect',
      master,
      [{ key: 'node-role.kubernetes.io/control-plane', operator: 'Exists', effect: 'NoExecute' }],
      false,
    ],
    ['by the value', gpu, [{ key: 'gpu', value: 'a100' }], true],
    ['not by another value', gpu, [{ key: 'gpu', value: 't4' }], false],
    ['if it would only rather not', [{ key: 'spot', value: '', effect: 'PreferNoSchedule' }], [], true],
  ])('%s', (_, taints, tolerations = [], expected) => {
    const { spec } = pod('a', { tolerations }) as { spec: PodSpec };
    expect(nodeAccepts(nodeAt(1, { taints }), spec)).toBe(expected);
  });

  test('not if it is cordoned, but for those that tolerate it', () => {
    const node = nodeAt(1);
    const cordoned = { ...node, spec: { ...node.spec, unschedulable: true } };
    const accepts = (tolerations: Manifest<'Pod'>['spec']['tolerations']): boolean =>
      nodeAccepts(cordoned, (pod('a', { tolerations }) as { spec: PodSpec }).spec);
    expect(accepts([])).toBe(false);
    expect(accepts([{ key: 'node.kubernetes.io/unschedulable', operator: 'Exists' }])).toBe(true);
  });
});

describe('a pod that no node takes waits', () => {
  const withSelector = { nodeSelector: { disk: 'ssd' } };

  test('and is noted with the reason', () => {
    const { api, scheduler, pods } = controlPlane();
    api.create(pod('early'));
    expect(scheduler.notes).toEqual(['Pod default/early: there is no node']);
    api.create(nodeAt(1, { taints: [{ key: 'gpu', value: '', effect: 'NoSchedule' }] }));
    api.create(pod('picky', withSelector));
    expect(scheduler.notes).toEqual([
      'Pod default/early: spec.tolerations: no node is without taints that it does not tolerate',
      'Pod default/picky: spec.nodeSelector: no node has disk=ssd',
    ]);
    api.create(nodeAt(2, { labels: { disk: 'ssd' } }));
    expect(scheduler.notes).toEqual([]);
    expect(pods()).toEqual(['early node-2', 'picky node-2']);
  });

  test('while nodes have as many pods as they allow', () => {
    const { api, scheduler } = controlPlane();
    const node = nodeAt(1);
    api.create({ ...node, status: { ...node.status, allocatable: { pods: '1' } } });
    api.createAll([pod('a'), pod('b')]);
    expect(scheduler.notes).toEqual([
      'Pod default/b: every node that may take it has as many pods as its status.allocatable.pods',
    ]);
    api.remove('Pod', 'default/a');
    expect(scheduler.notes).toEqual([]);
  });
});

test('a port of the node goes to one pod', () => {
  const { api, scheduler, pods } = controlPlane();
  api.createAll([nodeAt(1), nodeAt(2)]);
  const containers = [{ name: 'agent', ports: [{ containerPort: 9100, protocol: 'TCP' as const }], image: undefined }];
  for (const name of ['a', 'b', 'c']) api.create(pod(name, { hostNetwork: true, containers }));
  expect(pods()).toEqual(['a node-1', 'b node-2', 'c nowhere']);
  expect(scheduler.notes).toEqual(['Pod default/c: every node that may take it has a pod with host port TCP/9100']);
  api.remove('Pod', 'default/b');
  expect(pods()).toEqual(['a node-1', 'c node-2']);
});

test('whether a node has addresses left is no matter of the scheduler', () => {
  const { api, pods, scheduler } = controlPlane();
  api.createAll([nodeAt(1, { podCIDR: '10.244.0.0/29' }), nodeAt(2, { podCIDR: '10.244.1.0/30' })]); // room for 5 and 1
  for (const name of ['a', 'b', 'c', 'd']) api.create(pod(name));
  expect(nodesOf(pods())).toEqual(['node-1', 'node-2', 'node-1', 'node-2']);
  expect(scheduler.notes).toEqual([]);
});

test('pods on the node’s network need no address', () => {
  const { api, pods } = controlPlane();
  api.create(nodeAt(1, { podCIDR: '10.244.0.0/30' }));
  api.createAll([pod('a', { hostNetwork: true }), pod('b', { hostNetwork: true }), pod('c')]);
  expect(nodesOf(pods())).toEqual(['node-1', 'node-1', 'node-1']);
});

test('host ports conflict at the same address, and at every address with all', () => {
  const { api } = controlPlane({ nodes: 0 });
  api.create(nodeAt(1));
  const withPort = (name: string, protocol: 'TCP' | 'UDP', hostIP?: string) =>
    api.create(
      pod(name, {
        containers: [
          { name: 'main', ports: [{ containerPort: 80, hostPort: 8080, protocol, ...(hostIP && { hostIP }) }] },
        ],
      }),
    );
  withPort('loopback', 'TCP', '127.0.0.1');
  withPort('node', 'TCP', '192.168.0.11');
  withPort('again', 'TCP', '192.168.0.11');
  withPort('every', 'TCP', '0.0.0.0');
  withPort('udp', 'UDP');
  withPort('udp-loopback', 'UDP', '127.0.0.1');
  const placed = api.list('Pod').filter(({ spec }) => spec.nodeName !== undefined);
  expect(placed.map(({ metadata }) => metadata.name)).toEqual(['loopback', 'node', 'udp']);
});
