// Small clusters with random policies: few labels, ports and ranges, so that they meet.

import fc from 'fast-check';
import { Cluster } from './cluster.ts';
import type { ProxyMode } from './kube/kube-proxy/proxy-mode.ts';
import type { EnforcementSettings } from './kube/network-policy/policy-agent.ts';
import { type KubeObject, type Manifest, objectFrom } from './kube/objects.ts';
import type { ClusterIpFamily } from './kube/ranges.ts';
import { contains, parseAnyPrefix } from './packet/ip-address.ts';

type PolicySpec = NonNullable<Manifest<'NetworkPolicy'>['spec']>;
type Rules = NonNullable<PolicySpec['ingress']>;
type Selector = NonNullable<PolicySpec['podSelector']>;
type Block = { cidr: string; except: string[] };

export interface RandomPolicies {
  readonly ipFamily: ClusterIpFamily;
  readonly proxy: ProxyMode;
  readonly enforcement: Partial<EnforcementSettings>;
  readonly objects: readonly KubeObject[];
}

export const clusterOf = ({ ipFamily, proxy, enforcement, objects }: RandomPolicies): Cluster => {
  const cluster = new Cluster({ seed: 'random policies', ipFamily, proxy, networkPolicy: enforcement });
  cluster.addNodes(2);
  cluster.apply(objects);
  return cluster;
};

const NAMESPACES = ['x', 'y', 'z'];
const VALUES = ['a', 'b'];
const KEYS = ['app', 'tier', 'team'];

const someOf = <T>(items: fc.Arbitrary<T>, most: number): fc.Arbitrary<T[]> => fc.array(items, { maxLength: most });

const labels = fc.dictionary(fc.constantFrom(...KEYS), fc.constantFrom(...VALUES), { maxKeys: 2 });

const expression = fc.oneof(
  fc.record({
    key: fc.constantFrom(...KEYS),
    operator: fc.constantFrom('In' as const, 'NotIn' as const),
    values: fc.uniqueArray(fc.constantFrom(...VALUES), { minLength: 1 }),
  }),
  fc.record({ key: fc.constantFrom(...KEYS), operator: fc.constantFrom('Exists' as const, 'DoesNotExist' as const) }),
);

const selector: fc.Arbitrary<Selector> = fc.oneof(
  fc.constant({}),
  fc.record({ matchLabels: labels }),
  fc.record({ matchLabels: labels, matchExpressions: someOf(expression, 2) }),
);

/** Of pods, nodes and the world outside, in both families, and of everything. */
const RANGES = [
  ...['0.0.0.0/0', '10.244.0.0/16', '10.244.0.0/24', '10.244.1.0/24', '10.244.0.2/31', '10.244.1.3/32'],
  ...['192.168.0.0/16', '203.0.113.0/24', '203.0.113.10/32'],
  ...['::/0', 'fd00:10:244::/56', 'fd00:10:244::/64', 'fd00:10:244:1::/64', 'fd00:10:244::2/127', '2001:db8::/32'],
];

const isWithin = (inner: string, outer: string): boolean => {
  const [small, large] = [parseAnyPrefix(inner), parseAnyPrefix(outer)];
  return small.family === large.family && small.length > large.length && contains(large, small.net);
};

const block: fc.Arbitrary<Block> = fc.constantFrom(...RANGES).chain((cidr) => {
  const holes = RANGES.filter((range) => isWithin(range, cidr));
  return fc.record({ cidr: fc.constant(cidr), except: fc.subarray(holes, { maxLength: Math.min(2, holes.length) }) });
});

const peer = fc.oneof(
  fc.record({ podSelector: selector }),
  fc.record({ namespaceSelector: selector }),
  fc.record({ podSelector: selector, namespaceSelector: selector }),
  fc.record({ ipBlock: block }),
);

const protocol = fc.constantFrom('TCP' as const, 'UDP' as const, 'SCTP' as const);

const port = fc.oneof(
  fc.record({ protocol }),
  fc.record({ protocol, port: fc.constantFrom<number | string>(80, 81, 'web', 'other') }),
  fc.record({ protocol, port: fc.constantFrom(79, 80), endPort: fc.constantFrom(80, 82) }),
);

const policy = fc
  .record({
    namespace: fc.constantFrom(...NAMESPACES),
    podSelector: selector,
    policyTypes: fc.constantFrom<PolicySpec['policyTypes']>(undefined, ['Ingress'], ['Egress'], ['Ingress', 'Egress']),
    ingress: someOf(fc.record({ from: someOf(peer, 2), ports: someOf(port, 2) }), 2),
    egress: someOf(fc.record({ to: someOf(peer, 2), ports: someOf(port, 2) }), 2),
  })
  .map(({ namespace, ...spec }) => (name: string) => {
    const { ingress, ...others } = spec;
    return objectFrom('NetworkPolicy', {
      metadata: { namespace, name },
      spec: { ...others, ingress: ingress as Rules },
    });
  });

const namedPort = fc.record({
  name: fc.constantFrom('web', 'other'),
  containerPort: fc.constantFrom(80, 81),
  protocol,
});

const pod = fc
  .record({
    namespace: fc.constantFrom(...NAMESPACES),
    labels,
    ports: someOf(namedPort, 1),
    nodeName: fc.constantFrom('node-1', 'node-2'),
    hostNetwork: fc.integer({ min: 0, max: 7 }).map((one) => one === 0),
  })
  .map(({ namespace, labels, ports, nodeName, hostNetwork }) => (name: string) => {
    const spec = { nodeName, hostNetwork, containers: [{ name: 'main', ports }] };
    return objectFrom('Pod', { metadata: { namespace, name, labels }, spec });
  });

/** One of the namespaces has no object. */
const namespaces = fc
  .tuple(labels, labels)
  .map((all) => all.map((labels, i) => objectFrom('Namespace', { metadata: { name: NAMESPACES[i]!, labels } })));

const numbered = <T>(make: readonly ((name: string) => T)[], what: string): T[] =>
  make.map((one, i) => one(`${what}-${i + 1}`));

export const anyPolicies: fc.Arbitrary<RandomPolicies> = fc
  .record({
    ipFamily: fc.constantFrom<ClusterIpFamily>('ipv4', 'ipv6', 'dual'),
    proxy: fc.constantFrom<ProxyMode>('iptables', 'nftables'),
    established: fc.constantFrom('kept' as const, 'cut' as const),
    unknownPods: fc.constantFrom('open' as const, 'closed' as const),
    namespaces,
    pods: fc.array(pod, { minLength: 2, maxLength: 5 }),
    policies: fc.array(policy, { minLength: 1, maxLength: 4 }),
  })
  .map(({ ipFamily, proxy, established, unknownPods, namespaces, pods, policies }) => ({
    ipFamily,
    proxy,
    enforcement: { established, unknownPods },
    objects: [...namespaces, ...numbered(pods, 'pod'), ...numbered(policies, 'policy')],
  }));
