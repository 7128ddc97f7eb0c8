// Whether the rules that lead to endpoints have comments. kube-proxy leaves them out of large clusters, where they are
// two fifths of what iptables-restore has to read; but a partial sync writes the chains of changed services only, so
// that a cluster which has just become large, or small again, keeps both kinds until the next full sync.

import type { ServicePort } from './service-ports.ts';
import type { ServiceSnapshot } from './service-tracker.ts';

/** More endpoints than these, summed over service ports, make a cluster large (largeClusterEndpointsThreshold). */
const LARGE_CLUSTER_ENDPOINTS = 1_000;

export const isLargeCluster = ({ endpointCount }: ServiceSnapshot): boolean => endpointCount > LARGE_CLUSTER_ENDPOINTS;

export class EndpointComments {
  /** As the last full sync wrote them. */
  #usual = true;
  /** Service ports, by name and protocol, whose chains were last written the other way; they may be gone since. */
  readonly #others = new Set<string>();

  /** A full sync is about to write the chains of all service ports. */
  writeAll(services: ServiceSnapshot): void {
    this.#usual = !isLargeCluster(services);
    this.#others.clear();
  }

  /** A partial sync is about to write those of some. */
  write(services: ServiceSnapshot, isWritten: (port: ServicePort) => boolean): void {
    const isUsual = isLargeCluster(services) !== this.#usual;
    if (isUsual && this.#others.size === 0) return;
    for (const port of services.ports) {
      if (!isWritten(port)) continue;
      if (isUsual) this.#others.delete(keyOf(port));
      else this.#others.add(keyOf(port));
    }
  }

  /** Most service ports have comments, or most have none. */
  get usual(): boolean {
    return this.#usual;
  }

  /** Indexes of the service ports that are not as usual. */
  unusual({ ports }: ServiceSnapshot): number[] {
    if (this.#others.size === 0) return [];
    return [...ports.keys()].filter((i) => this.#others.has(keyOf(ports[i]!)));
  }
}

const keyOf = ({ name, protocol }: ServicePort): string => `${name}/${protocol}`;
