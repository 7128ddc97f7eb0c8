import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RandomStream } from '../../../engine/random.ts';
import { printIptablesSave } from '../../netfilter/iptables-save.ts';
import { RuleTables } from '../../netfilter/rule-tables.ts';
import { parseIp, parsePrefix } from '../../packet/ip-address.ts';
import { type EndpointSlice, objectFrom, type Service } from '../objects.ts';
import { DEFAULT_IPTABLES_CONFIG, IptablesProxier } from './iptables.ts';
import { ServiceChainCache } from './iptables-chain-cache.ts';
import type { ProxyNode } from './port-on-node.ts';
import { ServiceTracker } from './service-tracker.ts';

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
        ports: [type === 'ClusterIP' ? { port: 80 } : { port: 80, nodePort: 30_000 + index }],
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
      ports: [{ port: 8080 }],
    }),
  );

const anyChange = fc.record({
  type: fc.constantFrom('MODIFIED' as const, 'MODIFIED' as const, 'DELETED' as const),
  object: fc.oneof(anyService, anySlice),
});

const NODES: ProxyNode[] = [
  { name: 'node-1', zone: 'x', ips: [parseIp('192.168.0.1')] },
  { name: 'node-2', zone: 'x', ips: [parseIp('192.168.0.2')] },
  { name: 'node-4', zone: undefined, ips: [parseIp('192.168.0.4')] },
];

const config = {
  ...DEFAULT_IPTABLES_CONFIG,
  localDetector: { mode: 'ClusterCIDR', cidr: parsePrefix('10.244.0.0/16') },
} as const;

const newProxier = (node: ProxyNode, cache: ServiceChainCache): IptablesProxier =>
  new IptablesProxier({ node, config, cache, random: new RandomStream(node.name) });

/** Services stand in random order. */
const sortedLines = (tables: RuleTables): string[] => printIptablesSave(tables).split('\n').sort();

test('after any changes a node has the rules that a kube-proxy started now, alone, would write', () => {
  fc.assert(
    fc.property(fc.array(fc.array(anyChange, { maxLength: 4 }), { minLength: 1, maxLength: 6 }), (syncs) => {
      const tracker = new ServiceTracker();
      const cache = new ServiceChainCache();
      const nodes = NODES.map((node) => ({ node, proxier: newProxier(node, cache), tables: new RuleTables() }));
      for (const changes of syncs) {
        for (const change of changes) tracker.apply(change);
        for (const { proxier, tables } of nodes) proxier.sync(tables, tracker.snapshot());
      }
      for (const { node, tables } of nodes) {
        const fresh = new RuleTables();
        newProxier(node, new ServiceChainCache()).sync(fresh, tracker.snapshot());
        expect(sortedLines(tables)).toEqual(sortedLines(fresh));
      }
    }),
    { numRuns: 200 },
  );
});
