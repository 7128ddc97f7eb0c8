import { describe, expect, test } from 'vitest';
import { objectFrom } from '../objects.ts';
import { service } from './kube-proxy.fixture.ts';
import { type Endpoint, type ServicePort, servicePortsOf } from './service-ports.ts';
import { dependsOnNode, usableEndpoints } from './usable-endpoints.ts';

const CLUSTER = { clusterIP: '10.96.0.10', ports: [{ port: 80 }] };
const INTERNAL_LOCAL = { ...CLUSTER, internalTrafficPolicy: 'Local' as const };

/** Endpoints on node-1 and node-2, in zones a and b; with hints if asked. */
function port(spec: Parameters<typeof service>[1], hints: { zones?: boolean; nodes?: boolean } = {}): ServicePort {
  const endpoints = [1, 2].map((i) => ({
    addresses: [`10.244.${i}.5`],
    nodeName: `node-${i}`,
    hints: {
      ...(hints.zones === true && { forZones: [{ name: i === 1 ? 'a' : 'b' }] }),
      ...(hints.nodes === true && { forNodes: [{ name: `node-${i}` }] }),
    },
  }));
  const slice = { metadata: { name: 'web-1' }, addressType: 'IPv4' as const, endpoints, ports: [{ port: 8080 }] };
  return servicePortsOf(service('web', spec), [objectFrom('EndpointSlice', slice)])[0]!;
}

const addresses = (endpoints: readonly Endpoint[]): string[] => endpoints.map(({ address }) => address);

test('a node takes the endpoints that are hinted for its zone; one without a zone takes all', () => {
  const hinted = port(CLUSTER, { zones: true });
  expect(addresses(usableEndpoints(hinted, { name: 'node-9', zone: 'b' }).cluster)).toEqual(['10.244.2.5:8080']);
  expect(usableEndpoints(hinted, { name: 'node-9', zone: undefined }).cluster).toHaveLength(2);
});

test('a hint for the node goes before a hint for its zone', () => {
  const hinted = port(CLUSTER, { zones: true, nodes: true });
  expect(addresses(usableEndpoints(hinted, { name: 'node-1', zone: 'b' }).cluster)).toEqual(['10.244.1.5:8080']);
  expect(addresses(usableEndpoints(hinted, { name: 'node-9', zone: 'b' }).cluster)).toEqual(['10.244.2.5:8080']);
});

describe('dependsOnNode: two nodes of a zone differ only if it says so', () => {
  test.each([
    ['policy Cluster', port(CLUSTER), false],
    ['zone hints', port(CLUSTER, { zones: true }), false],
    ['node hints', port(CLUSTER, { nodes: true }), true],
    ['policy Local', port(INTERNAL_LOCAL), true],
  ] as const)('%s', (_, port, expected) => {
    const [one, other] = ['node-1', 'node-2'].map((name) => usableEndpoints(port, { name, zone: 'a' }));
    expect(dependsOnNode(port)).toBe(expected);
    if (expected) expect(one).not.toEqual(other);
    else expect(one).toEqual(other);
  });
});
