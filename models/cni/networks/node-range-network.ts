// Networks in which each node gives addresses of the range that is cut for it: all but those with a pool of blocks. What
// differs is how a node is set up, and how the ways to other nodes are found.

import { addressBits, type IpAddress, prefix } from '../../packet/ip-address.ts';
import { isInPodRange } from './bridged-network.ts';
import type { NetworkNode, NodeNetwork, NodeRouting, PodNetwork } from './pod-network.ts';

export class NodeRangeNetwork implements PodNetwork {
  readonly usesNodeRanges = true;
  readonly #routing: NodeRouting;
  readonly #setUp: (node: NetworkNode) => Omit<NodeNetwork, 'covers'>;

  constructor(routing: NodeRouting, setUp: (node: NetworkNode) => Omit<NodeNetwork, 'covers'>) {
    this.#routing = routing;
    this.#setUp = setUp;
  }

  join(node: NetworkNode): NodeNetwork {
    this.#routing.attach(node);
    return { ...this.#setUp(node), covers: (address) => isInPodRange(node, address) };
  }

  connect(added: readonly NetworkNode[]): void {
    this.#routing.addAll(
      added.flatMap((home) => home.families.map(({ podRange }) => ({ destination: podRange, home }))),
    );
  }

  routeAlone({ family, ip }: IpAddress, home: NetworkNode): void {
    this.#routing.add(prefix(ip, addressBits(family), family), home);
  }
}
