// What answers on the healthCheckNodePort of Services whose outside traffic stays on the node that it enters: load balancers
// ask there which nodes have endpoints (pkg/proxy/healthcheck/service_health.go). It says what the last sync has seen.

import type { HealthAnswer } from '../../host/load-balancer.ts';
import type { Process } from '../../host/process.ts';
import type { TcpListener } from '../../transport/tcp-listener.ts';
import { readyEndpointsOn } from './service-health.ts';
import { serviceOf } from './service-ports.ts';
import type { ServiceSnapshot } from './service-tracker.ts';

/** Headers and a line of JSON. */
const ANSWER_BYTES = 200;

export class HealthCheckServer {
  readonly #process: Process;
  readonly #nodeName: string;
  /** By port. */
  readonly #listeners = new Map<number, TcpListener>();
  #readyEndpoints: ReadonlyMap<string, number> = new Map();

  constructor(process: Process, { nodeName }: { readonly nodeName: string }) {
    this.#process = process;
    this.#nodeName = nodeName;
  }

  /** After a sync. */
  update(services: ServiceSnapshot): void {
    const serviceByPort = new Map<number, string>();
    for (const port of services.ports)
      if (port.healthCheckNodePort !== undefined) serviceByPort.set(port.healthCheckNodePort, serviceOf(port));
    for (const [port, listener] of this.#listeners) {
      if (serviceByPort.has(port)) continue;
      listener.close();
      this.#listeners.delete(port);
    }
    if (serviceByPort.size === 0) return;
    this.#readyEndpoints = readyEndpointsOn(this.#nodeName, services);
    for (const [port, service] of serviceByPort)
      if (!this.#listeners.has(port)) this.#listeners.set(port, this.#listen(port, service));
  }

  #listen(port: number, service: string): TcpListener {
    const { namespace, cpu } = this.#process;
    return namespace.tcp.listen({ port, cpu }, () => ({
      onMessage: (connection, { id }) => {
        const isHealthy = (this.#readyEndpoints.get(service) ?? 0) > 0;
        const answer: HealthAnswer = { kind: 'health', id, sizeBytes: ANSWER_BYTES, isHealthy };
        connection.send(answer);
      },
      onPeerClosed: (connection) => connection.close(),
    }));
  }
}
