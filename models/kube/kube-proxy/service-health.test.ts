import { expect, test } from 'vitest';
import { objectFrom } from '../objects.ts';
import { service, slice, snapshotOf } from './kube-proxy.fixture.ts';
import { readyEndpointsOn } from './service-health.ts';

const ports = [
  { name: 'http', port: 80 },
  { name: 'admin', port: 81 },
];

test('an address with two ports is one endpoint, and those of other nodes are none', () => {
  const endpoints = objectFrom('EndpointSlice', {
    ...slice('web', ['10.244.1.5 node-1', '10.244.1.6 node-1', '10.244.2.5 node-2', '10.244.3.5']),
    ports: [
      { name: 'http', port: 8080 },
      { name: 'admin', port: 8081 },
    ],
  });
  const services = snapshotOf(service('web', { clusterIP: '10.96.0.10', ports }), endpoints);
  expect([...readyEndpointsOn('node-1', services)]).toEqual([['default/web', 2]]);
  expect([...readyEndpointsOn('node-3', services)]).toEqual([]);
});

test('a draining endpoint does not count', () => {
  const draining = objectFrom('EndpointSlice', {
    ...slice('web', []),
    endpoints: [
      {
        addresses: ['10.244.1.5'],
        nodeName: 'node-1',
        conditions: { ready: false, serving: true, terminating: true },
      },
    ],
  });
  const services = snapshotOf(service('web', { clusterIP: '10.96.0.10', ports: [{ port: 80 }] }), draining);
  expect(readyEndpointsOn('node-1', services).size).toBe(0);
});
