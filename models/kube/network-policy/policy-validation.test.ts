import { describe, expect, test } from 'vitest';
import { RandomStreams } from '../../../engine/random.ts';
import { ApiServer } from '../api-server.ts';
import { readManifests } from '../manifests.ts';
import type { NetworkPolicy } from '../objects.ts';
import { DEFAULT_RANGES } from '../ranges.ts';

const apiServer = () =>
  new ApiServer({ random: new RandomStreams('test').stream('api-server'), ranges: DEFAULT_RANGES });

/** The policy as the API server keeps it; `spec` is YAML on one line. */
function applied(spec: string): NetworkPolicy['spec'] {
  const text = `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: web}, spec: ${spec}}`;
  const api = apiServer();
  readManifests([{ name: 'policies.yaml', text }]).applyTo(api);
  return api.get('NetworkPolicy', 'default/web')!.spec;
}

describe('a policy is about', () => {
  test.each<[string, NetworkPolicy['spec']['policyTypes']]>([
    ['{podSelector: {}}', ['Ingress']],
    ['{podSelector: {}, ingress: [{}]}', ['Ingress']],
    ['{podSelector: {}, egress: []}', ['Ingress']],
    ['{podSelector: {}, egress: [{}]}', ['Ingress', 'Egress']],
    ['{podSelector: {}, policyTypes: [], egress: [{}]}', ['Ingress', 'Egress']],
    ['{podSelector: {}, policyTypes: [Egress], ingress: [{}]}', ['Egress']],
  ])('%s: %s', (spec, policyTypes) => {
    expect(applied(spec).policyTypes).toEqual(policyTypes);
  });
});

test('a port is of TCP if it does not say; a policy may select nothing', () => {
  const spec = applied('{podSelector: {matchLabels: {app: nobody}}, ingress: [{ports: [{port: http}, {}]}]}');
  expect(spec.ingress[0]?.ports).toEqual([{ protocol: 'TCP', port: 'http' }, { protocol: 'TCP' }]);
});

describe('refused with file, object and field:', () => {
  const from = (peer: string): string => `{podSelector: {}, ingress: [{from: [{podSelector: {}}, ${peer}]}]}`;
  const to = (block: string): string => `{podSelector: {}, egress: [{}, {to: [{ipBlock: ${block}}]}]}`;
  const ports = (port: string): string => `{podSelector: {}, ingress: [{ports: [${port}]}]}`;

  test.each<[string, string]>([
    [
      to('{cidr: 10.0.0.0/33}'),
      'spec.egress[1].to[0].ipBlock.cidr: expected an IP range such as 10.0.0.0/8, got "10.0',
    ],
    [to('{cidr: 10.0.0.0}'), 'spec.egress[1].to[0].ipBlock.cidr: expected an IP range such as 10.0.0.0/8'],
    [to('{}'), 'spec.egress[1].to[0].ipBlock.cidr: expected a string, got nothing'],
    [
      to('{cidr: 10.0.0.0/16, except: [10.0.1.0/24, 10.1.0.0/24]}'),
      'spec.egress[1].to[0].ipBlock.except[1]: expected a range within 10.0.0.0/16 and smaller, got "10.1.0.0/24"',
    ],
    [to('{cidr: 10.0.0.0/16, except: [10.0.0.0/16]}'), 'ipBlock.except[0]: expected a range within 10.0.0.0/16'],
    [to('{cidr: 10.0.0.0/16, except: [10.0.0.0/8]}'), 'ipBlock.except[0]: expected a range within 10.0.0.0/16'],
    [to('{cidr: "::/0", except: [10.0.0.0/8]}'), 'ipBlock.except[0]: expected a range within ::/0'],
    [from('{}'), 'spec.ingress[0].from[1]: expected podSelector, namespaceSelector or ipBlock, got none of them'],
    [
      from('{namespaceSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}'),
      'spec.ingress[0].from[1]: expected no other peer beside ipBlock',
    ],
    [
      from('{podSelector: {matchExpressions: [{key: app, operator: In}]}}'),
      'spec.ingress[0].from[1].podSelector.matchExpressions[0].values: expected at least one, as operator is In',
    ],
    [
      '{podSelector: {matchExpressions: [{key: app, operator: Exists, values: [a]}]}}',
      'spec.podSelector.matchExpressions[0].values: expected none, as operator is Exists',
    ],
    [
      '{podSelector: {matchExpressions: [{key: app, operator: Near, values: [a]}]}}',
      'spec.podSelector.matchExpressions[0].operator: expected In, NotIn, Exists or DoesNotExist, got "Near"',
    ],
    ['{podSelector: {matchLabels: {a/b/c: d}}}', 'spec.podSelector.matchLabels: expected a label such as app or'],
    ['{podSelector: {matchLabels: {a: "b c"}}}', 'spec.podSelector.matchLabels["a"]: expected at most 63 letters'],
    [ports('{endPort: 90}'), 'spec.ingress[0].ports[0].endPort: expected none, as port is absent, got 90'],
    [ports('{port: http, endPort: 90}'), 'spec.ingress[0].ports[0].endPort: expected none, as port is a name, got 90'],
    [
      ports('{port: 90, endPort: 80}'),
      'spec.ingress[0].ports[0].endPort: expected a number from 90, which is port, up',
    ],
    [ports('{port: 0}'), 'spec.ingress[0].ports[0].port: expected a number from 1 to 65535, got 0'],
    [ports('{port: 80, protocol: ICMP}'), 'spec.ingress[0].ports[0].protocol: expected TCP, UDP or SCTP, got "ICMP"'],
    ['{podSelector: {}, policyTypes: [Outgress]}', 'spec.policyTypes[0]: expected Ingress or Egress, got "Outgress"'],
    ['{podSelector: {}, policyTypes: [Ingress, Egress, Egress]}', 'spec.policyTypes: expected at most two, got 3'],
  ])('%s', (spec, problem) => {
    expect(() => applied(spec)).toThrow(
      expect.objectContaining({
        name: 'ManifestError',
        message: expect.stringMatching(/^policies\.yaml: document 1 \(NetworkPolicy default\/web\): spec\./),
      }),
    );
    expect(() => applied(spec)).toThrow(problem);
  });
});

test('an update is looked at, too, and a namespace always has its name as a label', () => {
  const api = apiServer();
  const [namespace, policy] = readManifests([
    {
      name: 'policies.yaml',
      text: `
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: a, kubernetes.io/metadata.name: other}}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: web, namespace: shop}, spec: {ingress: [{ports: [{port: 80}]}]}}
`,
    },
  ]).objects as [Parameters<typeof api.create>[0], NetworkPolicy];
  expect(api.create(namespace).metadata.labels).toEqual({ team: 'a', 'kubernetes.io/metadata.name': 'shop' });
  api.create(policy);
  const ports = [{ protocol: 'TCP' as const, port: 80, endPort: 79 }];
  const wrong: NetworkPolicy = { ...policy, spec: { ...policy.spec, ingress: [{ from: [], ports }] } };
  expect(() => api.update(wrong)).toThrow('NetworkPolicy shop/web: spec.ingress[0].ports[0].endPort');
  expect(api.get('NetworkPolicy', 'shop/web')).toEqual(policy);
});
