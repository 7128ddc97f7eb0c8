import { expect, test } from 'vitest';
import { readTopologyCases, type TopologyCase } from '../../conformance/kube-proxy-facts.ts';
import { parseIp } from '../../packet/ip-address.ts';
import type { Endpoint, ServicePort } from './service-ports.ts';
import { dependsOnNode, usableEndpoints } from './usable-endpoints.ts';

const NODE = 'this-node';

function servicePort({ service, endpoints }: TopologyCase, nodeName: string): ServicePort {
  return {
    name: 'ns/svc',
    protocol: 'tcp',
    family: 4,
    clusterIp: parseIp('10.96.0.10'),
    port: 80,
    nodePort: service.nodePort || undefined,
    externalIps: service.externalIPs.map(parseIp),
    loadBalancerVips: service.loadBalancerIPs.map(parseIp),
    loadBalancerSourceRanges: [],
    internalPolicyLocal: service.internalTrafficPolicy === 'Local',
    externalPolicyLocal: service.externalTrafficPolicy === 'Local',
    affinityTimeoutSeconds: undefined,
    healthCheckNodePort: undefined,
    endpoints: endpoints.map(({ endpoint, ready, serving, terminating, local, zoneHints, nodeHints }) => ({
      ip: parseIp(endpoint.split(':')[0]!),
      port: 80,
      address: endpoint,
      nodeName: local ? nodeName : 'another-node',
      ready,
      serving,
      terminating,
      zoneHints: zoneHints ?? [],
      nodeHints: nodeHints ?? [],
    })),
  };
}

const addresses = (endpoints: readonly Endpoint[]): string[] => endpoints.map(({ address }) => address);

// Node hints cannot be switched off here, as in Kubernetes 1.35 and later.
const cases = readTopologyCases().filter(({ featureGates }) => featureGates?.PreferSameTrafficDistribution !== false);

test.each(cases)('recorded: $id, $about', (recorded) => {
  const { node, expect: expected } = recorded;
  const name = node.name ?? NODE;
  const port = servicePort(recorded, name);
  const usable = usableEndpoints(port, { name, zone: node.labels?.['topology.kubernetes.io/zone'] || undefined });
  expect({
    ...usable,
    cluster: addresses(usable.cluster),
    local: addresses(usable.local),
    reachable: addresses(usable.reachable),
  }).toEqual({
    cluster: expected.cluster ?? [],
    local: expected.local ?? [],
    reachable: expected.all,
    hasAny: expected.hasAnyEndpoints,
  });
});

test('a node without a zone takes no notice of zone hints', () => {
  const recorded = cases.find(({ id }) => id === 'zone-hints-used')!;
  const usable = usableEndpoints(servicePort(recorded, NODE), { name: NODE, zone: undefined });
  expect(usable.cluster).toHaveLength(recorded.endpoints.length);
});

test.each(cases)('dependsOnNode: two nodes of a zone differ only if it says so: $id', (recorded) => {
  const port = servicePort(recorded, NODE);
  const zone = recorded.node.labels?.['topology.kubernetes.io/zone'];
  const [one, other] = [NODE, 'another-node'].map((name) => usableEndpoints(port, { name, zone }));
  if (!dependsOnNode(port)) expect(one).toEqual(other);
});
