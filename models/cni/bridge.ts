// The bridge CNI plugin: a Linux bridge per node with the gateway's address, and a veth pair per container.
//
// Not modelled: ipMasq chains per container (the cluster's egress masquerade is one rule per node, see host-gateway.ts),
// VLANs, MAC spoof check, promiscuous mode.

import { addAddress, addDefaultRoute, stackOf } from '../host/ip-setup.ts';
import type { Machine } from '../host/machine.ts';
import type { NetworkNamespace } from '../host/network-namespace.ts';
import { Bridge, type BridgePort } from '../link/bridge.ts';
import { createVethPair, type VethPair } from '../link/veth.ts';
import { addressBits, formatIp, isIpv6LinkLocal, prefix } from '../packet/ip-address.ts';
import type { CniArguments, CniPlugin, CniResult, Ipam, IpamLease } from './plugin.ts';

export interface BridgePluginSettings {
  /** Name of the bridge: `cbr0` as kubenet calls it, `cni0` in the plugin's own examples. */
  readonly bridge: string;
  readonly mtuBytes: number;
  /** May a pod reach itself through a Service? Sets hairpin mode on its port. */
  readonly hairpinMode: boolean;
  /** net.bridge.bridge-nf-call-iptables, and -ip6tables where pods have IPv6: do bridged frames pass iptables? */
  readonly bridgeNfCallIptables: boolean;
}

export const DEFAULT_BRIDGE: BridgePluginSettings = {
  bridge: 'cbr0',
  mtuBytes: 1500,
  hairpinMode: true,
  bridgeNfCallIptables: true,
};

interface Attachment {
  readonly veth: VethPair;
  readonly port: BridgePort;
}

export class BridgePlugin implements CniPlugin {
  readonly type = 'bridge';
  readonly bridge: Bridge;
  readonly #settings: BridgePluginSettings;
  readonly #ipam: Ipam;
  readonly #machine: Machine;
  readonly #attachments = new Map<string, Attachment>();
  #veths = 0;

  /** Makes the bridge of a node; real plugins make it with the first pod. */
  constructor(machine: Machine, { ipam, settings = {} }: { ipam: Ipam; settings?: Partial<BridgePluginSettings> }) {
    this.#machine = machine;
    this.#settings = { ...DEFAULT_BRIDGE, ...settings };
    this.#ipam = ipam;
    const { root } = machine;
    const iptables = this.#settings.bridgeNfCallIptables;
    root.bridgeCalls = { iptables, ip6tables: iptables && ipam.gateways.some(({ family }) => family === 6) };
    this.bridge = root.add(
      new Bridge({ ...root.device(this.#settings.bridge, machine.nextMac()), mtuBytes: this.#settings.mtuBytes }),
    );
    for (const { family, ip, subnet } of this.gateways)
      addAddress(root, this.bridge, { family, ip, length: subnet.length });
  }

  /** The bridge's own addresses: the pods' next hops. */
  get gateways(): readonly IpamLease[] {
    return this.#ipam.gateways;
  }

  add({ containerId, namespace, interfaceName, requestedIps }: CniArguments): CniResult {
    const ips = this.#ipam.allocate(containerId, requestedIps);
    const { root } = this.#machine;
    const veth = createVethPair({
      inside: { ...namespace.device(interfaceName, this.#machine.nextMac()), mtuBytes: this.#settings.mtuBytes },
      outside: {
        ...root.device(`veth${(++this.#veths).toString(16).padStart(4, '0')}`, this.#machine.nextMac()),
        mtuBytes: this.#settings.mtuBytes,
      },
    });
    namespace.add(veth.inside);
    root.add(veth.outside);
    const port = this.bridge.addPort(veth.outside, { hairpin: this.#settings.hairpinMode });
    for (const lease of ips) this.#configure(namespace, veth, lease);
    this.#attachments.set(containerId, { veth, port });
    return { ips };
  }

  #configure(namespace: NetworkNamespace, veth: VethPair, lease: IpamLease): void {
    const { family, ip, subnet, gateway } = lease;
    addAddress(namespace, veth.inside, { family, ip, length: subnet.length });
    if (subnet.length === addressBits(family)) this.#routeAlone(namespace, veth, lease);
    addDefaultRoute(namespace, veth.inside, { family, ip: gateway });
  }

  del({ containerId }: CniArguments): void {
    this.#ipam.release(containerId);
    const attachment = this.#attachments.get(containerId);
    if (attachment === undefined) return;
    attachment.veth.inside.up = false;
    attachment.veth.outside.up = false;
    this.bridge.removePort(attachment.port);
    this.#attachments.delete(containerId);
  }

  check({ containerId, namespace }: CniArguments): void {
    const attachment = this.#attachments.get(containerId);
    if (attachment === undefined) throw new Error(`${containerId} is not attached to ${this.bridge.name}`);
    const { inside } = attachment.veth;
    for (const { family, gateway } of this.gateways) {
      const { addresses } = stackOf(namespace, family);
      if (!addresses.some(({ device, ip }) => device === inside && !(family === 6 && isIpv6LinkLocal(ip))))
        throw new Error(`${containerId} has no address on ${inside.name}; gateway ${formatIp(gateway, family)}`);
    }
  }

  /** An address outside the node's range is reached by a route of its own, and reaches the gateway by one. */
  #routeAlone(namespace: NetworkNamespace, veth: VethPair, { family, subnet, gateway }: IpamLease): void {
    const destination = prefix(gateway, addressBits(family), family);
    stackOf(namespace, family).addRoute({ destination, device: veth.inside });
    stackOf(this.#machine.root, family).addRoute({ destination: subnet, device: this.bridge });
  }
}
