// The cluster of one recorded end-to-end test, and how its clients ask. Names are those of the record: nodes n1, n2, …; all
// pods that are no clients stand behind all Services, unless the test says otherwise.

import { type Duration, ms, s } from '../../engine/time.ts';
import { Cluster, type ClusterOptions } from '../cluster.ts';
import type { RecordType } from '../dns/message.ts';
import { formatRecord } from '../dns/message-text.ts';
import type { Process } from '../host/process.ts';
import { nodesFor } from '../kube/node-objects.ts';
import {
  clusterIpsOf,
  type KubeObject,
  keyOf,
  objectFrom,
  type Pod,
  type Service,
  type ServicePort,
} from '../kube/objects.ts';
import { formatIp, parseAddress } from '../packet/ip-address.ts';
import type { SocketAddress } from '../transport/transport-stack.ts';
import { Load } from '../workload/load.ts';
import { isResponse } from '../workload/message.ts';
import type { ServerProtocol } from '../workload/server.ts';

export interface RecordedE2ePod {
  readonly name: string;
  readonly node: string;
  readonly hostNetwork?: boolean | undefined;
  readonly ready?: boolean | undefined;
  /** Ports by number, or by name. */
  readonly listens?: readonly number[] | undefined;
  readonly ports?: Readonly<Record<string, number>> | undefined;
  readonly hostname?: string | undefined;
  readonly subdomain?: string | undefined;
  /** Beside those of the cluster. */
  readonly searches?: readonly string[] | undefined;
  /** Of its resolv.conf, such as `use-vc`. */
  readonly dnsOptions?: readonly string[] | undefined;
}

export type RecordedE2eService = Readonly<Record<string, unknown>> & {
  readonly name: string;
  readonly replicas?: number | undefined;
};

/** Of a node that has two, within the default node range. */
export const SECONDARY_ADDRESS = '192.168.7.7';

/** What one client saw of several tries. */
export interface Answers {
  readonly result: 'ok' | 'refused' | 'timeout' | 'mixed';
  readonly backends: readonly string[];
  /** Of each answer, in order. */
  readonly sources: ReadonlySet<string>;
  readonly answerBytes: number;
}

const CLIENT = /^(pause|client|pod-client|exec|test-container|host-test|startup|drop)/;
const SERVER_LABELS = { app: 'server' };
/** Longer than the watch delays and syncs after a change, and than a sync that waits for its turn. */
export const SETTLING = s(4);

export class E2eCluster {
  readonly cluster: Cluster;
  /** Noted by a step, for a later one. */
  formerHealthCheckNodePort: number | undefined;
  latestName = '';
  #deletedService: Service | undefined;
  #clients = 0;
  #isRunning = false;

  constructor(
    nodes: readonly string[],
    { dns = false, ...options }: Partial<ClusterOptions> & { readonly dns?: boolean } = {},
  ) {
    this.cluster = new Cluster({ seed: 'kubernetes-e2e', ...options });
    const { nodes: complete } = nodesFor(nodes.map(nodeFrom), { ranges: this.cluster.ranges, count: nodes.length });
    this.cluster.apply(complete);
    if (dns) this.cluster.addDns();
  }

  addPod({
    name,
    node,
    hostNetwork = false,
    listens,
    ports = {},
    ready,
    hostname,
    subdomain,
    searches = [],
    dnsOptions = [],
  }: RecordedE2ePod): void {
    const isClient = CLIENT.test(name);
    const numbered = (listens ?? (isClient ? [] : [80])).flatMap((port) =>
      (['TCP', 'UDP', 'SCTP'] as const).map((protocol) => ({ containerPort: port, protocol })),
    );
    const named = Object.entries(ports).map(([portName, port]) => ({
      name: portName.slice(0, 15),
      containerPort: port,
    }));
    // A pod that ends goes on serving until its hook is over, as the tests' do.
    const lifecycle = isClient ? {} : { lifecycle: { preStop: { sleep: { seconds: 300 } } } };
    const readiness = ready === false ? { readinessProbe: { initialDelaySeconds: 1_000_000 } } : {};
    const container = { name: 'main', ports: [...numbered, ...named], ...lifecycle, ...readiness };
    this.cluster.apply([
      objectFrom('Pod', {
        metadata: { name, labels: { ...(isClient ? {} : SERVER_LABELS), pod: name } },
        spec: {
          nodeName: node,
          hostNetwork,
          terminationGracePeriodSeconds: 600,
          containers: [container],
          hostname,
          subdomain,
          dnsConfig: { searches: [...searches], options: dnsOptions.map((option) => ({ name: option })) },
        },
      }),
    ]);
    // Before the run starts, probes have been passed already.
    const isThere = this.cluster.pods.some((pod) => pod.name === `default/${name}`);
    if (ready === false && isThere) this.cluster.setReady(`default/${name}`, false);
  }

  addServers(count: number, node?: string): void {
    for (let i = 0; i < count; i++) this.addPod({ name: `server-${i}`, node: node ?? this.#nodeName(i) });
  }

  #nodeName(index: number): string {
    return this.cluster.nodes[index % this.cluster.nodes.length]!.name;
  }

  addService({ name, replicas = 0, headless, ...spec }: RecordedE2eService): void {
    const { ports = [{ port: 80, targetPort: 80 }], selector = SERVER_LABELS, ...others } = spec;
    const given = selector === null ? {} : { selector };
    this.cluster.apply([
      objectFrom('Service', {
        metadata: { name },
        spec: { ...others, ...given, ports, ...(headless === true && { clusterIP: 'None' }) },
      } as never),
    ]);
    this.addServers(replicas);
    if (this.#isRunning) this.settle();
  }

  /** Without those that a cluster has of its own. */
  get #services(): readonly Service[] {
    const services = this.cluster.api.list('Service');
    return services.filter(({ metadata }) => metadata.namespace === 'default' && metadata.name !== 'kubernetes');
  }

  service(name?: string): Service | undefined {
    const services = this.#services.filter(({ metadata }) => name === undefined || metadata.name === name);
    return services[0] ?? this.#deletedService;
  }

  /** The one that was made last. */
  get latestService(): Service | undefined {
    return this.#services.at(-1) ?? this.#deletedService;
  }

  updateService(change: Partial<Service['spec']>, name?: string): void {
    const service = this.service(name)!;
    this.cluster.api.update({ ...service, spec: { ...service.spec, ...change } as Service['spec'] });
    this.settle();
  }

  label(labels: Service['metadata']['labels'], name: string): void {
    const service = this.service(name)!;
    this.cluster.api.update({ ...service, metadata: { ...service.metadata, labels } });
    this.settle();
  }

  deletePod(name: string, { gracePeriodSeconds }: { gracePeriodSeconds?: number } = {}): void {
    this.cluster.api.delete('Pod', `default/${name}`, gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds });
    this.settle();
  }

  delete(kind: KubeObject['kind'], name: string): void {
    if (kind === 'Service') this.#deletedService = this.service(name);
    this.cluster.api.delete(kind, `default/${name}`);
    this.settle();
  }

  /** What has changed is known everywhere. */
  settle(duration: Duration = SETTLING): void {
    this.#isRunning = true;
    this.cluster.runFor(duration);
  }

  // ── asking ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  process(from: string, to: string): Process {
    if (from.startsWith('host@')) return this.cluster.node(from.slice('host@'.length)).process;
    if (from === 'outside') return this.cluster.outside.client;
    const known = this.cluster.pods.find(({ name }) => name === `default/${from}`);
    if (known !== undefined) return known;
    if (/nodePort|^LB/.test(to) && from === 'client') return this.cluster.outside.client;
    this.addPod({ name: from, node: this.#nodeName(this.#clients++) });
    this.settle(s(2));
    return this.cluster.pod(`default/${from}`);
  }

  /** Where `clusterIP:80`, `n1:nodePort`, `LB:80/UDP` or `netserver-0:8083/TCP` is. */
  target(to: string): { readonly address: SocketAddress; readonly protocol: ServerProtocol } {
    const [, place = to, portText, protocolText] = /^(.+?)(?::([\w]+))?(?:\/(TCP|UDP|SCTP))?$/.exec(to) ?? [];
    const service = this.#serviceNamed(place);
    const servicePorts = service?.spec.ports ?? [];
    const isWanted = ({ port, protocol }: ServicePort) =>
      String(port) === portText && (protocolText ?? protocol) === protocol;
    const servicePort = servicePorts.find(isWanted) ?? servicePorts[0];
    const protocol = (protocolText ?? servicePort?.protocol ?? 'TCP') as ServerProtocol;
    const isNodePort = portText === 'nodePort' || portText === 'X';
    const port = Number(isNodePort ? servicePort?.nodePort : (portText ?? servicePort?.port));
    return { address: { ...this.#addressOf(place, service), port }, protocol };
  }

  #serviceNamed(place: string): Service | undefined {
    const [, name] = /^(\S+) VIP$/.exec(place) ?? /^VIP(\d)$/.exec(place) ?? [];
    const named = name === undefined ? undefined : (this.service(name.toLowerCase()) ?? this.service(`s${name}`));
    return named ?? this.service();
  }

  #addressOf(place: string, service: Service | undefined) {
    const at = (text: string) => parseAddress(text);
    if (place === 'localhost') return at('127.0.0.1');
    if (place === 'LB') return at(service?.status.loadBalancer.ingress[0]?.ip ?? this.lastLoadBalancerIp!);
    if (place.endsWith(' secondary')) return at(SECONDARY_ADDRESS);
    const nodeName = place.replace(' primary', '');
    const node =
      this.cluster.nodes.find(({ name }) => name === nodeName) ??
      (place === 'node IP' ? this.cluster.nodes[0] : undefined);
    if (node !== undefined) return { family: node.family, ip: node.ip };
    const pod = this.cluster.pods.find(
      ({ name }) => name === `default/${place}` || (place === 'pod IP' && !CLIENT.test(name.slice('default/'.length))),
    );
    if (pod !== undefined) return { family: pod.family, ip: pod.ip };
    return at(/^[\d.]+$/.test(place) ? place : clusterIpsOf(service!)[0]!);
  }

  /** Of the Service, before it lost it. */
  lastLoadBalancerIp: string | undefined;

  ask(from: string, to: string, { tries, bytes = 512 }: { tries: number; bytes?: number }): Answers {
    const sender = this.process(from, to);
    const { address, protocol } = this.target(to);
    return this.askAt(sender, address, protocol, { tries, bytes });
  }

  askAt(
    sender: Process,
    to: SocketAddress,
    protocol: ServerProtocol,
    { tries, bytes = 512 }: { tries: number; bytes?: number },
  ): Answers {
    const load = new Load();
    const settings = {
      requests: tries,
      thinkTime: ms(5),
      timeout: ms(900),
      requestBytes: bytes,
      responseBytes: bytes,
      load,
    };
    this.cluster.closedLoop(sender, { to, protocol: PROTOCOLS[protocol], ...settings });
    for (let second = 0; second < tries + 1 && (load.started < tries || load.outstanding > 0); second++)
      this.cluster.runFor(s(1));
    const failures = [...load.failures.keys()];
    const result =
      load.failed === 0 ? 'ok' : load.completed > 0 ? 'mixed' : failures.every(isRefusal) ? 'refused' : 'timeout';
    return {
      result,
      backends: shortNames(load.perServer.keys()),
      sources: new Set(load.perSource.keys()),
      answerBytes: bytes,
    };
  }

  /** A client that sends from one port all the time: who answered in the end, if anybody did. */
  keepSending(from: string, to: string, { port, for: duration }: { port: number; for: Duration }): string | undefined {
    const sender = this.process(from, to);
    const { address } = this.target(to);
    let latest: string | undefined;
    const socket = sender.namespace.udp.bind(
      { family: address.family ?? 4, port, cpu: sender.cpu },
      {
        onDatagram: (message) => {
          if (isResponse(message)) latest = message.server.slice('default/'.length);
        },
        onError: () => {}, // goes on, as the test's netcat does
      },
    );
    const interval = s(5);
    for (let passed = 0; passed <= duration; passed += interval) {
      socket.send(address, {
        kind: 'request',
        id: passed,
        sizeBytes: 64,
        responseBytes: undefined,
        http: undefined,
      } as never);
      this.cluster.runFor(interval);
    }
    socket.close();
    return latest;
  }

  /** What the C library finds in a pod, by getaddrinfo or as records of a type. */
  lookup(from: string, name: string, type: RecordType | undefined): readonly string[] {
    const resolver = this.cluster.resolverOf(this.process(from, name));
    let found: readonly string[] | undefined;
    if (type === undefined)
      resolver.lookup(name, {}, ({ addresses }) => {
        found = addresses.map(({ ip, family }) => formatIp(ip, family));
      });
    else
      resolver.search(name, type, ({ answer }) => {
        found = answer?.answers.map(formatRecord) ?? [];
      });
    for (let second = 0; second < 30 && found === undefined; second++) this.cluster.runFor(s(1));
    return found ?? [];
  }

  endpointsOf(name?: string): string[] {
    return this.slicesOf(this.service(name)).flatMap(({ endpoints, ports }) =>
      endpoints.flatMap(({ targetRef, addresses, conditions }) =>
        conditions.ready === false ? [] : ports.map(({ port }) => `${targetRef?.name ?? addresses[0]}:${port}`),
      ),
    );
  }

  slicesOf(service: Service | undefined) {
    if (service === undefined) return [];
    const { name, namespace } = service.metadata;
    return this.cluster.api
      .list('EndpointSlice')
      .filter(
        ({ metadata }) => metadata.namespace === namespace && metadata.labels['kubernetes.io/service-name'] === name,
      );
  }

  podIp(name: string): string {
    const pod = this.cluster.api.get('Pod', `default/${name}`) as Pod;
    return pod.status.podIP ?? keyOf(pod);
  }

  podIpOr(name: string): string {
    return this.cluster.api.get('Pod', `default/${name}`)?.status.podIP ?? 'none';
  }
}

const PROTOCOLS = { TCP: 'tcp', UDP: 'udp', SCTP: 'sctp' } as const;

const isRefusal = (failure: string): boolean => failure === 'refused' || failure.endsWith('unreachable');

const shortNames = (servers: Iterable<string>): string[] =>
  [...servers].map((name) => name.replace('default/', '')).toSorted();

/** `n1`, or `a1(zone a)`. */
function nodeFrom(text: string): KubeObject {
  const [, name = text, zone] = /^(\w+)\(zone (\w+)\)$/.exec(text) ?? /^(\w+)/.exec(text) ?? [];
  const labels: Record<string, string> = zone === undefined ? {} : { 'topology.kubernetes.io/zone': zone };
  return objectFrom('Node', { metadata: { name, labels } });
}
