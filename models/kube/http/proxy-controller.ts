// Who serves Ingresses and Gateways: a Deployment of proxies (workload/proxy) behind a Service of type LoadBalancer, one
// per class of Ingresses and one per Gateway. What proxies know, they know from watching the API server: EndpointSlices
// reach them when they reach kube-proxy, and neither waits for the other.
//
// The Deployment of a Gateway stands beside it and is named NAME-CLASS (GEP-1762). Whatever class an Ingress or a Gateway
// names, this controller serves it: in a cluster somebody does. What a snapshot has of its own ingress controller stays
// beside that, as pods that answer.
//
// Not modelled: conditions in statuses, addresses that a Gateway asks for, infrastructure fields.

import type {
  HttpProxy,
  ProxyConfiguration,
  ProxySettings,
  UpstreamConfiguration,
} from '../../workload/proxy/http-proxy.ts';
import { DEFAULT_PROXY } from '../../workload/proxy/http-proxy.ts';
import { RouteTable } from '../../workload/proxy/route-table.ts';
import { DEFAULT_POOL, type PoolSettings } from '../../workload/proxy/upstream.ts';
import type { ApiServer, WatchEvent } from '../api-server.ts';
import {
  type Gateway,
  type Ingress,
  type KubeObject,
  keyOf,
  objectFrom,
  type Pod,
  type Service,
  type ServicePort,
} from '../objects.ts';
import { familiesOf } from '../ranges.ts';
import { Backends } from './backends.ts';
import { gatewayTables, servesHttp } from './gateway-routes.ts';
import { ingressHosts } from './ingress-routes.ts';
import { CLASS_ANNOTATION } from './ingress-validation.ts';

export interface HttpProxySettings {
  /** Pods of each Deployment of proxies. */
  readonly replicas: number;
  readonly pool: PoolSettings;
  readonly proxy: ProxySettings;
  /** Of the Service in front: Local keeps the client's address on the way to the proxy. */
  readonly externalTrafficPolicy: 'Cluster' | 'Local';
}

export const DEFAULT_HTTP_PROXY: HttpProxySettings = {
  replicas: 2,
  pool: DEFAULT_POOL,
  proxy: DEFAULT_PROXY,
  externalTrafficPolicy: 'Cluster',
};

/** Where proxies of Ingresses run; those of a Gateway run in its namespace. */
const INGRESS_NAMESPACE = 'ingress-system';
/** Of an ingress controller: HTTP and HTTPS. */
const INGRESS_PORTS = [80, 443];
/** Has the name of the Deployment. */
const PROXY_LABEL = 'podwire.dev/http-proxy';

/** A Deployment of proxies that there is to be, and its Service. */
interface Wanted {
  readonly namespace: string;
  readonly name: string;
  readonly ports: readonly number[];
  readonly serves: readonly (Ingress | Gateway)[];
  readonly tables: (backends: Backends) => ProxyConfiguration['tables'];
}

interface Known {
  configuration: ProxyConfiguration;
  /** Proxies that run, by pod. */
  readonly proxies: Map<string, HttpProxy>;
  /** For which objects the addresses of the Service are the status. */
  serves: readonly (Ingress | Gateway)[];
}

export interface ProxyControllerOptions {
  readonly settings: HttpProxySettings;
  /** Runs an action when all that happens at this instant has happened. */
  readonly soon: (action: () => void) => void;
}

export class ProxyController {
  readonly settings: HttpProxySettings;
  readonly #apiServer: ApiServer;
  readonly #soon: ProxyControllerOptions['soon'];
  /** By `namespace/name` of the Deployment. */
  readonly #known = new Map<string, Known>();
  #watchesBackends = false;
  #isDirty = false;

  constructor(apiServer: ApiServer, { settings, soon }: ProxyControllerOptions) {
    this.settings = settings;
    this.#apiServer = apiServer;
    this.#soon = soon;
    const watch = (events: readonly WatchEvent<KubeObject>[]): void => {
      if (events.length === 0) return;
      this.#watchBackends();
      this.#markDirty();
    };
    for (const kind of ['Ingress', 'Gateway'] as const) apiServer.watch(kind, watch);
  }

  /** A cluster without Ingresses and Gateways need not hear of every endpoint once more. */
  #watchBackends(): void {
    if (this.#watchesBackends) return;
    this.#watchesBackends = true;
    const mark = (events: readonly WatchEvent<KubeObject>[]): void => {
      if (events.length > 0) this.#markDirty();
    };
    for (const kind of ['HTTPRoute', 'GRPCRoute', 'ReferenceGrant', 'Namespace', 'EndpointSlice'] as const)
      this.#apiServer.watch(kind, mark);
    this.#apiServer.watch('Service', (events) => {
      for (const { object } of events) this.#copyAddresses(object);
      mark(events);
    });
  }

  #markDirty(): void {
    if (this.#isDirty) return;
    this.#isDirty = true;
    this.#soon(() => {
      this.#isDirty = false;
      this.#reconcile();
    });
  }

  /** Whether the pod is one of the controller's own. */
  isProxy(pod: Pod): boolean {
    return this.#known.has(deploymentOf(pod) ?? '');
  }

  /** A proxy has started in the pod: it gets to know what the others know, now and whenever that changes. */
  serve(pod: Pod, proxy: HttpProxy): void {
    const known = this.#known.get(deploymentOf(pod)!)!;
    known.proxies.set(keyOf(pod), proxy);
    proxy.configure(known.configuration);
  }

  forget(podKey: string): void {
    for (const { proxies } of this.#known.values()) proxies.delete(podKey);
  }

  #reconcile(): void {
    const wanted = new Map(this.#wanted().map((deployment) => [keyOfDeployment(deployment), deployment]));
    for (const [key, { proxies }] of this.#known) {
      if (wanted.has(key)) continue;
      for (const proxy of proxies.values()) proxy.configure({ tables: new Map(), upstreams: new Map() });
      this.#known.delete(key);
      this.#apiServer.delete('Service', key);
      this.#apiServer.delete('Deployment', key);
    }
    for (const [key, deployment] of wanted) {
      const known = this.#known.get(key);
      const configuration = this.#configurationOf(deployment, known?.configuration);
      if (known === undefined) {
        this.#known.set(key, { configuration, proxies: new Map(), serves: deployment.serves });
        this.#deploy(key, deployment);
      } else {
        known.configuration = configuration;
        known.serves = deployment.serves;
        for (const proxy of known.proxies.values()) proxy.configure(configuration);
        this.#updatePorts(key, deployment);
      }
      const service = this.#apiServer.get('Service', key);
      if (service !== undefined) this.#copyAddresses(service);
    }
  }

  #wanted(): Wanted[] {
    const byClass = new Map<string, Ingress[]>();
    for (const ingress of this.#apiServer.list('Ingress').toSorted(byAge)) {
      const name = classOf(ingress);
      const ofClass = byClass.get(name);
      if (ofClass === undefined) byClass.set(name, [ingress]);
      else ofClass.push(ingress);
    }
    const ofIngresses = [...byClass].map(([className, ingresses]): Wanted => {
      const name = className === '' ? 'ingress' : `ingress-${className.replaceAll('.', '-')}`.slice(0, LONGEST_NAME);
      const tables = (backends: Backends) => {
        const table = new RouteTable(ingressHosts(ingresses, backends));
        return new Map(INGRESS_PORTS.map((port) => [port, table]));
      };
      return { namespace: INGRESS_NAMESPACE, name, ports: INGRESS_PORTS, serves: ingresses, tables };
    });
    const ofGateways = this.#apiServer.list('Gateway').flatMap((gateway): Wanted[] => {
      const ports = [...new Set(gateway.spec.listeners.filter(servesHttp).map(({ port }) => port))];
      if (ports.length === 0) return [];
      const { namespace } = gateway.metadata;
      const name = `${gateway.metadata.name}-${gateway.spec.gatewayClassName}`
        .replaceAll('.', '-')
        .slice(0, LONGEST_NAME);
      const tables = (backends: Backends) => gatewayTables(gateway, this.#apiServer, backends);
      return [{ namespace, name, ports, serves: [gateway], tables }];
    });
    return [...ofIngresses, ...ofGateways];
  }

  /** Endpoints that have not changed are the same object as before, so that proxies need not look at them again. */
  #configurationOf({ tables }: Wanted, before: ProxyConfiguration | undefined): ProxyConfiguration {
    const backends = new Backends(this.#apiServer, this.settings.pool);
    const own = tables(backends);
    const upstreams = new Map<string, UpstreamConfiguration>();
    for (const [name, upstream] of backends.upstreams) {
      const known = before?.upstreams.get(name);
      upstreams.set(name, known !== undefined && isSame(known, upstream) ? known : upstream);
    }
    return { tables: own, upstreams };
  }

  /** Nothing is made where something of that name is there already: a snapshot's. */
  #deploy(key: string, { namespace, name, ports }: Wanted): void {
    const labels = { [PROXY_LABEL]: name };
    const { replicas, externalTrafficPolicy } = this.settings;
    const selector = { matchLabels: labels };
    const template = { metadata: { labels }, spec: { containers: [{ name: 'proxy' }] } };
    const metadata = { name, namespace, labels };
    if (this.#apiServer.get('Deployment', key) === undefined)
      this.#apiServer.create(objectFrom('Deployment', { metadata, spec: { replicas, selector, template } }));
    if (this.#apiServer.get('Service', key) !== undefined) return;
    const families = familiesOf(this.#apiServer.ranges);
    this.#apiServer.create(
      objectFrom('Service', {
        metadata,
        spec: {
          ...{ type: 'LoadBalancer', selector: labels, ports: ports.map(servicePort), externalTrafficPolicy },
          ...(families.length === 2 && { ipFamilyPolicy: 'PreferDualStack' as const }),
        },
      }),
    );
  }

  #updatePorts(key: string, { ports }: Wanted): void {
    const service = this.#apiServer.get('Service', key);
    if (service === undefined || service.metadata.labels[PROXY_LABEL] === undefined) return;
    const byPort = new Map(service.spec.ports.map((port) => [port.port, port]));
    if (byPort.size === ports.length && ports.every((port) => byPort.has(port))) return;
    const wanted = ports.map((port): ServicePort => byPort.get(port) ?? { ...servicePort(port), protocol: 'TCP' });
    this.#apiServer.update({ ...service, spec: { ...service.spec, ports: wanted } });
  }

  /** What the cloud gave to the Service is where the Ingress or the Gateway is found. */
  #copyAddresses({ metadata, status }: Service): void {
    const known = this.#known.get(keyOfDeployment(metadata));
    if (known === undefined) return;
    const ips = status.loadBalancer.ingress.flatMap(({ ip }) => ip ?? []);
    if (ips.length === 0) return;
    for (const served of known.serves) {
      const now = this.#apiServer.get(served.kind, keyOf(served));
      if (now?.kind === 'Ingress') {
        if (now.status.loadBalancer.ingress.map(({ ip }) => ip).join() === ips.join()) continue;
        this.#apiServer.update({ ...now, status: { loadBalancer: { ingress: ips.map((ip) => ({ ip })) } } });
      } else if (now?.kind === 'Gateway') {
        if (now.status.addresses.map(({ value }) => value).join() === ips.join()) continue;
        const addresses = ips.map((value) => ({ type: 'IPAddress', value }));
        this.#apiServer.update({ ...now, status: { ...now.status, addresses } });
      }
    }
  }
}

/** Of names that are labels of DNS, with room for what pods add. */
const LONGEST_NAME = 47;

const keyOfDeployment = ({ namespace, name }: { readonly namespace: string; readonly name: string }): string =>
  `${namespace}/${name}`;

function deploymentOf({ metadata: { namespace, labels } }: Pod): string | undefined {
  const name = labels[PROXY_LABEL];
  return name === undefined ? undefined : `${namespace}/${name}`;
}

const classOf = ({ metadata, spec }: Ingress): string =>
  spec.ingressClassName ?? metadata.annotations[CLASS_ANNOTATION] ?? '';

const servicePort = (port: number) => ({ name: `port-${port}`, port, targetPort: port });

const byAge = (a: Ingress, b: Ingress): number => {
  const [one, other] = [a.metadata.creationTimestamp ?? '', b.metadata.creationTimestamp ?? ''];
  return Number(one > other) - Number(one < other);
};

const isSame = (a: UpstreamConfiguration, b: UpstreamConfiguration): boolean =>
  a.pool.streamsPerConnection === b.pool.streamsPerConnection &&
  a.endpoints.length === b.endpoints.length &&
  a.endpoints.every(({ family, ip, port }, i) => {
    const other = b.endpoints[i]!;
    return family === other.family && ip === other.ip && port === other.port;
  });
