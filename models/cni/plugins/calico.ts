// A routed plugin in the manner of Calico's: no bridge and no subnet. A container has its address alone (/32, /128) and one
// way, to 169.254.1.1, which nobody has: the node's end of the veth pair answers ARP for it as a proxy. In IPv6 the way is
// to that end's link-local address. The node has a route to each container.
//
// Not modelled: the rest of Calico's plugin (policies, workload endpoints, annotations).

import { addAddress, addDefaultRoute, stackOf } from '../../host/ip-setup.ts';
import type { NetworkNamespace } from '../../host/network-namespace.ts';
import type { VethPair } from '../../link/veth.ts';
import { addressBits, linkLocalOf, parseIp, prefix } from '../../packet/ip-address.ts';
import { parseMac } from '../../packet/mac.ts';
import { hashOf } from '../chain-name.ts';
import { failure, invalidConfig } from '../cni-error.ts';
import {
  checkContainer,
  connectContainer,
  disconnectContainer,
  interfaceInside,
  interfaceOutside,
  mtuOf,
  sandboxOf,
} from '../container-veth.ts';
import { wholeNumber } from '../options.ts';
import { cniPlugin } from '../plugin.ts';
import { NO_RESULT, type ResultIp } from '../result.ts';

/** Of the node's end, the same for all containers. */
const HOST_MAC = parseMac('ee:ee:ee:ee:ee:ee');
const GATEWAY = parseIp('169.254.1.1');

export const calico = cniPlugin<{ readonly mtu: number }>({
  type: 'calico',
  options: { mtu: wholeNumber(0, { most: 65_535 }) },

  add(call) {
    const { ipam, options, host, containerId } = call;
    const namespace = sandboxOf(call);
    if (ipam === undefined) throw invalidConfig('plugin calico: ipam: expected a plugin that gives addresses');
    const leased = ipam.add().ips.map((ip) => ({ ...ip, length: addressBits(ip.family), gateway: undefined }));
    if (leased.length === 0) throw failure('plugin calico: IPAM gave no address');
    const hostName = `cali${hashOf(containerId).slice(0, 11)}`;
    const pair = connectContainer(call, { mtuBytes: mtuOf(options.mtu), hostName, hostMac: HOST_MAC });
    host.root.sysctl(`net.ipv4.conf.${hostName}.proxy_arp`, 1);
    host.root.sysctl(`net.ipv4.neigh.${hostName}.proxy_delay`, 0);
    for (const ip of leased) connect(namespace, host.root, pair, ip);
    const interfaces = [interfaceOutside(pair), interfaceInside(pair, namespace)];
    return { ...NO_RESULT, interfaces, ips: leased.map((ip) => ({ ...ip, interface: 1 })) };
  },

  del(call) {
    call.ipam?.del();
    disconnectContainer(call);
  },

  check(call) {
    call.ipam?.check();
    checkContainer(call);
  },
});

function connect(
  namespace: NetworkNamespace,
  root: NetworkNamespace,
  { inside, outside }: VethPair,
  ip: ResultIp,
): void {
  const { family } = ip;
  addAddress(namespace, inside, ip);
  if (family === 4) stackOf(namespace, 4).addRoute({ destination: prefix(GATEWAY, 32), device: inside });
  addDefaultRoute(namespace, inside, { family, ip: family === 4 ? GATEWAY : linkLocalOf(HOST_MAC) });
  stackOf(root, family).addRoute({ destination: prefix(ip.ip, ip.length, family), device: outside });
}
