// IPv6 of a parity case's network, as case.ts says it is set up: the second half of every node that has a `podCIDR6`, and
// of its pods that have an `ip6`.

import { Rule } from '../../netfilter/rule.ts';
import { parseRule } from '../../netfilter/rule-text.ts';
import {
  ANY_IPV6_PREFIX,
  addressAt,
  type Ip,
  linkLocalOf,
  parseIpv6,
  parseIpv6Prefix,
  prefix,
} from '../../packet/ip-address.ts';
import type { ParityNode, ParityPod } from '../case.ts';
import type { SimulatedNetwork } from './network.ts';

/** What is set on dual-stack nodes, before what the case says. */
export const NODE_SYSCTLS6: Readonly<Record<string, number | string>> = {
  'net.ipv6.conf.all.forwarding': 1,
  // A type that is no error: errors without limit. With a ratelimit of 0 they would keep redirects away, by the jiffy.
  'net.ipv6.icmp.ratemask': '255',
};

/** Addresses and routes of the node and its pods. Their devices are there already. */
export function addIpv6(network: SimulatedNetwork, node: ParityNode, range: string): void {
  const { overlay } = network.topology;
  const { stack, devices } = network.namespace(node.name);
  const ipv6 = stack.enableIpv6();
  const { net } = parseIpv6Prefix(range);
  for (const device of devices) {
    if (device.name === 'cbr0') ipv6.addAddress(device, gatewayIp(range), 64);
    if (device.name === 'vx0' && overlay !== 'vxlan-by-family') ipv6.addAddress(device, net, 128);
    if (device.name === 'eth0' && node.ip6 !== undefined) ipv6.addAddress(device, parseIpv6(node.ip6), 64);
  }
  for (const pod of node.pods) if (pod.ip6 !== undefined) addToPod(network, node, pod, range, parseIpv6(pod.ip6));
}

function addToPod(network: SimulatedNetwork, node: ParityNode, pod: ParityPod, range: string, ip: Ip): void {
  const namespace = network.namespace(pod.name);
  const eth0 = namespace.deviceNamed('eth0');
  const ipv6 = namespace.stack.enableIpv6();
  ipv6.addAddress(eth0, ip, node.bridge === false ? 128 : 64);
  ipv6.addRoute({ destination: ANY_IPV6_PREFIX, device: eth0, gateway: nextHopOf(network, node, pod, range) });
  if (node.bridge === false) {
    const gateway = network.gatewayOf(pod.name);
    const nodeIpv6 = network.namespace(node.name).stack.enableIpv6();
    if (gateway !== undefined) nodeIpv6.addRoute({ destination: prefix(ip, 128, 6), device: gateway });
  }
  if (pod.stack !== true) silence(network, pod);
}

/** By the peer's end of the tunnel of both families, or in host-gw by the peer's address. */
export function routeIpv6ToPeer(network: SimulatedNetwork, node: ParityNode, peer: ParityNode): void {
  const { overlay } = network.topology;
  if (node.podCIDR6 === undefined || peer.podCIDR6 === undefined || overlay === 'vxlan-by-family') return;
  const namespace = network.namespace(node.name);
  const ipv6 = namespace.stack.enableIpv6();
  const destination = parseIpv6Prefix(peer.podCIDR6);
  if (overlay === 'vxlan' || overlay === 'vxlan6') {
    const tunnel = namespace.deviceNamed('vx0');
    ipv6.neighbors.addPermanent(tunnel, destination.net, network.device(peer.name, 'vx0').mac);
    ipv6.addRoute({ destination, device: tunnel, gateway: destination.net });
  } else if (peer.ip6 !== undefined) {
    ipv6.addRoute({ destination, device: namespace.deviceNamed('eth0'), gateway: parseIpv6(peer.ip6) });
  }
}

/** Who is whose neighbor is known from the start, and does not age. */
export function resolveIpv6(network: SimulatedNetwork, node: ParityNode): void {
  if (node.podCIDR6 === undefined) return;
  const { neighbors } = network.namespace(node.name).stack.enableIpv6();
  for (const peer of network.topology.nodes) {
    if (peer === node || peer.ip6 === undefined || node.ip6 === undefined) continue;
    const mac = network.device(peer.name, 'eth0').mac;
    neighbors.addPermanent(network.device(node.name, 'eth0'), parseIpv6(peer.ip6), mac);
  }
  for (const pod of node.pods) {
    const gateway = network.gatewayOf(pod.name);
    if (pod.ip6 === undefined || gateway === undefined) continue;
    const eth0 = network.device(pod.name, 'eth0');
    neighbors.addPermanent(gateway, parseIpv6(pod.ip6), eth0.mac);
    const known = network.namespace(pod.name).stack.enableIpv6().neighbors;
    known.addPermanent(eth0, nextHopOf(network, node, pod, node.podCIDR6), gateway.mac);
    if (node.bridge === false) continue;
    for (const { name, ip6 } of node.pods) {
      if (name !== pod.name && ip6 !== undefined)
        known.addPermanent(eth0, parseIpv6(ip6), network.device(name, 'eth0').mac);
    }
  }
}

/** Of a pod's default route: the bridge, or the link-local address of the node's side of its veth. */
function nextHopOf(network: SimulatedNetwork, node: ParityNode, pod: ParityPod, range: string): Ip {
  const gateway = network.gatewayOf(pod.name);
  return node.bridge === false && gateway !== undefined ? linkLocalOf(gateway.mac) : gatewayIp(range);
}

const gatewayIp = (range: string): Ip => addressAt(parseIpv6Prefix(range), 1);

/** A pod that takes part in neighbor discovery and says nothing else. */
function silence(network: SimulatedNetwork, { name }: ParityPod): void {
  const { tables6 } = network.namespace(name).enableNetfilter();
  for (const rule of SILENCE) tables6.appendRule('raw', 'PREROUTING', new Rule(parseRule(rule, { family: 6 })));
}

const SILENCE = [
  '-p ipv6-icmp -m icmp6 --icmpv6-type 135 -j ACCEPT',
  '-p ipv6-icmp -m icmp6 --icmpv6-type 136 -j ACCEPT',
  '-j DROP',
];
