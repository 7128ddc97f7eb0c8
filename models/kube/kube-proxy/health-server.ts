// What kube-proxy tells load balancers about its node (pkg/proxy/healthcheck): on port 10256 whether it keeps up with
// changes, and on the healthCheckNodePort of each Service of policy Local whether the node has ready endpoints of it.
//
// Not modelled: /livez, the answer's body and its header with the number of endpoints as a weight, 503 from nodes that the
// cluster autoscaler is about to delete (KEP-3836). In a dual-stack cluster each family answers for itself.

import type { Process } from '../../host/process.ts';
import type { IpFamily } from '../../packet/ip-address.ts';
import { type HealthStatus, serveHealth } from '../../workload/health-check.ts';
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
    serveHealth(process, { family, port: HEALTHZ_PORT }, () => this.status(HEALTHZ_PORT));
  }

  /** What is answered on a port now. */
  status(port: number): HealthStatus {
    const isReady = port === HEALTHZ_PORT || this.readyEndpoints(port) > 0;
    return isReady && this.#isProxyHealthy() ? 200 : 503;
  }

  readyEndpoints(healthCheckNodePort: number): number {
    return this.#readyEndpoints.get(this.#servers.get(healthCheckNodePort)?.service ?? '') ?? 0;
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
      const listener = serveHealth(this.#process, { family: this.#family, port }, () => this.status(port));
      this.#servers.set(port, { service, close: () => listener.close() });
    }
  }
}
