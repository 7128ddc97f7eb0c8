// Which endpoints of a Service a node uses: policies, zone and node hints, endpoints that are draining.

import { z } from 'zod';
import { servicePortsOf } from '../kube/kube-proxy/service-ports.ts';
import { usableEndpoints } from '../kube/kube-proxy/usable-endpoints.ts';
import { type EndpointSlice, objectFrom, type Service } from '../kube/objects.ts';
import { featureGates, recordedAddress, remarks, settingsOf, unmodelledGate, zoneOf } from './recorded-case.ts';
import { compareFields, defineSuite } from './suite.ts';

const policy = z.enum(['Cluster', 'Local']);
const IPV4_ENDPOINT = 'an IPv4 address and a port such as 10.1.2.3:80';

const topologyCase = z.strictObject({
  ...remarks,
  id: z.string(),
  featureGates: featureGates.optional(),
  node: z.strictObject({
    name: z.string().nullable(),
    labels: z.record(z.string(), z.string()).nullable(),
  }),
  service: z.strictObject({
    internalTrafficPolicy: policy,
    externalTrafficPolicy: policy,
    /** 0 is none. */
    nodePort: z.int('a port, or 0').min(0).max(65_535),
    externalIPs: z.array(recordedAddress),
    loadBalancerIPs: z.array(recordedAddress),
  }),
  endpoints: z.array(
    z.strictObject({
      endpoint: z.string().regex(/^(\d{1,3}\.){3}\d{1,3}:\d{1,5}$/, IPV4_ENDPOINT),
      ready: z.boolean(),
      serving: z.boolean(),
      terminating: z.boolean(),
      local: z.boolean(),
      zoneHints: z.array(z.string()).nullable(),
      nodeHints: z.array(z.string()).nullable(),
    }),
  ),
  expect: z.strictObject({
    /** null: the Service does not use this list. */
    cluster: z.array(z.string()).nullable(),
    local: z.array(z.string()).nullable(),
    all: z.array(z.string()),
    hasAnyEndpoints: z.boolean(),
  }),
  /** `hasAnyEndpoints` follows from what was observed. */
  hasAnyEndpointsDerived: z.boolean().optional(),
});
type TopologyCase = z.output<typeof topologyCase>;

export const endpointTopology = defineSuite({
  name: 'endpoint-topology',
  unit: 'cases',
  content: 'a list of cases with a node, a service, endpoints and what to expect',
  schema: z.array(topologyCase),
  recognises: (value) =>
    Array.isArray(value) && value.some((row) => row instanceof Object && 'endpoints' in row && 'service' in row),
  check: (cases, tally) => {
    for (const recorded of cases) {
      const gate = unmodelledGate(recorded.featureGates);
      if (gate !== undefined) {
        tally.notModelled(gate);
        continue;
      }
      const { cluster, local, all, hasAnyEndpoints } = recorded.expect;
      const expected = { cluster: cluster ?? [], local: local ?? [], all, hasAnyEndpoints };
      tally.fact(`${recorded.id}: ${recorded.about}`, compareFields(sorted(expected), sorted(endpointsUsed(recorded))));
    }
  },
});

type EndpointLists = Record<'cluster' | 'local' | 'all', readonly string[]> & { readonly hasAnyEndpoints: boolean };

/** The union has no order, and in the lists it is that of the rules, which other suites tell. */
const sorted = ({ cluster, local, all, hasAnyEndpoints }: EndpointLists): EndpointLists => ({
  cluster: [...cluster].sort(),
  local: [...local].sort(),
  all: [...all].sort(),
  hasAnyEndpoints,
});

const THIS_NODE = 'this-node';
const ANOTHER_NODE = 'another-node';

function endpointsUsed(recorded: TopologyCase): EndpointLists {
  const { node, featureGates = {} } = recorded;
  const name = node.name ?? THIS_NODE;
  const [port] = servicePortsOf(serviceOf(recorded), slicesOf(recorded, name), settingsOf(featureGates));
  const zone = zoneOf({ zone: null, nodeLabels: node.labels ?? {} });
  const { cluster, local, reachable, hasAny } = usableEndpoints(port!, { name, zone });
  const addresses = (endpoints: typeof cluster): string[] => endpoints.map(({ address }) => address);
  return {
    cluster: addresses(cluster),
    local: addresses(local),
    all: addresses(reachable),
    hasAnyEndpoints: hasAny,
  };
}

function serviceOf({ service }: TopologyCase): Service {
  const nodePort = service.nodePort === 0 ? {} : { nodePort: service.nodePort };
  return objectFrom('Service', {
    metadata: { name: 'svc' },
    spec: {
      clusterIP: '10.96.0.10',
      internalTrafficPolicy: service.internalTrafficPolicy,
      externalTrafficPolicy: service.externalTrafficPolicy,
      externalIPs: service.externalIPs,
      ports: [{ port: 80, ...nodePort }],
    },
    status: { loadBalancer: { ingress: service.loadBalancerIPs.map((ip) => ({ ip })) } },
  });
}

/** One for each endpoint: those of a slice have their port in common. */
const slicesOf = ({ endpoints }: TopologyCase, nodeName: string): EndpointSlice[] =>
  endpoints.map(({ endpoint, local, zoneHints, nodeHints, ready, serving, terminating }, i) => {
    const [address = '', port] = endpoint.split(':');
    return objectFrom('EndpointSlice', {
      metadata: { name: `svc-${i}`, labels: { 'kubernetes.io/service-name': 'svc' } },
      addressType: 'IPv4',
      endpoints: [
        {
          addresses: [address],
          conditions: { ready, serving, terminating },
          nodeName: local ? nodeName : ANOTHER_NODE,
          hints: {
            forZones: (zoneHints ?? []).map((name) => ({ name })),
            forNodes: (nodeHints ?? []).map((name) => ({ name })),
          },
        },
      ],
      ports: [{ port: Number(port) }],
    });
  });
