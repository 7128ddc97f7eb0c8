// Sockets of a node and its pods go to endpoints where their programs name Services.

import type { RandomStream } from '../../../engine/random.ts';
import type { CpuSet } from '../../cpu/cpu-set.ts';
import type { SocketBalancer } from '../../transport/socket-balancer.ts';
import type { SocketAddress } from '../../transport/transport-stack.ts';
import { Affinities, byChance } from './backend-choice.ts';
import type { ServiceMap } from './service-map.ts';

export class SocketLoadBalancer implements SocketBalancer {
  readonly #services: ServiceMap;
  readonly #cpus: CpuSet;
  readonly #random: RandomStream;
  readonly #affinities = new Affinities();

  constructor(services: ServiceMap, { cpus, random }: { cpus: CpuSet; random: RandomStream }) {
    this.#services = services;
    this.#cpus = cpus;
    this.#random = random;
  }

  /** The program, the Service and its backend. */
  get costNs(): number {
    const { ebpfProgramNs, ebpfLookupNs } = this.#cpus.costs;
    return ebpfProgramNs + 2 * ebpfLookupNs;
  }

  translate(protocol: number, to: SocketAddress, namespace: string): SocketAddress | 'unserved' | undefined {
    if (to.family === 6) return undefined;
    const service = this.#services.find(protocol, to.ip, to.port);
    if (service === undefined) return undefined;
    const { inside: backends } = service;
    if (backends.length === 0) return 'unserved';
    const now = this.#cpus.instant;
    const { ip, port } = this.#affinities.choose(service, { backends, client: namespace, now }, () =>
      byChance(backends, this.#random),
    );
    return { family: 4, ip, port };
  }
}
