// How pods reach other nodes and the world: routes between nodes in the manner of flannel's host-gw backend (every node
// routes every other node's pod range to that node's address), and one masquerade rule for traffic that leaves the
// cluster, as kubenet and ip-masq-agent write it.

import { stackOf } from '../host/ip-setup.ts';
import type { Machine } from '../host/machine.ts';
import type { SharedRoutes } from '../ip/shared-routes.ts';
import type { NetDevice } from '../link/net-device.ts';
import { Rule } from '../netfilter/rule.ts';
import type { IpAddress, Prefix } from '../packet/ip-address.ts';

/**
 * `ip route add POD-RANGE via NODE dev DEVICE` for the pod range of every node but this one, now and whenever the routes
 * change: in the manner of flannel's watch of the nodes, but at once.
 */
export function usePodRoutes(machine: Machine, routes: SharedRoutes, { device, family, ip }: PodRouteUser): void {
  stackOf(machine.root, family).fib.share({ routes, device, host: ip });
}

/** The node, by its address of the routes' family. */
interface PodRouteUser extends IpAddress {
  readonly device: NetDevice;
}

/**
 * Pods appear outside with the address of their node. Appended to POSTROUTING like kubenet's rule, which leaves out
 * local destinations and everything in the cluster's own range.
 */
export function masqueradeEgress(machine: Machine, { clusterRange }: { clusterRange: Prefix }): void {
  const { tables, tables6 } = machine.root.enableNetfilter();
  (clusterRange.family === 6 ? tables6 : tables).appendRule(
    'nat',
    'POSTROUTING',
    new Rule({
      family: clusterRange.family,
      destination: clusterRange,
      destinationNegated: true,
      source: clusterRange,
      matches: [
        { match: 'comment', comment: 'masquerade pod traffic that leaves the cluster' },
        { match: 'addrtype', dstTypes: ['LOCAL'], dstTypesNegated: true },
      ],
      target: { target: 'MASQUERADE' },
    }),
  );
}
