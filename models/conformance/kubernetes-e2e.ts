// The end-to-end tests of Kubernetes' network group: a test is a small cluster, what is done to it, and who then reaches whom.
//
// Records are for people as much as for programs: a step says in words what it does, and e2e-steps.ts says it again as code.
// What a step expects is asked here, from the record alone.

import { z } from 'zod';
import { s } from '../../engine/time.ts';
import type { RecordType } from '../dns/message.ts';
import { outsideClientIp } from '../host/outside-world.ts';
import { ACCOUNT_METRICS, type AccountMetricName } from '../kube/kube-proxy/proxy-metrics.ts';
import { ObjectError } from '../kube/object-error.ts';
import { isOfFamily } from '../kube/objects.ts';
import { formatIp } from '../packet/ip-address.ts';
import { E2eCluster, type RecordedE2ePod } from './e2e-cluster.ts';
import { NOT_SIMULATED, SETUPS, UDP_WAIT } from './e2e-steps.ts';
import { compareText, type Difference, defineSuite, type Tally } from './suite.ts';

const texts = z.array(z.string());
const expectation = z.looseObject({
  from: z.string().optional(),
  to: z.string().optional(),
  result: z.string().optional(),
});
export type E2eExpectation = z.output<typeof expectation>;

const pod = z.strictObject({
  name: z.string(),
  node: z.string(),
  hostname: z.string().optional(),
  subdomain: z.string().optional(),
  dnsOptions: texts.optional(),
  labels: z.record(z.string(), z.string()).optional(),
  hostNetwork: z.boolean().optional(),
  ready: z.boolean().optional(),
  terminating: z.boolean().optional(),
  serving: z.boolean().optional(),
  readinessGate: z.boolean().optional(),
  terminationGracePeriodSeconds: z.int().optional(),
  initSleepSeconds: z.int().optional(),
  hostPort: z.int().optional(),
  protocol: z.string().optional(),
  listens: z.array(z.int()).optional(),
  ports: z.record(z.string(), z.int()).optional(),
});

const scenario = z.strictObject({
  nodes: texts.optional(),
  pods: z.array(pod).optional(),
  services: z.array(z.looseObject({ name: z.string(), replicas: z.int().optional() })).optional(),
  client: z.looseObject({}).optional(),
  note: z.string().optional(),
  steps: z.array(z.strictObject({ do: z.string(), expect: z.array(expectation) })).optional(),
});

const test = z.looseObject({
  id: z.string(),
  simulatable: z.enum(['yes', 'partly', 'no']),
  features: texts,
  title: z.string().optional(),
  testname: z.string().optional(),
  codename: z.string().optional(),
  scenario: scenario.optional(),
});
type E2eTest = z.output<typeof test>;

const content = z.looseObject({ vocabulary: z.unknown(), conformance: z.array(test), further: z.array(test) });

export const kubernetesE2e = defineSuite({
  name: 'kubernetes-e2e',
  unit: 'tests',
  content: 'end-to-end tests of the network group',
  schema: content,
  recognises: (value) => value instanceof Object && 'conformance' in value && 'further' in value,
  check({ conformance, further }, tally) {
    tally.listFacts();
    for (const one of [...conformance, ...further]) check(one, tally);
  },
});

function check(test: E2eTest, tally: Tally): void {
  const name = `${test.id} ${test.title ?? withoutGroup(test.codename) ?? test.testname}`;
  const reason = NOT_SIMULATED[test.id];
  if (reason !== undefined) return tally.notModelled(reason, 1, name);
  if (test.scenario?.steps === undefined) return tally.notModelled('a record without steps', 1, name);
  tally.fact(name, differencesOf(test.id, test.scenario));
}

const withoutGroup = (codename: string | undefined): string | undefined =>
  codename?.replace('[sig-network] ', '').replace(' [Conformance]', '');

function differencesOf(
  id: string,
  { nodes = ['n1', 'n2'], pods = [], services = [], steps = [] }: NonNullable<E2eTest['scenario']>,
): Difference[] {
  const setup = SETUPS[id] ?? {};
  const cluster = new E2eCluster(nodes, { ...setup.options, dns: setup.dns === true });
  setup.before?.(cluster);
  if (setup.podsLater !== true) for (const one of pods) cluster.addPod(asServed(one));
  const isLoneService =
    services.length > 0 && pods.every(isClient) && services.every(({ replicas }) => replicas === undefined);
  if (isLoneService && NEEDS_SERVERS.has(id)) cluster.addServers(2);
  const asksNodePorts = steps.some(({ expect }) => expect.some(({ to }) => to?.includes('nodePort')));
  for (const service of services)
    cluster.addService(asksNodePorts && service.type === undefined ? { ...service, type: 'NodePort' } : service);
  cluster.settle();
  return steps.flatMap(({ do: action, expect }, i) => {
    setup.steps?.[i]?.(cluster);
    return expect.flatMap((expected) =>
      ask(cluster, expected).map((difference) => ({ ...difference, part: `${action}: ${difference.part ?? ''}` })),
    );
  });
}

/** Tests whose Services have pods that the record does not name. */
const NEEDS_SERVERS: ReadonlySet<string> = new Set(['conf-30', 'conf-35', 'net-16']);

const isClient = ({ name }: { readonly name: string }): boolean => /^(pause|client|pod-client|exec)/.test(name);

/** Readiness gates are set by steps: until then a pod is not ready. */
const asServed = ({
  readinessGate,
  name,
  node,
  hostNetwork,
  ready,
  serving,
  listens,
  ports,
  hostname,
  subdomain,
  dnsOptions,
}: z.output<typeof pod>): RecordedE2ePod => ({
  ...{ name, node, hostNetwork, listens, ports, hostname, subdomain, dnsOptions },
  ready: readinessGate === true ? false : serving === true ? undefined : ready,
});

// ── what a step expects ──────────────────────────────────────────────────────────────────────────────────────────────

function ask(cluster: E2eCluster, expected: E2eExpectation): Difference[] {
  if (expected.from !== undefined && expected.to !== undefined)
    return askConnection(cluster, { ...expected, from: expected.from, to: expected.to });
  if (typeof expected.metric === 'string') return askMetric(cluster, expected.metric);
  if (typeof expected.lookup === 'string') return askName(cluster, expected.lookup, expected);
  return Object.entries(expected).flatMap(([field, value]) => askField(cluster, field, value, expected));
}

/** `same` is the name that was asked for before; the namespace of a record is `default` here. */
function askName(cluster: E2eCluster, lookup: string, { from = 'client', type, result }: E2eExpectation): Difference[] {
  const clusterIp = cluster.latestService?.spec.clusterIP ?? 'none';
  const name =
    lookup === 'same'
      ? cluster.latestName
      : lookup.replace('<ns>', 'default').replace('<reversed ClusterIP>', clusterIp.split('.').reverse().join('.'));
  cluster.latestName = name;
  const recordType = type ?? (result === 'CNAME' ? 'CNAME' : undefined);
  const found = cluster.lookup(from, name, recordType as RecordType | undefined);
  const got = found.join(', ') || 'nothing';
  const expected =
    {
      ok: 'ok',
      CNAME: 'CNAME',
      'own pod IP': cluster.podIpOr('dns-test'),
      'pod IP': cluster.podIpOr('p'),
      ClusterIP: clusterIp,
      'the new clusterIP': cluster.service()?.spec.clusterIP ?? 'none',
    }[String(result)] ?? String(result);
  const isSo = expected === 'ok' ? found.length > 0 : found.some((text) => text.split(' ').includes(expected));
  return isSo ? [] : [{ part: `${name} ${recordType ?? ''}`, expected, got }];
}

/** That it grows: it is 0 before the first step. */
function askMetric({ cluster }: E2eCluster, name: string): Difference[] {
  if (!(name in ACCOUNT_METRICS)) return [{ part: name, expected: 'a metric', got: 'nothing' }];
  const packets = cluster.nodes[0]!.kubeProxy.accountMetric(name as AccountMetricName);
  return compareText('more than 0', packets > 0 ? 'more than 0' : `${packets}`, name);
}

/** Enough that each of three backends is seen by a share of at least a quarter, but for a chance below 1e-5. */
const TRIES = 40;

function askConnection(
  cluster: E2eCluster,
  expected: E2eExpectation & { readonly from: string; readonly to: string },
): Difference[] {
  const {
    from,
    to,
    result = 'ok',
    backend,
    backends,
    seenSource,
    sameBackend,
    distinctBackends,
    sourcePort,
    withinSeconds,
    echoBytes,
    rstFromClient,
  } = expected;
  const part = `${from} to ${to}`;
  if (rstFromClient !== undefined) return askStray(cluster, from, to, part);
  if (
    sourcePort !== undefined ||
    withinSeconds !== undefined ||
    (typeof backend === 'string' && to.includes('UDP') && from === 'pod-client')
  ) {
    const latest = cluster.keepSending(from, to, { port: Number(sourcePort ?? 12_345), for: UDP_WAIT });
    return compareText(String(backend), latest ?? 'nobody', part);
  }
  if (sameBackend === DIFFERS) return askAfterPauses(cluster, from, to, part);
  const manyTries =
    result === 'ok' && (sameBackend !== undefined || backends !== undefined || distinctBackends !== undefined);
  const seen = cluster.ask(from, to, {
    tries: manyTries ? TRIES : 5,
    ...(typeof echoBytes === 'number' && { bytes: echoBytes }),
  });
  const differences = compareText(result, resultAs(result, seen.result), part);
  if (differences.length > 0 || seen.result !== 'ok') return differences;
  const shown = seen.backends.join(', ');
  if (typeof backend === 'string') differences.push(...compareText(backend, shown, part));
  if (Array.isArray(backends)) differences.push(...compareText(backends.toSorted().join(', '), shown, part));
  if (typeof distinctBackends === 'number')
    differences.push(...compareText(`${distinctBackends}`, `${seen.backends.length}`, part));
  if (sameBackend !== undefined)
    differences.push(
      ...compareText(
        sameBackend === true ? 'one backend' : 'several',
        seen.backends.length === 1 ? 'one backend' : 'several',
        part,
      ),
    );
  if (typeof seenSource === 'string') differences.push(...compareSource(cluster, seenSource, [...seen.sources], part));
  return differences;
}

const DIFFERS = 'differs at least once';

/** One request after each of ten pauses that are longer than the affinity lasts. */
function askAfterPauses(cluster: E2eCluster, from: string, to: string, part: string): Difference[] {
  const backends = new Set<string>();
  for (let round = 0; round < 10; round++) {
    for (const backend of cluster.ask(from, to, { tries: 1 }).backends) backends.add(backend);
    cluster.settle(s(15));
  }
  return compareText('several backends', backends.size > 1 ? 'several backends' : [...backends].join(', '), part);
}

/** As many kinds of silence as the record tells apart. */
function resultAs(expected: string, seen: string): string {
  if (expected === 'unreachable') return seen === 'refused' || seen === 'timeout' ? 'unreachable' : seen;
  return expected === 'icmp-unreachable' && seen === 'refused' ? 'icmp-unreachable' : seen;
}

/** `p1 IP`, `pause pod IP`, `not the client IP`. */
function compareSource(cluster: E2eCluster, expected: string, seen: readonly string[], part: string): Difference[] {
  const [, not, name] = /^(not )?(?:the )?(\w+)(?: pod)? IP$/.exec(expected) ?? [];
  const client = formatIp(outsideClientIp(4));
  const address = name === 'client' ? client : cluster.podIp(name === 'pod' ? 'hairpin' : name!);
  const isSo = not === undefined ? seen.join() === address : !seen.includes(address);
  return isSo ? [] : [{ part: `${part}, source`, expected, got: seen.join(', ') }];
}

/** A connection through the Service, and a segment of the server that is outside of the client's window. */
function askStray(cluster: E2eCluster, from: string, to: string, part: string): Difference[] {
  const sender = cluster.process(from, to);
  const { address } = cluster.target(to);
  const load = cluster.cluster.closedLoop(sender, { to: address, keepAlive: true, thinkTime: s(1), requests: 5 });
  cluster.settle(s(2));
  const server = cluster.cluster.pod('default/boom-server');
  const [connection] = server.namespace.tcp.connections.filter(({ state }) => state === 'ESTABLISHED');
  cluster.cluster
    .node(server.node)
    .machine.cpus.submit(0, () => connection!.sendStray({ aheadBytes: 1_000_000 }), undefined);
  cluster.settle(s(10));
  const { resetsReceived } = server.namespace.tcp.counters;
  return [
    ...compareText('5 answers', `${load.completed} answers`, part),
    ...compareText('0 resets', `${resetsReceived} resets`, part),
  ];
}

function askField(cluster: E2eCluster, field: string, value: unknown, all: E2eExpectation): Difference[] {
  const compare = (got: unknown): Difference[] =>
    compareText(JSON.stringify(value), JSON.stringify(got) ?? 'nothing', field);
  const service = cluster.service()!;
  const slices = cluster.slicesOf(cluster.latestService);
  const [first] = slices;
  switch (field) {
    case 'endpoints':
      return compare(cluster.endpointsOf().toSorted());
    case 'slices':
      return value === 'recreated'
        ? compareText('at least one', slices.length > 0 ? 'at least one' : 'none', field)
        : compare(slices.filter(({ endpoints }) => endpoints.length > 0).length);
    case 'endpointsPerSlice':
      return compare(slices.map(({ endpoints }) => endpoints.length));
    case 'ports':
      return compare(
        slices.flatMap(({ ports }) => ports.map(({ port }) => port)).toSorted((a, b) => Number(a) - Number(b)),
      );
    case 'addresses':
      return compare(slices.flatMap(({ endpoints }) => endpoints.flatMap(({ addresses }) => addresses)));
    case 'api':
      return compare('accepted'); // the step would have thrown
    case 'nodePort': {
      const [{ nodePort = 0 } = {}] = service.spec.ports;
      return value === 'non-zero'
        ? compareText('non-zero', nodePort === 0 ? 'zero' : 'non-zero', field)
        : compare(nodePort);
    }
    case 'ingressIP': {
      const ip = service.status.loadBalancer.ingress[0]?.ip;
      return compareText('198.51.100.2', ip ?? 'none', field); // the first that there is
    }
    case 'healthCheckNodePort': {
      const port = service.spec.healthCheckNodePort ?? 0;
      return value === 'old value'
        ? compareText(`${cluster.formerHealthCheckNodePort}`, `${port}`, field)
        : compare(port);
    }
    case 'podCIDRs':
      return compare(cluster.cluster.api.list('Node')[0]!.spec.podCIDRs?.length);
    case 'podCIDR': {
      const { podCIDR, podCIDRs } = cluster.cluster.api.list('Node')[0]!.spec;
      return compareText(podCIDRs?.[0] ?? 'none', podCIDR ?? 'none', field);
    }
    case 'ipFamilies':
      return compareText(
        JSON.stringify(value).replace('cluster primary', 'IPv4'),
        JSON.stringify(service.spec.ipFamilies),
        field,
      );
    case 'ipFamilyPolicy':
      return compare(service.spec.ipFamilyPolicy);
    case 'clusterIPs': {
      const { clusterIPs = [], ipFamilies = [] } = service.spec;
      const isSo =
        clusterIPs.length === ipFamilies.length &&
        clusterIPs.every((ip, i) => isOfFamily(ipFamilies[i] === 'IPv6' ? 6 : 4)(ip));
      return compareText(
        'one per family, same order',
        isSo ? 'one per family, same order' : clusterIPs.join(', '),
        field,
      );
    }
    case 'endpointsFamily': {
      const families = slices.map(({ addressType }) => addressType);
      const wanted = value === 'cluster primary' ? 'IPv4' : String(value);
      return compareText(wanted, families.find((family) => family === service.spec.ipFamilies?.[0]) ?? 'none', field);
    }
    case 'ready':
    case 'serving':
    case 'terminating':
      return compare(first?.endpoints[0]?.conditions[field]);
    case 'hostname': {
      const [{ node = 'none', hostname = 'none' } = {}] = cluster.cluster.pods;
      return compareText(value === 'node hostname' ? node : String(value), hostname, field);
    }
    case 'schedulable':
      return compare(cluster.cluster.api.list('Pod').every(({ spec }) => spec.nodeName !== undefined));
    case 'spec':
      return askSpec(cluster, value as Readonly<Record<string, unknown>>);
    case 'successRatioAtLeast':
      return askRollout(cluster, Number(value));
    default:
      throw new ObjectError(service, `no way to ask for "${field}" of ${JSON.stringify(all)}`);
  }
}

function askSpec(cluster: E2eCluster, expected: Readonly<Record<string, unknown>>): Difference[] {
  const { type, externalName = '', clusterIP = '', ports } = cluster.service()!.spec;
  const got: Readonly<Record<string, string>> = {
    type,
    externalName,
    clusterIP: clusterIP === '' ? '' : 'allocated',
    nodePort: `${ports[0]?.nodePort ?? 0}`,
  };
  return Object.entries(expected).flatMap(([field, value]) =>
    compareText(String(value), got[field] ?? 'nothing', `spec.${field}`),
  );
}

/** Requests from outside while all pods are replaced. */
function askRollout({ cluster }: E2eCluster, least: number): Difference[] {
  const [{ ip } = {}] = cluster.api.get('Service', 'default/s')!.status.loadBalancer.ingress;
  const load = cluster.closedLoop(cluster.outside.client, {
    to: cluster.resolve(`${ip}:80`),
    requests: 2_000,
    thinkTime: s(0.01),
    timeout: s(1),
  });
  cluster.runFor(s(1));
  cluster.restart('server');
  cluster.runFor(s(30));
  const ratio = load.completed / load.started;
  return ratio >= least
    ? []
    : [{ part: 'share of requests that are answered', expected: `at least ${least}`, got: ratio.toFixed(3) }];
}
