// The veth pair by which a container is connected, and what is set inside: what the plugins bridge, ptp and the routed one
// have in common (pkg/ip and pkg/ipam of containernetworking/plugins).

import { addAddress, stackOf } from '../host/ip-setup.ts';
import type { NetworkNamespace } from '../host/network-namespace.ts';
import { DEFAULT_MTU_BYTES } from '../link/net-device.ts';
import { createVethPair, VethDevice, type VethPair } from '../link/veth.ts';
import { formatIp, type Ip, isIpv6LinkLocal } from '../packet/ip-address.ts';
import type { Mac } from '../packet/mac.ts';
import { CNI_ERROR, CniError, failure } from './cni-error.ts';
import type { CniCall } from './plugin.ts';
import { type CniResult, type ResultIp, type ResultRoute, sandboxPath } from './result.ts';

/** 0 is the kernel's default. */
export const mtuOf = (option: number): number => (option === 0 ? DEFAULT_MTU_BYTES : option);

export interface VethSettings {
  readonly mtuBytes: number;
  /** Of the node's end; if absent new ones. */
  readonly hostName?: string;
  readonly hostMac?: Mac;
}

/** `ip link add IFNAME netns CONTAINER type veth peer name VETH`. */
export function connectContainer(
  { namespace, ifName, host, containerId }: CniCall,
  { mtuBytes, hostName = host.newVethName(), hostMac }: VethSettings,
): VethPair {
  const inside = sandboxOf({ namespace, containerId });
  if (inside.findDevice(ifName) !== undefined)
    throw failure(`container ${containerId} has an interface ${ifName} already; expected none`);
  const { machine, root } = host;
  const pair = createVethPair({
    inside: inside.device(ifName, machine.nextMac(), { mtuBytes }),
    outside: root.device(hostName, hostMac ?? machine.nextMac(), { mtuBytes }),
  });
  inside.add(pair.inside);
  root.add(pair.outside);
  return pair;
}

/** ADD and CHECK cannot do without. */
export function sandboxOf({ namespace, containerId }: Pick<CniCall, 'namespace' | 'containerId'>): NetworkNamespace {
  if (namespace === undefined)
    throw new CniError(
      CNI_ERROR.invalidEnvironment,
      `container ${containerId}: CNI_NETNS: expected a network namespace`,
    );
  return namespace;
}

/** Both ends of the container's interface; undefined if it has none, or is gone itself. */
export function vethOf({ namespace, ifName }: Pick<CniCall, 'namespace' | 'ifName'>): VethPair | undefined {
  const inside = namespace?.findDevice(ifName);
  if (!(inside instanceof VethDevice) || inside.peer === undefined) return undefined;
  return { inside, outside: inside.peer };
}

/** The node's end: by the interface inside, or, where the container is gone, by the name in its result. */
export function hostEndOf(call: Pick<CniCall, 'namespace' | 'ifName' | 'prevResult' | 'host'>): VethDevice | undefined {
  const pair = vethOf(call);
  if (pair !== undefined) return pair.outside;
  for (const { name, sandbox } of call.prevResult?.interfaces ?? []) {
    const device = sandbox === undefined ? call.host.root.findDevice(name) : undefined;
    if (device instanceof VethDevice) return device;
  }
  return undefined;
}

/** `ip link del IFNAME`. What the container still sends ends at its end, which goes when its namespace does. */
export function disconnectContainer(call: Pick<CniCall, 'namespace' | 'ifName' | 'prevResult' | 'host'>): void {
  const outside = hostEndOf(call);
  if (outside === undefined) return;
  if (outside.peer !== undefined) outside.peer.up = false;
  if (call.host.root.findDevice(outside.name) === outside) call.host.root.remove(outside);
}

/** Addresses and routes of an IPAM plugin's result; a route without gateway takes that of its family's address. */
export function configureContainer(
  namespace: NetworkNamespace,
  device: VethDevice,
  { ips, routes }: Pick<CniResult, 'ips' | 'routes'>,
): void {
  for (const ip of ips) addAddress(namespace, device, ip);
  for (const route of routes) addRoute(namespace, device, route, ips);
}

function addRoute(
  namespace: NetworkNamespace,
  device: VethDevice,
  { dst, gw }: ResultRoute,
  ips: readonly ResultIp[],
): void {
  const gateway = gw ?? ips.find(({ family }) => family === dst.family)?.gateway;
  // A network of another family than the container has needs no route to it.
  if (gw === undefined && !ips.some(({ family }) => family === dst.family)) return;
  stackOf(namespace, dst.family).addRoute({ destination: dst, device, ...(gateway !== undefined && { gateway }) });
}

/** The interfaces of a result: those of the node, then the container's. */
export const interfaceInside = ({ inside }: VethPair, namespace: NetworkNamespace) => ({
  name: inside.name,
  mac: inside.mac,
  sandbox: sandboxPath(namespace.name),
});

export const interfaceOutside = ({ outside }: VethPair) => ({ name: outside.name, mac: outside.mac });

/** CHECK: the interface is there and has the addresses of the result. */
export function checkContainer(call: CniCall): VethPair {
  const { containerId, ifName, prevResult } = call;
  if (prevResult === undefined) throw new CniError(CNI_ERROR.invalidConfig, 'prevResult: expected the result of ADD');
  const namespace = sandboxOf(call);
  const pair = vethOf(call);
  if (pair === undefined) throw failure(`container ${containerId} has no interface ${ifName}`);
  for (const { family, ip } of prevResult.ips)
    if (!addressesOn(namespace, pair.inside, family).includes(ip))
      throw failure(`container ${containerId}: ${ifName} does not have ${formatIp(ip, family)}`);
  return pair;
}

const addressesOn = (namespace: NetworkNamespace, device: VethDevice, family: 4 | 6): Ip[] =>
  stackOf(namespace, family)
    .addresses.filter((address) => address.device === device && !(family === 6 && isIpv6LinkLocal(address.ip)))
    .map(({ ip }) => ip);
