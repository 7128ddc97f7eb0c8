// Names that the end-to-end tests of Kubernetes look up from a pod: asked here of a simulated cluster, by packets over UDP
// and over TCP, through kube-proxy.

import { z } from 'zod';
import { ms, s } from '../../engine/time.ts';
import { Cluster } from '../cluster.ts';
import { reverseNameOf } from '../dns/domain-name.ts';
import { type RecordType, TYPE_CODES } from '../dns/message.ts';
import { formatData } from '../dns/message-text.ts';
import type { Search } from '../dns/stub-resolver.ts';
import { clusterIpsOf, objectFrom, type Service } from '../kube/objects.ts';
import { compareText, type Difference } from './suite.ts';

export const e2eName = z.strictObject({
  id: z.string(),
  topic: z.string(),
  /** Any pod of the namespace default. */
  from: z.string(),
  query: z.strictObject({
    name: z.string(),
    type: z.string().refine((text) => Object.hasOwn(TYPE_CODES, text), 'the type of a record such as SRV'),
  }),
  over: z.array(z.enum(['UDP', 'TCP'])).min(1),
  expect: z.string(),
  source: z.string().optional(),
  note: z.string().optional(),
});
type E2eName = z.output<typeof e2eName>;

export function differencesOfE2eName(fact: E2eName): Difference[] | { readonly unmodelled: string } {
  const differences: Difference[] = [];
  for (const protocol of fact.over) {
    const lab = new NamesLab(protocol);
    const name = fact.query.name.replace(/<([^>]+)>/g, (_, what) => lab.placeholder(what) ?? `<${what}>`);
    if (name.includes('<')) return { unmodelled: `name ${name}` };
    const got = EXPECTATIONS[fact.expect]?.(lab, name, fact.query.type as RecordType);
    if (got === undefined) return { unmodelled: `expectation "${fact.expect}"` };
    differences.push(...compareText(got.expected, got.got, `over ${protocol}`));
  }
  return differences;
}

interface Compared {
  readonly expected: string;
  readonly got: string;
}

const EXPECTATIONS: Readonly<Record<string, (lab: NamesLab, name: string, type: RecordType) => Compared>> = {
  resolves: (lab, name, type) => ({ expected: 'ok', got: lab.search(name, type).status }),
  'ready endpoint addresses': (lab, name, type) => ({
    expected: lab.addressesBehind('headless').join(' '),
    got: lab.dataOf(name, type).join(' '),
  }),
  'one record per endpoint': (lab, name, type) => ({
    expected: `${lab.addressesBehind('headless').length} records`,
    got: `${lab.dataOf(name, type).length} records`,
  }),
  'service FQDN': (lab, name, type) => ({
    expected: 'web.default.svc.cluster.local.',
    got: lab.dataOf(name, type).join(' '),
  }),
  'pod IP': (lab, name, type) => ({
    expected: lab.addressesBehind('sub').join(' '),
    got: lab.dataOf(name, type).join(' '),
  }),
  'external name, follows edits; A once the type becomes ClusterIP': (lab, name) => {
    const seen = [lab.dataOf(name, 'CNAME').join(' ')];
    lab.change({ externalName: 'second.example.com' });
    seen.push(lab.dataOf(name, 'CNAME').join(' '));
    lab.change({ type: 'ClusterIP', externalName: undefined, ports: [WEB_PORT] });
    seen.push(lab.dataOf(name, 'A').join(' '));
    const expected = ['first.example.com.', 'second.example.com.', lab.clusterIpOf('external')];
    return { expected: expected.join(', '), got: seen.join(', ') };
  },
};

const WEB_PORT = {
  name: 'http',
  protocol: 'TCP' as const,
  port: 80,
  targetPort: 8080,
  nodePort: undefined,
  appProtocol: undefined,
};

/** Two nodes, CoreDNS, a Deployment behind a Service and behind a headless one, a pod with a subdomain, another name. */
class NamesLab {
  readonly #cluster = new Cluster({ seed: 'dns names' });

  constructor(protocol: 'UDP' | 'TCP') {
    this.#cluster.addNodes(2);
    this.#cluster.addDns();
    const web = this.#cluster.addDeployment({ name: 'web', replicas: 3 });
    this.#cluster.addService({ name: 'web', port: 80, selects: web });
    const headless = (name: string, app: string) =>
      objectFrom('Service', {
        metadata: { name },
        spec: { clusterIP: 'None', selector: { app }, ports: [{ name: 'http', port: 80, targetPort: 8080 }] },
      });
    this.#cluster.apply([
      headless('headless', 'web'),
      headless('sub', 'named'),
      objectFrom('Pod', {
        metadata: { name: 'named', labels: { app: 'named' } },
        spec: { hostname: 'named', subdomain: 'sub', containers: [{ name: 'main' }] },
      }),
      objectFrom('Service', {
        metadata: { name: 'external' },
        spec: { type: 'ExternalName', externalName: 'first.example.com' },
      }),
      objectFrom('Pod', {
        metadata: { name: 'client' },
        spec: {
          containers: [{ name: 'main' }],
          dnsConfig: { options: protocol === 'TCP' ? [{ name: 'use-vc' }] : [] },
        },
      }),
    ]);
    this.#cluster.start();
  }

  placeholder(what: string): string | undefined {
    const [podIp] = this.addressesBehind('sub');
    return new Map([
      ['ns', 'default'],
      ['namespace', 'default'],
      ['svc', 'web'],
      ['service', 'web'],
      ['clusterip-svc', 'web'],
      ['headless-svc', 'headless'],
      ['externalname-svc', 'external'],
      ['hostname', 'named'],
      ['subdomain', 'sub'],
      ['reverse of ClusterIP', reverseNameOf(this.clusterIpOf('web'))],
      ['reverse of pod IP', reverseNameOf(podIp!)],
      ['pod-ip-dashed', podIp!.replaceAll('.', '-')],
    ]).get(what);
  }

  clusterIpOf(name: string): string {
    return clusterIpsOf(this.#cluster.api.get('Service', `default/${name}`)!)[0]!;
  }

  addressesBehind(service: string): string[] {
    return this.#cluster.api
      .list('EndpointSlice')
      .filter(({ metadata }) => metadata.labels['kubernetes.io/service-name'] === service)
      .flatMap(({ endpoints }) => endpoints.flatMap(({ addresses }) => addresses))
      .sort();
  }

  /** The Service `external` from now on; long enough ago that nobody remembers what it was. */
  change(spec: Partial<Service['spec']>): void {
    const service = this.#cluster.api.get('Service', 'default/external')!;
    this.#cluster.api.update({ ...service, spec: { ...service.spec, ...spec } });
    this.#cluster.runFor(s(31)); // kubeadm: ttl 30
  }

  /** As text, in order. */
  dataOf(name: string, type: RecordType): string[] {
    const { answer } = this.search(name, type);
    return (answer?.answers ?? []).map(formatData).sort();
  }

  search(name: string, type: RecordType): Search {
    let result: Search | undefined;
    this.#cluster.resolverOf(this.#cluster.pod('default/client')).search(name, type, (found) => {
      result = found;
    });
    while (result === undefined) this.#cluster.runFor(ms(100));
    return result;
  }
}
