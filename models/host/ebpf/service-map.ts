// Services as an eBPF-style replacement of kube-proxy has them: one table by address, protocol and port, looked up by hash.

import { formatSocketAddress, type Ip, type Prefix } from '../../packet/ip-address.ts';

export interface Backend {
  readonly ip: Ip;
  readonly port: number;
  /** On this node. */
  readonly isLocal: boolean;
}

export interface EbpfService {
  /** `namespace/name:port`, for affinity and for people. */
  readonly name: string;
  readonly protocol: number;
  readonly ip: Ip;
  readonly port: number;
  /** For sockets of this node and its pods. */
  readonly inside: readonly Backend[];
  /** For packets that come in by the node's device. Undefined: the address is for sockets only, as ClusterIPs are. */
  readonly outside: readonly Backend[] | undefined;
  /** Some node serves it: what cannot be served here is dropped, not refused. */
  readonly isServedSomewhere: boolean;
  /** A client keeps its backend for so long. */
  readonly affinitySeconds: number | undefined;
  /** Where packets may come from; empty: from anywhere. */
  readonly sourceRanges: readonly Prefix[];
}

export class ServiceMap {
  #byPort: ReadonlyMap<number, ReadonlyMap<Ip, EbpfService>> = new Map();

  find(protocol: number, ip: Ip, port: number): EbpfService | undefined {
    return this.#byPort.get(protocol * 65_536 + port)?.get(ip);
  }

  /** These and no others. */
  replaceAll(services: Iterable<EbpfService>): void {
    const byPort = new Map<number, Map<Ip, EbpfService>>();
    for (const service of services) {
      const key = service.protocol * 65_536 + service.port;
      const byIp = byPort.get(key);
      if (byIp === undefined) byPort.set(key, new Map([[service.ip, service]]));
      else byIp.set(service.ip, service);
    }
    this.#byPort = byPort;
  }

  *[Symbol.iterator](): IterableIterator<EbpfService> {
    for (const byIp of this.#byPort.values()) yield* byIp.values();
  }
}

/** A line per service: `10.96.0.10:80 tcp  inside 10.244.1.5:8080 …  outside …`. In our own words: no tool prints this. */
export function listServices(services: ServiceMap, nameOf: (protocol: number) => string): string {
  const text = (backends: readonly Backend[]): string =>
    backends.map(({ ip, port }) => formatSocketAddress(ip, port)).join(' ') || 'none';
  return [...services]
    .sort((a, b) => a.protocol - b.protocol || (a.ip >>> 0) - (b.ip >>> 0) || a.port - b.port)
    .map(({ ip, port, protocol, inside, outside, affinitySeconds, name }) =>
      [
        `${formatSocketAddress(ip, port)} ${nameOf(protocol)}  ${name}`,
        `  sockets: ${text(inside)}`,
        ...(outside === undefined ? [] : [`  packets: ${text(outside)}`]),
        ...(affinitySeconds === undefined ? [] : [`  affinity: ${affinitySeconds} s`]),
      ]
        .map((line) => `${line}\n`)
        .join(''),
    )
    .join('');
}
