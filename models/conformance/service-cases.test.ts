import { expect, test } from 'vitest';
import type { AddressCase } from './address-case.ts';
import { ipamCni } from './ipam-cni.ts';

const run = (cases: readonly AddressCase[]) => ipamCni.read({ cases }, 'own.json').run();

test.each([
  ['service-ip', 'static', { cidr: '10.96.0.0/24', clusterIP: '10.96.0.0' }, { accepted: false }],
  ['service-ip', 'static', { cidr: '10.96.0.0/24', clusterIP: '10.97.0.1' }, { accepted: false }],
  ['service-ip', 'static', { cidr: '10.96.0.0/24', clusterIP: '10.96.0.9', used: ['10.96.0.9'] }, { accepted: false }],
  ['service-ip', 'dynamic', { cidr: '10.96.0.0/28', used: 'everything' }, { error: 'range is full' }],
  ['service-ip', 'dynamic', { cidr: '10.96.0.0/12', used: 'whole upper band' }, { inBand: ['10.96.0.1', '10.96.1.0'] }],
  ['service-ip', 'first', { cidr: 'fd00:10:96::/112' }, { kubernetesService: 'fd00:10:96::1' }],
  ['service-ip', 'capacity', { cidr: 'fd00:10:96::/112' }, { usable: 65_535 }],
  ['service-ip', 'objects', { service: 'ExternalName' }, { ipAddress: null }],
  ['nodeport', 'dynamic', { type: 'LoadBalancer', allocateLoadBalancerNodePorts: false }, { nodePort: null }],
  ['nodeport', 'static', { nodePort: 30_010, type: 'ClusterIP' }, { accepted: false }],
  ['nodeport', 'static', { nodePort: 29_999 }, { accepted: false }],
  ['nodeport', 'release', { op: 'change type to ExternalName' }, { released: true }],
  [
    'nodeport',
    'health-check',
    { type: 'LoadBalancer', externalTrafficPolicy: 'Cluster' },
    { healthCheckNodePort: null },
  ],
])('%s %s %j', (area, kind, input, expected) => {
  expect(run([{ id: 'own', area, kind, input, expect: expected }]).mismatches).toEqual([]);
});

test('what differs is told, and a kind of question that is not known is counted as not modelled', () => {
  const wrong = { id: 'a', area: 'nodeport', kind: 'band-offset', input: { size: 128 }, expect: { offset: 17 } };
  const { total, mismatches, notModelled } = run([wrong, { ...wrong, id: 'b', kind: 'colour' }]);
  expect(total).toBe(2);
  expect(mismatches).toEqual([
    { fact: 'a: nodeport, band-offset', differences: [{ expected: '{"offset":17}', got: '{"offset":16}' }] },
  ]);
  expect([...notModelled]).toEqual([['area nodeport, kind colour', 1]]);
});
