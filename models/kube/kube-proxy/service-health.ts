// What the health check server of a node answers by. A load balancer asks a Service's healthCheckNodePort which nodes to
// send to, and leaves out those that have none of its endpoints.

import { type Endpoint, serviceOf } from './service-ports.ts';
import type { ServiceSnapshot } from './service-tracker.ts';

/**
 * How many ready endpoints each Service has on the node, by `namespace/name`; Services without any are absent. An address
 * with several ports is one endpoint. Draining endpoints do not count: they still serve, but should get no new load.
 */
export function readyEndpointsOn(nodeName: string, { ports }: ServiceSnapshot): Map<string, number> {
  const isReadyHere = (endpoint: Endpoint): boolean => endpoint.ready && endpoint.nodeName === nodeName;
  const addresses = new Map<string, Set<number>>();
  for (const port of ports) {
    const here = port.endpoints.filter(isReadyHere);
    if (here.length === 0) continue;
    const known = addresses.get(serviceOf(port)) ?? new Set();
    for (const { ip } of here) known.add(ip);
    addresses.set(serviceOf(port), known);
  }
  return new Map([...addresses].map(([service, known]) => [service, known.size]));
}
