// The cloud's load balancer: a machine beside the cluster's nodes that has the addresses of all Services of type
// LoadBalancer, and sends what comes for them to nodes that pass their health checks. Nodes with policy Local are asked on
// the Service's healthCheckNodePort, others for kube-proxy's own health.
//
// In ipMode VIP packets go on as they are, kube-proxy recognises the address, and the node answers the client directly: the
// source address is kept, and loadBalancerSourceRanges are kube-proxy's to enforce. In ipMode Proxy connections end here,
// and others go to a node port of the node, which sees the load balancer: what loadBalancerSourceRanges leave out is
// refused here. Its own CPU time is free.

import type { Simulator } from '../../../engine/simulator.ts';
import { s } from '../../../engine/time.ts';
import { FREE } from '../../cpu/cost-model.ts';
import {
  type Backend,
  BackendPool,
  type BalancingAlgorithm,
  type PoolSettings,
  type SessionAffinity,
} from '../../host/backend-pool.ts';
import type { Fabric } from '../../host/fabric.ts';
import { addAddress, addDefaultRoute, stackOf } from '../../host/ip-setup.ts';
import { Machine, type MachineOptions } from '../../host/machine.ts';
import { gatewayOf } from '../../host/outside-world.ts';
import { type Frontend, PacketBalancer } from '../../host/packet-balancer.ts';
import type { Process } from '../../host/process.ts';
import { addressBits, contains, type IpAddress, type Prefix } from '../../packet/ip-address.ts';
import { hashOf } from '../../transport/socket-table.ts';
import { DEFAULT_HEALTH_CHECK, HealthChecker, type HealthCheckSettings } from '../../workload/health-check.ts';
import { relay } from '../../workload/relay.ts';

export type IpMode = 'VIP' | 'Proxy';

export interface LoadBalancerSettings {
  /** Of Services whose status does not say. */
  readonly ipMode: IpMode;
  readonly algorithm: BalancingAlgorithm;
  readonly healthCheck: HealthCheckSettings;
}

export const DEFAULT_LOAD_BALANCER: LoadBalancerSettings = {
  ipMode: 'VIP',
  algorithm: '5-tuple hash',
  healthCheck: DEFAULT_HEALTH_CHECK,
};

/** After so long a silence a flow is a new one: the default of Google's passthrough load balancers. */
const IDLE_TIMEOUT = s(600);

/** One port of a Service at one address of it. */
export interface BalancedPort extends Frontend {
  /** `default/web`, for random numbers. */
  readonly service: string;
  readonly mode: IpMode;
  /** Where proxied traffic goes; in VIP mode none is needed. */
  readonly nodePort: number | undefined;
  readonly healthCheckPort: number;
  readonly sourceRanges: readonly Prefix[];
  readonly affinity: SessionAffinity;
  readonly backends: readonly BalancedNode[];
}

export interface BalancedNode extends Backend {
  /** Would the health check be passed now? Asked when a cluster is found as it is, before it runs. */
  isHealthy(port: number): boolean;
}

/** What is there of a port. */
interface Served {
  port: BalancedPort;
  readonly pool: BackendPool;
  readonly closeFrontend: () => void;
  /** Keys of the checks that it uses. */
  readonly checks: Set<string>;
}

/** Shared by ports that ask a node the same. */
interface Check {
  readonly checker: HealthChecker;
  readonly users: Set<Served>;
}

export class LoadBalancer {
  readonly machine: Machine;
  readonly #settings: LoadBalancerSettings;
  readonly #process: Process;
  readonly #packets: PacketBalancer;
  readonly #nic: ReturnType<Fabric['attach']>;
  readonly #served = new Map<string, Served>();
  readonly #checks = new Map<string, Check>();
  readonly #secret: number;
  /** Addresses that it has, as text. */
  readonly #own = new Set<string>();

  /** `networks`: of each family its own address, and the network of the nodes. */
  constructor(
    sim: Simulator,
    {
      frames,
      fabric,
      networks,
      settings,
    }: {
      readonly frames: MachineOptions['frames'];
      readonly fabric: Fabric;
      readonly networks: readonly (IpAddress & { readonly nodeRange: Prefix })[];
      readonly settings: LoadBalancerSettings;
    },
  ) {
    this.#settings = settings;
    this.machine = new Machine({ name: 'load-balancer', sim, frames, costs: FREE, cpuCount: 1, forwarding: false });
    const { root, place } = this.machine;
    this.#nic = fabric.attach(this.machine, 'eth0');
    for (const { family, ip, nodeRange } of networks) {
      this.#addAddress({ family, ip });
      // The source is said, as the addresses of Services are no choice.
      stackOf(root, family).addRoute({ destination: nodeRange, device: this.#nic, source: ip });
      addDefaultRoute(root, this.#nic, { family, ip: gatewayOf(nodeRange) });
    }
    this.#process = { name: this.machine.name, place, namespace: root, cpu: 0 };
    this.#packets = new PacketBalancer(root, this.#nic);
    this.#secret = place.random('flow-hash').bits31();
  }

  /** Serves exactly these ports of a Service from now on. `isFound`: they have been served before the run starts. */
  serve(service: string, ports: readonly BalancedPort[], { isFound }: { readonly isFound: boolean }): void {
    const wanted = new Map(ports.map((port) => [keyOf(port), port]));
    for (const [key, served] of this.#served) {
      if (served.port.service !== service || isSameFrontend(served.port, wanted.get(key))) continue;
      served.closeFrontend();
      this.#check(served, [], isFound);
      this.#served.delete(key);
    }
    for (const [key, port] of wanted) {
      const served = this.#served.get(key) ?? this.#open(port);
      this.#served.set(key, served);
      served.port = port;
      served.pool.affinity = port.affinity;
      this.#check(served, port.backends, isFound);
      this.#refresh(served);
    }
  }

  /** What it believes of the nodes, by the address and port at which it asks them. */
  get healthyNodes(): ReadonlyMap<string, readonly string[]> {
    return new Map([...this.#served].map(([key, { pool }]) => [key, pool.healthy.map(({ name }) => name)]));
  }

  #open(port: BalancedPort): Served {
    this.#addAddress(port);
    const pool = new BackendPool(this.#poolSettings);
    const closeFrontend = port.mode === 'VIP' ? this.#passPackets(port, pool) : this.#proxy(port, pool);
    return { port, pool, closeFrontend, checks: new Set() };
  }

  #passPackets(port: BalancedPort, pool: BackendPool): () => void {
    this.#packets.add(port, pool);
    return () => this.#packets.remove(port);
  }

  #proxy(port: BalancedPort, pool: BackendPool): () => void {
    const { family, ip, protocol, nodePort, sourceRanges } = port;
    if (protocol === 'SCTP' || nodePort === undefined) return () => {};
    const { place } = this.machine;
    const allowed = sourceRanges.filter((range) => range.family === family);
    const relaying = relay(this.#process, {
      at: { family, ip, port: port.port },
      protocol,
      targetFor: (client) => {
        if (sourceRanges.length > 0 && !allowed.some((range) => contains(range, client.ip))) return undefined;
        const ports = pool.affinity === 'None' ? ([port.port, client.port] as const) : NO_PORTS;
        const hash = hashOf(family, ip, ports[0], client.ip, ports[1]);
        const backend = pool.choose(client, hash, place.now);
        return backend && { family, ip: backend.ip, port: nodePort };
      },
    });
    return () => relaying.close();
  }

  get #poolSettings(): PoolSettings {
    return { algorithm: this.#settings.algorithm, idleTimeout: IDLE_TIMEOUT, secret: this.#secret };
  }

  #addAddress({ family, ip }: IpAddress): void {
    const text = `${family} ${ip}`;
    if (this.#own.has(text)) return;
    this.#own.add(text);
    addAddress(this.machine.root, this.#nic, { family, ip, length: addressBits(family) });
  }

  // ── health checks ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** These are the nodes that are asked for the port from now on. */
  #check(served: Served, backends: readonly BalancedNode[], isFound: boolean): void {
    const wanted = new Map(backends.map((backend) => [checkKeyOf(served.port, backend), backend]));
    for (const key of served.checks) if (!wanted.has(key)) this.#uncheck(served, key);
    for (const [key, backend] of wanted) {
      const check = this.#checks.get(key) ?? this.#newCheck(served.port, backend, isFound);
      this.#checks.set(key, check);
      check.users.add(served);
      served.checks.add(key);
    }
  }

  #uncheck(served: Served, key: string): void {
    const { checker, users } = this.#checks.get(key)!;
    served.checks.delete(key);
    users.delete(served);
    if (users.size > 0) return;
    checker.stop();
    this.#checks.delete(key);
  }

  #newCheck({ family, healthCheckPort: port }: BalancedPort, backend: BalancedNode, isFound: boolean): Check {
    const users = new Set<Served>();
    const checker = new HealthChecker(this.#process, {
      to: { family, ip: backend.ip, port },
      settings: this.#settings.healthCheck,
      isHealthy: isFound && backend.isHealthy(port),
      phase: this.machine.place.random(`health-check/${backend.name}/${family}/${port}`).uniform(),
      onChange: () => {
        for (const served of users) this.#refresh(served);
      },
    });
    return { checker, users };
  }

  /** The pool has the nodes that are healthy; one that stays the same keeps its flows. */
  #refresh({ port, pool }: Served): void {
    const before = new Map(pool.healthy.map((backend) => [backend.name, backend]));
    pool.healthy = port.backends
      .filter((backend) => this.#checks.get(checkKeyOf(port, backend))?.checker.isHealthy === true)
      .map((backend) => {
        const known = before.get(backend.name);
        return known?.ip === backend.ip ? known : backend;
      });
  }
}

/** Those of a client's flows differ. */
const NO_PORTS = [0, 0] as const;

const keyOf = ({ family, ip, protocol, port }: Frontend): string => `${family} ${ip} ${protocol} ${port}`;

/** Needs no other socket, and keeps its flows. */
const isSameFrontend = (a: BalancedPort, b: BalancedPort | undefined): boolean =>
  b !== undefined &&
  a.service === b.service &&
  a.mode === b.mode &&
  a.nodePort === b.nodePort &&
  JSON.stringify(a.sourceRanges) === JSON.stringify(b.sourceRanges);

const checkKeyOf = ({ family, healthCheckPort }: BalancedPort, { ip }: Backend): string =>
  `${family} ${ip} ${healthCheckPort}`;
