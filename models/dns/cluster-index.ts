// What a cluster's DNS server knows of the API objects, by what it looks for: the kubernetes plugin's informers and
// their indexes. Names are looked up in lower case, addresses in their canonical form.
//
// Endpoints are those of EndpointSlices that are ready; slices of publishNotReadyAddresses say ready of all.

import {
  type EndpointSlice,
  isFinished,
  type KubeObject,
  keyOf,
  type Namespace,
  type Pod,
  type Service,
} from '../kube/objects.ts';
import { formatIp, parseAddress } from '../packet/ip-address.ts';

/** What a Service's DNS records are made of. */
export interface NamedService {
  readonly namespace: string;
  readonly name: string;
  /** Empty: headless. */
  readonly clusterIps: readonly string[];
  /** Of an ExternalName Service. */
  readonly externalName: string | undefined;
  /** Addresses and hostnames outside the cluster: externalIPs, and those of load balancers. */
  readonly externalAddresses: readonly string[];
  readonly ports: readonly NamedPort[];
}

export interface NamedPort {
  readonly name: string;
  /** In lower case. */
  readonly protocol: string;
  readonly port: number;
}

/** A ready address behind a Service. */
export interface NamedEndpoint {
  readonly namespace: string;
  readonly service: string;
  readonly address: string;
  readonly hostname: string | undefined;
  readonly podName: string | undefined;
  readonly zone: string | undefined;
  /** Of a slice imported from another cluster. */
  readonly cluster: string | undefined;
  readonly ports: readonly NamedPort[];
}

/** A Service of several clusters (multicluster.x-k8s.io). */
export interface ServiceImport {
  readonly metadata: { readonly namespace: string; readonly name: string };
  readonly spec: {
    readonly type: 'ClusterSetIP' | 'Headless';
    readonly ips: readonly string[];
    readonly ports: readonly { readonly name: string; readonly protocol: string; readonly port: number }[];
  };
}

/** Kinds that a DNS server watches. */
export type WatchedObject = Service | EndpointSlice | Namespace | Pod;

export class ClusterIndex {
  /** Goes up with every change: the serial number of the zone. */
  serial = 1;
  readonly #namespaces = new Set<string>();
  readonly #services = new Map<string, NamedService>();
  readonly #imports = new Map<string, NamedService>();
  readonly #slices = new Map<string, readonly NamedEndpoint[]>();
  readonly #slicesOfService = new Index();
  readonly #servicesByIp = new Index();
  readonly #servicesByExternalIp = new Index();
  readonly #slicesByIp = new Index();
  readonly #podIps = new Map<string, string>();
  readonly #podsByIp = new Index();

  /** There are objects in it: clusters that are made of a few manifests have no Namespace objects. */
  addNamespace(name: string): void {
    this.#namespaces.add(name);
  }

  /** The object as it is now; undefined if it is gone. */
  update(object: WatchedObject, now: KubeObject | undefined): void {
    this.serial++;
    switch (object.kind) {
      case 'Namespace':
        if (now === undefined) this.#namespaces.delete(object.metadata.name);
        else this.#namespaces.add(object.metadata.name);
        return;
      case 'Service':
        return this.#updateService(keyOf(object), now as Service | undefined);
      case 'EndpointSlice':
        return this.#updateSlice(object, now as EndpointSlice | undefined);
      case 'Pod':
        return this.#updatePod(keyOf(object), now as Pod | undefined);
    }
  }

  import({ metadata, spec }: ServiceImport): void {
    const service = {
      ...metadata,
      clusterIps: spec.ips.map(canonicalAddress),
      externalName: undefined,
      externalAddresses: [],
      ports: portsOf(spec.ports),
    };
    this.#imports.set(`${metadata.namespace}/${metadata.name}`, service);
  }

  hasNamespace(name: string): boolean {
    return this.#namespaces.has(name);
  }

  service(namespace: string, name: string): NamedService | undefined {
    return this.#services.get(`${namespace}/${name}`);
  }

  serviceImport(namespace: string, name: string): NamedService | undefined {
    return this.#imports.get(`${namespace}/${name}`);
  }

  endpointsOf({ namespace, name }: Pick<NamedService, 'namespace' | 'name'>): readonly NamedEndpoint[] {
    return this.#endpointsIn(this.#slicesOfService.get(`${namespace}/${name}`));
  }

  servicesWithClusterIp(address: string): readonly NamedService[] {
    return this.#servicesIn(this.#servicesByIp.get(address));
  }

  servicesWithExternalIp(address: string): readonly NamedService[] {
    return this.#servicesIn(this.#servicesByExternalIp.get(address));
  }

  endpointsWithIp(address: string): readonly NamedEndpoint[] {
    return this.#endpointsIn(this.#slicesByIp.get(address)).filter((endpoint) => endpoint.address === address);
  }

  /** A pod of the namespace has it as its primary address. */
  hasPodWithIp(namespace: string, address: string): boolean {
    return this.#podsByIp.get(address).some((key) => key.startsWith(`${namespace}/`));
  }

  #servicesIn = (keys: readonly string[]): NamedService[] => keys.map((key) => this.#services.get(key)!);

  #endpointsIn(keys: readonly string[]): readonly NamedEndpoint[] {
    return keys.length === 1 ? this.#slices.get(keys[0]!)! : keys.flatMap((key) => this.#slices.get(key)!);
  }

  #updateService(key: string, service: Service | undefined): void {
    const before = this.#services.get(key);
    this.#servicesByIp.remove(key, before?.clusterIps);
    this.#servicesByExternalIp.remove(key, before?.externalAddresses);
    if (service === undefined) return void this.#services.delete(key);
    const now = namedService(service);
    this.#services.set(key, now);
    this.#servicesByIp.add(key, now.clusterIps);
    this.#servicesByExternalIp.add(key, now.externalAddresses);
  }

  #updateSlice(slice: EndpointSlice, now: EndpointSlice | undefined): void {
    const key = keyOf(slice);
    const before = this.#slices.get(key) ?? [];
    this.#slicesByIp.remove(key, before.map(addressOf));
    const service = slice.metadata.labels[SERVICE_NAME_LABEL];
    if (service === undefined) return;
    const serviceKey = `${slice.metadata.namespace}/${service}`;
    if (now === undefined) {
      this.#slices.delete(key);
      return this.#slicesOfService.remove(key, [serviceKey]);
    }
    const endpoints = namedEndpoints(now, service);
    this.#slices.set(key, endpoints);
    this.#slicesOfService.add(key, [serviceKey]);
    this.#slicesByIp.add(key, endpoints.map(addressOf));
  }

  #updatePod(key: string, pod: Pod | undefined): void {
    const before = this.#podIps.get(key);
    if (before !== undefined) this.#podsByIp.remove(key, [before]);
    this.#podIps.delete(key);
    if (pod?.status.podIP === undefined || isFinished(pod)) return;
    const address = canonicalAddress(pod.status.podIP);
    this.#podIps.set(key, address);
    this.#podsByIp.add(key, [address]);
  }
}

/** The same label that EndpointSlice controllers write (models/kube/endpoint-slices.ts). */
const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';
const SOURCE_CLUSTER_LABEL = 'multicluster.kubernetes.io/source-cluster';

/** Keys of objects by something that several may have, in the order in which they came. */
class Index {
  readonly #keys = new Map<string, Set<string>>();

  get(value: string): readonly string[] {
    return [...(this.#keys.get(value) ?? [])];
  }

  add(key: string, values: readonly string[]): void {
    for (const value of values) {
      const keys = this.#keys.get(value);
      if (keys === undefined) this.#keys.set(value, new Set([key]));
      else keys.add(key);
    }
  }

  remove(key: string, values: readonly string[] = []): void {
    for (const value of values) {
      const keys = this.#keys.get(value);
      keys?.delete(key);
      if (keys?.size === 0) this.#keys.delete(value);
    }
  }
}

const addressOf = ({ address }: NamedEndpoint): string => address;

/** A name stays as it is, an address gets the spelling that others are compared with. */
export function canonicalAddress(text: string): string {
  try {
    const { ip, family } = parseAddress(text);
    return formatIp(ip, family);
  } catch (error) {
    if (error instanceof RangeError) return text;
    throw error;
  }
}

function namedService({ metadata, spec, status }: Service): NamedService {
  const isExternal = spec.type === 'ExternalName';
  const own = spec.clusterIPs ?? [spec.clusterIP ?? 'None'];
  const ingress = spec.type === 'LoadBalancer' ? status.loadBalancer.ingress : [];
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    clusterIps: isExternal ? [] : own.filter((address) => address !== 'None').map(canonicalAddress),
    externalName: isExternal ? spec.externalName : undefined,
    externalAddresses: [...spec.externalIPs, ...ingress.flatMap(({ ip, hostname }) => ip ?? hostname ?? [])].map(
      canonicalAddress,
    ),
    ports: portsOf(spec.ports),
  };
}

function namedEndpoints({ metadata, endpoints, ports }: EndpointSlice, service: string): NamedEndpoint[] {
  const named = portsOf(ports);
  return endpoints
    .filter(({ conditions }) => conditions.ready !== false)
    .flatMap(({ addresses, hostname, targetRef, zone }) =>
      addresses.map((address) => ({
        namespace: metadata.namespace,
        service,
        address: canonicalAddress(address),
        hostname: hostname === '' ? undefined : hostname,
        podName: targetRef?.name,
        zone,
        cluster: metadata.labels[SOURCE_CLUSTER_LABEL],
        ports: named,
      })),
    );
}

const portsOf = (
  ports: readonly {
    readonly name?: string | undefined;
    readonly protocol: string;
    readonly port?: number | undefined;
  }[],
): NamedPort[] =>
  ports.flatMap(({ name = '', protocol, port }) =>
    port === undefined ? [] : [{ name, protocol: protocol.toLowerCase(), port }],
  );
