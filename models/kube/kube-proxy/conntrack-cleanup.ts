// When kube-proxy looks for connections of UDP that go to endpoints which are no more. From 1.32 on it then compares all
// entries with what it serves; nothing but this decides whether it does. TCP closes its connections itself.

import { type ServicePort, serviceOf } from './service-ports.ts';
import type { ServiceSnapshot } from './service-tracker.ts';

/** Some Service that has, or had, endpoints behind a UDP port has other endpoints than before, behind whatever port. */
export function needsConntrackCleanup(before: ServiceSnapshot, after: ServiceSnapshot): boolean {
  // A change of a Service or of its endpoints gives all its ports anew.
  const earlier = endpointsByService(before.ports.filter((port) => !after.has(port)));
  const later = endpointsByService(after.ports.filter((port) => !before.has(port)));
  return [...new Set([...earlier.keys(), ...later.keys()])].some((service) => {
    const [old, now] = [earlier.get(service) ?? NO_ENDPOINTS, later.get(service) ?? NO_ENDPOINTS];
    return (old.hasUdp || now.hasUdp) && old.text !== now.text;
  });
}

interface ServiceEndpoints {
  readonly text: string;
  readonly hasUdp: boolean;
}

const NO_ENDPOINTS: ServiceEndpoints = { text: '', hasUdp: false };

/** Ports without endpoints are left out: to conntrack they are no ports. */
function endpointsByService(ports: readonly ServicePort[]): Map<string, ServiceEndpoints> {
  const byService = new Map<string, ServiceEndpoints>();
  for (const port of ports) {
    if (port.endpoints.length === 0) continue;
    const { text, hasUdp } = byService.get(serviceOf(port)) ?? NO_ENDPOINTS;
    byService.set(serviceOf(port), {
      text: `${text}${port.name}/${port.protocol} ${JSON.stringify(port.endpoints)}`,
      hasUdp: hasUdp || port.protocol === 'udp',
    });
  }
  return byService;
}
