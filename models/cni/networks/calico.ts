// A network in the manner of Calico's: routed veths without a bridge (plugins/calico.ts), addresses of blocks that nodes
// claim from one pool per IP family, and routes to blocks: by the nodes' addresses (as BGP between all nodes would have
// them), the same through IP-in-IP (`via NODE dev tunl0 onlink`), which is for IPv4 only, or through VXLAN, by a device for
// each family (vxlan.calico, vxlan-v6.calico).
//
// Not modelled: tunnels for other subnets only (CrossSubnet), BGP itself (nodes know of a block at once),
// policies of its own kinds, the ipsets of its masquerade rule, which names the pool instead, and its rule that gives what a
// node sends into a tunnel from another address of its own that of the tunnel; kube-proxy masquerades what that is for.

import { stackOf } from '../../host/ip-setup.ts';
import { IPIP_OVERHEAD_BYTES } from '../../link/ipip.ts';
import { VXLAN_OVERHEAD_BYTES } from '../../link/vxlan.ts';
import {
  addressBits,
  contains,
  formatPrefix,
  type Ip,
  type IpAddress,
  type IpFamily,
  type Prefix,
  parseAddress,
  prefix,
} from '../../packet/ip-address.ts';
import { failure } from '../cni-error.ts';
import { IptablesCommands } from '../iptables-commands.ts';
import { type CniPlugin, cniPlugin } from '../plugin.ts';
import { NO_RESULT, type ResultIp } from '../result.ts';
import { BlockPool } from './block-pool.ts';
import { HOST_PORTS_AND_LIMITS } from './bridge-network.ts';
import { HostGateway, type WayOut } from './host-gateway.ts';
import type { NetworkCluster, NetworkNode, NodeNetwork, NodeRouting, PodNetwork } from './pod-network.ts';
import { RoutingByFamily } from './routing-by-family.ts';
import { VxlanMesh } from './vxlan-mesh.ts';

export const CALICO_ENCAPSULATIONS = ['none', 'ipip', 'vxlan'] as const;
export type CalicoEncapsulation = (typeof CALICO_ENCAPSULATIONS)[number];

const OVERHEAD_BYTES: Readonly<Record<CalicoEncapsulation, Readonly<Record<IpFamily, number>>>> = {
  none: { 4: 0, 6: 0 },
  ipip: { 4: IPIP_OVERHEAD_BYTES, 6: IPIP_OVERHEAD_BYTES },
  vxlan: VXLAN_OVERHEAD_BYTES,
};

/** Of Calico's VXLAN: the port is the assigned one. */
const VXLAN = { vni: 4096, port: 4789 } as const;
const VXLAN_DEVICES: Readonly<Record<IpFamily, string>> = { 4: 'vxlan.calico', 6: 'vxlan-v6.calico' };

export const calicoNetwork = (cluster: NetworkCluster, encapsulation: CalicoEncapsulation): PodNetwork =>
  new CalicoNetwork(cluster, encapsulation);

class CalicoNetwork implements PodNetwork {
  readonly usesNodeRanges = false;
  readonly #cluster: NetworkCluster;
  readonly #pools: ReadonlyMap<IpFamily, BlockPool>;
  readonly #routing: NodeRouting;
  readonly #encapsulation: CalicoEncapsulation;
  readonly #nodes = new Map<string, NetworkNode>();
  readonly #ipam: CniPlugin;

  constructor(cluster: NetworkCluster, encapsulation: CalicoEncapsulation) {
    this.#cluster = cluster;
    this.#encapsulation = encapsulation;
    this.#pools = new Map(cluster.families.map((family) => [family, new BlockPool(cluster.podRange(family))]));
    this.#routing = this.#makeRouting();
    for (const pool of this.#pools.values()) pool.whenClaimed = (block, node) => this.#announce(block, node);
    this.#ipam = calicoIpam(this.#pools);
  }

  #makeRouting(): NodeRouting {
    const { families } = this.#cluster;
    switch (this.#encapsulation) {
      case 'none':
        return new HostGateway(families);
      case 'ipip':
        return new HostGateway(families, (node) => this.#addTunnel(node));
      case 'vxlan':
        return new RoutingByFamily(families, (underlay) => {
          const tunnelIp = (node: NetworkNode): Ip => this.#tunnelIp(node, underlay);
          return new VxlanMesh({ ...VXLAN, device: VXLAN_DEVICES[underlay], underlay, tunnelIp });
        });
    }
  }

  /** `tunl0`, with the address that the node's own connections to pods elsewhere come from (inet_select_addr). */
  #addTunnel(node: NetworkNode): WayOut {
    const { root } = node.host;
    const device = root.addIpip({ name: 'tunl0', mtuBytes: node.nic.mtuBytes - IPIP_OVERHEAD_BYTES });
    const source = this.#tunnelIp(node, 4);
    root.stack.addAddress(device, source, 32);
    return { device, source };
  }

  /** The next address of the node's block: the first one, as a node joins before it has pods. */
  #tunnelIp({ name }: NetworkNode, family: IpFamily): Ip {
    return this.#pools.get(family)!.assign(name, `tunnel of ${name}`, () => false);
  }

  /** The smallest of all families' (determinePodMTU). */
  #podMtu({ nic }: NetworkNode): number {
    const overheads = this.#cluster.families.map((family) => OVERHEAD_BYTES[this.#encapsulation][family]);
    return nic.mtuBytes - Math.max(...overheads);
  }

  join(node: NetworkNode): NodeNetwork {
    this.#nodes.set(node.name, node);
    this.#routing.attach(node);
    if (this.#cluster.masquerades)
      for (const { family } of node.families) masquerade(node, this.#cluster.podRange(family));
    const mtu = this.#cluster.bridge.mtuBytes ?? this.#podMtu(node);
    const plugins = [{ type: 'calico', mtu, ipam: { type: this.#ipam.type } }, ...HOST_PORTS_AND_LIMITS];
    const covers = ({ family, ip }: IpAddress): boolean => this.#pools.get(family)?.isOf(node.name, ip) === true;
    const configList = { cniVersion: '0.3.1', name: 'k8s-pod-network', plugins };
    return { configList, plugins: [this.#ipam], gateways: [], covers };
  }

  /** Blocks are announced when they are claimed. */
  connect(): void {}

  routeAlone({ family, ip }: IpAddress, home: NetworkNode): void {
    this.#routing.add(prefix(ip, addressBits(family), family), home);
  }

  /** The node itself refuses what is in its block and nobody's (`blackhole BLOCK proto bird`). */
  #announce(block: Prefix, name: string): void {
    const node = this.#nodes.get(name)!;
    const common = {
      destination: block,
      device: node.host.root.deviceNamed('lo'),
      gateway: NO_GATEWAY,
      source: NO_GATEWAY,
    };
    stackOf(node.host.root, block.family).fib.add({
      ...common,
      type: 'blackhole',
      metric: block.family === 6 ? 1024 : 0,
    });
    this.#routing.add(block, node);
  }
}

const NO_GATEWAY = parseAddress('0.0.0.0').ip;

function masquerade({ host }: NetworkNode, pool: Prefix): void {
  const nat = new IptablesCommands(host.root, 'nat', pool.family);
  const range = formatPrefix(pool);
  nat.ensureChain('cali-nat-outgoing');
  nat.ensure('cali-nat-outgoing', `-s ${range} ! -d ${range} -j MASQUERADE --random-fully`);
  nat.ensureChain('cali-POSTROUTING');
  nat.ensure('cali-POSTROUTING', '-j cali-nat-outgoing');
  nat.ensureFirst('POSTROUTING', '-j cali-POSTROUTING');
}

/** The IPAM plugin `calico-ipam`, on the pools of this cluster. */
function calicoIpam(pools: ReadonlyMap<IpFamily, BlockPool>): CniPlugin {
  const holderOf = ({ containerId, ifName }: { containerId: string; ifName: string }) => `${containerId}/${ifName}`;
  return cniPlugin({
    type: 'calico-ipam',
    options: {},
    add({ host, config, ...attachment }) {
      const node = host.machine.name;
      const holder = holderOf(attachment);
      const requested = (config.args?.cni?.ips ?? []).map(parseAddress);
      const ips = [...pools].map(([family, pool]): ResultIp => {
        const wanted = requested.find((address) => address.family === family);
        if (wanted === undefined) return alone({ family, ip: pool.assign(node, holder, host.isReserved) });
        if (contains(pool.range, wanted.ip)) pool.assignRequested(node, holder, wanted.ip);
        else if (!host.isReserved(wanted)) throw failure(`calico-ipam: requested address is in no pool`);
        return alone(wanted);
      });
      return { ...NO_RESULT, ips };
    },
    del(call) {
      for (const pool of pools.values()) pool.release(holderOf(call));
    },
    check(call) {
      if (![...pools.values()].some((pool) => pool.holds(holderOf(call))))
        throw failure(`calico-ipam: no address is allocated to container ${call.containerId}`);
    },
  });
}

const alone = ({ family, ip }: IpAddress): ResultIp => ({ family, ip, length: addressBits(family) });
