// flannel: its plugin on every node, and of its daemon what the nodes need: `subnet.env`, the rules of masquerading and
// forwarding, and a backend that finds the ways to other nodes, VXLAN (a device for each family: flannel.1, flannel-v6.1) or
// host-gw. Sources: pkg/backend, pkg/trafficmngr/iptables and pkg/subnet/kube of flannel.
//
// Not modelled: the backends wireguard, udp and ipsec, nodes with another public address than that of their interface.

import { stackOf } from '../../host/ip-setup.ts';
import { VXLAN_OVERHEAD_BYTES } from '../../link/vxlan.ts';
import { formatIp, formatPrefix, type Ip, type IpFamily, type Prefix } from '../../packet/ip-address.ts';
import { formatMac, type Mac } from '../../packet/mac.ts';
import { failure } from '../cni-error.ts';
import type { CniHost } from '../cni-host.ts';
import { IptablesCommands } from '../iptables-commands.ts';
import { printSubnetEnv, SUBNET_ENV_PATH } from '../subnet-env.ts';
import { HOST_PORTS_AND_LIMITS } from './bridge-network.ts';
import { setUpBridge } from './bridged-network.ts';
import { type FlannelBackend, VXLAN_BACKEND } from './flannel-config.ts';
import { HostGateway } from './host-gateway.ts';
import { NodeRangeNetwork } from './node-range-network.ts';
import type { NetworkCluster, NetworkNode, NodeNetwork, NodeRouting, PodNetwork } from './pod-network.ts';
import { RoutingByFamily } from './routing-by-family.ts';
import { VxlanMesh } from './vxlan-mesh.ts';

/** `flannel.1`; of IPv6 `flannel-v6.1`. */
export const deviceName = ({ VNI = VXLAN_BACKEND.VNI }: FlannelBackend, family: IpFamily = 4): string =>
  `${family === 6 ? 'flannel-v6' : 'flannel'}.${VNI}`;

/** Of the backend udp, whose headers are IPv4's and UDP's: 28. */
const UDP_OVERHEAD_BYTES = 28;

/**
 * What is left for pods. Of the headers it takes those of a tunnel over IPv4 also where the tunnel is over IPv6
 * (encapOverhead): pods' packets are by 20 bytes larger than flannel-v6.1 lets through, and their node tells them.
 */
export function mtuThrough({ Type = 'vxlan', DirectRouting = false }: FlannelBackend, nicMtuBytes: number): number {
  if (Type === 'host-gw') return nicMtuBytes;
  // Also with DirectRouting: a node on another link may come.
  return nicMtuBytes - (Type === 'udp' && !DirectRouting ? UDP_OVERHEAD_BYTES : VXLAN_OVERHEAD_BYTES[4]);
}

export function flannelNetwork(cluster: NetworkCluster, backend: FlannelBackend): PodNetwork {
  const routing = routingOf(cluster, backend);
  return new NodeRangeNetwork(routing, (node) => setUpNode(node, cluster, backend));
}

function routingOf({ families }: NetworkCluster, backend: FlannelBackend): NodeRouting {
  if (backend.Type === 'host-gw') return new HostGateway(families);
  const { VNI: vni = VXLAN_BACKEND.VNI, Port = VXLAN_BACKEND.Port, DirectRouting: directRouting = false } = backend;
  return new RoutingByFamily(families, (underlay) => {
    // The address of the node's subnet itself, which no pod has.
    const tunnelIp = (node: NetworkNode): Ip => node.families.find(({ family }) => family === underlay)!.podRange.net;
    const settings = { device: deviceName(backend, underlay), underlay, vni, tunnelIp, directRouting };
    return new VxlanMesh(Port === 0 ? settings : { ...settings, port: Port });
  });
}

function setUpNode(node: NetworkNode, cluster: NetworkCluster, backend: FlannelBackend): Omit<NodeNetwork, 'covers'> {
  const { host, nic } = node;
  if (backend.Type === 'host-gw') refuseNat(node);
  const settings = cluster.bridge;
  const mtuBytes = settings.mtuBytes ?? mtuThrough(backend, nic.mtuBytes);
  const networks = node.families.map(({ family, podRange }) => ({
    network: cluster.podRange(family),
    subnet: podRange,
  }));
  host.files.set(SUBNET_ENV_PATH, printSubnetEnv({ networks, mtuBytes, ipMasq: cluster.masquerades }));
  for (const { network, subnet } of networks) {
    if (cluster.masquerades)
      setChain(host, { table: 'nat', family: network.family, ...masqueradeChain(network, subnet) });
    setChain(host, { table: 'filter', family: network.family, ...forwardChain(network) });
  }
  const { bridge: name = 'cni0', hairpinMode = true, promiscuous = false } = settings;
  const gateways = setUpBridge(node, { name, mtuBytes, settings });
  const delegate = {
    ...{ bridge: name, hairpinMode, isDefaultGateway: true },
    ...(promiscuous && { promiscMode: true }),
  };
  const plugins = [{ type: 'flannel', delegate }, ...HOST_PORTS_AND_LIMITS];
  const tunnels = backend.Type === 'host-gw' ? [] : networks.map(({ subnet: { family, net: ip } }) => ({ family, ip }));
  return { configList: { cniVersion: '0.3.1', name: 'cbr0', plugins }, gateways: [...gateways, ...tunnels] };
}

/** Other nodes send to the address that they know, which has to be the interface's. */
function refuseNat({ name, host, nic, families }: NetworkNode): void {
  for (const { family, ip } of families) {
    const own = stackOf(host.root, family).addresses.filter(({ device }) => device === nic);
    if (!own.some((address) => address.ip === ip))
      throw failure(
        `flannel host-gw: node ${name}: not supported behind NAT: ${nic.name} does not have its address ${formatIp(ip, family)}`,
      );
  }
}

// ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface FlannelChain {
  readonly chain: string;
  /** The builtin chain that jumps to it, as its last rule. */
  readonly from: 'POSTROUTING' | 'FORWARD';
  readonly rules: readonly string[];
}

const MULTICAST: Readonly<Record<IpFamily, string>> = { 4: '224.0.0.0/4', 6: 'ff00::/8' };

/** kube-proxy's mark goes first: what is masqueraded by it is not flannel's to look at. */
export function masqueradeChain(network: Prefix, subnet: Prefix): FlannelChain {
  const [all, own] = [formatPrefix(network), formatPrefix(subnet)];
  const rules = [
    '-m mark --mark 0x4000/0x4000 -j RETURN',
    `-s ${own} -d ${all} -j RETURN`,
    `-s ${all} -d ${own} -j RETURN`,
    `! -s ${all} -d ${own} -j RETURN`,
    `-s ${all} ! -d ${MULTICAST[network.family]} -j MASQUERADE --random-fully`,
    `! -s ${all} -d ${all} -j MASQUERADE --random-fully`,
  ];
  return { chain: 'FLANNEL-POSTRTG', from: 'POSTROUTING', rules };
}

/** Forwarding to and from pods is fine, whatever FORWARD's policy is. */
export function forwardChain(network: Prefix): FlannelChain {
  const all = formatPrefix(network);
  return { chain: 'FLANNEL-FWD', from: 'FORWARD', rules: [`-s ${all} -j ACCEPT`, `-d ${all} -j ACCEPT`] };
}

export function setChain(
  host: CniHost,
  { table, family, chain, from, rules }: FlannelChain & { readonly table: 'nat' | 'filter'; readonly family: IpFamily },
): void {
  const commands = new IptablesCommands(host.root, table, family);
  commands.clearChain(chain);
  for (const rule of rules) commands.append(chain, rule);
  commands.ensure(from, `-m comment --comment "flanneld ${table === 'nat' ? 'masq' : 'forward'}" -j ${chain}`);
}

// ── what daemons tell each other ─────────────────────────────────────────────────────────────────────────────────────

/** A node as the daemons of the others know it. */
export interface Lease {
  readonly subnet: Prefix;
  readonly publicIp: Ip;
  /** Of its VXLAN device. */
  readonly tunnelMac?: Mac;
  /** The same of IPv6, where the node has it. */
  readonly ipv6?: { readonly publicIp: Ip; readonly tunnelMac?: Mac };
}

const DEFAULT_ANNOTATION_PREFIX = 'flannel.alpha.coreos.com';

/** Annotation that is the administrator's to set. Not modelled: a node is known by its InternalIP. */
export const PUBLIC_IP_OVERWRITE = 'public-ip-overwrite';

/** The node's annotations, by which its lease comes to the others. */
export function annotationsOf(
  { publicIp, tunnelMac, ipv6 }: Lease,
  { Type = 'vxlan', VNI = VXLAN_BACKEND.VNI }: FlannelBackend,
  prefix = DEFAULT_ANNOTATION_PREFIX,
): Readonly<Record<string, string>> {
  const data = (mac: Mac | undefined): string =>
    mac === undefined ? 'null' : JSON.stringify({ VNI, VtepMAC: formatMac(mac) });
  return {
    [`${prefix}/backend-data`]: data(tunnelMac),
    [`${prefix}/backend-type`]: Type,
    ...(ipv6 !== undefined && { [`${prefix}/backend-v6-data`]: data(ipv6.tunnelMac) }),
    [`${prefix}/kube-subnet-manager`]: 'true',
    [`${prefix}/public-ip`]: formatIp(publicIp),
    ...(ipv6 !== undefined && { [`${prefix}/public-ipv6`]: formatIp(ipv6.publicIp, 6) }),
  };
}

/** A node's lease, by its API object. Throws a CniError for a node that kube-controller-manager has not cut a range for. */
export function leaseRange(node: string, podCidr: Prefix | undefined): Prefix {
  if (podCidr === undefined) throw failure(`flannel: node ${node}: node podCIDR not assigned`);
  return podCidr;
}
