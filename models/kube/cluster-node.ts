// A Kubernetes node: a machine on the fabric with a bridge for its pods, a kubelet and a kube-proxy.

import type { BridgePluginSettings } from '../cni/bridge.ts';
import { BridgePlugin } from '../cni/bridge.ts';
import { masqueradeEgress, usePodRoutes } from '../cni/host-gateway.ts';
import { HostLocal } from '../cni/host-local.ts';
import type { Fabric } from '../host/fabric.ts';
import { Machine, type MachineOptions } from '../host/machine.ts';
import type { Process } from '../host/process.ts';
import type { SharedRoute, SharedRoutes } from '../ip/shared-routes.ts';
import { ANY_PREFIX, type Ip, type Prefix, parseIp, parsePrefix } from '../packet/ip-address.ts';
import { KubeProxy, type SyncSettings } from './kube-proxy/kube-proxy.ts';
import type { ProxyMetrics } from './kube-proxy/proxy-metrics.ts';
import type { ProxyCaches, ProxyFlags, ProxyMode } from './kube-proxy/proxy-mode.ts';
import type { ServiceSnapshot } from './kube-proxy/service-tracker.ts';
import { Kubelet } from './kubelet.ts';
import { MachineRules } from './machine-rules.ts';
import { addressOfNode, type Node } from './objects.ts';
import type { ClusterRanges } from './ranges.ts';

export interface ClusterNodeOptions {
  /** The API object, with its InternalIP and podCIDR. */
  readonly object: Node;
  readonly machine: Omit<MachineOptions, 'name' | 'forwarding'>;
  readonly fabric: Fabric;
  /** The way to every node's pods, the same for all nodes. */
  readonly podRoutes: SharedRoutes;
  readonly ranges: ClusterRanges;
  readonly defaultGateway: Ip;
  readonly cni: Partial<BridgePluginSettings>;
  readonly proxy: {
    readonly mode: ProxyMode;
    readonly caches: ProxyCaches;
    readonly sync: SyncSettings;
    readonly totalMetrics: ProxyMetrics;
    readonly services: () => ServiceSnapshot;
    readonly flags: ProxyFlags;
  };
  /** Addresses that pods of a snapshot have, or will have once they have started. */
  readonly isReserved: (ip: Ip) => boolean;
}

export class ClusterNode {
  readonly name: string;
  readonly ip: Ip;
  readonly podRange: Prefix;
  readonly machine: Machine;
  readonly kubelet: Kubelet;
  /** What kube-proxy has written. */
  readonly rules: MachineRules;
  /** A program on the node itself, outside pods: a node agent, or a client on the host network. */
  readonly process: Process;
  readonly #nicName = 'eth0';
  readonly #startProxy: (mode: ProxyMode, sync: SyncSettings) => KubeProxy;
  #kubeProxy: KubeProxy;

  constructor(options: ClusterNodeOptions) {
    const { object, machine, fabric, podRoutes, ranges, defaultGateway, cni, proxy, isReserved } = options;
    this.name = object.metadata.name;
    this.ip = parseIp(addressOfNode(object)!);
    this.podRange = parsePrefix(object.spec.podCIDR!);
    this.machine = new Machine({ ...machine, name: this.name, forwarding: true });
    const { root, place } = this.machine;
    const nic = fabric.attach(this.machine, this.#nicName);
    root.stack.addAddress(nic, this.ip, ranges.node.length);
    root.stack.addRoute({ destination: ANY_PREFIX, device: nic, gateway: defaultGateway });
    usePodRoutes(this.machine, podRoutes, { device: nic, nodeIp: this.ip });
    masqueradeEgress(this.machine, { clusterRange: ranges.pod });
    const plugin = new BridgePlugin(this.machine, {
      ipam: new HostLocal(this.podRange, isReserved),
      prefixLength: this.podRange.length,
      settings: cni,
    });
    this.kubelet = new Kubelet(this.machine, { cni: plugin, nodeIp: this.ip });
    this.process = { name: this.name, place, namespace: root, cpu: this.machine.nextCpu() };
    const node = {
      name: this.name,
      zone: object.metadata.labels['topology.kubernetes.io/zone'],
      ips: [this.ip, plugin.gateway],
    };
    const random = place.random('kube-proxy');
    this.rules = new MachineRules(this.machine, { name: this.#nicName, ip: this.ip });
    const rules = () => this.rules;
    this.#startProxy = (mode, sync) => new KubeProxy({ ...proxy, mode, sync, place, node, ranges, random, rules });
    this.#kubeProxy = this.#startProxy(proxy.mode, proxy.sync);
  }

  get kubeProxy(): KubeProxy {
    return this.#kubeProxy;
  }

  /** kube-proxy in another mode, before it has written any rules: nobody would take them away. */
  useProxy(mode: ProxyMode, sync: SyncSettings): void {
    if (this.#kubeProxy.hasSynced)
      throw new RangeError(`node ${this.name} has rules already; expected a mode before the start`);
    this.#kubeProxy = this.#startProxy(mode, sync);
  }

  /** Cut off from the other machines, as by a cable that is pulled; what goes on within the node, goes on. */
  set connected(connected: boolean) {
    this.machine.root.deviceNamed(this.#nicName).up = connected;
  }

  /** What other nodes must know to reach this one's pods. */
  get podRoute(): SharedRoute {
    return { destination: this.podRange, gateway: this.ip };
  }

  /** A pod that had an address outside the node's range is gone, and another node has one with that address. */
  forgetPod(address: Prefix): void {
    this.machine.root.stack.fib.remove(address);
  }
}
