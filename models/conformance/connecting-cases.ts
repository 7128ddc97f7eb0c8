// Facts about the plugins that connect containers (bridge, ptp) and about ipMasq, asked of them on a node of their own.

import { chainNameOf } from '../cni/chain-name.ts';
import { CniLab } from '../cni/cni-lab.fixture.ts';
import { type MasqueradeBackend, setUpMasquerade } from '../cni/ip-masq.ts';
import { cniPlugin } from '../cni/plugin.ts';
import { storeOf } from '../cni/plugins/host-local.ts';
import { type CniResult, NO_RESULT, type ResultIp } from '../cni/result.ts';
import { addAddress, stackOf } from '../host/ip-setup.ts';
import type { NetworkNamespace } from '../host/network-namespace.ts';
import type { Route } from '../ip/fib.ts';
import { Bridge } from '../link/bridge.ts';
import type { Netfilter } from '../netfilter/netfilter.ts';
import { Rule } from '../netfilter/rule.ts';
import { TABLE_NAMES } from '../netfilter/rule-tables.ts';
import { parseRule } from '../netfilter/rule-text.ts';
import {
  ANY_IP,
  contains,
  formatIp,
  formatPrefix,
  isIpv6LinkLocal,
  parseAddress,
  prefix,
} from '../packet/ip-address.ts';
import type { CaseInput, Questions } from './address-case.ts';
import { exploreFlow, type FlowOutcome } from './flow-explorer.ts';

// ── bridge ───────────────────────────────────────────────────────────────────────────────────────────────────────────

export const BRIDGE_QUESTIONS: Questions = {
  'gateway-address': ({ isGateway, subnets }) => {
    const { lab, bridge } = bridged({ isGateway, ipam: rangesOf(subnets) });
    const { root } = lab.machine;
    const bridgeAddresses = ([4, 6] as const).flatMap((family) =>
      stackOf(root, family)
        .addresses.filter(({ device, ip }) => device === bridge && !(family === 6 && isIpv6LinkLocal(ip)))
        .map(({ ip, subnet }) => `${formatIp(ip, family)}/${subnet.length}`),
    );
    return { bridgeAddresses, ipForward: isForwarding(root, subnets) };
  },
  option: (input) => optionOf(input),
  result: ({ ipamGateway, address }) => {
    const ipam = address === undefined ? rangesOf(['10.1.2.0/24']) : { type: 'given', address, gateway: ipamGateway };
    const { result } = bridged({ isGateway: true, ipam });
    const { interfaces, ips } = result;
    const [ip] = ips as [ResultIp];
    const names = [`bridge`, `veth`, `ifname`];
    return {
      interfaces: interfaces.map(({ sandbox }, i) => `${names[i]} (${sandbox === undefined ? 'host' : 'sandbox'})`),
      ipInterfaceIndex: ip.interface,
      gateway: ip.gateway === undefined ? null : formatIp(ip.gateway, ip.family),
    };
  },
  del: () => {
    const { lab, runtime } = bridged({ ipam: rangesOf(['10.1.2.0/24']) });
    const { containerId, ifName } = lab.container('other');
    runtime.del({ containerId, ifName, namespace: lab.container('other').namespace });
    return { ok: true };
  },
};

function optionOf({ existingAddress, wanted, subnets, ipamRoutes, ...options }: CaseInput) {
  if (existingAddress !== undefined) return existing(existingAddress, wanted, options.forceAddress);
  if (subnets !== undefined) return withDefaultGateway({ ...options, subnets, ipamRoutes });
  const layer2 = options.ipam === null;
  const { bridge, result } = bridged({ ...options, ipam: layer2 ? undefined : rangesOf(['10.1.2.0/24']) });
  const [port] = bridge.ports;
  return {
    hostVeth: { hairpin: port!.hairpin, isolated: port!.isolated },
    bridge: { promisc: bridge.promiscuous },
    bridgeName: bridge.name,
    layer2,
    ips: result.ips,
  };
}

function existing(address: string, wanted: string, forceAddress: boolean) {
  const lab = new CniLab();
  const { root } = lab.machine;
  const bridge = root.add(new Bridge(root.device('cni0', lab.machine.nextMac())));
  addAddress(root, bridge, addressWithLength(address));
  const [gateway] = wanted.split('/');
  const subnet = formatPrefix(subnetOfText(wanted));
  const ipam = { type: 'host-local', subnet, gateway };
  lab.network([{ type: 'bridge', isGateway: true, forceAddress, ipam }]).add(lab.container('c'));
  return { ok: true };
}

function withDefaultGateway({ subnets, ipamRoutes, ...options }: CaseInput) {
  const ipam = { ...rangesOf(subnets), ...(ipamRoutes !== undefined && { routes: ipamRoutes }) };
  const { lab, bridge } = bridged({ ...options, ipam });
  const { namespace } = lab.container('c');
  const families = subnets.map((subnet: string) => parseAddress(subnet.split('/')[0]!).family);
  const routesAdded = families.flatMap((family: 4 | 6) =>
    routesIn(namespace!, family).flatMap(({ destination, gateway }) =>
      destination.length === 0 ? [{ dst: formatPrefix(destination), gw: formatIp(gateway, family) }] : [],
    ),
  );
  const isGateway = families.every((family: 4 | 6) =>
    stackOf(lab.machine.root, family).addresses.some(({ device }) => device === bridge),
  );
  return { isGateway, routesAdded };
}

/** A container on a bridge of these options. */
function bridged({ ipam, ...options }: CaseInput) {
  const lab = new CniLab();
  const { root } = lab.machine;
  if (JSON.stringify(ipam ?? '').includes(':')) root.stack.enableIpv6().setForwarding(1);
  const runtime = lab.network([{ type: 'bridge', ...options, ...(ipam !== undefined && { ipam }) }], [GIVEN]);
  const result = runtime.add(lab.container('c'));
  const bridge = root.devices.find((device) => device instanceof Bridge) as Bridge;
  return { lab, runtime, result, bridge };
}

/** An IPAM plugin that gives the address that its options name. */
const GIVEN = cniPlugin<{ readonly address: string; readonly gateway: string | null }>({
  type: 'given',
  options: {
    address: { expected: 'an address', isGood: (value) => typeof value === 'string', byDefault: '' },
    gateway: { expected: 'an address', isGood: () => true, byDefault: null },
  },
  add: ({ options }): CniResult => ({
    ...NO_RESULT,
    ips: options.address === '' ? [] : [addressWithLength(options.address)],
  }),
  del() {},
  check() {},
});

const rangesOf = (subnets: readonly string[]) => ({
  type: 'host-local',
  ranges: subnets.map((subnet) => [{ subnet }]),
});

function isForwarding(root: NetworkNamespace, subnets: readonly string[]): boolean {
  const isOn = root.sysctls.read('net.ipv4.ip_forward') === 1;
  return isOn && (!subnets.join().includes(':') || root.sysctls.read('net.ipv6.conf.all.forwarding') === 1);
}

// ── ptp ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

export const PTP_QUESTIONS: Questions = {
  routes: ({ ip, gateway, ifname }) => ptpRoutes({ ip, gateway, ifname }),
  semantics: ({ op, ipamIPs }) => {
    const lab = new CniLab();
    const ipam = ipamIPs === undefined ? rangesOf(['10.1.2.0/24']) : { type: 'given' };
    const runtime = lab.network([{ type: 'ptp', ipMasq: true, ipam }], [GIVEN]);
    const container = lab.container('c');
    const [given] = runtime.add(container).ips;
    if (op === 'DEL') runtime.del({ ...container, namespace: undefined });
    const store = storeOf(lab.host, 'net', { dataDir: '/var/lib/cni/networks' });
    const { tables } = lab.machine.root.enableNetfilter();
    const masqLeft = tables.chain('nat', chainNameOf('net', 'c')) !== undefined;
    return { ipamReleased: !store.has(given!), masqLeft };
  },
};

function ptpRoutes({ ip, gateway, ifname }: CaseInput) {
  const lab = new CniLab();
  const subnet = formatPrefix(subnetOfText(ip));
  const ipam = { type: 'host-local', subnet, gateway };
  const runtime = lab.network([{ type: 'ptp', ipam }]);
  const [address = ''] = ip.split('/');
  const container = lab.container('c', { ifName: ifname, requestedIps: [parseAddress(address)] });
  const { interfaces, ips } = runtime.add(container);
  const { family } = ips[0]!;
  const inside = routesIn(container.namespace!, family);
  const host = stackOf(lab.machine.root, family).addresses.find(({ device }) => device.name === interfaces[0]!.name)!;
  const toContainer = routesIn(lab.machine.root, family).filter(({ device }) => device.name === interfaces[0]!.name);
  const isConnected = ({ destination, gateway: via }: Route): boolean =>
    via === ANY_IP && formatPrefix(destination) === subnet;
  return {
    container: {
      address: `${formatIp(ips[0]!.ip, family)}/${ips[0]!.length}`,
      routes: inside.map(({ destination, device, gateway: via, source }) => ({
        dst: formatPrefix(destination),
        ...(via === ANY_IP ? { dev: device.name, scope: 'link' } : { via: formatIp(via, family) }),
        src: formatIp(source, family),
      })),
      connectedRouteRemoved: inside.some(isConnected) ? null : subnet,
    },
    host: {
      vethAddress: `${formatIp(host.ip, family)}/${host.subnet.length}`,
      routes: toContainer.map(({ destination }) => ({ dst: formatPrefix(destination), dev: 'veth' })),
    },
  };
}

const routesIn = (namespace: NetworkNamespace, family: 4 | 6): Route[] =>
  [...stackOf(namespace, family).fib].filter(({ type, device }) => type === 'unicast' && device.name !== 'lo');

// ── ipMasq ───────────────────────────────────────────────────────────────────────────────────────────────────────────

export const MASQUERADE_QUESTIONS: Questions = {
  'iptables-rules': ({ address }) => {
    const { lab, ip } = masqueraded(address, 'iptables');
    const { tables, tables6 } = lab.machine.root.enableNetfilter();
    const own = ip.family === 6 ? tables6 : tables;
    const [table] = TABLE_NAMES.filter((name) => own.isLoaded(name));
    const rules = own.chain('nat', chainNameOf('net', 'c'))!.rules;
    const excluded = rules.find(({ spec }) => spec.target?.target === 'MASQUERADE')!.spec;
    return { table, multicastExcluded: excluded.destinationNegated ? formatPrefix(excluded.destination!) : null };
  },
  packet: ({ address, src, dst }) => {
    const { lab } = masqueraded(address, 'iptables');
    return { source: flow(lab, { src, dst }).masqueraded ? 'masqueraded' : 'unchanged' };
  },
  'nftables-rules': ({ address }) => {
    const { lab } = masqueraded(address, 'nftables');
    const [, tables] = nftChains(lab.machine.root.enableNetfilter());
    return tables[0];
  },
  'chain-name': ({ network, containerID, prefix: infix }) => ({ chain: chainNameOf(network, containerID, infix) }),
};

function masqueraded(address: string, backend: MasqueradeBackend) {
  const lab = new CniLab();
  const ip = addressWithLength(address);
  setUpMasquerade({ host: lab.host, network: 'net', containerId: 'c', backend }, [ip]);
  return { lab, ip };
}

/** Tables with their chains and rules, without types, policies and comments. */
export function nftChains({
  nftables,
}: Netfilter): [string, { table: string; chains: Record<string, string[]>; text: string }[]] {
  const listing = nftables.list();
  const tables = listing.split(/^(?=table )/m).map((text) => {
    const [, table = ''] = /^table (.*) \{$/m.exec(text) ?? [];
    const chains: Record<string, string[]> = {};
    for (const [, name = '', body = ''] of text.matchAll(/^\tchain (\S+) \{\n([^}]*)\t\}/gm))
      chains[name] = body
        .split('\n')
        .map((line) => line.trim().replace(/ comment ".*"$/, ''))
        .filter((line) => line !== '' && !line.startsWith('type '));
    return { table, chains, text };
  });
  return [listing, tables];
}

// ── for several ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** What becomes of a packet by the rules of the lab's node. */
export function flow(
  lab: CniLab,
  {
    src,
    dst,
    dstPort = 80,
    protocol = 'TCP',
    mark = 0,
    own = [],
  }: {
    readonly src: string;
    readonly dst: string;
    readonly dstPort?: number;
    readonly protocol?: 'TCP' | 'UDP';
    readonly mark?: number;
    /** The node's addresses. */
    readonly own?: readonly string[];
  },
): FlowOutcome {
  const from = lab.machine.root.enableNetfilter();
  const load = ({ tables, tables6, nftables }: Netfilter): void => {
    for (const [given, to] of [
      [from.tables, tables],
      [from.tables6, tables6],
    ] as const)
      for (const name of TABLE_NAMES)
        if (given.isLoaded(name))
          to.share(name, new Map(given.chainNames(name).map((chain) => [chain, given.chain(name, chain)!])));
    nftables.ruleset = from.nftables.ruleset;
    if (mark !== 0)
      tables.prependRule('nat', 'POSTROUTING', new Rule(parseRule(`-j MARK --set-xmark 0x${mark.toString(16)}`)));
  };
  const ownIps = own.map((address) => parseAddress(address).ip);
  const localhost = prefix(parseAddress('127.0.0.0').ip, 8);
  const isLocal = (ip: ResultIp['ip']): boolean => ownIps.includes(ip) || contains(localhost, ip);
  const [outcome] = exploreFlow({ load, isLocal }, { srcIP: src, dstIP: dst, dstPort, protocol });
  return outcome!;
}

/** As iptables-save prints it. */
export const readRule = (text: string, family: 4 | 6 = 4): string => new Rule(parseRule(text, { family })).text;

export function addressWithLength(text: string): ResultIp {
  const [address = '', length] = text.split('/');
  return { ...parseAddress(address), length: Number(length) };
}

const subnetOfText = (text: string) => {
  const { ip, family, length } = addressWithLength(text);
  return prefix(ip, length, family);
};
