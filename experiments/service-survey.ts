// Every port of every Service, asked from every node (and from outside, for node ports): what `podwire run services` does
// in one run. Its tables tell how long it took, from where, who answered, and what was refused why.

import type { Histogram } from '../engine/stats/histogram.ts';
import { inUs } from '../engine/time.ts';
import type { Cluster } from '../models/cluster.ts';
import type { Process } from '../models/host/process.ts';
import { clusterIpsOf, isHeadless, keyOf, type Service, type ServicePort } from '../models/kube/objects.ts';
import type { Target } from '../models/kube/target.ts';
import { type Ip, type IpAddress, type IpFamily, parseAddress } from '../models/packet/ip-address.ts';
import { poisson } from '../models/workload/arrivals.ts';
import { Latencies, Load } from '../models/workload/load.ts';
import { chiSquarePValue } from './harness/confidence.ts';
import type { TableRow } from './harness/experiment.ts';

/** How a request got to the pod that answered it. */
const PATHS = ['same node', 'other node', 'outside', 'load balancer'] as const;

/** Where the survey's own pods live. */
const CLIENT_NAMESPACE = 'podwire';

/** One service port at one address, seen by one kind of client. */
interface Surveyed {
  readonly servicePort: string;
  readonly family: IpFamily;
  readonly service: Service;
  readonly port: ServicePort;
  readonly from: 'pods' | 'outside' | 'load balancer';
  readonly loads: readonly Load[];
}

export class Survey {
  /** Services and ports that nobody asks, and why: `default/dns (headless)`. */
  readonly notAsked: readonly string[];
  readonly #cluster: Cluster;
  readonly #perSecond: number;
  readonly #clients: readonly Process[];
  readonly #surveyed: Surveyed[] = [];
  /** Pods by name, the survey's own included. */
  readonly #nodes: ReadonlyMap<string, string>;

  /** Adds a pod per node to send from, and starts its requests: `perSecond` from each client to each service port. */
  constructor(cluster: Cluster, { perSecond }: { perSecond: number }) {
    this.#cluster = cluster;
    this.#perSecond = perSecond;
    this.#clients = cluster.nodes.map(({ name }) =>
      cluster.addPod({ name: `client-${name}`, namespace: CLIENT_NAMESPACE, node: name }),
    );
    this.#nodes = new Map(cluster.pods.map(({ name, node }) => [name, node]));
    const notAsked: string[] = [];
    for (const service of cluster.api.list('Service')) {
      const clusterIps = clusterIpsOf(service)
        .map(parseAddress)
        .filter(({ family }) => isServed(cluster, family));
      if (clusterIps.length === 0) notAsked.push(`${keyOf(service)} (${withoutAddress(service)})`);
      else
        for (const port of service.spec.ports) {
          if (port.protocol === 'SCTP') notAsked.push(`${nameOf(service, port)} (SCTP)`);
          else for (const clusterIp of clusterIps) this.#ask(service, port, clusterIp, clusterIps.length === 2);
        }
    }
    this.notAsked = notAsked;
  }

  /** How many service ports are asked. */
  get servicePorts(): number {
    return new Set(this.#surveyed.map(({ port }) => port)).size;
  }

  /** All latencies together. */
  get all(): Latencies {
    const all = new Latencies();
    for (const { loads } of this.#surveyed) for (const load of loads) all.merge(load);
    return all;
  }

  get requests(): number {
    return this.#sum(({ started }) => started);
  }

  get failed(): number {
    return this.#sum(({ failed }) => failed);
  }

  /** Neither answered nor failed by now. */
  get unanswered(): number {
    return this.#sum(({ outstanding }) => outstanding);
  }

  /** A row per service port and path that requests took. */
  latencyRows(): TableRow[] {
    return this.#surveyed.flatMap(({ servicePort, port, loads }) =>
      PATHS.flatMap((path) => {
        const latencies = new Latencies();
        for (const load of loads) {
          const group = load.groups.get(path);
          if (group !== undefined) latencies.merge(group);
        }
        const { latency, connect, request } = latencies;
        if (latency.count === 0) return [];
        return [
          {
            ...{ servicePort, protocol: port.protocol, path, requests: latency.count },
            ...{ latencyP50Us: us(latency, 0.5), latencyP90Us: us(latency, 0.9), latencyP99Us: us(latency, 0.99) },
            ...{ connectP50Us: us(connect, 0.5), connectP99Us: us(connect, 0.99) },
            ...{ requestP50Us: us(request, 0.5), requestP99Us: us(request, 0.99) },
          },
        ];
      }),
    );
  }

  /** A row per service port and endpoint that answered; `chiSquareP` tests the whole port against equal shares. */
  loadRows(): TableRow[] {
    return this.#surveyed.flatMap(({ servicePort, family, service, port, from, loads }) => {
      const counts = new Map(this.#endpointsOf(service, port, family).map((endpoint) => [endpoint, 0]));
      for (const load of loads)
        for (const [server, count] of load.perServer) counts.set(server, (counts.get(server) ?? 0) + count);
      const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
      const even = isSpreadEvenly(service) && total > 0 && counts.size > 1;
      const expected = total / counts.size;
      const chiSquareP = even
        ? chiSquarePValue([...counts.values()].map((observed) => ({ observed, expected })))
        : undefined;
      return [...counts].map(([endpoint, requests]) => ({
        ...{ servicePort, from, endpoint, node: this.#nodeOf(endpoint), requests },
        sharePercent: total === 0 ? undefined : (100 * requests) / total,
        expectedPercent: even ? 100 / counts.size : undefined,
        chiSquareP,
      }));
    });
  }

  /** A row per service port and cause of failed requests. */
  failureRows(): TableRow[] {
    return this.#surveyed.flatMap(({ servicePort, from, loads }) => {
      const causes = new Map<string, number>();
      for (const load of loads)
        for (const [cause, count] of load.failures) causes.set(cause, (causes.get(cause) ?? 0) + count);
      return [...causes].map(([cause, requests]) => ({ servicePort, from, cause, requests }));
    });
  }

  /** Pods on all nodes ask the ClusterIP; the client outside asks the node port, on every node, and the load balancer. */
  #ask(service: Service, port: ServicePort, { family, ip }: IpAddress, isOneOfTwo: boolean): void {
    const servicePort = isOneOfTwo ? `${nameOf(service, port)} IPv${family}` : nameOf(service, port);
    const common = { servicePort, family, service, port };
    const inside = this.#clients.map((client) => {
      const node = this.#nodeOf(client.name);
      const load = new Load({ groupBy: ({ server }) => (this.#nodeOf(server) === node ? 'same node' : 'other node') });
      return this.#start(client, { to: { family, ip, port: port.port }, port, load });
    });
    this.#surveyed.push({ ...common, from: 'pods', loads: inside });
    const { nodePort } = port;
    const onNodes = this.#cluster.nodes.map((node) => node.addressOf(family)!);
    if (nodePort !== undefined) this.#askFromOutside(common, 'outside', { ips: onNodes, port: nodePort });
    const balanced = service.status.loadBalancer.ingress
      .flatMap(({ ip: text }) => (text === undefined ? [] : [parseAddress(text)]))
      .filter((address) => address.family === family);
    if (balanced.length > 0)
      this.#askFromOutside(common, 'load balancer', { ips: balanced.map((address) => address.ip), port: port.port });
  }

  #askFromOutside(
    common: Pick<Surveyed, 'servicePort' | 'family' | 'service' | 'port'>,
    from: 'outside' | 'load balancer',
    { ips, port }: { readonly ips: readonly Ip[]; readonly port: number },
  ): void {
    const load = new Load({ groupBy: () => from });
    for (const ip of ips)
      this.#start(this.#cluster.outside.client, { to: { family: common.family, ip, port }, port: common.port, load });
    this.#surveyed.push({ ...common, from, loads: [load] });
  }

  #start(client: Process, { to, port, load }: { to: Target; port: ServicePort; load: Load }): Load {
    const protocol = port.protocol === 'UDP' ? 'udp' : 'tcp';
    return this.#cluster.openLoop(client, { to, protocol, load, arrivals: poisson({ perSecond: this.#perSecond }) });
  }

  /** Ready endpoints of the port that are pods, as `namespace/name`. */
  #endpointsOf(service: Service, port: ServicePort, family: IpFamily): string[] {
    const { namespace, name } = service.metadata;
    return this.#cluster.api
      .list('EndpointSlice')
      .filter(
        ({ metadata }) => metadata.namespace === namespace && metadata.labels['kubernetes.io/service-name'] === name,
      )
      .filter(({ addressType }) => addressType === `IPv${family}`)
      .filter(({ ports }) => ports.some((entry) => entry.name === port.name && entry.protocol === port.protocol))
      .flatMap(({ endpoints }) => endpoints)
      .flatMap(({ conditions, targetRef }) =>
        conditions.ready === false || targetRef?.kind !== 'Pod' ? [] : [`${targetRef.namespace}/${targetRef.name}`],
      );
  }

  #nodeOf(pod: string): string {
    return this.#nodes.get(pod) ?? '-';
  }

  #sum(count: (load: Load) => number): number {
    return this.#surveyed.reduce(
      (sum, { loads }) => sum + loads.reduce((subtotal, load) => subtotal + count(load), 0),
      0,
    );
  }
}

/** `shop/web:http`; a port without a name by its number. */
const nameOf = (service: Service, port: ServicePort): string => `${keyOf(service)}:${port.name ?? port.port}`;

function withoutAddress(service: Service): string {
  if (service.spec.type === 'ExternalName') return 'ExternalName';
  return isHeadless(service) ? 'headless' : 'of another IP family';
}

const isServed = (cluster: Cluster, family: IpFamily): boolean => cluster.ipFamilies.includes(family);

const us = (histogram: Histogram, quantile: number): number | undefined =>
  histogram.count === 0 ? undefined : inUs(histogram.quantile(quantile));

/** Without affinity and local policies every ready endpoint has the same chance. */
function isSpreadEvenly({ spec }: Service): boolean {
  return (
    spec.sessionAffinity !== 'ClientIP' &&
    spec.internalTrafficPolicy !== 'Local' &&
    spec.externalTrafficPolicy !== 'Local'
  );
}
