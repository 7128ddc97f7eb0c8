// Random changes of Services and EndpointSlices, for what must hold of kube-proxy after any of them.

import fc from 'fast-check';
import { parseIp } from '../../packet/ip-address.ts';
import { type EndpointSlice, objectFrom, type Service } from '../objects.ts';
import type { ProxyNode } from './port-on-node.ts';

const NAMES = ['a', 'b', 'c'] as const;
const policy = fc.constantFrom('Cluster' as const, 'Local' as const);

const anyService: fc.Arbitrary<Service> = fc
  .record({
    name: fc.constantFrom(...NAMES),
    type: fc.constantFrom('ClusterIP' as const, 'NodePort' as const, 'LoadBalancer' as const),
    internal: policy,
    external: policy,
    affinity: fc.constantFrom('None' as const, 'ClientIP' as const),
    ranges: fc.constantFrom([], ['203.0.113.0/24'], ['192.168.0.1/32']),
  })
  .map(({ name, type, internal, external, affinity, ranges }) => {
    const index = NAMES.indexOf(name);
    return objectFrom('Service', {
      metadata: { name },
      spec: {
        type,
        clusterIP: `10.96.0.${index}`,
        internalTrafficPolicy: internal,
        externalTrafficPolicy: external,
        sessionAffinity: affinity,
        loadBalancerSourceRanges: ranges,
        ports: [
          { name: 'http', port: 80, ...(type !== 'ClusterIP' && { nodePort: 30_000 + index }) },
          { name: 'admin', port: 81, ...(type !== 'ClusterIP' && { nodePort: 31_000 + index }) },
        ],
      },
      status: type === 'LoadBalancer' ? { loadBalancer: { ingress: [{ ip: `192.0.2.${index}` }] } } : {},
    });
  });

const anyEndpoint = fc
  .record({
    host: fc.integer({ min: 1, max: 4 }),
    node: fc.constantFrom('node-1', 'node-2', 'node-3'),
    ready: fc.boolean(),
    zone: fc.constantFrom(undefined, 'x', 'y'),
    hintsNode: fc.boolean(),
  })
  .map(({ host, node, ready, zone, hintsNode }) => ({
    addresses: [`10.244.0.${host}`],
    nodeName: node,
    conditions: { ready, terminating: !ready },
    hints: {
      ...(zone !== undefined && { forZones: [{ name: zone }] }),
      ...(hintsNode && { forNodes: [{ name: node }] }),
    },
  }));

const anySlice: fc.Arbitrary<EndpointSlice> = fc
  .record({ name: fc.constantFrom(...NAMES), endpoints: fc.array(anyEndpoint, { maxLength: 4 }) })
  .map(({ name, endpoints }) =>
    objectFrom('EndpointSlice', {
      metadata: { name, labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      endpoints,
      ports: [
        { name: 'http', port: 8080 },
        { name: 'admin', port: 8081 },
      ],
    }),
  );

export const anyChange = fc.record({
  type: fc.constantFrom('MODIFIED' as const, 'MODIFIED' as const, 'DELETED' as const),
  object: fc.oneof(anyService, anySlice),
});

/** The endpoints are on the first two, and on one that is not here. */
export const NODES: readonly ProxyNode[] = [
  { name: 'node-1', zone: 'x', ips: [parseIp('192.168.0.1')] },
  { name: 'node-2', zone: 'x', ips: [parseIp('192.168.0.2')] },
  { name: 'node-4', zone: undefined, ips: [parseIp('192.168.0.4')] },
];
