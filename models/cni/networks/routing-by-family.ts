// Ways to other nodes that are found for each IP family by itself: as flannel and Calico have a tunnel for each.

import type { IpFamily, Prefix } from '../../packet/ip-address.ts';
import type { NetworkNode, NodeRouting } from './pod-network.ts';

export class RoutingByFamily implements NodeRouting {
  readonly #routings: readonly (readonly [IpFamily, NodeRouting])[];

  constructor(families: readonly IpFamily[], routingOf: (family: IpFamily) => NodeRouting) {
    this.#routings = families.map((family) => [family, routingOf(family)]);
  }

  attach(node: NetworkNode): void {
    for (const [, routing] of this.#routings) routing.attach(node);
  }

  add(destination: Prefix, home: NetworkNode): void {
    this.addAll([{ destination, home }]);
  }

  addAll(routes: readonly { readonly destination: Prefix; readonly home: NetworkNode }[]): void {
    for (const [family, routing] of this.#routings)
      routing.addAll(routes.filter(({ destination }) => destination.family === family));
  }
}
