// What kube-proxy tells load balancers about its node (pkg/proxy/healthcheck): on port 10256 whether it keeps up with
// changes, and on the healthCheckNodePort of each Service of policy Local whether the node has ready endpoints of it.
//
// Not modelled: /livez, 503 from nodes that the cluster autoscaler is about to delete (KEP-3836). In a dual-stack cluster each family answers for itself.

import type { Process } from '../../host/process.ts';
import type { IpFamily } from '../../packet/ip-address.ts';
import { type HealthReport, serveHealth } from '../../workload/health-check.ts';
import { readyEndpointsOn } from './service-health.ts';
import { serviceOf } from './service-ports.ts';
import type { ServiceSnapshot } from './service-tracker.ts';

/** `--healthz-bind-address` */
export const HEALTHZ_PORT = 10_256;

export class HealthServer {
  readonly #process: Process;
  readonly #family: IpFamily;
  readonly #nodeName: string;
  readonly #isProxyHealthy: () => boolean;
  readonly #own: { close(): void };
  /** Servers by healthCheckNodePort. */
  readonly #servers = new Map<number, { readonly service: string; close(): void }>();
  #readyEndpoints: ReadonlyMap<string, number> = new Map();

  constructor(
    process: Process,
    {
      family,
      nodeName,
      isProxyHealthy,
    }: { readonly family: IpFamily; readonly nodeName: string; readonly isProxyHealthy: () => boolean },
  ) {
    this.#process = process;
    this.#family = family;
    this.#nodeName = nodeName;
    this.#isProxyHealthy = isProxyHealthy;
    this.#own = serveHealth(process, { family, port: HEALTHZ_PORT }, () => this.report(HEALTHZ_PORT));
  }

  /** What is answered on a port now. */
  report(port: number): HealthReport {
    const { service } = this.#servers.get(port) ?? {};
    const readyEndpoints = service === undefined ? undefined : (this.#readyEndpoints.get(service) ?? 0);
    const isReady = port === HEALTHZ_PORT || (readyEndpoints ?? 0) > 0;
    return { status: isReady && this.#isProxyHealthy() ? 200 : 503, readyEndpoints };
  }

  /** Nobody listens on its ports any more. */
  close(): void {
    this.#own.close();
    for (const server of this.#servers.values()) server.close();
    this.#servers.clear();
  }

  /** SyncServices and SyncEndpoints: the rules serve these services now. */
  update(services: ServiceSnapshot): void {
    this.#readyEndpoints = readyEndpointsOn(this.#nodeName, services);
    const wanted = new Map<number, string>();
    for (const port of services.ports)
      if (port.healthCheckNodePort !== undefined) wanted.set(port.healthCheckNodePort, serviceOf(port));
    for (const [port, server] of this.#servers) {
      if (wanted.get(port) === server.service) continue;
      server.close();
      this.#servers.delete(port);
    }
    for (const [port, service] of wanted) {
      if (this.#servers.has(port)) continue;
      const listener = serveHealth(this.#process, { family: this.#family, port }, () => this.report(port));
      this.#servers.set(port, { service, close: () => listener.close() });
    }
  }
}
