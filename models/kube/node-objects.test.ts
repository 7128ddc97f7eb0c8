import { expect, test } from 'vitest';
import { parsePrefix } from '../packet/ip-address.ts';
import { makeNode, nodesFor } from './node-objects.ts';
import { addressOfNode, internalIpsOf, type KubeObject, type Manifest, objectFrom, podCidrsOf } from './objects.ts';
import { completeRanges, DEFAULT_RANGES } from './ranges.ts';

const ranges = DEFAULT_RANGES;
const pod = (name: string, nodeName: string, status: Manifest<'Pod'>['status'], hostNetwork = false): KubeObject =>
  objectFrom('Pod', { metadata: { name }, spec: { nodeName, hostNetwork, containers: [{ name: 'main' }] }, status });
const nodes = (objects: KubeObject[], count = 3) =>
  nodesFor(objects, { ranges, count }).nodes.map(
    (node) => `${node.metadata.name} ${addressOfNode(node)} ${node.spec.podCIDR ?? 'any'}`,
  );

test('without any there are as many as one wants', () => {
  expect(nodes([])).toEqual(['node-1 192.168.0.11 any', 'node-2 192.168.0.12 any', 'node-3 192.168.0.13 any']);
});

test('Nodes of the manifests are the nodes; one without an address gets one', () => {
  const bare = objectFrom('Node', { metadata: { name: 'worker' } });
  expect(nodes([makeNode({ name: 'edge', address: '192.168.0.11' }), bare])).toEqual([
    'edge 192.168.0.11 any',
    'worker 192.168.0.12 any',
  ]);
});

test('a node that pods of a snapshot name is made from what they say, and noted', () => {
  const objects = [
    pod('web', 'worker-a', { podIP: '10.244.3.7' }),
    pod('api', 'worker-b', { podIP: '10.244.4.2', hostIP: '192.168.0.42' }),
    pod('proxy', 'worker-a', { podIP: '192.168.0.41' }, true),
  ];
  expect(nodes(objects)).toEqual(['worker-a 192.168.0.41 10.244.3.0/24', 'worker-b 192.168.0.42 10.244.4.0/24']);
  expect(nodesFor(objects, { ranges, count: 3 }).notes[0]).toBe(
    'Node worker-a is in no manifest; made, as Pod default/web runs on it',
  );
});

test('pod ranges are not guessed where a plugin does not cut them by nodes', () => {
  const objects = [pod('web', 'a', { podIP: '10.244.3.7' }), pod('api', 'b', { podIP: '10.244.3.8' })];
  expect(nodes(objects)).toEqual(['a 192.168.0.11 any', 'b 192.168.0.12 any']);
});

test('in a dual-stack cluster nodes have an address of each family, and keep those that they have', () => {
  const dual = completeRanges({}, 'dual');
  const addresses = (objects: KubeObject[]) =>
    nodesFor(objects, { ranges: dual, count: 2 }).nodes.map((node) => internalIpsOf(node).join());
  expect(addresses([])).toEqual(['192.168.0.11,fd00:192:168::b', '192.168.0.12,fd00:192:168::c']);
  const six = makeNode({ name: 'six', address: 'fd00:192:168::b' });
  const four = makeNode({ name: 'four', address: '192.168.0.11' });
  const [first, second] = nodesFor([six, four], { ranges: dual, count: 1 }).nodes;
  expect([addressOfNode(first!), addressOfNode(first!, 6)]).toEqual(['192.168.0.12', 'fd00:192:168::b']);
  expect([addressOfNode(second!), addressOfNode(second!, 6)]).toEqual(['192.168.0.11', 'fd00:192:168::c']);
  const podIPs = [{ ip: '10.244.3.7' }, { ip: 'fd00:10:244:3::7' }];
  const [host] = nodesFor([pod('web', 'worker', { podIP: '10.244.3.7', podIPs })], { ranges: dual, count: 1 }).nodes;
  expect(podCidrsOf(host!)).toEqual(['10.244.3.0/24', 'fd00:10:244:3::/64']);
});

test('a node range without room is an error', () => {
  const narrow = { ...ranges, node: parsePrefix('192.168.0.0/28') }; // .11 to .13; .14 is the gateway's
  expect(() => nodesFor([], { ranges: narrow, count: 4 })).toThrow(
    'the node range 192.168.0.0/28 is used up; expected room for every node',
  );
});
