// The plugin `bridge`: a Linux bridge on the node, and a veth pair per container
// (plugins/main/bridge of containernetworking/plugins).
//
// Not modelled: VLANs, MAC spoof check, duplicate address detection, an address of the bridge that takes the place of
// another one (forceAddress).

import { addAddress, stackOf } from '../../host/ip-setup.ts';
import { Bridge } from '../../link/bridge.ts';
import type { VethDevice } from '../../link/veth.ts';
import {
  ANY_IP,
  ANY_IPV6_PREFIX,
  ANY_PREFIX,
  addressAt,
  addressBits,
  contains,
  formatIp,
  type IpFamily,
  isIpv6LinkLocal,
  prefix,
} from '../../packet/ip-address.ts';
import type { Mac } from '../../packet/mac.ts';
import { failure, invalidConfig } from '../cni-error.ts';
import type { CniMachine } from '../cni-host.ts';
import {
  checkContainer,
  configureContainer,
  connectContainer,
  disconnectContainer,
  hostEndOf,
  interfaceInside,
  interfaceOutside,
  mtuOf,
  sandboxOf,
} from '../container-veth.ts';
import { MASQUERADE_BACKENDS, type MasqueradeBackend, setUpMasquerade, tearDownMasquerade } from '../ip-masq.ts';
import { flag, list, notModelled, oneOf, text, wholeNumber } from '../options.ts';
import { type CniCall, cniPlugin } from '../plugin.ts';
import {
  type CniResult,
  isAlone,
  NO_RESULT,
  type ResultInterface,
  type ResultIp,
  type ResultRoute,
  subnetOf,
} from '../result.ts';

export interface BridgeOptions {
  readonly bridge: string;
  readonly isGateway: boolean;
  readonly isDefaultGateway: boolean;
  readonly forceAddress: boolean;
  readonly ipMasq: boolean;
  readonly ipMasqBackend: MasqueradeBackend;
  readonly mtu: number;
  readonly hairpinMode: boolean;
  readonly promiscMode: boolean;
  readonly portIsolation: boolean;
  readonly vlan: number;
  readonly vlanTrunk: readonly unknown[];
  readonly preserveDefaultVlan: boolean;
  readonly macspoofchk: boolean;
  readonly enabledad: boolean;
}

export const bridge = cniPlugin<BridgeOptions>({
  type: 'bridge',
  options: {
    bridge: text('cni0'),
    isGateway: flag(),
    isDefaultGateway: flag(),
    forceAddress: flag(),
    ipMasq: flag(),
    ipMasqBackend: oneOf(MASQUERADE_BACKENDS, 'iptables'),
    mtu: wholeNumber(0, { most: 65_535 }),
    hairpinMode: flag(),
    promiscMode: flag(),
    portIsolation: flag(),
    vlan: wholeNumber(0),
    vlanTrunk: list(),
    preserveDefaultVlan: flag(true),
    macspoofchk: flag(),
    enabledad: flag(),
  },

  add(call) {
    const { options, host, ipam } = call;
    checkOptions(options);
    sandboxOf(call);
    const made = ensureBridge(host.machine, options);
    const pair = connectContainer(call, { mtuBytes: mtuOf(options.mtu) });
    made.addPort(pair.outside, { hairpin: options.hairpinMode, isolated: options.portIsolation });
    const interfaces = [interfaceOf(made), interfaceOutside(pair), interfaceInside(pair, call.namespace!)];
    const dns = call.config.dns ?? NO_RESULT.dns;
    if (ipam === undefined) return { ...NO_RESULT, interfaces, dns };
    const leased = withGateways(ipam.add(), options);
    if (isGateway(options)) for (const ip of leased.ips) ensureGateway(host.machine, made, ip);
    for (const ip of leased.ips) if (isAlone(ip)) routeAlone(call, made, pair.inside, ip);
    configureContainer(call.namespace!, pair.inside, leased);
    for (const ip of leased.ips) announce(call, made, pair.inside.mac, ip);
    if (options.ipMasq) setUpMasquerade({ ...call, backend: options.ipMasqBackend }, leased.ips);
    const ips = leased.ips.map(({ family, ip, length, gateway }) => ({
      family,
      ip,
      length,
      gateway,
      interface: INSIDE,
    }));
    return { interfaces, ips, routes: leased.routes, dns };
  },

  del(call) {
    call.ipam?.del();
    const outside = hostEndOf(call);
    if (outside !== undefined) {
      const made = call.host.root.findDevice(call.options.bridge);
      const port = made instanceof Bridge ? made.portOf(outside) : undefined;
      port?.bridge.removePort(port);
    }
    disconnectContainer(call);
    // Without the namespace the plugin does not know the addresses any more, and leaves the rules.
    if (call.options.ipMasq && call.namespace !== undefined) tearDownMasquerade(call, call.prevResult?.ips ?? []);
  },

  check(call) {
    call.ipam?.check();
    const { outside } = checkContainer(call);
    const made = call.host.root.findDevice(call.options.bridge);
    if (!(made instanceof Bridge) || made.portOf(outside) === undefined)
      throw failure(`${outside.name} is no port of ${call.options.bridge}`);
  },
});

/** All containers of a bridge have one object for it in their results. */
const knownInterfaces = new WeakMap<Bridge, ResultInterface>();

function interfaceOf(made: Bridge): ResultInterface {
  let known = knownInterfaces.get(made);
  if (known === undefined) knownInterfaces.set(made, (known = { name: made.name, mac: made.mac }));
  return known;
}

/** The container's, in the list of interfaces. */
const INSIDE = 2;

const isGateway = ({ isGateway, isDefaultGateway }: BridgeOptions): boolean => isGateway || isDefaultGateway;

function checkOptions(options: BridgeOptions): void {
  const { hairpinMode, promiscMode, vlan, vlanTrunk, macspoofchk, forceAddress } = options;
  if (hairpinMode && promiscMode)
    throw invalidConfig('plugin bridge: hairpinMode and promiscMode: expected one of them');
  if (vlan > 4094) throw invalidConfig(`plugin bridge: vlan must be 0 to 4094, got ${vlan}`);
  if (vlan !== 0) throw notModelled('plugin bridge', 'vlan', vlan);
  if (vlanTrunk.length > 0) throw notModelled('plugin bridge', 'vlanTrunk', vlanTrunk);
  if (macspoofchk) throw notModelled('plugin bridge', 'macspoofchk', macspoofchk);
  if (forceAddress) throw notModelled('plugin bridge', 'forceAddress', forceAddress);
}

/** `ip link add NAME type bridge`, if it is not there. Also what kubelets make before there are pods. */
export function ensureBridge(
  machine: CniMachine,
  { bridge: name, mtu, promiscMode }: Pick<BridgeOptions, 'bridge' | 'mtu' | 'promiscMode'>,
): Bridge {
  const { root } = machine;
  const known = root.findDevice(name);
  if (known !== undefined && !(known instanceof Bridge)) throw failure(`${name} exists on the node, and is no bridge`);
  const made = known ?? root.add(new Bridge({ ...root.device(name, machine.nextMac()), mtuBytes: mtuOf(mtu) }));
  if (promiscMode) made.promiscuous = true;
  return made;
}

/** The bridge has the containers' gateway address. IPv6 addresses of several subnets may stand side by side. */
export function ensureGateway(machine: CniMachine, made: Bridge, { family, ip, length, gateway }: ResultIp): void {
  if (gateway === undefined || length === addressBits(family)) return;
  const subnet = subnetOf({ family, ip, length });
  for (const known of addressesOf(machine, made, family)) {
    if (known.ip === gateway && known.subnet.length === length) return;
    if (family === 6 && !contains(subnet, known.ip) && !contains(known.subnet, gateway)) continue;
    const kind = family === 6 ? 'an overlapping IPv6 address' : 'another IPv4 address';
    throw failure(`bridge ${made.name} has ${kind} already: ${formatIp(known.ip, family)}/${known.subnet.length}`);
  }
  addAddress(machine.root, made, { family, ip: gateway, length });
}

const addressesOf = ({ root }: CniMachine, made: Bridge, family: IpFamily) =>
  stackOf(root, family).addresses.filter(({ device, ip }) => device === made && !(family === 6 && isIpv6LinkLocal(ip)));

/** The gateway that IPAM did not name is the subnet's first address; the default route that it did not name goes there. */
function withGateways({ ips, routes, dns }: CniResult, options: BridgeOptions): CniResult {
  if (!isGateway(options)) return { interfaces: [], ips, routes, dns };
  const complete = ips.map((ip) => (ip.gateway === undefined ? { ...ip, gateway: addressAt(subnetOf(ip), 1) } : ip));
  if (!options.isDefaultGateway) return { interfaces: [], ips: complete, routes, dns };
  const added = complete.flatMap(({ family, gateway }): ResultRoute[] => {
    const isDefault = ({ dst }: ResultRoute): boolean => dst.family === family && dst.length === 0;
    const given = routes.find(isDefault);
    if (given?.gw !== undefined && given.gw !== ANY_IP && given.gw !== gateway)
      throw failure(`isDefaultGateway: IPAM has set a default route via ${formatIp(given.gw, family)}`);
    return given === undefined ? [{ dst: family === 6 ? ANY_IPV6_PREFIX : ANY_PREFIX, gw: gateway }] : [];
  });
  return { interfaces: [], ips: complete, routes: [...routes, ...added], dns };
}

/**
 * The gratuitous ARP, or unsolicited neighbor advertisement, of a new container (arp_notify, ndisc_notify): whoever on the
 * bridge has known the address of somebody else finds it here. Without a frame, since nobody else would take notice of one.
 */
function announce({ host, ifName }: CniCall, made: Bridge, mac: Mac, { family, ip }: ResultIp): void {
  if (!made.cpus.hasNeighbors) return; // before a run starts, where a look at all of the node's pods would take longest
  for (const namespace of host.machine.namespaces) {
    const neighbors = family === 4 ? namespace.stack.neighbors : namespace.stack.ipv6?.neighbors;
    if (neighbors === undefined || neighbors.isEmpty) continue;
    const device = namespace === host.root ? made : namespace.findDevice(ifName);
    if (device !== undefined) neighbors.learn(device, { ip, mac, state: 'STALE', create: false });
  }
}

/** An address outside the node's ranges, of a pod of a snapshot: it is reached, and reaches its gateway, by routes of its own. */
function routeAlone({ namespace, host }: CniCall, made: Bridge, inside: VethDevice, ip: ResultIp): void {
  const { family, gateway } = ip;
  if (gateway !== undefined) {
    const destination = prefix(gateway, addressBits(family), family);
    stackOf(namespace!, family).addRoute({ destination, device: inside });
  }
  stackOf(host.root, family).addRoute({ destination: subnetOf(ip), device: made });
}
