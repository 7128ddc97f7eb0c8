// The plugin `ptp`: a veth pair per container and no bridge. All traffic of the container, even to neighbors of its own
// subnet, goes through the node, whose end of each pair has the gateway's address (plugins/main/ptp of
// containernetworking/plugins).

import { addAddress, stackOf } from '../../host/ip-setup.ts';
import type { NetworkNamespace } from '../../host/network-namespace.ts';
import type { VethDevice, VethPair } from '../../link/veth.ts';
import { ANY_IP, addressBits, type Ip, type IpFamily, type Prefix, prefix } from '../../packet/ip-address.ts';
import { failure, invalidConfig } from '../cni-error.ts';
import {
  checkContainer,
  configureContainer,
  connectContainer,
  disconnectContainer,
  interfaceInside,
  interfaceOutside,
  mtuOf,
  sandboxOf,
} from '../container-veth.ts';
import { MASQUERADE_BACKENDS, type MasqueradeBackend, setUpMasquerade, tearDownMasquerade } from '../ip-masq.ts';
import { flag, oneOf, wholeNumber } from '../options.ts';
import { cniPlugin } from '../plugin.ts';
import { isAlone, type ResultIp, subnetOf } from '../result.ts';

export interface PtpOptions {
  readonly ipMasq: boolean;
  readonly ipMasqBackend: MasqueradeBackend;
  readonly mtu: number;
}

export const ptp = cniPlugin<PtpOptions>({
  type: 'ptp',
  options: {
    ipMasq: flag(),
    ipMasqBackend: oneOf(MASQUERADE_BACKENDS, 'iptables'),
    mtu: wholeNumber(0, { most: 65_535 }),
  },

  add(call) {
    const { options, host, ipam, config } = call;
    const namespace = sandboxOf(call);
    if (ipam === undefined) throw invalidConfig('plugin ptp: ipam: expected a plugin that gives addresses');
    const { ips: leased, routes, dns } = ipam.add();
    if (leased.length === 0) throw failure('plugin ptp: IPAM plugin returned missing IP config');
    const pair = connectContainer(call, { mtuBytes: mtuOf(options.mtu) });
    configureContainer(namespace, pair.inside, { ips: leased, routes });
    for (const ip of leased) {
      routeByGateway(namespace, pair.inside, ip);
      routeToContainer(host.root, pair, ip);
    }
    if (options.ipMasq) setUpMasquerade({ ...call, backend: options.ipMasqBackend }, leased);
    return {
      interfaces: [interfaceOutside(pair), interfaceInside(pair, namespace)],
      ips: leased.map((ip) => ({ ...ip, interface: INSIDE })),
      routes,
      dns: config.dns ?? dns,
    };
  },

  del(call) {
    call.ipam?.del();
    disconnectContainer(call);
    // Without the namespace the plugin does not know the addresses any more, and leaves the rules.
    if (call.options.ipMasq && call.namespace !== undefined) tearDownMasquerade(call, call.prevResult?.ips ?? []);
  },

  check(call) {
    call.ipam?.check();
    checkContainer(call);
  },
});

/** The container's, in the list of interfaces. */
const INSIDE = 1;

/** The network of the address's subnet is behind the gateway, and only the gateway is on the link. */
function routeByGateway(namespace: NetworkNamespace, inside: VethDevice, ip: ResultIp): void {
  const { family, gateway = ANY_IP } = ip;
  const stack = stackOf(namespace, family);
  const common = { device: inside, source: ip.ip };
  const subnet = subnetOf(ip);
  if (!isAlone(ip)) stack.fib.remove(subnet); // the kernel has added it with the address
  stack.addRoute({ ...common, destination: alone(gateway, family) });
  if (!isAlone(ip)) stack.addRoute({ ...common, destination: subnet, gateway });
}

/** The node's end has the gateway's address, and the way to this container. */
function routeToContainer(
  root: NetworkNamespace,
  { outside }: VethPair,
  { family, ip, gateway = ANY_IP }: ResultIp,
): void {
  addAddress(root, outside, { family, ip: gateway, length: addressBits(family) });
  stackOf(root, family).addRoute({ destination: alone(ip, family), device: outside });
}

const alone = (ip: Ip, family: IpFamily): Prefix => prefix(ip, addressBits(family), family);
