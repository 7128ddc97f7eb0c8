// A replacement of kube-proxy in the manner of eBPF: Services as a table that sockets ask when they connect, and that a
// program at the node's device asks about packets from outside. A MODEL WITHOUT AN ORACLE: it resembles Cilium's as its
// documentation describes it, is held against no recorded behaviour and no kernel, and its costs are assumed.
//
// IPv4 only. Not modelled: packets to ClusterIPs from outside (closed by default there), translation of packets of pods that
// pass their sockets by.

import type { EbpfService } from '../../host/ebpf/service-map.ts';
import { PROTOCOL_NUMBERS } from '../../netfilter/protocol.ts';
import { type Ip, LOOPBACK_IP } from '../../packet/ip-address.ts';
import { PortOnNode, type ProxyNode } from './port-on-node.ts';
import type { Endpoint, ServicePort } from './service-ports.ts';
import type { ServiceSnapshot } from './service-tracker.ts';

/** What the service ports are on this node. */
export const ebpfServices = ({ ports }: ServiceSnapshot, node: ProxyNode): EbpfService[] =>
  ports.flatMap((port) => servicesOf(port, node));

function servicesOf(port: ServicePort, node: ProxyNode): EbpfService[] {
  const { usable } = new PortOnNode(port, node);
  const { name, clusterIp, externalIps, loadBalancerVips, nodePort, loadBalancerSourceRanges } = port;
  const backendsOf = (endpoints: readonly Endpoint[]) =>
    endpoints.map(({ ip, port: number, nodeName }) => ({ ip, port: number, isLocal: nodeName === node.name }));
  const everywhere = backendsOf(usable.cluster);
  const here = backendsOf(usable.local);
  const outside = port.externalPolicyLocal ? here : everywhere;
  const common = {
    name,
    protocol: PROTOCOL_NUMBERS[port.protocol],
    isServedSomewhere: usable.hasAny,
    affinitySeconds: port.affinityTimeoutSeconds,
    sourceRanges: [],
  };
  // The cluster's own sockets may use endpoints anywhere, whatever the external policy.
  const external = (ip: Ip, number = port.port): EbpfService => ({
    ...common,
    ip,
    port: number,
    inside: everywhere,
    outside,
  });
  return [
    {
      ...common,
      ip: clusterIp,
      port: port.port,
      inside: port.internalPolicyLocal ? here : everywhere,
      outside: undefined,
    },
    ...externalIps.map((ip) => external(ip)),
    ...loadBalancerVips.map((ip) => ({ ...external(ip), sourceRanges: loadBalancerSourceRanges })),
    ...(nodePort === undefined ? [] : node.ips.map((ip) => external(ip, nodePort))),
    ...(nodePort === undefined ? [] : [{ ...external(LOOPBACK_IP, nodePort), outside: undefined }]),
  ];
}
