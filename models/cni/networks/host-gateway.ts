// Routes between nodes in the manner of flannel's backend host-gw: every node routes every other node's pod range to that
// node's address. They need a common layer 2, or a tunnel by which every node leads to every other (onlink). One table for
// all nodes (ip/shared-routes.ts).
//
// In the manner of a daemon's watch of the nodes, but at once.

import { stackOf } from '../../host/ip-setup.ts';
import { SharedRoutes } from '../../ip/shared-routes.ts';
import type { NetDevice } from '../../link/net-device.ts';
import type { Ip, IpFamily, Prefix } from '../../packet/ip-address.ts';
import { addressOf, type NetworkNode, type NodeRouting } from './pod-network.ts';

/** By which device a node sends to the others, and as whom: absent, by the address that they know it by. */
export interface WayOut {
  readonly device: NetDevice;
  readonly source?: Ip;
}

export class HostGateway implements NodeRouting {
  readonly #wayOf: (node: NetworkNode) => WayOut;
  readonly #routes: ReadonlyMap<IpFamily, SharedRoutes>;
  readonly #nodes: Readonly<Record<IpFamily, Map<Ip, NetworkNode>>> = { 4: new Map(), 6: new Map() };

  constructor(families: readonly IpFamily[], wayOf: (node: NetworkNode) => WayOut = ({ nic }) => ({ device: nic })) {
    this.#wayOf = wayOf;
    this.#routes = new Map(families.map((family) => [family, new SharedRoutes(family)]));
  }

  attach(node: NetworkNode): void {
    const way = this.#wayOf(node);
    for (const { family, ip } of node.families) {
      const use = { routes: this.#routes.get(family)!, host: ip, ...way };
      stackOf(node.host.root, family).fib.share(use);
      this.#nodes[family].set(ip, node);
    }
  }

  add(destination: Prefix, home: NetworkNode): void {
    this.addAll([{ destination, home }]);
  }

  addAll(routes: readonly { readonly destination: Prefix; readonly home: NetworkNode }[]): void {
    for (const [family, shared] of this.#routes) {
      const own = routes.filter(({ destination }) => destination.family === family);
      if (own.length === 0) continue;
      const replaced = shared.add(
        own.map(({ destination, home }) => ({ destination, gateway: addressOf(home, family) })),
      );
      const homes = new Set(own.map(({ home }) => addressOf(home, family)));
      for (const { destination, gateway } of replaced) if (!homes.has(gateway)) this.#forget(destination, gateway);
    }
  }

  /** A pod that had an address outside its node's range is gone, and another node has one with that address. */
  #forget(destination: Prefix, formerHome: Ip): void {
    const { family } = destination;
    const node = this.#nodes[family].get(formerHome);
    if (node !== undefined) stackOf(node.host.root, family).fib.remove(destination);
  }
}
