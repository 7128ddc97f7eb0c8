// The part of a cloud's controller manager that has load balancers made for Services of type LoadBalancer (the service
// controller of k8s.io/cloud-provider): gives them addresses, writes those into their status, and keeps the load balancer
// informed of their ports and of the nodes.
//
// A Service with a loadBalancerClass is for somebody else. A snapshot's addresses are kept. Not modelled: loadBalancerIP,
// finalizers, node selectors of clouds, the minute or so that a cloud takes to make a load balancer.

import { LOAD_BALANCER_RANGES } from '../../host/outside-world.ts';
import {
  addressAt,
  formatIp,
  type IpAddress,
  type IpFamily,
  parseAddress,
  parseAnyPrefix,
} from '../../packet/ip-address.ts';
import type { ApiServer, WatchEvent } from '../api-server.ts';
import { HEALTHZ_PORT } from '../kube-proxy/health-server.ts';
import { addressOfNode, isOfFamily, keyOf, type Node, needsHealthCheck, type Service } from '../objects.ts';
import { familiesOf } from '../ranges.ts';
import type { BalancedNode, BalancedPort, IpMode, LoadBalancer } from './load-balancer.ts';

/** The load balancer's own address. */
export const loadBalancerIp = (family: IpFamily): IpAddress['ip'] => addressAt(LOAD_BALANCER_RANGES[family], 1);

/** Nodes with this label get nothing from load balancers. */
const EXCLUDED = 'node.kubernetes.io/exclude-from-external-load-balancers';

export interface ServiceControllerOptions {
  readonly ipMode: IpMode;
  /** Made when there is the first Service for it. */
  readonly loadBalancer: () => LoadBalancer;
  /** The routers outside send what is for this address to the load balancer. */
  readonly announce: (address: IpAddress) => void;
  /** Would the node pass a health check on the port now? */
  readonly isNodeHealthy: (node: string, family: IpFamily, port: number) => boolean;
}

export class ServiceController {
  readonly #apiServer: ApiServer;
  readonly #options: ServiceControllerOptions;
  /** Addresses of Services with a load balancer, by the key of the Service. */
  readonly #served = new Map<string, readonly string[]>();
  /** Those, and addresses that Services came with. */
  readonly #taken = new Set<string>();
  readonly #announced = new Set<string>();
  #isRunning = false;

  constructor(apiServer: ApiServer, options: ServiceControllerOptions) {
    this.#apiServer = apiServer;
    this.#options = options;
  }

  /** The cluster is complete, and its kube-proxies have synced: load balancers are found as if they had run for long. */
  start(): void {
    this.#isRunning = true;
    this.#refresh(true);
  }

  #refresh(isFound: boolean): void {
    for (const key of this.#served.keys()) this.#reconcile(key, isFound);
  }

  hearOfServices(events: readonly WatchEvent<Service>[]): void {
    for (const { object } of events) this.#reconcile(keyOf(object));
  }

  hearOfNodes(): void {
    this.#refresh(false);
  }

  #reconcile(key: string, isFound = false): void {
    const service = this.#apiServer.get('Service', key);
    if (service === undefined || !isOurs(service)) return this.#release(key);
    if (this.#served.size === 0) for (const known of this.#apiServer.list('Service')) this.#take(known);
    const withAddresses = this.#withIngress(service);
    this.#served.set(key, this.#take(withAddresses));
    if (withAddresses !== service) this.#apiServer.update(withAddresses);
    for (const address of this.#ingressOf(withAddresses)) this.#announce(address);
    if (this.#isRunning) this.#options.loadBalancer().serve(key, this.#portsOf(withAddresses), { isFound });
  }

  #release(key: string): void {
    for (const address of this.#served.get(key) ?? []) this.#taken.delete(address);
    if (this.#served.delete(key) && this.#isRunning) this.#options.loadBalancer().serve(key, [], { isFound: false });
  }

  #take(service: Service): readonly string[] {
    const addresses = this.#ingressOf(service).map(({ family, ip }) => formatIp(ip, family));
    for (const address of addresses) this.#taken.add(address);
    return addresses;
  }

  #ingressOf({ status }: Service): IpAddress[] {
    return status.loadBalancer.ingress.flatMap(({ ip }) =>
      ip === undefined || !this.#isServed(ip) ? [] : [parseAddress(ip)],
    );
  }

  /** A snapshot may have addresses of a family that this cluster has not. */
  #isServed(address: string): boolean {
    return familiesOf(this.#apiServer.ranges).some((family) => isOfFamily(family)(address));
  }

  /** An address of each of the Service's families, unless its status has one. */
  #withIngress(service: Service): Service {
    const known = this.#ingressOf(service);
    const missing = familiesOf(this.#apiServer.ranges).filter(
      (family) => hasFamily(service, family) && !known.some((address) => address.family === family),
    );
    if (missing.length === 0) return service;
    const { ipMode } = this.#options;
    const added = missing.map((family) => ({ ip: this.#nextAddress(family), ipMode }));
    const ingress = [...service.status.loadBalancer.ingress, ...added];
    return { ...service, status: { ...service.status, loadBalancer: { ingress } } };
  }

  /** The lowest that no Service has. */
  #nextAddress(family: IpFamily): string {
    for (let index = 2; ; index++) {
      const address = formatIp(addressAt(LOAD_BALANCER_RANGES[family], index), family);
      if (!this.#taken.has(address)) return address;
    }
  }

  #announce(address: IpAddress): void {
    const text = formatIp(address.ip, address.family);
    if (this.#announced.has(text)) return;
    this.#announced.add(text);
    this.#options.announce(address);
  }

  #portsOf(service: Service): BalancedPort[] {
    const { healthCheckNodePort, loadBalancerSourceRanges, ports, sessionAffinity: affinity } = service.spec;
    const healthCheckPort = needsHealthCheck(service) ? (healthCheckNodePort ?? HEALTHZ_PORT) : HEALTHZ_PORT;
    const sourceRanges = loadBalancerSourceRanges.map((range) => parseAnyPrefix(range.trim()));
    return service.status.loadBalancer.ingress.flatMap(({ ip: text, ipMode: mode = 'VIP' }) => {
      if (text === undefined || !this.#isServed(text)) return [];
      const address = parseAddress(text);
      const backends = this.#nodesOf(address.family);
      const common = { service: keyOf(service), ...address, mode, healthCheckPort, sourceRanges, affinity, backends };
      return ports.map(({ protocol, port, nodePort }) => ({ ...common, protocol, port, nodePort }));
    });
  }

  #nodesOf(family: IpFamily): BalancedNode[] {
    return this.#apiServer.list('Node').flatMap((node: Node) => {
      const address = addressOfNode(node, family);
      if (address === undefined || EXCLUDED in node.metadata.labels) return [];
      const { name } = node.metadata;
      const isHealthy = (port: number): boolean => this.#options.isNodeHealthy(name, family, port);
      return [{ name, ip: parseAddress(address).ip, isHealthy }];
    });
  }
}

const isOurs = ({ spec }: Service): boolean => spec.type === 'LoadBalancer' && spec.loadBalancerClass === undefined;

const hasFamily = ({ spec: { ipFamilies = ['IPv4'] } }: Service, family: IpFamily): boolean =>
  ipFamilies.includes(`IPv${family}`);
