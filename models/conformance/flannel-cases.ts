// Facts about flannel, asked of the networks and the plugin of that name.

import { CniHost } from '../cni/cni-host.ts';
import { CniLab } from '../cni/cni-lab.fixture.ts';
import {
  annotationsOf,
  deviceName,
  flannelNetwork,
  forwardChain,
  leaseRange,
  masqueradeChain,
  mtuThrough,
  PUBLIC_IP_OVERWRITE,
  setChain,
} from '../cni/networks/flannel.ts';
import {
  type FlannelBackend,
  formatSubnet,
  type NetConf,
  SUBNET_LEASE_HOURS,
  subnetPlans,
  VXLAN_BACKEND,
} from '../cni/networks/flannel-config.ts';
import type { NetworkNode } from '../cni/networks/pod-network.ts';
import { delegateOf } from '../cni/plugins/flannel.ts';
import { printSubnetEnv, readSubnetEnv, SUBNET_ENV_PATH } from '../cni/subnet-env.ts';
import { FREE } from '../cpu/cost-model.ts';
import { addAddress, stackOf } from '../host/ip-setup.ts';
import { Machine } from '../host/machine.ts';
import type { Neighbor } from '../ip/neighbor-table.ts';
import { VxlanDevice } from '../link/vxlan.ts';
import {
  addressAt,
  contains,
  formatIp,
  formatPrefix,
  type Ip,
  type IpFamily,
  isIpv6LinkLocal,
  parseAddress,
  parseAnyPrefix,
  parseIp,
  parseIpv6,
  parseIpv6Prefix,
  parsePrefix,
} from '../packet/ip-address.ts';
import { formatMac, type Mac, parseMac } from '../packet/mac.ts';
import type { CaseInput, Questions } from './address-case.ts';
import { flow } from './connecting-cases.ts';

export const FLANNEL_QUESTIONS: Questions = {
  config: (input) => configOf(input as NetConf),
  defaults: ({ backend, file }) => (backend === undefined ? fileDefaults(file) : vxlanDefaults()),
  mtu: ({ backend, interfaceMtu }) => ({ mtu: mtuThrough({ Type: backend }, interfaceMtu) }),
  'subnet-env': ({ network, subnet, backend, interfaceMtu, ipMasq }) => {
    const networks = [{ network: parseAnyPrefix(network), subnet: parseAnyPrefix(subnet) }];
    const mtuBytes = mtuThrough({ Type: backend }, interfaceMtu);
    return { lines: printSubnetEnv({ networks, mtuBytes, ipMasq }).trimEnd().split('\n') };
  },
  'vxlan-entries': (input) => waysTo(input, { Type: 'vxlan', DirectRouting: input.directRouting === true }),
  'host-gw-route': (input) => (input.publicIP === undefined ? waysTo(input, { Type: 'host-gw' }) : behindNat()),
  'masq-rules': ({ network, subnet }) => {
    const { chain, from, rules } = masqueradeChain(parseAnyPrefix(network), parseAnyPrefix(subnet));
    return { chain: `nat ${chain} (from ${from})`, rules: rules.map(withoutOptions) };
  },
  'forward-rules': ({ network }) => {
    const { chain, from, rules } = forwardChain(parseAnyPrefix(network));
    return { chain: `filter ${chain} (from ${from})`, rules: rules.map(withoutOptions) };
  },
  'masq-packet': ({ node, src, dst, kubeProxyMark }) => {
    const lab = new CniLab();
    const [network, subnet] = [parsePrefix(node.network), parsePrefix(node.subnet)];
    setChain(lab.host, { table: 'nat', family: 4, ...masqueradeChain(network, subnet) });
    const { masqueraded } = flow(lab, { src, dst, mark: kubeProxyMark ? 0x4000 : 0 });
    return { byFlannelChain: masqueraded ? 'masqueraded' : 'unchanged' };
  },
  'cni-delegate': ({ subnetEnv, delegate, name }) => {
    const text = Object.entries(subnetEnv)
      .map(([key, value]) => `${key}=${value}\n`)
      .join('');
    return { delegate: delegateOf({ delegate }, { network: name, env: readSubnetEnv(text, 'subnet.env') }) };
  },
  'cni-invalid': ({ delegate }) => {
    const env = { networks: [], mtuBytes: 1500, ipMasq: true };
    return { delegate: delegateOf({ delegate }, { network: 'net', env }) };
  },
  'cni-del': ({ scratchFile }) => {
    const lab = new CniLab();
    const runtime = lab.network([{ type: 'flannel' }]);
    if (scratchFile !== 'missing') throw new Error(`scratch file ${scratchFile}; expected missing`);
    runtime.del(lab.container('never-added'));
    return { ok: true };
  },
  annotations: ({ prefix, node, ipv6 = false }) =>
    node === undefined ? annotations(prefix, ipv6) : leaseRange(node, undefined),
};

function configOf(conf: NetConf): Record<string, unknown> {
  const answers = subnetPlans(conf).map((plan) => {
    const words = plan.network.family === 6 ? 'IPv6' : '';
    return {
      [`${words}SubnetLen`]: plan.subnetLength,
      [`${words}SubnetMin`]: formatSubnet(plan, plan.first),
      [`${words}SubnetMax`]: formatSubnet(plan, plan.last),
    };
  });
  return Object.assign({}, ...answers);
}

function vxlanDefaults() {
  const { VNI: vni, Learning: learning, GBP: gbp, DirectRouting: directRouting } = VXLAN_BACKEND;
  const [near] = cluster({ Type: 'vxlan' }, [NEAR]);
  const tunnel = tunnelOf(near!)!;
  return {
    ...{
      vni: tunnel.vni === vni ? vni : tunnel.vni,
      device: tunnel.name,
      deviceV6: deviceName({}, 6),
      udpPort: tunnel.port,
    },
    ...{ learning, gbp, directRouting, overhead: near!.nic.mtuBytes - tunnel.mtuBytes },
  };
}

/** Of subnet.env: where it is, and for how long a lease holds (those of Kubernetes' nodes are renewed with the node). */
const fileDefaults = (file: string) => ({
  path: SUBNET_ENV_PATH.endsWith(file) ? SUBNET_ENV_PATH : null,
  leaseHours: SUBNET_LEASE_HOURS,
});

interface LabNode {
  readonly subnet: string;
  readonly address: string;
  /** Of its interface, if that is another one. */
  readonly nicAddress?: string;
}

/** Nodes of a cluster of flannel's, each told of those before it. `whenMade` sees them before they join. */
function cluster(
  backend: FlannelBackend,
  nodes: readonly LabNode[],
  whenMade: (node: NetworkNode) => void = () => {},
): NetworkNode[] {
  const lab = new CniLab();
  const podRange = (wanted: IpFamily) =>
    wanted === 4 ? parsePrefix('10.244.0.0/16') : parseIpv6Prefix('fd00:10:244::/48');
  const { family } = parseAddress(nodes[0]!.address);
  const network = flannelNetwork({ families: [family], podRange, bridge: {}, masquerades: true }, backend);
  return nodes.map(({ subnet, address, nicAddress = address }, i): NetworkNode => {
    const common = { sim: lab.sim, frames: lab.frames, costs: FREE, forwarding: true };
    const machine = new Machine({ ...common, name: `n${i}` });
    const nic = machine.addNic('eth0');
    addAddress(machine.root, nic, { ...parseAddress(nicAddress), length: family === 4 ? 24 : 64 });
    const families = [{ ...parseAddress(address), podRange: parseAnyPrefix(subnet) }];
    const node = { name: machine.name, host: new CniHost(machine), nic, families };
    whenMade(node);
    network.join(node);
    network.connect([node]);
    return node;
  });
}

const NEAR: LabNode = { subnet: '10.244.1.0/24', address: '192.168.50.1' };
const NEAR_IPV6: LabNode = { subnet: 'fd00:10:244:1::/64', address: 'fd00:192:168:50::1' };

const tunnelOf = ({ host }: NetworkNode): VxlanDevice | undefined =>
  host.root.devices.find((device) => device instanceof VxlanDevice);

/** What the first node has of the second. */
function waysTo({ remoteSubnet, remotePublicIP, remoteVtepMAC }: CaseInput, backend: FlannelBackend) {
  const order: string[] = [];
  const made: NetworkNode[] = [];
  const remote = { subnet: remoteSubnet, address: remotePublicIP };
  const subnet = parseAnyPrefix(remoteSubnet);
  const { family } = subnet;
  const own = family === 4 ? NEAR : NEAR_IPV6;
  const [near, far] = cluster(backend, [own, remote], (node) => {
    if (made.length === 1) tellOrder(order, made[0]!, family);
    made.push(node);
  }) as [NetworkNode, NetworkNode];
  const stack = stackOf(near.host.root, family);
  const tunnel = tunnelOf(near);
  const farMac = tunnelOf(far)?.mac;
  const macText = (mac: Mac): string => (mac === farMac ? remoteVtepMAC : formatMac(mac));
  const neighbour = [...stack.neighbors].find(({ device }) => device === tunnel);
  const [entry] = [...(tunnel?.forwarding ?? [])];
  const route = stack.fib.lookup(addressAt(subnet, 5))!;
  const addresses = stack.addresses.filter(
    ({ device, ip }) => device === tunnel && !(family === 6 && isIpv6LinkLocal(ip)),
  );
  const linkAddress = addresses[0];
  return {
    neighbour: neighbour === undefined ? null : neighbourText(neighbour, family, macText),
    fdb: entry === undefined ? null : fdbText(tunnel!, entry, macText),
    route: {
      ...{ dst: formatPrefix(route.destination), via: formatIp(route.gateway, family), dev: route.device.name },
      onlink: !stack.addresses.some(
        (address) => address.device === route.device && contains(address.subnet, route.gateway),
      ),
    },
    order,
    linkAddressOnNode:
      linkAddress?.ip === parseAnyPrefix(own.subnet).net
        ? `first address of the own subnet, /${linkAddress.subnet.length}`
        : null,
  };
}

/** What is set on a node from now on, in order. */
function tellOrder(order: string[], node: NetworkNode, family: IpFamily): void {
  const stack = stackOf(node.host.root, family);
  const tell = <T extends object>(target: T, method: keyof T, name: string): void => {
    const original = target[method] as (...args: unknown[]) => unknown;
    Object.defineProperty(target, method, {
      value: (...args: unknown[]) => {
        order.push(name);
        return original.apply(target, args);
      },
    });
  };
  tell(stack.neighbors, 'addPermanent', 'neighbour');
  const tunnel = tunnelOf(node);
  if (tunnel !== undefined) tell(tunnel, 'appendForwarding', 'fdb');
  tell(stack as { addRoute: unknown }, 'addRoute', 'route');
}

const neighbourText = ({ ip, mac, device, state }: Neighbor, family: IpFamily, macText: (mac: Mac) => string) => ({
  ...{ ip: formatIp(ip, family), mac: macText(mac), dev: device.name, state: state.toLowerCase() },
});

const fdbText = (
  { name, family }: VxlanDevice,
  [mac, { remotes, isStatic }]: [Mac, { readonly remotes: readonly Ip[]; readonly isStatic: boolean }],
  macText: (mac: Mac) => string,
) => ({
  mac: macText(mac),
  dst: formatIp(remotes[0]!, family),
  dev: name,
  flags: `self${isStatic ? ' permanent' : ''}`,
});

function behindNat() {
  cluster({ Type: 'host-gw' }, [{ ...NEAR, nicAddress: '10.9.9.9' }]);
  return { accepted: true };
}

/** Set by the daemon, or read by it. */
function annotations(prefix: string, hasIpv6: boolean) {
  const [tunnelMac, tunnelMac6] = [parseMac('02:00:00:00:00:01'), parseMac('02:00:00:00:00:06')];
  const ipv6 = { publicIp: parseIpv6(NEAR_IPV6.address), tunnelMac: tunnelMac6 };
  const lease = {
    ...{ subnet: parsePrefix(NEAR.subnet), publicIp: parseIp(NEAR.address), tunnelMac },
    ...(hasIpv6 && { ipv6 }),
  };
  const own = annotationsOf(lease, { Type: 'vxlan' }, prefix);
  const data = (key: string, mac: Mac) => {
    const { VNI, VtepMAC } = JSON.parse(own[`${prefix}/${key}`]!);
    return { VNI, VtepMAC: VtepMAC === formatMac(mac) ? '<mac>' : VtepMAC };
  };
  const keys = [...Object.keys(own), `${prefix}/${PUBLIC_IP_OVERWRITE}`].map((key) => key.slice(prefix.length + 1));
  return {
    ...{ keys: keys.sort(), backendData: data('backend-data', tunnelMac) },
    ...(hasIpv6 && { backendV6Data: data('backend-v6-data', tunnelMac6), publicIpv6: own[`${prefix}/public-ipv6`] }),
  };
}

/** Targets without `-j`, and the mark without its match. */
const withoutOptions = (rule: string): string => rule.replace(' -j ', ' ').replace('-m mark --mark', 'mark');
