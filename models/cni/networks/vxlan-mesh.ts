// Routes between nodes through VXLAN: a device per node, and of every other node a neighbor, an entry of the forwarding
// database and a route per pod range, all permanent; nothing is learned and nothing flooded
// (pkg/backend/vxlan/vxlan_network.go of flannel). The tunnels are over one IP family; where pods have both, each has its own
// mesh (routing-by-family.ts).
//
// What nodes hold grows with the square of their number.

import { stackOf } from '../../host/ip-setup.ts';
import type { VxlanDevice } from '../../link/vxlan.ts';
import { addressBits, type Ip, type IpFamily, type Prefix } from '../../packet/ip-address.ts';
import { addressOf, type NetworkNode, type NodeRouting } from './pod-network.ts';

export interface VxlanSettings {
  readonly device: string;
  /** Of the nodes' addresses, between which the tunnels are; default IPv4. */
  readonly underlay?: IpFamily;
  /** Of the pods; default that of the nodes' addresses, as networks have it. */
  readonly family?: IpFamily;
  readonly vni: number;
  readonly port?: number;
  /** The address of a node's device, by which the others know it as next hop. */
  readonly tunnelIp: (node: NetworkNode) => Ip;
  /** Nodes on one link send to each other without a tunnel. */
  readonly directRouting?: boolean;
}

interface Member {
  readonly node: NetworkNode;
  readonly tunnel: VxlanDevice;
  readonly tunnelIp: Ip;
}

export class VxlanMesh implements NodeRouting {
  readonly #settings: VxlanSettings;
  readonly #underlay: IpFamily;
  readonly #family: IpFamily;
  readonly #members = new Map<NetworkNode, Member>();
  /** By node: what is behind it. A node may have something before it is attached. */
  readonly #destinations = new Map<NetworkNode, Prefix[]>();

  constructor(settings: VxlanSettings) {
    this.#settings = settings;
    this.#underlay = settings.underlay ?? 4;
    this.#family = settings.family ?? this.#underlay;
  }

  attach(node: NetworkNode): void {
    const { device, vni, port, tunnelIp } = this.#settings;
    const { machine, root } = node.host;
    const [family, local] = [this.#underlay, addressOf(node, this.#underlay)];
    const link = { name: device, mac: machine.nextMac(), vni, family, local, lower: node.nic };
    const tunnel = root.addVxlan(port === undefined ? link : { ...link, port });
    const ip = tunnelIp(node);
    stackOf(root, this.#family).addAddress(tunnel, ip, addressBits(this.#family));
    const added: Member = { node, tunnel, tunnelIp: ip };
    for (const member of this.#members.values()) {
      this.#meet(added, member);
      this.#meet(member, added);
    }
    this.#members.set(node, added);
  }

  add(destination: Prefix, home: NetworkNode): void {
    this.#behind(home).push(destination);
    const behind = this.#members.get(home);
    if (behind === undefined) return;
    for (const member of this.#members.values()) if (member !== behind) this.#route(member, destination, behind);
  }

  addAll(routes: readonly { readonly destination: Prefix; readonly home: NetworkNode }[]): void {
    for (const { destination, home } of routes) this.add(destination, home);
  }

  #meet(member: Member, remote: Member): void {
    if (this.#settings.directRouting !== true) {
      const { neighbors } = stackOf(member.node.host.root, this.#family);
      neighbors.addPermanent(member.tunnel, remote.tunnelIp, remote.tunnel.mac);
      member.tunnel.appendForwarding(remote.tunnel.mac, addressOf(remote.node, this.#underlay));
    }
    for (const destination of this.#behind(remote.node)) this.#route(member, destination, remote);
  }

  #behind(node: NetworkNode): Prefix[] {
    let destinations = this.#destinations.get(node);
    if (destinations === undefined) this.#destinations.set(node, (destinations = []));
    return destinations;
  }

  /** `ip route add DESTINATION via TUNNEL-IP dev DEVICE onlink`, or via the node's address. */
  #route({ node, tunnel }: Member, destination: Prefix, remote: Member): void {
    const stack = stackOf(node.host.root, this.#family);
    if (this.#settings.directRouting === true)
      stack.addRoute({ destination, device: node.nic, gateway: addressOf(remote.node, this.#family) });
    else stack.addRoute({ destination, device: tunnel, gateway: remote.tunnelIp });
  }
}
