// What a kubelet does for the network of its pods: a network namespace per pod, connected by the CNI plugin on start and
// disconnected on stop. A pod that starts again gets a new namespace and a new address.
//
// When that happens is the matter of pod-lifecycle.ts. Not modelled: images, restarts of containers.

import type { CniPlugin } from '../cni/plugin.ts';
import type { Machine } from '../host/machine.ts';
import type { NetworkNamespace } from '../host/network-namespace.ts';
import type { Process } from '../host/process.ts';
import type { Ip } from '../packet/ip-address.ts';

/** A pod that runs: its first process is what workloads drive. */
export interface RunningPod extends Process {
  readonly ip: Ip;
  readonly node: string;
}

export class Kubelet {
  readonly machine: Machine;
  readonly #cni: CniPlugin;
  /** The node's own address, for pods with hostNetwork. */
  readonly #nodeIp: Ip;
  readonly #pods = new Map<string, RunningPod>();

  constructor(machine: Machine, { cni, nodeIp }: { cni: CniPlugin; nodeIp: Ip }) {
    this.machine = machine;
    this.#cni = cni;
    this.#nodeIp = nodeIp;
  }

  get pods(): readonly RunningPod[] {
    return [...this.#pods.values()];
  }

  /** Starts a pod. Errors of the IPAM plugin (range used up, address taken) pass through. */
  start(
    name: string,
    { hostNetwork = false, requestedIp }: { hostNetwork?: boolean; requestedIp?: Ip } = {},
  ): RunningPod {
    const pod = hostNetwork ? this.#inHostNetwork(name) : this.#inOwnNamespace(name, requestedIp);
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

  #inOwnNamespace(name: string, requestedIp: Ip | undefined): RunningPod {
    const namespace = this.machine.addNamespace(name);
    const args = this.#cniArguments(name, namespace);
    const { ip } = this.#cni.add(requestedIp === undefined ? args : { ...args, requestedIp });
    return this.#pod(name, namespace, ip);
  }

  #inHostNetwork(name: string): RunningPod {
    return this.#pod(name, this.machine.root, this.#nodeIp);
  }

  #pod(name: string, namespace: NetworkNamespace, ip: Ip): RunningPod {
    const { place } = this.machine;
    return { name, place, namespace, cpu: this.machine.nextCpu(), ip, node: this.machine.name };
  }

  #cniArguments(name: string, namespace: NetworkNamespace) {
    return { containerId: name, namespace, machine: this.machine, interfaceName: 'eth0' };
  }
}
