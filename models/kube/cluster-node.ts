// A Kubernetes node: a machine on the fabric with a bridge for its pods, a kubelet and a kube-proxy.

import type { Duration } from '../../engine/time.ts';
import { CniHost, type IsReserved } from '../cni/cni-host.ts';
import { CniRuntime } from '../cni/cni-runtime.ts';
import type { NetworkNode, NodeNetwork, PodNetwork } from '../cni/networks/pod-network.ts';
import {
  DEFAULT_MASQUERADE_AGENT,
  type EgressWay,
  type MasqueradeAgentSettings,
  masqueradeByAgent,
  useEgressWays,
} from '../host/egress.ts';
import type { Fabric } from '../host/fabric.ts';
import { addAddress, addDefaultRoute, stackOf } from '../host/ip-setup.ts';
import { Machine, type MachineOptions } from '../host/machine.ts';
import { gatewayOf } from '../host/outside-world.ts';
import type { Process } from '../host/process.ts';
import {
  addressBits,
  formatIp,
  type Ip,
  type IpAddress,
  type IpFamily,
  type Prefix,
  parseAddress,
  parseAnyPrefix,
} from '../packet/ip-address.ts';
import { KubeProxy, type SyncSettings } from './kube-proxy/kube-proxy.ts';
import type { ProxyMetrics } from './kube-proxy/proxy-metrics.ts';
import type { ProxyCaches, ProxyFlags, ProxyMode } from './kube-proxy/proxy-mode.ts';
import type { ServiceSnapshot } from './kube-proxy/service-tracker.ts';
import { Kubelet } from './kubelet.ts';
import { MachineRules } from './machine-rules.ts';
import { type EnforcementSettings, PolicyAgent } from './network-policy/policy-agent.ts';
import type { PolicySnapshot } from './network-policy/policy-tracker.ts';
import { addressOfNode, isOfFamily, type Node, podCidrsOf } from './objects.ts';
import { type ClusterRanges, rangeOf } from './ranges.ts';

/** What all nodes have in common of one IP family. */
export interface FamilyOfCluster {
  readonly family: IpFamily;
  readonly caches: ProxyCaches;
  /** What kube-proxies have heard of until now. */
  readonly services: () => ServiceSnapshot;
}

/** How pods' packets leave the cluster, if no egress gateway is meant. */
export interface EgressSettings extends MasqueradeAgentSettings {
  /**
   * `outside the cluster`: the network plugin's rule, with the node's address to all but pods; `ip-masq-agent`: its rules,
   * with the ranges below; `none`: pods keep their address, and the routers must know the way back.
   */
  readonly masquerade: 'outside the cluster' | 'ip-masq-agent' | 'none';
}

export const DEFAULT_EGRESS: EgressSettings = { masquerade: 'outside the cluster', ...DEFAULT_MASQUERADE_AGENT };

export interface ClusterNodeOptions {
  /** The API object, with an InternalIP and a pod range of each of the cluster's families. */
  readonly object: Node;
  readonly machine: Omit<MachineOptions, 'name' | 'forwarding'>;
  readonly fabric: Fabric;
  /** The first one first. */
  readonly families: readonly FamilyOfCluster[];
  readonly ranges: ClusterRanges;
  readonly network: PodNetwork;
  readonly egress: EgressSettings;
  readonly proxy: {
    readonly mode: ProxyMode;
    readonly sync: SyncSettings;
    readonly flags: ProxyFlags;
    readonly totalMetrics: ProxyMetrics;
  };
  /** Of NetworkPolicies: `snapshot` is what the agents have heard of until now. */
  readonly enforcement: { readonly settings: EnforcementSettings; readonly snapshot: () => PolicySnapshot };
  /** Addresses that pods of a snapshot have, or will have once they have started. */
  readonly isReserved: IsReserved;
}

type Nic = ReturnType<Fabric['attach']>;

/** What the node has of one family. */
interface NodeFamily extends IpAddress {
  readonly podRange: Prefix;
  readonly ofCluster: FamilyOfCluster;
}

export class ClusterNode {
  readonly name: string;
  readonly machine: Machine;
  readonly kubelet: Kubelet;
  /** What kube-proxy has written. */
  readonly rules: MachineRules;
  /** A program on the node itself, outside pods: a node agent, or a client on the host network. */
  readonly process: Process;
  readonly policyAgent: PolicyAgent;
  /** As its network's daemon sees it. */
  readonly networkNode: NetworkNode;
  readonly #network: NodeNetwork;
  readonly #nicName = 'eth0';
  readonly #families: readonly NodeFamily[];
  #ipText: string | undefined;
  readonly #newProxies: (mode: ProxyMode, sync: SyncSettings) => readonly KubeProxy[];
  #proxySync: SyncSettings;
  /** Of kube-proxy. */
  #restarts = 0;
  #kubeProxies: readonly KubeProxy[];

  constructor({
    object,
    machine,
    fabric,
    families,
    ranges,
    network,
    egress,
    proxy,
    enforcement,
    isReserved,
  }: ClusterNodeOptions) {
    this.name = object.metadata.name;
    this.#families = families.map((ofCluster): NodeFamily => {
      const { family } = ofCluster;
      const { ip } = parseAddress(addressOfNode(object, family)!);
      return { family, ip, podRange: parseAnyPrefix(podCidrsOf(object).find(isOfFamily(family))!), ofCluster };
    });
    this.machine = new Machine({ ...machine, name: this.name, forwarding: true });
    const { root, place } = this.machine;
    const nic = fabric.attach(this.machine, this.#nicName);
    for (const family of this.#families) this.#joinFabric(nic, family, ranges);
    const host = new CniHost(this.machine, { isReserved });
    this.networkNode = { name: this.name, host, nic, families: this.#families };
    this.#network = network.join(this.networkNode);
    if (egress.masquerade === 'ip-masq-agent')
      for (const { family } of this.#families) masqueradeByAgent(this.machine, family, egress);
    const { configList, plugins, gateways } = this.#network;
    const cni = new CniRuntime(host, configList, plugins);
    this.kubelet = new Kubelet(this.machine, { cni, nodeIps: this.#families });
    this.process = { name: this.name, place, namespace: root, cpu: this.machine.nextCpu() };
    const zone = object.metadata.labels['topology.kubernetes.io/zone'];
    this.rules = new MachineRules(this.machine, { name: this.#nicName, ip: this.ip });
    const rules = () => this.rules;
    this.#newProxies = (mode, sync) =>
      this.#families.map(({ family, ip, ofCluster: { caches, services } }) => {
        const own = gateways.filter((gateway) => gateway.family === family).map((gateway) => gateway.ip);
        const node = { name: this.name, zone, ips: [ip, ...own] };
        const stream = family === 4 ? 'kube-proxy' : 'kube-proxy/ipv6';
        const random = place.random(this.#restarts === 0 ? stream : `${stream}/restart-${this.#restarts}`);
        return new KubeProxy({ ...proxy, mode, sync, place, node, ranges, family, caches, services, random, rules });
      });
    this.#proxySync = proxy.sync;
    this.#kubeProxies = this.#newProxies(proxy.mode, proxy.sync);
    const podRanges = this.#families.map(({ podRange }) => podRange);
    this.policyAgent = new PolicyAgent({ ...enforcement, place, rules, node: { name: this.name, podRanges } });
  }

  /** The node's address on the nodes' network and the way out of it, of one family. */
  #joinFabric(nic: Nic, { family, ip }: NodeFamily, ranges: ClusterRanges): void {
    const { root } = this.machine;
    const nodeRange = rangeOf(ranges, 'node', family)!;
    if (family === 6) root.stack.enableIpv6().setForwarding(1);
    addAddress(root, nic, { family, ip, length: nodeRange.length });
    addDefaultRoute(root, nic, { family, ip: gatewayOf(nodeRange) });
  }

  /** Pods that leave the cluster by a gateway, and on that the addresses with which they do. */
  useEgress(ways: readonly EgressWay[], addresses: readonly IpAddress[]): void {
    const { root } = this.machine;
    for (const { family, ip } of addresses)
      if (!stackOf(root, family).addresses.some((own) => own.ip === ip))
        addAddress(root, root.deviceNamed(this.#nicName), { family, ip, length: addressBits(family) });
    for (const { family } of this.#families) useEgressWays(this.machine, this.#nicName, family, ways);
  }

  /** Its InternalIPs, one of each family of the cluster, the first one first. */
  get addresses(): readonly IpAddress[] {
    return this.#families;
  }

  /** The first of its InternalIPs. */
  get ip(): Ip {
    return this.#families[0]!.ip;
  }

  /** The same as text: its pods say it. */
  get ipText(): string {
    this.#ipText ??= formatIp(this.ip, this.family);
    return this.#ipText;
  }

  get family(): IpFamily {
    return this.#families[0]!.family;
  }

  addressOf(family: IpFamily): Ip | undefined {
    return this.#families.find((own) => own.family === family)?.ip;
  }

  /** Of its pods. */
  podRangeOf(family: IpFamily): Prefix | undefined {
    return this.#families.find((own) => own.family === family)?.podRange;
  }

  /** Of the first family. */
  get kubeProxy(): KubeProxy {
    return this.#kubeProxies[0]!;
  }

  /** One of each family, as in a kube-proxy of a dual-stack cluster: each syncs by itself. */
  get kubeProxies(): readonly KubeProxy[] {
    return this.#kubeProxies;
  }

  /** kube-proxy in another mode, before it has written any rules: nobody would take them away. */
  useProxy(mode: ProxyMode, sync: SyncSettings): void {
    if (this.#kubeProxies.some(({ hasSynced }) => hasSynced))
      throw new RangeError(`node ${this.name} has rules already; expected a mode before the start`);
    this.#proxySync = sync;
    this.#kubeProxies = this.#newProxies(mode, sync);
  }

  /** kube-proxy ends; `downtime` later another one begins, which knows nothing of what the first has written. */
  restartKubeProxy(downtime: Duration): void {
    for (const kubeProxy of this.#kubeProxies) kubeProxy.stop();
    const { mode, servesHealth } = this.kubeProxy;
    const restart = ++this.#restarts;
    this.machine.place.schedule(
      downtime,
      () => {
        if (restart !== this.#restarts) return; // it has been restarted once more meanwhile
        this.#kubeProxies = this.#newProxies(mode, this.#proxySync);
        for (const kubeProxy of this.#kubeProxies) {
          if (servesHealth) kubeProxy.serveHealth(this.process);
          kubeProxy.hear([]);
        }
      },
      undefined,
    );
  }

  /** Cut off from the other machines, as by a cable that is pulled; what goes on within the node, goes on. */
  set connected(connected: boolean) {
    this.machine.root.deviceNamed(this.#nicName).up = connected;
  }

  /** Is a pod of this node found at the address by the ways that nodes have to each other? */
  covers(address: IpAddress): boolean {
    return this.#network.covers(address);
  }
}
