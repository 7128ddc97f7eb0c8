// What an experiment builds with: a cluster of nodes on a fabric, the control plane's controllers, and a world outside.
//
// Before the run starts, what is applied takes effect at once; after that a change reaches controllers, kubelets and
// proxies one watch delay later each, as from a real API server.

import { CoupledError } from '../engine/parallel/coupled-error.ts';
import type { Part } from '../engine/parallel/part.ts';
import { Simulator } from '../engine/simulator.ts';
import { type Duration, formatInstant, type Instant, ms, parseInstant, s } from '../engine/time.ts';
import { ClusterDns, type DnsChoice, type ResolverOptions } from './cluster-dns.ts';
import { CniError, RangeConfigError } from './cni/cni-error.ts';
import type { BridgeSettings, PodNetwork } from './cni/networks/pod-network.ts';
import { makeNetwork, type NetworkChoice } from './cni/networks/registry.ts';
import { type CostModel, LINUX_6_18 } from './cpu/cost-model.ts';
import type { DnsServer } from './dns/dns-server.ts';
import type { StubResolver } from './dns/stub-resolver.ts';
import { Fabric } from './host/fabric.ts';
import type { Machine } from './host/machine.ts';
import { NodeHomes } from './host/node-homes.ts';
import { OutsideWorld } from './host/outside-world.ts';
import type { Process } from './host/process.ts';
import { ApiServer, type WatchEvent } from './kube/api-server.ts';
import { DEFAULT_LOAD_BALANCER, LoadBalancer, type LoadBalancerSettings } from './kube/cloud/load-balancer.ts';
import { loadBalancerIp, ServiceController } from './kube/cloud/service-controller.ts';
import { ClusterNode, DEFAULT_EGRESS, type EgressSettings, type FamilyOfCluster } from './kube/cluster-node.ts';
import type { ControllerClock } from './kube/controller-clock.ts';
import { EgressGatewayController } from './kube/egress-gateways.ts';
import { EndpointSliceController, TRIGGER_TIME_ANNOTATION } from './kube/endpoint-slices.ts';
import { DEFAULT_HTTP_PROXY, type HttpProxySettings, ProxyController } from './kube/http/proxy-controller.ts';
import type { HealthServer } from './kube/kube-proxy/health-server.ts';
import { DEFAULT_SYNC, type KubeProxy, type ProxyChange, type SyncSettings } from './kube/kube-proxy/kube-proxy.ts';
import { ProxyMetrics } from './kube/kube-proxy/proxy-metrics.ts';
import {
  DEFAULT_MIN_SYNC_PERIODS,
  ProxyCaches,
  type ProxyFlags,
  type ProxyMode,
} from './kube/kube-proxy/proxy-mode.ts';
import { ServiceTracker, serviceKeyOf } from './kube/kube-proxy/service-tracker.ts';
import { addressesOf, type RunningPod } from './kube/kubelet.ts';
import type { Manifests } from './kube/manifests.ts';
import { NamedDraws } from './kube/named-draws.ts';
import { DEFAULT_ENFORCEMENT, type EnforcementSettings } from './kube/network-policy/policy-agent.ts';
import { type PolicyObject, PolicyTracker } from './kube/network-policy/policy-tracker.ts';
import { NodeLifecycleController, type NodeLifecycleSettings } from './kube/node-lifecycle.ts';
import { nodesFor } from './kube/node-objects.ts';
import { ObjectError } from './kube/object-error.ts';
import {
  type EndpointSlice,
  type KubeObject,
  keyOf,
  type Node,
  objectFrom,
  type Pod,
  podIpStatus,
  type Service,
  type ServiceProtocol,
} from './kube/objects.ts';
import { type PodAddresses, PodLifecycle } from './kube/pod-lifecycle.ts';
import { sandboxOf } from './kube/pod-sandbox.ts';
import {
  type ClusterIpFamily,
  type ClusterRanges,
  completeRanges,
  familiesOf,
  RangesError,
  rangeOf,
  rangesFor,
} from './kube/ranges.ts';
import { Scheduler } from './kube/scheduler.ts';
import type { FeatureGates } from './kube/service-validation.ts';
import { resolveTarget, type Target } from './kube/target.ts';
import { WorkloadController } from './kube/workloads.ts';
import { FrameBorder } from './link/frame-border.ts';
import type { WireSettings } from './link/wire.ts';
import type { DropReason } from './packet/drop-reason.ts';
import { FrameStore } from './packet/frame-store.ts';
import { addressAt, contains, formatIp, type IpFamily, parseIpv6Prefix, parsePrefix } from './packet/ip-address.ts';
import { type ClientSettings, closedLoop, openLoop } from './workload/client.ts';
import type { Load } from './workload/load.ts';
import { messageRecords } from './workload/message-record.ts';
import { HttpProxy } from './workload/proxy/http-proxy.ts';
import { echo, Server, type ServerSettings } from './workload/server.ts';

export interface ClusterOptions {
  readonly seed: string;
  /** IP families of nodes, pods and Services: those of the ranges, or IPv4. */
  readonly ipFamily?: ClusterIpFamily;
  readonly ranges?: Partial<ClusterRanges>;
  /** Ranges of pods, Services and nodes that overlap are taken all the same. */
  readonly force?: boolean;
  /** Between each node and the switch, and between the gateway and the outside. */
  readonly wire?: Partial<WireSettings>;
  readonly cpusPerNode?: number;
  readonly costs?: CostModel;
  /** The network of pods, by name or of the user's own: `bridge` by default. */
  readonly cni?: NetworkChoice;
  /** Of the nodes' bridges, where the network has such. */
  readonly bridge?: BridgeSettings;
  /** How kube-proxy writes its rules, on nodes that do not say otherwise: iptables by default. */
  readonly proxy?: ProxyMode;
  /** When kube-proxy syncs, and how long that takes. */
  readonly proxySync?: Partial<SyncSettings>;
  /** Other flags of kube-proxy. */
  readonly proxyFlags?: ProxyFlags;
  /** Of the API server. */
  readonly featureGates?: FeatureGates;
  /** From a change in the API server until a controller, kubelet or proxy has heard of it. */
  readonly watchDelay?: Duration;
  /** How soon the control plane gives up a node that is gone. */
  readonly nodeLifecycle?: Partial<NodeLifecycleSettings>;
  /** Of the cloud, for Services of type LoadBalancer. */
  readonly loadBalancer?: Partial<LoadBalancerSettings>;
  /** How pods leave the cluster. */
  readonly egress?: Partial<EgressSettings>;
  /** Routers outside know the way to pods, as they do where a cloud routes pod ranges. */
  readonly podsAreRouted?: boolean;
  /** What serves Ingresses and Gateways. */
  readonly httpProxy?: Partial<HttpProxySettings>;
  /** How NetworkPolicies are enforced, and how soon. */
  readonly networkPolicy?: Partial<EnforcementSettings>;
  /** What answers at endpoints whose Deployment does not say. */
  readonly server?: ServerSettings;
  /** Several workers simulate the run, each of them with a cluster of its own: this is one part of that. */
  readonly part?: Part;
}

/** Settings of a client that may know its server by a name only. */
export type ByName<Settings extends ClientSettings> = Omit<Settings, 'to'> & { readonly to: Settings['to'] | string };

/** A program that wanted a port which another one in its network namespace has (EADDRINUSE). */
export interface BindFailure {
  /** `namespace/name` */
  readonly pod: string;
  /** Where it is another container of the same pod that has the port. */
  readonly container?: string;
  readonly protocol: ServiceProtocol;
  readonly port: number;
}

/** What the cluster has of one IP family. */
interface ClusterFamily extends FamilyOfCluster {
  readonly tracker: ServiceTracker;
  /** What its kube-proxies hear of at this instant. */
  readonly news: ProxyChange[];
}

export class Cluster {
  readonly sim: Simulator;
  readonly frames = new FrameStore();
  readonly api: ApiServer;
  readonly outside: OutsideWorld;
  readonly ranges: ClusterRanges;
  /** Of the kube-proxies of all nodes; each has its own, too. */
  readonly kubeProxyMetrics = new ProxyMetrics();
  readonly #options: ClusterOptions;
  readonly #border: FrameBorder | undefined;
  readonly #homes: NodeHomes;
  readonly #fabric: Fabric;
  readonly #families: readonly ClusterFamily[];
  readonly #egress: EgressSettings;
  readonly #network: PodNetwork;
  readonly #nodes = new Map<string, ClusterNode>();
  readonly #pods = new Map<string, RunningPod>();
  #proxyMode: ProxyMode;
  #proxySync: Partial<SyncSettings>;
  readonly #scheduler: Scheduler;
  readonly #podLifecycle: PodLifecycle;
  readonly #nodeLifecycle: NodeLifecycleController;
  readonly #serviceController: ServiceController;
  readonly #proxyController: ProxyController;
  /** Made for the first Service of type LoadBalancer. */
  #loadBalancer: LoadBalancer | undefined;
  readonly #controlPlane;
  readonly #enforcement: EnforcementSettings;
  readonly #policies = new PolicyTracker();
  #watchesPolicies = false;
  #hasPolicyNews = false;
  readonly #loads = new Set<Load>();
  readonly #servers = new Map<string, Server>();
  /** Of pods that serve Ingresses and Gateways. */
  readonly #httpProxies = new Map<string, HttpProxy>();
  /** How the pods of a Deployment made by {@link addDeployment} answer, by the value of their `app` label. */
  readonly #serverSettings = new Map<string, ServerSettings>();
  #dns: ClusterDns | undefined;
  /** Pods that their nodes' networks could not connect, with what they said. */
  readonly #creating = new Map<string, string>();
  readonly #bindFailures: BindFailure[] = [];
  #outsideServer: Server | undefined;
  #idleEndpoints = 0;
  #started = false;
  #rulesVisitedBefore = 0;
  /** Since measuring began, by the nodes of other workers. */
  #rulesVisitedElsewhere = 0;
  #conntrackEntriesElsewhere = 0;
  #hasNews = false;

  constructor(options: ClusterOptions) {
    this.#options = options;
    this.#proxyMode = options.proxy ?? 'iptables';
    this.#proxySync = { ...options.proxySync };
    this.#enforcement = { ...DEFAULT_ENFORCEMENT, ...options.networkPolicy };
    this.ranges = completeRanges(options.ranges ?? {}, options.ipFamily);
    this.#families = familiesOf(this.ranges).map(newFamily);
    this.#egress = { ...DEFAULT_EGRESS, ...options.egress };
    this.#network = makeNetwork(options.cni ?? 'bridge', {
      families: this.ipFamilies,
      podRange: (family) => rangeOf(this.ranges, 'pod', family)!,
      bridge: options.bridge ?? {},
      masquerades: this.#egress.masquerade === 'outside the cluster',
    });
    if (this.#enforcement.unknownPods === 'closed' && !this.#network.usesNodeRanges)
      throw new RangesError(
        `cni ${typeof options.cni === 'string' ? options.cni : 'of its own'}: has no pod range per node to close; expected networkPolicy.unknownPods open`,
      );
    const { part, wire = {} } = options;
    this.sim = new Simulator({ seed: options.seed, worker: part?.index ?? 0 });
    // What the control plane does depends on nothing that nodes do: all workers can do it.
    this.#controlPlane = this.sim.place('control-plane', { home: 'everywhere' });
    const { frames } = this;
    this.#border = part && new FrameBorder(part, { frames, messages: messageRecords });
    this.#homes = new NodeHomes(part?.workers ?? 1);
    this.#fabric = new Fabric(this.sim, { frames, wire, border: this.#border });
    const nodeRanges = this.ipFamilies.map((family) => rangeOf(this.ranges, 'node', family)!);
    this.outside = new OutsideWorld(this.sim, { frames, fabric: this.#fabric, nodeRanges, wire });
    const random = (consumer: string) => this.#controlPlane.random(consumer);
    const deliver = (handler: () => void): void => this.#deliver(handler);
    this.api = new ApiServer({
      ...{ random: random('api-server'), ranges: this.ranges, isForced: options.force ?? false },
      featureGates: options.featureGates ?? {},
      ...{ deliver, now: () => this.sim.now },
    });
    this.#serviceController = new ServiceController(this.api, {
      ipMode: options.loadBalancer?.ipMode ?? DEFAULT_LOAD_BALANCER.ipMode,
      loadBalancer: () => (this.#loadBalancer ??= this.#makeLoadBalancer()),
      announce: (address) => this.outside.announce(address),
      isNodeHealthy: (name, family, port) => this.#healthServerOf(this.node(name), family).report(port).status === 200,
    });
    this.api.watch('Node', (events) => this.#onNodes(events));
    const clock: ControllerClock = {
      now: () => this.sim.now,
      at: (instant, action) => this.#controlPlane.scheduleAt(instant, call, action),
    };
    new WorkloadController(this.api, { random: random('workloads'), clock });
    this.#scheduler = new Scheduler(this.api);
    this.#podLifecycle = this.#runPods();
    this.#proxyController = new ProxyController(this.api, {
      settings: { ...DEFAULT_HTTP_PROXY, ...options.httpProxy },
      soon: (action) => this.#soon(action),
    });
    new EgressGatewayController(this.api, {
      soon: (action) => this.#soon(action),
      use: (name, ways, addresses) => {
        this.#nodes.get(name)?.useEgress(ways, addresses);
        for (const address of addresses)
          if (!contains(rangeOf(this.ranges, 'node', address.family)!, address.ip)) this.outside.announce(address);
      },
    });
    this.#nodeLifecycle = new NodeLifecycleController(this.api, {
      draws: new NamedDraws(random('node-lifecycle')),
      clock,
      settings: options.nodeLifecycle ?? {},
    });
    new EndpointSliceController(this.api, random('endpoint-slices'));
    this.api.watch('Service', (events) => {
      this.#onServices(events);
      this.#serviceController.hearOfServices(events);
    });
    this.api.watch('EndpointSlice', (events) => this.#onServices(events));
    this.api.watch('EndpointSlice', (events) => this.#serveEndpoints(events));
    this.api.watch('NetworkPolicy', (events) => {
      if (events.length > 0) this.#watchWhatPoliciesSelect();
      this.#onPolicies(events);
    });
    if (this.#enforcement.unknownPods === 'closed') this.#watchWhatPoliciesSelect();
  }

  /** A cluster from manifests, with their nodes or, if they have none, `nodes` generated ones. */
  static fromManifests(
    manifests: Manifests,
    {
      nodes: count = 3,
      dns,
      ...options
    }: ClusterOptions & {
      readonly nodes?: number;
      /** Names are answered; absent: the cluster has no DNS. */
      readonly dns?: DnsChoice;
    },
  ): Cluster {
    const ranges = rangesFor(manifests.objects, options.ranges, options.ipFamily);
    const cluster = new Cluster({ ...options, ranges });
    if (dns !== undefined) cluster.#dns = cluster.#newDns(dns);
    const { nodes, notes } = nodesFor(manifests.objects, { ranges, count });
    cluster.notes.push(...manifests.notes, ...notes);
    manifests.locating(() => cluster.apply([...nodes, ...manifests.objects.filter(({ kind }) => kind !== 'Node')]));
    if (cluster.#dns !== undefined) cluster.apply(cluster.#dns.missingObjects());
    return cluster;
  }

  /** What somebody should know about the cluster as it was built: skipped kinds, selectors without pods. */
  readonly notes: string[] = [];

  // ── building ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** `kubectl create -f`: all of the objects or none. Errors are ObjectErrors that name object and field. */
  apply(objects: readonly KubeObject[]): void {
    this.api.createAll(objects);
  }

  /**
   * Adds `node-1`, `node-2`, …; the numbers go on where an earlier call ended. Or the given ones, which get an address of each
   * family where they have none.
   */
  addNodes(nodes: number | readonly Node[], { proxy = this.#proxyMode }: { proxy?: ProxyMode } = {}): void {
    const { ranges } = this;
    const taken = this.#nodes.size;
    const added =
      typeof nodes === 'number'
        ? nodesFor([], { ranges, count: taken + nodes }).nodes.slice(taken)
        : nodesFor(nodes, { ranges, count: 0, existing: this.api.list('Node') }).nodes;
    this.apply(added);
    if (proxy !== this.#proxyMode)
      for (const { metadata } of added) this.node(metadata.name).useProxy(proxy, this.#syncOf(proxy));
  }

  /** Runs kube-proxy in this mode, and with these settings, on all nodes, those to come included. Before the start only. */
  useProxy(mode: ProxyMode, sync: Partial<SyncSettings> = {}): void {
    this.#proxyMode = mode;
    this.#proxySync = { ...this.#proxySync, ...sync };
    for (const node of this.#nodes.values()) node.useProxy(mode, this.#syncOf(mode));
  }

  #syncOf(mode: ProxyMode): SyncSettings {
    return { ...DEFAULT_SYNC, minSyncPeriod: DEFAULT_MIN_SYNC_PERIODS[mode], ...this.#proxySync };
  }

  /** A Deployment whose pods answer on `port`, over TCP and UDP, as `server` says. */
  addDeployment({
    name,
    replicas,
    port = 8080,
    server = echo(),
    node,
  }: {
    name: string;
    replicas: number;
    port?: number;
    server?: ServerSettings;
    node?: string;
  }): { readonly name: string } {
    this.#serverSettings.set(name, server);
    const ports = (['TCP', 'UDP'] as const).map((protocol) => ({ containerPort: port, protocol }));
    const spec = { containers: [{ name, ports }], ...(node === undefined ? {} : { nodeName: node }) };
    const labels = { app: name };
    this.apply([
      objectFrom('Deployment', {
        apiVersion: 'apps/v1',
        metadata: { name },
        spec: { replicas, selector: { matchLabels: labels }, template: { metadata: { labels }, spec } },
      }),
    ]);
    return { name };
  }

  /**
   * A Service in front of a Deployment, or (`endpoints`) one whose endpoints are addresses where nobody answers: such
   * Services fill kube-proxy's chains. In a dual-stack cluster it has an address of each family.
   */
  addService({
    name,
    port,
    targetPort = 8080,
    protocol = 'TCP',
    type = 'ClusterIP',
    externalTrafficPolicy,
    selects,
    endpoints = 0,
  }: {
    name: string;
    port: number;
    targetPort?: number;
    protocol?: 'TCP' | 'UDP';
    type?: 'ClusterIP' | 'NodePort' | 'LoadBalancer';
    externalTrafficPolicy?: 'Cluster' | 'Local';
    selects?: { readonly name: string };
    endpoints?: number;
  }): void {
    const selector = selects === undefined ? {} : { app: selects.name };
    const objects: KubeObject[] = [
      objectFrom('Service', {
        apiVersion: 'v1',
        metadata: { name },
        spec: {
          type,
          selector,
          ports: [{ port, targetPort, protocol }],
          externalTrafficPolicy,
          ...this.#dualStackPolicy(),
        },
      }),
    ];
    if (endpoints > 0)
      for (const family of this.ipFamilies)
        objects.push(this.#idleSlice(name, { family, endpoints, port: targetPort, protocol }));
    this.apply(objects);
  }

  #dualStackPolicy(): Pick<Service['spec'], 'ipFamilyPolicy'> {
    return this.#families.length === 2 ? { ipFamilyPolicy: 'PreferDualStack' } : {};
  }

  #idleSlice(
    service: string,
    {
      family,
      endpoints,
      port,
      protocol,
    }: { family: IpFamily; endpoints: number; port: number; protocol: 'TCP' | 'UDP' },
  ): EndpointSlice {
    const addresses = Array.from({ length: endpoints }, () =>
      formatIp(addressAt(IDLE_RANGES[family], ++this.#idleEndpoints), family),
    );
    const name = family === 4 ? `${service}-idle` : `${service}-idle-ipv6`;
    return objectFrom('EndpointSlice', {
      apiVersion: 'discovery.k8s.io/v1',
      metadata: { name, labels: { 'kubernetes.io/service-name': service } },
      addressType: `IPv${family}`,
      ports: [{ port, protocol }],
      endpoints: addresses.map((address) => ({ addresses: [address] })),
    });
  }

  /** CoreDNS behind the Service kube-dns, and what belongs to it. After nodes have been added, before the start. */
  addDns(choice: DnsChoice = {}): void {
    if (this.#started) throw new RangeError('addDns after the start of a run; expected it before');
    this.#dns ??= this.#newDns(choice);
    this.apply(this.#dns.missingObjects());
  }

  #newDns(choice: DnsChoice): ClusterDns {
    const { api, outside } = this;
    const hasStarted = (): boolean => this.#started;
    const proxyModeOf = (node: string) => this.#nodes.get(node)?.kubeProxy.mode;
    return new ClusterDns({ api, outside, hasStarted, proxyModeOf }, choice);
  }

  /** A pod to send from. Its name may have a namespace: `default` is added. */
  addPod({ name, namespace = 'default', node }: { name: string; namespace?: string; node?: string }): RunningPod {
    const spec = { containers: [{ name: 'main' }], ...(node === undefined ? {} : { nodeName: node }) };
    this.apply([objectFrom('Pod', { apiVersion: 'v1', metadata: { name, namespace }, spec })]);
    return this.pod(`${namespace}/${name}`);
  }

  /** A server on the machine outside, at a port of its address: where pods go when they leave the cluster. */
  serveOutside(protocol: 'TCP' | 'UDP', port: number): void {
    this.#outsideServer ??= new Server(this.outside.client, this.#options.server);
    this.#outsideServer.listen(protocol, port);
  }

  /** `kubectl scale deployment`. During a run it takes its time, as on a real cluster. */
  scale(name: string, replicas: number): void {
    const key = name.includes('/') ? name : `default/${name}`;
    const deployment = this.api.get('Deployment', key);
    if (deployment === undefined) throw new RangeError(`no Deployment ${key}`);
    this.api.update({ ...deployment, spec: { ...deployment.spec, replicas } });
  }

  /** `kubectl rollout restart`: all pods of a Deployment, or of another kind, are replaced, as its strategy has it. */
  restart(name: string, { kind = 'Deployment' }: { kind?: 'Deployment' | 'StatefulSet' | 'DaemonSet' } = {}): void {
    const key = name.includes('/') ? name : `default/${name}`;
    const workload = this.api.get(kind, key);
    if (workload === undefined) throw new RangeError(`no ${kind} ${key}`);
    const { template } = workload.spec;
    const restartedAt = { 'kubectl.kubernetes.io/restartedAt': formatInstant(this.sim.now) };
    const metadata = { ...template.metadata, annotations: { ...template.metadata.annotations, ...restartedAt } };
    this.api.update({
      ...workload,
      spec: { ...workload.spec, template: { ...template, metadata } },
    } as typeof workload);
  }

  /** The node is cut off from now on, and its kubelet with it. The control plane will find out. */
  failNode(name: string): void {
    this.start();
    this.node(name).connected = false;
    this.#nodeLifecycle.fail(name);
  }

  /** The node is back, with the pods that it had; those that were evicted meanwhile are ended. */
  recoverNode(name: string): void {
    this.node(name).connected = true;
    this.#nodeLifecycle.recover(name);
    this.#podLifecycle.catchUp(name);
  }

  /** kube-proxy of a node ends, and a new one begins `downtime` later: until then nobody follows changes. */
  restartKubeProxy(name: string, { downtime = KUBE_PROXY_DOWNTIME }: { downtime?: Duration } = {}): void {
    this.start();
    this.node(name).restartKubeProxy(downtime);
  }

  /** What the pod's readiness probe finds from now on. `key` is `namespace/name`. */
  setReady(key: string, isReady: boolean): void {
    this.#podLifecycle.setReady(key, isReady);
  }

  // ── what is there ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** Of nodes, pods and Services, the first one first. */
  get ipFamilies(): readonly IpFamily[] {
    return this.#families.map(({ family }) => family);
  }

  get nodes(): readonly ClusterNode[] {
    return [...this.#nodes.values()];
  }

  get pods(): readonly RunningPod[] {
    return [...this.#pods.values()];
  }

  /** Programs that answer, by pod. */
  get servers(): ReadonlyMap<string, Server> {
    return this.#servers;
  }

  get machines(): readonly Machine[] {
    const { gateway, machine } = this.outside;
    const balancers = this.#loadBalancer === undefined ? [] : [this.#loadBalancer.machine];
    return [...this.nodes.map((node) => node.machine), gateway, machine, ...balancers];
  }

  /** The cloud's; undefined without a Service for it, or before the start. */
  get loadBalancer(): LoadBalancer | undefined {
    return this.#loadBalancer;
  }

  /** Proxies that serve Ingresses and Gateways, by pod. */
  get httpProxies(): ReadonlyMap<string, HttpProxy> {
    return this.#httpProxies;
  }

  /** Pods that no node takes, or that name one that is not there, one line each. */
  get schedulingNotes(): readonly string[] {
    const lost = this.api
      .list('Pod')
      .filter(({ spec: { nodeName } }) => nodeName !== undefined && !this.#nodes.has(nodeName))
      .map((pod) => `Pod ${keyOf(pod)}: spec.nodeName: there is no node ${pod.spec.nodeName}`);
    return [...this.#scheduler.notes, ...lost];
  }

  /** Pods that stay ContainerCreating, by key, with what the network's plugin says; kubelets try again every ten seconds. */
  get creatingPods(): ReadonlyMap<string, string> {
    return this.#creating;
  }

  /** Programs that found their port taken, in the order in which they asked for it. */
  get bindFailures(): readonly BindFailure[] {
    return this.#bindFailures;
  }

  /** Throws a RangeError for an unknown name, with those there are. */
  node(name: string): ClusterNode {
    const node = this.#nodes.get(name);
    if (node === undefined)
      throw new RangeError(`no node ${name}; there are ${[...this.#nodes.keys()].join(', ') || 'none'}`);
    return node;
  }

  /** `key` is `namespace/name`. Throws a RangeError for a pod that does not run. */
  pod(key: string): RunningPod {
    const pod = this.#pods.get(key);
    const problem = this.#creating.get(key);
    if (pod === undefined && problem !== undefined)
      throw new RangeError(`pod ${key} does not run: ContainerCreating: ${problem}`);
    if (pod === undefined)
      throw new RangeError(`no pod ${key} runs; there are ${[...this.#pods.keys()].slice(0, 12).join(', ') || 'none'}`);
    return pod;
  }

  /**
   * The address of `web:80`, `shop/web:http`, a pod, or an IP address; of `family`, or else the first. Throws a TargetError
   * that says what there is.
   */
  resolve(
    target: string,
    {
      protocol = 'TCP',
      namespace = 'default',
      family,
    }: { protocol?: 'TCP' | 'UDP'; namespace?: string; family?: IpFamily } = {},
  ): Target {
    return resolveTarget(this.api, target, { defaultNamespace: namespace, protocol, family });
  }

  /** Throws a RangeError for a cluster without DNS. */
  get dns(): ClusterDns {
    if (this.#dns === undefined) throw new RangeError('the cluster has no DNS; expected addDns() before');
    return this.#dns;
  }

  /** The C library's resolver in a pod, or on a node. A new one each time: a thread of its own. */
  resolverOf(process: Process, options: ResolverOptions = {}): StubResolver {
    return this.dns.resolverOf(process, options);
  }

  /** Rules that packets have visited since measuring began, on all nodes. */
  get rulesVisited(): number {
    return this.#rulesVisited() - this.#rulesVisitedBefore + this.#rulesVisitedElsewhere;
  }

  #rulesVisited(): number {
    return this.nodes.reduce((sum, { machine }) => sum + (machine.root.netfilter?.rulesVisited ?? 0), 0);
  }

  /** Connections that the nodes track, with those that have expired but are not reclaimed yet. */
  get conntrackEntries(): number {
    return (
      this.nodes.reduce((sum, { machine }) => sum + (machine.root.netfilter?.conntrack.count ?? 0), 0) +
      this.#conntrackEntriesElsewhere
    );
  }

  // ── running ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Programs every node's rules. From now on changes take their time. */
  start(): void {
    if (this.#started) return;
    for (const kubeProxy of this.#kubeProxies()) kubeProxy.syncAtOnce();
    for (const { policyAgent } of this.#nodes.values()) policyAgent.syncAtOnce();
    this.#dns?.startCaches(this.nodes);
    this.#serviceController.start();
    this.#started = true;
  }

  run(until: Instant): void {
    this.start();
    const { part } = this.#options;
    if (part === undefined) this.sim.run({ until });
    else this.#runPart(part, until);
  }

  #runPart(part: Part, until: Instant): void {
    part.run(this.sim, this.#border!, until);
    const own = this.frames.ownTotals();
    const [sent = 0, delivered = 0, dropped = 0, inFlight = 0] = part.sums(Object.values(own));
    this.frames.elsewhere = {
      sent: sent - own.sent,
      delivered: delivered - own.delivered,
      dropped: dropped - own.dropped,
      inFlight: inFlight - own.inFlight,
    };
  }

  /**
   * The run is over: what was measured at places of other workers comes to the first one. That is loads, counts of events,
   * of frames, of rules visited and of tracked connections. True if this is the first worker, or the only one.
   */
  gather(): boolean {
    const { part } = this.#options;
    if (part === undefined) return true;
    const { sim, frames } = this;
    const { executedEvents, fingerprint } = sim;
    const measures = [...sim.measures];
    const own: PartOfResults = {
      run: { executedEvents, fingerprint },
      drops: frames.drops(),
      rulesVisited: this.rulesVisited,
      conntrackEntries: this.conntrackEntries,
      measures: measures.map((measure) => measure.snapshot()),
    };
    for (const results of part.gather(own)) {
      sim.addRun(results.run);
      frames.addDrops(results.drops);
      this.#rulesVisitedElsewhere += results.rulesVisited;
      this.#conntrackEntriesElsewhere += results.conntrackEntries;
      for (const [i, snapshot] of results.measures.entries()) measures[i]!.add(snapshot);
    }
    return part.index === 0;
  }

  runFor(duration: Duration): void {
    this.run((this.sim.now + duration) as Instant);
  }

  /** A load that {@link startMeasuring} resets. `to` may be a name, which the process's C library resolves: `http://web.shop`. */
  openLoop(process: Process, settings: ByName<Parameters<typeof openLoop>[1]>): Load {
    return this.#register(openLoop(process, { ...settings, to: this.#locate(process, settings.to) }));
  }

  closedLoop(process: Process, settings: ByName<Parameters<typeof closedLoop>[1]>): Load {
    return this.#register(closedLoop(process, { ...settings, to: this.#locate(process, settings.to) }));
  }

  #locate(process: Process, to: ClientSettings['to'] | string): ClientSettings['to'] {
    return typeof to === 'string' ? this.dns.targetOf(process, to) : to;
  }

  #register(load: Load): Load {
    this.#loads.add(load);
    return load;
  }

  startMeasuring(): void {
    this.#rulesVisitedBefore = this.#rulesVisited();
    for (const load of this.#loads) load.startMeasuring(this.sim.now);
    this.kubeProxyMetrics.startMeasuring();
    for (const kubeProxy of this.#kubeProxies()) kubeProxy.metrics.startMeasuring();
  }

  *#kubeProxies(): Generator<KubeProxy> {
    for (const { kubeProxies } of this.#nodes.values()) yield* kubeProxies;
  }

  assertConserved(): void {
    this.frames.assertConserved();
  }

  // ── control plane ──────────────────────────────────────────────────────────────────────────────────────────────────

  #deliver(handler: () => void): void {
    if (this.#started) this.#controlPlane.schedule(this.#options.watchDelay ?? DEFAULT_WATCH_DELAY, call, handler);
    else this.api.deliverInTurn(handler);
  }

  /** When all that happens at this instant has happened; before the start, when all is told. */
  #soon(action: () => void): void {
    if (this.#started) this.#controlPlane.scheduleAt(this.sim.now, call, action);
    else this.api.deliverInTurn(action);
  }

  #onNodes(events: readonly WatchEvent<Node>[]): void {
    const added: ClusterNode[] = [];
    for (const { type, object } of events) {
      if (type !== 'ADDED') continue;
      const { costs = LINUX_6_18, cpusPerNode: cpuCount = 2 } = this.#options;
      const node = blaming(
        { object, field: 'spec.podCIDR', error: RangeConfigError },
        () =>
          new ClusterNode({
            object,
            machine: { sim: this.sim, frames: this.frames, costs, cpuCount, home: this.#homes.next() },
            fabric: this.#fabric,
            families: this.#families,
            ranges: this.ranges,
            network: this.#network,
            egress: this.#egress,
            proxy: {
              mode: this.#proxyMode,
              sync: this.#syncOf(this.#proxyMode),
              flags: this.#options.proxyFlags ?? {},
              totalMetrics: this.kubeProxyMetrics,
            },
            enforcement: { settings: this.#enforcement, snapshot: () => this.#policies.snapshot() },
            isReserved: ({ family, ip }) => this.api.isTaken(formatIp(ip, family)),
          }),
      );
      this.#nodes.set(node.name, node);
      if (this.#options.podsAreRouted === true) this.#routeFromOutside(node);
      added.push(node);
      if (this.#loadBalancer !== undefined) serveHealth(node);
      if (!this.#started) continue;
      for (const kubeProxy of node.kubeProxies) kubeProxy.hear([]);
      node.policyAgent.hear();
    }
    if (added.length > 0) this.#network.connect(added.map(({ networkNode }) => networkNode));
    this.#serviceController.hearOfNodes();
  }

  #routeFromOutside(node: ClusterNode): void {
    for (const { family, ip } of node.addresses) this.outside.routeToPods(node.podRangeOf(family)!, { via: ip });
  }

  #makeLoadBalancer(): LoadBalancer {
    for (const node of this.#nodes.values()) serveHealth(node);
    const settings = { ...DEFAULT_LOAD_BALANCER, ...this.#options.loadBalancer };
    const networks = this.ipFamilies.map((family) => ({
      family,
      ip: loadBalancerIp(family),
      nodeRange: rangeOf(this.ranges, 'node', family)!,
    }));
    for (const network of networks) this.outside.announce(network);
    return new LoadBalancer(this.sim, { frames: this.frames, fabric: this.#fabric, networks, settings });
  }

  #healthServerOf(node: ClusterNode, family: IpFamily): HealthServer {
    return node.kubeProxies[this.ipFamilies.indexOf(family)]!.serveHealth(node.process);
  }

  #runPods(): PodLifecycle {
    const nodeOf = ({ spec }: Pod) => this.#nodes.get(spec.nodeName ?? '');
    return new PodLifecycle(this.api, {
      after: (delay, action) => {
        if (this.#started) this.#controlPlane.schedule(delay, call, action);
        else action();
      },
      retry: (delay, action) => this.#controlPlane.schedule(delay, call, action),
      runtime: {
        isConnected: (pod) => nodeOf(pod) !== undefined && !this.#nodeLifecycle.isSilent(pod.spec.nodeName ?? ''),
        start: (pod, key) => this.#startPod(pod, { key, node: nodeOf(pod) as ClusterNode }),
        terminate: (pod, exited) => {
          if (this.#options.part !== undefined && this.#started)
            throw new CoupledError(
              'a pod ends, and when its server has answered all requests, the kubelet knows at once',
            );
          const program = this.#programOf(keyOf(pod));
          if (program === undefined) exited();
          else program.terminate(exited);
        },
        exit: (pod) => this.#programOf(keyOf(pod))?.exit(),
        remove: (pod) => this.#removePod(keyOf(pod), nodeOf(pod)),
      },
    });
  }

  #programOf(key: string): Server | HttpProxy | DnsServer | undefined {
    return this.#servers.get(key) ?? this.#httpProxies.get(key) ?? this.#dns?.servers.get(key);
  }

  #startPod(pod: Pod, { key, node }: { key: string; node: ClusterNode }): PodAddresses | 'failed' {
    const { hostNetwork } = pod.spec;
    const running = this.#runSandbox(pod, { key, node });
    if (running === undefined) return 'failed';
    this.#pods.set(key, running);
    const addresses = addressesOf(running);
    if (!hostNetwork)
      for (const address of addresses) if (!node.covers(address)) this.#network.routeAlone(address, node.networkNode);
    if (this.#proxyController.isProxy(pod)) this.#startHttpProxy(pod, running);
    this.#startContainers(pod, running);
    const podIps = addresses.map(({ family, ip }) => formatIp(ip, family));
    return podIpStatus(podIps, node.ipText);
  }

  #startHttpProxy(pod: Pod, running: RunningPod): void {
    const proxy = new HttpProxy(running, this.#proxyController.settings.proxy);
    this.#httpProxies.set(running.name, proxy);
    this.#proxyController.serve(pod, proxy);
  }

  /** Undefined: the network could not connect the pod. A pod of a snapshot that cannot have its address is an error. */
  #runSandbox(pod: Pod, { key, node }: { key: string; node: ClusterNode }): RunningPod | undefined {
    const sandbox = sandboxOf(pod);
    if (sandbox.requestedIps !== undefined)
      return blaming({ object: pod, field: 'status.podIP', error: CniError }, () => node.kubelet.start(key, sandbox));
    try {
      const running = node.kubelet.start(key, sandbox);
      this.#creating.delete(key);
      return running;
    } catch (error) {
      if (!(error instanceof CniError)) throw error;
      this.#creating.set(key, error.message);
      this.#note(`Pod ${key}: ContainerCreating on ${node.name}: ${error.message}`);
      return undefined;
    }
  }

  /** Containers of a pod share its namespace: the second that wants a port does not get it. */
  #startContainers({ spec: { containers } }: Pod, pod: RunningPod): void {
    const owners = new Map<string, string>();
    for (const { name, ports } of containers) {
      for (const { protocol, containerPort: port } of ports) {
        const owner = owners.get(`${protocol}/${port}`);
        owners.set(`${protocol}/${port}`, owner ?? name);
        if (owner === undefined) this.#listen(pod, { protocol, port });
        else if (owner !== name)
          this.#refuseBind({ pod: pod.name, container: name, protocol, port }, `container ${owner} has it`);
      }
    }
  }

  #refuseBind(failure: BindFailure, reason: string): void {
    const { pod, container, protocol, port } = failure;
    this.#bindFailures.push(failure);
    const who = container === undefined ? `Pod ${pod}` : `Pod ${pod}: container ${container}`;
    this.#note(`${who}: cannot listen on ${protocol} port ${port}: ${reason}`);
  }

  #removePod(key: string, node: ClusterNode | undefined): void {
    this.#servers.delete(key);
    this.#dns?.servers.delete(key);
    this.#creating.delete(key);
    if (this.#httpProxies.delete(key)) this.#proxyController.forget(key);
    node?.kubelet.stop(key);
    this.#pods.delete(key);
  }

  #onServices(events: readonly WatchEvent<Service | EndpointSlice>[]): void {
    for (const event of events)
      for (const { tracker, news } of this.#families)
        if (tracker.apply(event) && this.#started) news.push(changeOf(event));
    // All that comes at one instant calls for one sync.
    if (this.#hasNews || this.#families.every(({ news }) => news.length === 0)) return;
    this.#hasNews = true;
    this.#controlPlane.scheduleAt(this.sim.now, () => this.#tellProxies(), undefined);
  }

  #tellProxies(): void {
    this.#hasNews = false;
    const news = this.#families.map((family) => family.news.splice(0));
    for (const { kubeProxies } of this.#nodes.values())
      for (const [i, kubeProxy] of kubeProxies.entries()) if (news[i]!.length > 0) kubeProxy.hear(news[i]!);
  }

  /** A cluster without policies need not hear of each pod once more. */
  #watchWhatPoliciesSelect(): void {
    if (this.#watchesPolicies) return;
    this.#watchesPolicies = true;
    this.api.watch('Namespace', (events) => this.#onPolicies(events));
    this.api.watch('Pod', (events) => this.#onPolicies(events));
  }

  #onPolicies(events: readonly WatchEvent<PolicyObject>[]): void {
    let isNews = false;
    for (const { type, object } of events) {
      // Before the start news of one object may come in another order than its changes.
      const now = this.#started ? object : this.api.get(object.kind, keyOf(object));
      if (this.#policies.update(object, type === 'DELETED' ? undefined : now)) isNews = true;
    }
    if (!isNews || !this.#started || this.#hasPolicyNews) return;
    this.#hasPolicyNews = true;
    this.#controlPlane.scheduleAt(this.sim.now, () => this.#tellPolicyAgents(), undefined);
  }

  #tellPolicyAgents(): void {
    this.#hasPolicyNews = false;
    for (const { policyAgent } of this.#nodes.values()) policyAgent.hear();
  }

  /** Pods answer at the ports that their containers name, and at those that Services send to. */
  #serveEndpoints(events: readonly WatchEvent<EndpointSlice>[]): void {
    for (const { type, object: slice } of events) {
      if (type === 'DELETED') continue;
      for (const { targetRef } of slice.endpoints) {
        const pod = targetRef?.kind === 'Pod' ? this.#pods.get(`${targetRef.namespace}/${targetRef.name}`) : undefined;
        if (pod !== undefined) for (const { protocol, port } of slice.ports) this.#listen(pod, { protocol, port });
      }
    }
  }

  #listen(pod: RunningPod, { protocol, port }: { protocol: ServiceProtocol; port: number | undefined }): void {
    if (port === undefined || this.#httpProxies.has(pod.name)) return;
    const server = this.#servers.get(pod.name) ?? this.#dns?.servers.get(pod.name) ?? this.#addServer(pod);
    const other = this.#neighborOn({ protocol, port }, pod);
    if (other !== undefined)
      return this.#refuseBind({ pod: pod.name, protocol, port }, `${pod.node} gave it to Pod ${other}`);
    if (server instanceof Server) server.listen(protocol, port);
    else if (protocol !== 'SCTP') server.listen(protocol, port); // there is no DNS over SCTP
  }

  #addServer(pod: RunningPod): Server | DnsServer {
    const object = this.api.get('Pod', pod.name);
    const names = object === undefined ? undefined : this.#dns?.serverFor(object, pod);
    if (names !== undefined) return names;
    const app = object?.metadata.labels.app ?? '';
    const server = new Server(pod, this.#serverSettings.get(app) ?? this.#options.server);
    this.#servers.set(pod.name, server);
    return server;
  }

  /** The name of another pod that has the port: pods on the node's network share its ports. */
  #neighborOn({ protocol, port }: { protocol: ServiceProtocol; port: number }, pod: RunningPod): string | undefined {
    if (pod.namespace !== this.node(pod.node).machine.root) return undefined;
    for (const [name, server] of [...this.#servers, ...(this.#dns?.servers ?? [])])
      if (name !== pod.name && server.process.namespace === pod.namespace && server.listensOn(protocol, port))
        return name;
    return undefined;
  }

  #note(text: string): void {
    if (!this.notes.includes(text)) this.notes.push(text);
  }
}

/** What one worker tells the first one at the end. */
interface PartOfResults {
  readonly run: { readonly executedEvents: number; readonly fingerprint: string };
  readonly drops: ReadonlyMap<DropReason, number>;
  readonly rulesVisited: number;
  readonly conntrackEntries: number;
  readonly measures: readonly unknown[];
}

function newFamily(family: IpFamily): ClusterFamily {
  const tracker = new ServiceTracker({ family });
  return { family, caches: new ProxyCaches(), services: () => tracker.snapshot(), tracker, news: [] };
}

function serveHealth({ kubeProxies, process }: ClusterNode): void {
  for (const kubeProxy of kubeProxies) kubeProxy.serveHealth(process);
}

function changeOf({ type, object }: WatchEvent<Service | EndpointSlice>): ProxyChange {
  if (object.kind === 'Service') return { kind: 'Service', service: keyOf(object), triggeredAt: undefined };
  const time = object.metadata.annotations[TRIGGER_TIME_ANNOTATION];
  const triggeredAt = type === 'DELETED' ? 'removed' : time === undefined ? undefined : parseInstant(time);
  return { kind: 'EndpointSlice', service: serviceKeyOf(object), triggeredAt };
}

/** From the API server to a watcher: a few milliseconds on an idle control plane. */
const DEFAULT_WATCH_DELAY = ms(5);

/** Assumed: kubelet starts a container that has ended at once, and kube-proxy lists Services and slices before it syncs. */
const KUBE_PROXY_DOWNTIME = s(2);

/** Addresses for endpoints where nobody answers: the ranges for benchmarks of network devices (RFC 2544, RFC 5180). */
const IDLE_RANGES = { 4: parsePrefix('198.18.0.0/15'), 6: parseIpv6Prefix('2001:2::/48') } as const;

const call = (handler: () => void): void => handler();

/** What the network plugin refuses comes out as an error about the object that asked for it. */
function blaming<Result>(
  {
    object,
    field,
    error: kind,
  }: { object: KubeObject; field: string; error: typeof CniError | typeof RangeConfigError },
  action: () => Result,
): Result {
  try {
    return action();
  } catch (error) {
    if (error instanceof kind) throw new ObjectError(object, `${field}: ${error.message}`);
    throw error;
  }
}
