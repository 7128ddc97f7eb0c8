// DNS of a cluster: CoreDNS in pods behind the Service kube-dns, as kubeadm installs it, an upstream resolver outside, the
// resolvers of pods, and on demand a cache on each node.
//
// The pods of a kube-dns Service that manifests bring along are DNS servers, too: what has the label k8s-app=kube-dns in
// the namespace kube-system. Not modelled: a Corefile of theirs, autopath, pods that watch the API server by themselves
// (all hear of changes at the same instant).

import { type Duration, ms } from '../engine/time.ts';
import { ClusterIndex, type WatchedObject } from './dns/cluster-index.ts';
import { ClusterZone, type ClusterZoneSettings, KUBEADM_CLUSTER_ZONE } from './dns/cluster-zone.ts';
import { DnsServer, type DnsServerSettings } from './dns/dns-server.ts';
import { serverAt } from './dns/dns-transport.ts';
import { absolute } from './dns/domain-name.ts';
import { DEFAULT_FORWARD, Forwarder, type ForwardSettings } from './dns/forwarder.ts';
import type { ResourceRecord } from './dns/message.ts';
import { type CacheSettings, KUBEADM_CACHE, NameCache } from './dns/name-cache.ts';
import { NameServer } from './dns/name-server.ts';
import { NODE_LOCAL_ADDRESSES, startNodeLocalCache } from './dns/node-local-cache.ts';
import { aliasLines, podHosts } from './dns/pod-hosts.ts';
import { type KubeletDns, type Libc, type PodDnsSpec, podResolvConf, type ResolvConf } from './dns/resolv-conf.ts';
import { addressTypeOf } from './dns/service-records.ts';
import { StaticZone } from './dns/static-zone.ts';
import type { SentQuery } from './dns/stub-exchange.ts';
import { StubResolver } from './dns/stub-resolver.ts';
import { type OutsideWorld, outsideClientIp } from './host/outside-world.ts';
import type { Process } from './host/process.ts';
import type { ApiServer, WatchEvent } from './kube/api-server.ts';
import type { ClusterNode } from './kube/cluster-node.ts';
import type { ProxyMode } from './kube/kube-proxy/proxy-mode.ts';
import { addressesOf, type RunningPod } from './kube/kubelet.ts';
import { ObjectError } from './kube/object-error.ts';
import { clusterIpsOf, type KubeObject, keyOf, objectFrom, type Pod, podIpsOf } from './kube/objects.ts';
import { familiesOf, rangeOf } from './kube/ranges.ts';
import { addressAt, formatIp, type IpFamily, parseAddress } from './packet/ip-address.ts';
import type { NamedTarget } from './workload/requester.ts';

export interface ClusterDnsSettings {
  /** Without the final dot. */
  readonly domain: string;
  /** Pods of CoreDNS. */
  readonly replicas: number;
  readonly server: Partial<DnsServerSettings>;
  readonly zone: Partial<ClusterZoneSettings>;
  /** undefined: nothing is remembered. */
  readonly cache: CacheSettings | undefined;
  /** Zones whose names are not remembered: newer releases of kubeadm leave out the cluster's own. */
  readonly uncachedZones: readonly string[];
  readonly forward: Partial<Omit<ForwardSettings, 'upstreams'>>;
  readonly upstream: UpstreamSettings;
  /** Domains that nodes look for names in, which pods get behind the cluster's. */
  readonly hostSearches: readonly string[];
  /** A cache on each node (NodeLocal DNSCache). */
  readonly nodeLocal: boolean;
  /** The C library of pods, unless a resolver is made with another. */
  readonly libc: Libc;
  /** From the start of a CoreDNS pod until it has heard of all objects; before, what it does not find is a failure. */
  readonly syncTime: Duration;
}

/** The resolver of the network that the nodes are in, which knows the rest of the world. */
export interface UpstreamSettings {
  /** By name, absolute or not: addresses, or the name that it is an alias of. */
  readonly names: Readonly<Record<string, readonly string[]>>;
  readonly ttlSeconds: number;
  /** What it takes to find out. */
  readonly answerDelay: Duration;
  readonly lossFraction: number;
}

/** DNS as kubeadm installs it, but for what is said here. */
export type DnsChoice = Partial<Omit<ClusterDnsSettings, 'upstream'>> & {
  readonly upstream?: Partial<UpstreamSettings>;
};

export const DEFAULT_CLUSTER_DNS: ClusterDnsSettings = {
  domain: 'cluster.local',
  replicas: 2,
  server: {},
  zone: {},
  cache: KUBEADM_CACHE,
  uncachedZones: [],
  forward: {},
  upstream: { names: {}, ttlSeconds: 300, answerDelay: ms(10), lossFraction: 0 },
  hostSearches: [],
  nodeLocal: false,
  libc: 'glibc',
  syncTime: ms(5),
};

/** What of a cluster its DNS needs. */
export interface DnsSurroundings {
  readonly api: ApiServer;
  readonly outside: OutsideWorld;
  hasStarted(): boolean;
  /** undefined: no node of the cluster. */
  proxyModeOf(node: string): ProxyMode | undefined;
}

export interface ResolverOptions {
  readonly libc?: Libc;
  readonly onQuery?: (query: SentQuery) => void;
  /** The thread is moved to another CPU between two queries that it sends at once. */
  readonly migrates?: boolean;
}

const KUBE_DNS = 'kube-system/kube-dns';
const KUBE_DNS_UPSTREAM = 'kube-system/kube-dns-upstream';
const SELECTOR = { 'k8s-app': 'kube-dns' };

export class ClusterDns {
  readonly settings: ClusterDnsSettings;
  readonly servers = new Map<string, DnsServer>();
  /** By node. */
  readonly caches = new Map<string, DnsServer>();
  readonly upstream: DnsServer;
  readonly #surroundings: DnsSurroundings;
  readonly #index = new ClusterIndex();

  constructor(surroundings: DnsSurroundings, settings: DnsChoice) {
    this.#surroundings = surroundings;
    const upstream = { ...DEFAULT_CLUSTER_DNS.upstream, ...settings.upstream };
    this.settings = { ...DEFAULT_CLUSTER_DNS, ...settings, upstream };
    for (const namespace of ['default', 'kube-system']) this.#index.addNamespace(namespace);
    this.upstream = this.#startUpstream();
    this.#watch();
  }

  /** The objects of CoreDNS, as far as they are not there. */
  missingObjects(): KubeObject[] {
    const { api } = this.#surroundings;
    const objects = [this.#kubernetes(), ...(api.get('Service', KUBE_DNS) === undefined ? this.#coreDns() : [])];
    if (this.settings.nodeLocal) objects.push(this.#kubeDnsService('kube-dns-upstream', undefined));
    return objects.filter((object) => api.get(object.kind, keyOf(object)) === undefined);
  }

  /** A pod of CoreDNS: undefined for any other. */
  serverFor(pod: Pod, running: RunningPod): DnsServer | undefined {
    if (!isCoreDns(pod)) return undefined;
    const known = this.servers.get(running.name);
    if (known !== undefined) return known;
    const server = this.#startCoreDns(running);
    this.servers.set(running.name, server);
    return server;
  }

  /**
   * At the start of a run, once all objects are there: caches begin on the nodes that there are. Throws an ObjectError if
   * there is no address that they could stand in for.
   */
  startCaches(nodes: readonly ClusterNode[]): void {
    if (!this.settings.nodeLocal) return;
    for (const node of nodes) if (!this.caches.has(node.name)) this.caches.set(node.name, this.#startCache(node));
  }

  /** The resolver of a pod, or of a program on a node or outside, which uses the node's own file. */
  resolverOf(
    process: Process,
    { libc = this.settings.libc, onQuery, migrates = false }: ResolverOptions = {},
  ): StubResolver {
    const pod = this.#surroundings.api.get('Pod', process.name);
    const conf = this.resolvConfOf(process);
    const hosts = pod === undefined ? [] : hostsOf(pod, this.settings.domain);
    return new StubResolver(process, { conf, libc, hosts, migrates, ...(onQuery && { onQuery }) });
  }

  /**
   * A server by name, looked up anew for each request or connection: `http://web.shop`, `web.shop:8080`. The first address
   * counts. Throws a RangeError for a text without a port or a scheme that has one.
   */
  targetOf(process: Process, text: string, options: ResolverOptions = {}): NamedTarget {
    const { host, port } = parseServerName(text);
    const resolver = this.resolverOf(process, options);
    return {
      name: `${host}:${port}`,
      resolve: (done) =>
        resolver.lookup(host, {}, ({ addresses: [first] }) =>
          done(first === undefined ? undefined : { ...first, port }),
        ),
    };
  }

  resolvConfOf(process: Process): ResolvConf {
    const pod = this.#surroundings.api.get('Pod', process.name);
    const kubelet = this.#kubeletOf(process);
    if (pod === undefined) return kubelet.host;
    return podResolvConf({ namespace: pod.metadata.namespace, spec: pod.spec as PodDnsSpec }, kubelet).conf;
  }

  #kubeletOf(process: Process): KubeletDns {
    const { domain, hostSearches } = this.settings;
    const service = this.#surroundings.api.get('Service', KUBE_DNS);
    const [first] = service === undefined ? [] : clusterIpsOf(service);
    const clusterDns =
      first === undefined ? [] : [this.#usesOwnAddress(nodeOf(process)) ? ownAddressFor(first) : first];
    const host = { nameservers: this.#upstreamAddresses(), searches: hostSearches, options: [] };
    return { clusterDns, clusterDomain: domain, host };
  }

  /** In IPVS mode the Service's address is on a device of kube-proxy: the cache has only its own, and kubelets name that. */
  #usesOwnAddress(node: string): boolean {
    return this.settings.nodeLocal && this.#surroundings.proxyModeOf(node) === 'ipvs';
  }

  // ── objects ────────────────────────────────────────────────────────────────────────────────────────────────────────

  get #families(): readonly IpFamily[] {
    return familiesOf(this.#surroundings.api.ranges);
  }

  /** The Service in front of the API server, whose name every pod knows. Nobody answers behind it. */
  #kubernetes(): KubeObject {
    return objectFrom('Service', {
      apiVersion: 'v1',
      metadata: { name: 'kubernetes' },
      spec: { ...this.#addresses(1), ports: [{ name: 'https', port: 443, targetPort: 6443 }] },
    });
  }

  #coreDns(): KubeObject[] {
    const ports = [
      { name: 'dns', containerPort: 53, protocol: 'UDP' as const },
      { name: 'dns-tcp', containerPort: 53, protocol: 'TCP' as const },
      { name: 'metrics', containerPort: 9153, protocol: 'TCP' as const },
    ];
    return [
      objectFrom('Deployment', {
        apiVersion: 'apps/v1',
        metadata: { name: 'coredns', namespace: 'kube-system', labels: SELECTOR },
        spec: {
          replicas: this.settings.replicas,
          selector: { matchLabels: SELECTOR },
          template: { metadata: { labels: SELECTOR }, spec: { containers: [{ name: 'coredns', ports }] } },
        },
      }),
      this.#kubeDnsService('kube-dns', KUBE_DNS_INDEX),
    ];
  }

  #kubeDnsService(name: string, index: number | undefined): KubeObject {
    const ports = [
      { name: 'dns', port: 53, protocol: 'UDP' as const },
      { name: 'dns-tcp', port: 53, protocol: 'TCP' as const },
      { name: 'metrics', port: 9153, protocol: 'TCP' as const },
    ];
    return objectFrom('Service', {
      apiVersion: 'v1',
      metadata: { name, namespace: 'kube-system', labels: SELECTOR },
      spec: { ...(index === undefined ? this.#policy() : this.#addresses(index)), selector: SELECTOR, ports },
    });
  }

  /** The `index`-th address of each range of Services, or any, if another Service has that. */
  #addresses(index: number) {
    const { api } = this.#surroundings;
    const clusterIPs = this.#families.map((family) =>
      formatIp(addressAt(rangeOf(api.ranges, 'service', family)!, index), family),
    );
    if (clusterIPs.some((address) => api.isTaken(address))) return this.#policy();
    return { clusterIP: clusterIPs[0]!, clusterIPs, ...this.#policy() };
  }

  #policy(): { readonly ipFamilyPolicy?: 'PreferDualStack' } {
    return this.#families.length === 2 ? { ipFamilyPolicy: 'PreferDualStack' } : {};
  }

  // ── servers ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #startUpstream(): DnsServer {
    const { outside } = this.#surroundings;
    const { names, ttlSeconds, answerDelay, lossFraction } = this.settings.upstream;
    const process = { ...outside.client, name: 'upstream-dns' };
    const records = Object.entries(names).flatMap(([name, targets]) =>
      targets.map((target): ResourceRecord => {
        const type = addressTypeOf(target);
        const common = { name: absolute(name), ttlSeconds };
        return type === undefined
          ? { ...common, type: 'CNAME', target: absolute(target) }
          : { ...common, type, address: target };
      }),
    );
    const { place } = process;
    const server = new NameServer({
      zones: [new StaticZone('.', records)],
      random: place.random('loadbalance/upstream-dns'),
      now: () => place.now,
    });
    const settings = { cores: 64, answerDelay, lossFraction };
    const upstream = new DnsServer(process, server, { settings });
    for (const protocol of ['UDP', 'TCP'] as const) upstream.listen(protocol);
    return upstream;
  }

  #upstreamAddresses(): readonly string[] {
    return this.#families.map((family) => formatIp(outsideClientIp(family), family)).slice(0, 1);
  }

  #startCoreDns(process: RunningPod): DnsServer {
    const { place, name } = process;
    const { zone: zoneSettings, cache, uncachedZones, server, forward, syncTime } = this.settings;
    const localIps = addressesOf(process).map(({ ip, family }) => formatIp(ip, family));
    const zone = new ClusterZone(
      this.#index,
      { ...KUBEADM_CLUSTER_ZONE, domain: absolute(this.settings.domain), ...zoneSettings },
      localIps,
    );
    if (this.#surroundings.hasStarted()) {
      zone.isSynced = false;
      place.schedule(syncTime, () => (zone.isSynced = true), undefined);
    }
    const upstreams = this.#upstreamAddresses().map(serverAt);
    const forwarder = new Forwarder(process, { ...DEFAULT_FORWARD, ...forward, upstreams });
    const names = new NameServer({
      zones: [zone],
      upstream: forwarder,
      cache: cache && new NameCache(cache, place.random(`dns-cache/${name}`)),
      uncachedZones,
      random: place.random(`loadbalance/${name}`),
      now: () => place.now,
    });
    return new DnsServer(process, names, { settings: server, onExit: () => forwarder.close() });
  }

  #startCache({ name, machine }: ClusterNode): DnsServer {
    const clusterUpstream = this.#clusterIpOf(KUBE_DNS_UPSTREAM);
    const address = parseAddress(this.#clusterIpOf(KUBE_DNS));
    const { family } = address;
    return startNodeLocalCache({
      node: name,
      machine,
      family,
      clusterDns: this.#usesOwnAddress(name) ? undefined : address,
      clusterUpstream,
      clusterZones: [absolute(this.settings.domain), 'in-addr.arpa.', 'ip6.arpa.'],
      hostUpstreams: this.#upstreamAddresses(),
      server: this.settings.server,
      forward: this.settings.forward,
    });
  }

  #clusterIpOf(key: string): string {
    const service = this.#surroundings.api.get('Service', key)!; // missingObjects
    const [address] = clusterIpsOf(service);
    if (address === undefined)
      throw new ObjectError(service, 'spec.clusterIP: expected an address for caches on nodes');
    return address;
  }

  // ── what servers know ──────────────────────────────────────────────────────────────────────────────────────────────

  #watch(): void {
    const { api } = this.#surroundings;
    api.watch('Namespace', (events) => this.#hear(events));
    api.watch('Service', (events) => this.#hear(events));
    api.watch('EndpointSlice', (events) => this.#hear(events));
    if (this.settings.zone.pods === 'verified') api.watch('Pod', (events) => this.#hear(events));
  }

  #hear(events: readonly WatchEvent<WatchedObject>[]): void {
    const { api, hasStarted } = this.#surroundings;
    for (const { type, object } of events) {
      // Before the start news of one object may come in another order than its changes.
      const now = hasStarted() ? (type === 'DELETED' ? undefined : object) : api.get(object.kind, keyOf(object));
      if (object.kind !== 'Namespace') this.#index.addNamespace(object.metadata.namespace);
      this.#index.update(object, now);
    }
  }
}

function parseServerName(text: string): { readonly host: string; readonly port: number } {
  const [, scheme, host, port] = /^(?:(\w+):\/\/)?([^/:[\]]+)(?::(\d+))?\/?$/.exec(text) ?? [];
  const number = port === undefined ? PORTS_OF_SCHEMES.get(scheme ?? '') : Number(port);
  if (host === undefined || number === undefined || number < 1 || number > 65_535)
    throw new RangeError(`server "${text}"; expected a name and a port, such as http://web.shop or web.shop:8080`);
  return { host, port: number };
}

const PORTS_OF_SCHEMES: ReadonlyMap<string, number> = new Map([
  ['http', 80],
  ['https', 443],
]);

/** The tenth address of the range, as kubeadm has it. */
const KUBE_DNS_INDEX = 10;

const isCoreDns = ({ metadata }: Pod): boolean =>
  metadata.namespace === 'kube-system' && metadata.labels['k8s-app'] === SELECTOR['k8s-app'];

/** Of the family of the Service's. */
function ownAddressFor(clusterDns: string): string {
  const { family, ip } = NODE_LOCAL_ADDRESSES[parseAddress(clusterDns).family];
  return formatIp(ip, family);
}

/** A pod says it; of others, a node's name is the program's. */
const nodeOf = (process: Process): string => (isPod(process) ? process.node : process.name);

const isPod = (process: Process): process is RunningPod => 'node' in process;

/** On the node's network a pod has the node's file, which names no pod, and what it asks for besides (ensureHostsFile). */
const hostsOf = (pod: Pod, domain: string) =>
  pod.spec.hostNetwork ? aliasLines(namesOf(pod)) : podHosts(namesOf(pod), domain);

const namesOf = (pod: Pod) => ({
  name: pod.metadata.name,
  namespace: pod.metadata.namespace,
  hostname: pod.spec.hostname,
  subdomain: pod.spec.subdomain,
  podIps: podIpsOf(pod),
  hostAliases: pod.spec.hostAliases,
});
