// What a kubelet does for the network of its pods: a network namespace per pod, connected by the CNI plugin on start and
// disconnected on stop. A pod that starts again gets a new namespace and a new address.
//
// When that happens is the matter of pod-lifecycle.ts. Not modelled: images, restarts of containers.

import type { CniRuntime } from '../cni/cni-runtime.ts';
import type { PortMapping } from '../cni/port-mapping.ts';
import type { Machine } from '../host/machine.ts';
import type { NetworkNamespace } from '../host/network-namespace.ts';
import type { Process } from '../host/process.ts';
import type { Ip, IpAddress } from '../packet/ip-address.ts';

/** What a pod asks of its node's network. */
export interface PodSandbox {
  readonly hostNetwork?: boolean;
  /** Of its UTS namespace; on the node's network that is the node's, and nobody asks. */
  readonly hostname?: string;
  readonly requestedIps?: readonly IpAddress[];
  readonly portMappings?: readonly PortMapping[] | undefined;
  readonly bandwidth?: PodBandwidth | undefined;
}

/** In bits per second, and bits, as the plugin `bandwidth` takes them. */
export interface PodBandwidth {
  readonly ingressRate?: number;
  readonly ingressBurst?: number;
  readonly egressRate?: number;
  readonly egressBurst?: number;
}

/** A pod that runs: its first process is what workloads drive. */
export interface RunningPod extends Process, IpAddress {
  /** Its address of the other family, on dual-stack nodes. */
  readonly secondaryIp: Ip | undefined;
  readonly node: string;
  /** What gethostname tells its programs. */
  readonly hostname: string;
}

/** The primary address first. */
export const addressesOf = ({ family, ip, secondaryIp }: RunningPod): readonly IpAddress[] =>
  secondaryIp === undefined
    ? [{ family, ip }]
    : [
        { family, ip },
        { family: family === 4 ? 6 : 4, ip: secondaryIp },
      ];

export class Kubelet {
  readonly machine: Machine;
  readonly #cni: CniRuntime;
  /** The node's own addresses, for pods with hostNetwork. */
  readonly #nodeIps: readonly IpAddress[];
  readonly #pods = new Map<string, RunningPod>();

  constructor(machine: Machine, { cni, nodeIps }: { cni: CniRuntime; nodeIps: readonly IpAddress[] }) {
    this.machine = machine;
    this.#cni = cni;
    this.#nodeIps = nodeIps;
  }

  get pods(): readonly RunningPod[] {
    return [...this.#pods.values()];
  }

  /** Starts a pod. Errors of the network's plugins (range used up, address taken) pass through, and nothing is left of it. */
  start(name: string, sandbox: PodSandbox = {}): RunningPod {
    const pod = sandbox.hostNetwork === true ? this.#inHostNetwork(name) : this.#inOwnNamespace(name, sandbox);
    this.#pods.set(name, pod);
    return pod;
  }

  /** Stops a pod; nothing happens if it does not run. */
  stop(name: string): void {
    const pod = this.#pods.get(name);
    if (pod === undefined) return;
    this.#pods.delete(name);
    if (pod.namespace === this.machine.root) return;
    this.#cni.del({ containerId: name, ifName: IF_NAME, namespace: pod.namespace });
    this.machine.removeNamespace(name);
  }

  #inOwnNamespace(name: string, { hostname = name, requestedIps, portMappings, bandwidth }: PodSandbox): RunningPod {
    const namespace = this.machine.addNamespace(name);
    try {
      const { ips } = this.#cni.add({
        containerId: name,
        ifName: IF_NAME,
        namespace,
        ...(requestedIps !== undefined && { requestedIps }),
        ...((portMappings ?? bandwidth) !== undefined && { capabilities: { portMappings, bandwidth } }),
      });
      return this.#pod(name, namespace, { ips, hostname });
    } catch (error) {
      this.machine.removeNamespace(name);
      throw error;
    }
  }

  #inHostNetwork(name: string): RunningPod {
    return this.#pod(name, this.machine.root, { ips: this.#nodeIps, hostname: this.machine.name });
  }

  #pod(
    name: string,
    namespace: NetworkNamespace,
    { ips, hostname }: { readonly ips: readonly IpAddress[]; readonly hostname: string },
  ): RunningPod {
    const [{ family, ip }, second] = ips as readonly [IpAddress, IpAddress?];
    const { place } = this.machine;
    const cpu = this.machine.nextCpu();
    return { name, place, namespace, cpu, family, ip, secondaryIp: second?.ip, node: this.machine.name, hostname };
  }
}

/** Of a pod's interface to its network. */
const IF_NAME = 'eth0';
