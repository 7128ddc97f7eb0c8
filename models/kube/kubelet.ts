// What a kubelet does for the network of its pods: a network namespace per pod, connected by the CNI plugin on start and
// disconnected on stop. A pod that starts again gets a new namespace and a new address.
//
// When that happens is the matter of pod-lifecycle.ts. Not modelled: images, restarts of containers.

import type { CniPlugin } from '../cni/plugin.ts';
import type { Machine } from '../host/machine.ts';
import type { NetworkNamespace } from '../host/network-namespace.ts';
import type { Process } from '../host/process.ts';
import type { Ip, IpAddress } from '../packet/ip-address.ts';

/** A pod that runs: its first process is what workloads drive. */
export interface RunningPod extends Process, IpAddress {
  /** Its address of the other family, on dual-stack nodes. */
  readonly secondaryIp: Ip | undefined;
  readonly node: string;
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
  readonly #cni: CniPlugin;
  /** The node's own addresses, for pods with hostNetwork. */
  readonly #nodeIps: readonly IpAddress[];
  readonly #pods = new Map<string, RunningPod>();

  constructor(machine: Machine, { cni, nodeIps }: { cni: CniPlugin; nodeIps: readonly IpAddress[] }) {
    this.machine = machine;
    this.#cni = cni;
    this.#nodeIps = nodeIps;
  }

  get pods(): readonly RunningPod[] {
    return [...this.#pods.values()];
  }

  /** Starts a pod. Errors of the IPAM plugin (range used up, address taken) pass through. */
  start(
    name: string,
    { hostNetwork = false, requestedIps }: { hostNetwork?: boolean; requestedIps?: readonly IpAddress[] } = {},
  ): RunningPod {
    const pod = hostNetwork ? this.#inHostNetwork(name) : this.#inOwnNamespace(name, requestedIps);
    this.#pods.set(name, pod);
    return pod;
  }

  /** Stops a pod; nothing happens if it does not run. */
  stop(name: string): void {
    const pod = this.#pods.get(name);
    if (pod === undefined) return;
    this.#pods.delete(name);
    if (pod.namespace === this.machine.root) return;
    this.#cni.del(this.#cniArguments(name, pod.namespace));
    this.machine.removeNamespace(name);
  }

  #inOwnNamespace(name: string, requestedIps: readonly IpAddress[] | undefined): RunningPod {
    const namespace = this.machine.addNamespace(name);
    const args = this.#cniArguments(name, namespace);
    const { ips } = this.#cni.add(requestedIps === undefined ? args : { ...args, requestedIps });
    return this.#pod(name, namespace, ips);
  }

  #inHostNetwork(name: string): RunningPod {
    return this.#pod(name, this.machine.root, this.#nodeIps);
  }

  #pod(name: string, namespace: NetworkNamespace, ips: readonly IpAddress[]): RunningPod {
    const [{ family, ip }, second] = ips as readonly [IpAddress, IpAddress?];
    const { place } = this.machine;
    const cpu = this.machine.nextCpu();
    return { name, place, namespace, cpu, family, ip, secondaryIp: second?.ip, node: this.machine.name };
  }

  #cniArguments(name: string, namespace: NetworkNamespace) {
    return { containerId: name, namespace, machine: this.machine, interfaceName: 'eth0' };
  }
}
