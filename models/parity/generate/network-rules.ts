// The rules of a node on which network plugins have connected the case's pods, with host ports and masquerading, and of what
// a network's daemon adds: written by the plugins themselves (models/cni), as text that both sides load.

import { CniLab } from '../../cni/cni-lab.fixture.ts';
import { IptablesCommands } from '../../cni/iptables-commands.ts';
import { forwardChain, masqueradeChain, setChain } from '../../cni/networks/flannel.ts';
import { setMasqueradeChain } from '../../cni/networks/kindnet.ts';
import { kubenetMasqueradeRule } from '../../cni/networks/masquerade-egress.ts';
import type { PortMapping } from '../../cni/port-mapping.ts';
import { addAddress } from '../../host/ip-setup.ts';
import { printIptablesSave } from '../../netfilter/iptables-save.ts';
import { type IpFamily, parseAddress, parseAnyPrefix } from '../../packet/ip-address.ts';
import type { NodeRules, ParityNode, ParityPod, RuleBackend } from '../case.ts';
import type { Draw } from './draw.ts';
import { NODE_PORT, POD_PORTS, SERVICE_PORTS } from './words.ts';

const CLUSTER_RANGES: Readonly<Record<IpFamily, string>> = { 4: '10.244.0.0/16', 6: 'fd00:10:244::/48' };

export function drawNetworkRules(
  draw: Draw,
  { node, backend }: { readonly node: ParityNode; readonly backend: RuleBackend },
): NodeRules {
  const lab = new CniLab();
  const nic = lab.machine.addNic('eth0');
  for (const [ip, length] of [
    [node.ip, 24],
    [node.ip6, 64],
  ] as const)
    if (ip !== undefined) addAddress(lab.machine.root, nic, { ...parseAddress(ip), length });
  const isNative = backend === 'nftnative';
  if (!isNative && draw.chance(0.7)) drawDaemon(draw, lab, node);
  connectPods(draw, lab, { node, isNative });
  const { tables, tables6, nftables } = lab.machine.root.enableNetfilter();
  if (isNative) return { backend, text: nftables.list() };
  return {
    ...{ backend, text: printIptablesSave(tables) },
    ...(node.podCIDR6 !== undefined && { text6: printIptablesSave(tables6) }),
  };
}

function connectPods(draw: Draw, lab: CniLab, { node, isNative }: { node: ParityNode; isNative: boolean }): void {
  const ranges = [node.podCIDR, ...(node.podCIDR6 === undefined ? [] : [node.podCIDR6])].map((subnet) => [{ subnet }]);
  const masquerade = { ipMasq: draw.chance(0.5), ipMasqBackend: isNative ? 'nftables' : 'iptables' };
  const connecting =
    node.bridge === false || node.ptp === true
      ? { type: 'ptp', ...masquerade }
      : { type: 'bridge', bridge: 'cbr0', isGateway: true, ...masquerade };
  const portmap = {
    ...{ type: 'portmap', capabilities: { portMappings: true }, backend: isNative ? 'nftables' : 'iptables' },
    snat: draw.chance(0.8),
    ...(draw.chance(0.1) && { masqAll: true }),
    ...(!isNative && draw.chance(0.2) && { markMasqBit: draw.pick([0, 14, 15, 31]) }),
  };
  const plugins = [{ ...connecting, ipam: { type: 'host-local', ranges } }, portmap];
  const runtime = lab.network({ name: 'parity', plugins });
  const free = [...SERVICE_PORTS, ...POD_PORTS, NODE_PORT];
  for (const pod of node.pods) {
    const portMappings = Array.from({ length: draw.between(0, 3) }, () => drawMapping(draw, node, free));
    const capabilities = { portMappings: portMappings.filter((mapping) => mapping !== undefined) };
    runtime.add(lab.container(pod.name, { capabilities, requestedIps: addressesOf(pod).map(parseAddress) }));
  }
}

/** Of a port that no other pod of the node has, so far as there are such. */
function drawMapping(draw: Draw, node: ParityNode, free: number[]): PortMapping | undefined {
  const hostPort = free.splice(draw.between(0, Math.max(0, free.length - 1)), 1)[0];
  if (hostPort === undefined) return undefined;
  const hostIps = [node.ip, node.ip6, '0.0.0.0', '::'].filter((ip) => ip !== undefined);
  return {
    ...{ hostPort, containerPort: draw.pick(POD_PORTS), protocol: draw.pick(['tcp', 'udp', 'sctp']) },
    ...(draw.chance(0.3) && { hostIP: draw.pick(hostIps) }),
  };
}

/** What flannel's daemon, kindnet or kubenet writes beside. */
function drawDaemon(draw: Draw, { host }: CniLab, node: ParityNode): void {
  const daemon = draw.pick(['flannel', 'kindnet', 'kubenet'] as const);
  for (const range of [node.podCIDR, node.podCIDR6]) {
    if (range === undefined) continue;
    const subnet = parseAnyPrefix(range);
    const { family } = subnet;
    const network = parseAnyPrefix(CLUSTER_RANGES[family]);
    if (daemon === 'flannel') {
      setChain(host, { table: 'nat', family, ...masqueradeChain(network, subnet) });
      setChain(host, { table: 'filter', family, ...forwardChain(network) });
    } else if (daemon === 'kindnet') {
      setMasqueradeChain(host, network);
    } else {
      new IptablesCommands(host.root, 'nat', family).append('POSTROUTING', kubenetMasqueradeRule(network)!);
    }
  }
}

const addressesOf = ({ ip, ip6 }: ParityPod): string[] => (ip6 === undefined ? [ip] : [ip, ip6]);
