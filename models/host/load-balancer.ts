// A load balancer between the world outside and the nodes, as a cloud provider has one for a Service of type LoadBalancer.
// A new connection to its address goes to one of the healthy nodes, each as likely whatever runs there; the destination is
// translated to a port of that node and the client's address stays, as balancers with instance targets do it. It runs on
// the gateway, as rules of iptables, so connections stay where they are while health changes.
//
// A node is healthy from its first health check that succeeds, until so many in a row have failed.
//
// Not modelled: balancers that keep the address of the Service (ipMode VIP) or speak to nodes with an address of their
// own (ipMode Proxy), session affinity, weights, UDP; its address in the status of the Service.

import { after, type Duration, type Instant, s } from '../../engine/time.ts';
import { Timer } from '../../engine/timer.ts';
import { Chain } from '../netfilter/chain.ts';
import { Rule } from '../netfilter/rule.ts';
import type { Message } from '../packet/frame.ts';
import { type Ip, prefix } from '../packet/ip-address.ts';
import type { TcpConnection } from '../transport/tcp-connection.ts';
import type { Process } from './process.ts';

/** What a health check server says to a probe: 200 or 503. */
export interface HealthAnswer extends Message {
  readonly kind: 'health';
  readonly isHealthy: boolean;
}

const isHealthAnswer = (message: Message): message is HealthAnswer => 'kind' in message && message.kind === 'health';

/** A GET and its headers. */
const PROBE_BYTES = 100;

export interface HealthCheckSettings {
  readonly interval: Duration;
  /** A probe that has no answer by then has failed. */
  readonly timeout: Duration;
  /** So many failures in a row make a node unhealthy. */
  readonly unhealthyThreshold: number;
}

/** Google's: gceHcCheckIntervalSeconds and its neighbors in kubernetes/ingress-gce (pkg/healthchecksl4). */
export const DEFAULT_HEALTH_CHECK: HealthCheckSettings = { interval: s(8), timeout: s(1), unhealthyThreshold: 3 };

export interface LoadBalancerOptions extends HealthCheckSettings {
  readonly ip: Ip;
  readonly port: number;
  readonly nodes: readonly Ip[];
  /** Where the Service is on every node. */
  readonly nodePort: number;
  /** Whom to ask for a node's health; undefined: whoever accepts connections on `nodePort` is well. */
  readonly healthCheckPort: number | undefined;
}

export class LoadBalancer {
  readonly ip: Ip;
  readonly port: number;
  readonly #options: LoadBalancerOptions;
  readonly #gateway: Process;
  readonly #healthy = new Set<Ip>();
  readonly #chainName: string;

  /** `gateway` is a program on the machine through which everything from outside comes. */
  constructor(gateway: Process, options: LoadBalancerOptions) {
    const { ip, port, nodes } = options;
    this.ip = ip;
    this.port = port;
    this.#options = options;
    this.#gateway = gateway;
    this.#chainName = `LB-${(ip >>> 0).toString(16)}-${port}`;
    this.#balance();
    const destination = prefix(ip, 32);
    const matches = [{ match: 'tcp', dstPortFirst: port, dstPortLast: port } as const];
    const target = { target: 'jump', chain: this.#chainName } as const;
    this.#tables.appendRule('nat', 'PREROUTING', new Rule({ destination, protocol: 'tcp', matches, target }));
    for (const node of nodes) this.#watch(node);
  }

  get healthyNodes(): readonly Ip[] {
    return this.#options.nodes.filter((node) => this.#healthy.has(node));
  }

  get #tables() {
    return this.#gateway.namespace.enableNetfilter().tables;
  }

  /** Probes a node for ever, the first time at once. */
  #watch(node: Ip): void {
    const { interval, unhealthyThreshold } = this.#options;
    const { place } = this.#gateway;
    let failures = 0;
    const probe = (begin: Instant): void => {
      this.#probe(node, (isHealthy) => {
        failures = isHealthy ? 0 : failures + 1;
        this.#judge(node, { isHealthy, isUnhealthy: failures >= unhealthyThreshold });
      });
      const next = after(begin, interval);
      place.scheduleAt(next, probe, next);
    };
    place.scheduleAt(place.now, probe, place.now);
  }

  #judge(node: Ip, { isHealthy, isUnhealthy }: { readonly isHealthy: boolean; readonly isUnhealthy: boolean }): void {
    const before = this.#healthy.size;
    if (isHealthy) this.#healthy.add(node);
    else if (isUnhealthy) this.#healthy.delete(node);
    if (this.#healthy.size !== before) this.#balance();
  }

  /** Calls `ended` once. */
  #probe(node: Ip, ended: (isHealthy: boolean) => void): void {
    const { healthCheckPort, nodePort, timeout } = this.#options;
    const { namespace, place, cpu } = this.#gateway;
    const timer = new Timer(place, () => {
      connection.abort();
      ended(false);
    });
    const end = (isHealthy: boolean): void => {
      if (!timer.armed) return;
      timer.stop();
      ended(isHealthy);
    };
    const hear = (open: TcpConnection, isHealthy: boolean): void => {
      end(isHealthy);
      open.close();
    };
    const connection = namespace.tcp.connect(
      { to: { ip: node, port: healthCheckPort ?? nodePort }, cpu },
      {
        onConnected: (open) =>
          healthCheckPort === undefined ? hear(open, true) : open.send({ id: 0, sizeBytes: PROBE_BYTES }),
        onMessage: (open, message) => hear(open, isHealthAnswer(message) && message.isHealthy),
        onPeerClosed: (open) => hear(open, false),
        onClosed: () => end(false),
      },
    );
    timer.start(timeout);
  }

  /** The chain of kube-proxy's kind: the first of n nodes with a chance of 1/n, the next with one of 1/(n-1). */
  #balance(): void {
    const { nodePort } = this.#options;
    const nodes = this.healthyNodes;
    const rules = nodes.map((node, index) => {
      const left = nodes.length - index;
      const chance = { match: 'statistic', mode: 'random', probability: 1 / left } as const;
      const target = { target: 'DNAT', minIp: node, minPort: nodePort } as const;
      return new Rule({ protocol: 'tcp', matches: left === 1 ? [] : [chance], target });
    });
    this.#tables.replaceChains('nat', [new Chain(this.#chainName, rules)]);
  }
}
