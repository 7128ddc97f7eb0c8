// A service port as one node sees it: the endpoints it may use there, and what follows from them and the traffic
// policies for traffic from inside (to the cluster IP) and from outside (node port, external addresses, load balancer).

import { contains, type Ip, type IpFamily, isIpv4, isIpv6, parseAddress } from '../../packet/ip-address.ts';
import type { Node } from '../objects.ts';
import { isExternallyAccessible, type ServicePort } from './service-ports.ts';
import { dependsOnNode, type NodeTopology, type UsableEndpoints, usableEndpoints } from './usable-endpoints.ts';

/** A node as its kube-proxy knows it. */
export interface ProxyNode extends NodeTopology {
  /** Addresses of its devices except loopback, of the proxy's family; the first is the node's InternalIP. */
  readonly ips: readonly Ip[];
}

const ZONE_LABEL = 'topology.kubernetes.io/zone';

/** Of a Node with one network device, as the API server knows it. */
export const proxyNodeOf = ({ metadata, status }: Node, family: IpFamily = 4): ProxyNode => ({
  name: metadata.name,
  zone: metadata.labels[ZONE_LABEL] || undefined,
  ips: status.addresses
    .filter(({ type, address }) => type === 'InternalIP' && (family === 6 ? isIpv6 : isIpv4)(address))
    .map(({ address }) => parseAddress(address).ip),
});

/** A node may see the port otherwise than another node of its zone. */
export const variesByNode = (port: ServicePort): boolean =>
  dependsOnNode(port) || port.loadBalancerSourceRanges.length > 0;

export class PortOnNode {
  readonly port: ServicePort;
  readonly usable: UsableEndpoints;
  /** The node's own address is one of those that loadBalancerSourceRanges let in. */
  readonly nodeIsInSourceRanges: boolean;

  constructor(port: ServicePort, node: ProxyNode) {
    const [nodeIp] = node.ips;
    this.port = port;
    this.usable = usableEndpoints(port, node);
    this.nodeIsInSourceRanges =
      nodeIp !== undefined && port.loadBalancerSourceRanges.some((range) => contains(range, nodeIp));
  }

  get hasEndpoints(): boolean {
    return this.usable.hasAny;
  }

  /** Traffic to the cluster IP reaches an endpoint. */
  get servesInternal(): boolean {
    return this.hasEndpoints && !(this.port.internalPolicyLocal && this.usable.local.length === 0);
  }

  /** Traffic that comes to the node from outside reaches an endpoint. */
  get servesExternal(): boolean {
    return this.hasEndpoints && !(this.port.externalPolicyLocal && this.usable.local.length === 0);
  }

  /**
   * Traffic to external addresses is looked at. Wider than {@link servesExternal}: with policy Local and endpoints
   * elsewhere only, the node's own pods and processes are still served.
   */
  get entersExternally(): boolean {
    return this.hasEndpoints && isExternallyAccessible(this.port);
  }

  /** Traffic to the load balancer's addresses has to come from loadBalancerSourceRanges. */
  get checksSources(): boolean {
    const { loadBalancerVips, loadBalancerSourceRanges } = this.port;
    return this.hasEndpoints && loadBalancerVips.length > 0 && loadBalancerSourceRanges.length > 0;
  }
}
