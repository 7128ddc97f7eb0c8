// The bridge CNI plugin: a Linux bridge per node with the gateway's address, and a veth pair per container.
//
// Not modelled: ipMasq chains per container (the cluster's egress masquerade is one rule per node, see host-gateway.ts),
// VLANs, MAC spoof check, promiscuous mode.

import type { Machine } from '../host/machine.ts';
import type { NetworkNamespace } from '../host/network-namespace.ts';
import { Bridge, type BridgePort } from '../link/bridge.ts';
import { createVethPair, type VethPair } from '../link/veth.ts';
import { ANY_PREFIX, formatIp, type Ip, prefix } from '../packet/ip-address.ts';
import type { CniArguments, CniPlugin, CniResult, Ipam } from './plugin.ts';

export interface BridgePluginSettings {
  /** Name of the bridge: `cbr0` as kubenet calls it, `cni0` in the plugin's own examples. */
  readonly bridge: string;
  readonly mtuBytes: number;
  /** May a pod reach itself through a Service? Sets hairpin mode on its port. */
  readonly hairpinMode: boolean;
  /** net.bridge.bridge-nf-call-iptables: do bridged frames pass iptables? */
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
  constructor(
    machine: Machine,
    {
      ipam,
      prefixLength,
      settings = {},
    }: {
      ipam: Ipam;
      prefixLength: number;
      settings?: Partial<BridgePluginSettings>;
    },
  ) {
    this.#machine = machine;
    this.#settings = { ...DEFAULT_BRIDGE, ...settings };
    this.#ipam = ipam;
    const { root } = machine;
    root.sysctl('net.bridge.bridge-nf-call-iptables', this.#settings.bridgeNfCallIptables ? 1 : 0);
    this.bridge = root.add(
      new Bridge({ ...root.device(this.#settings.bridge, machine.nextMac()), mtuBytes: this.#settings.mtuBytes }),
    );
    root.stack.addAddress(this.bridge, ipam.gateway, prefixLength);
  }

  /** The bridge's own address: the pods' next hop. */
  get gateway(): Ip {
    return this.#ipam.gateway;
  }

  add({ containerId, namespace, interfaceName, requestedIp }: CniArguments): CniResult {
    const lease = this.#ipam.allocate(containerId, requestedIp);
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
    namespace.stack.addAddress(veth.inside, lease.ip, lease.subnet.length);
    if (lease.subnet.length === 32) this.#routeAlone(namespace, veth, lease);
    namespace.stack.addRoute({ destination: ANY_PREFIX, device: veth.inside, gateway: lease.gateway });
    this.#attachments.set(containerId, { veth, port });
    return lease;
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
    const addresses = namespace.stack.addresses.filter(({ device }) => device === attachment.veth.inside);
    if (addresses.length === 0)
      throw new Error(
        `${containerId} has no address on ${attachment.veth.inside.name}; gateway ${formatIp(this.#ipam.gateway)}`,
      );
  }

  /** An address outside the node's range is reached by a route of its own, and reaches the gateway by one. */
  #routeAlone(namespace: NetworkNamespace, veth: VethPair, lease: CniResult): void {
    namespace.stack.addRoute({ destination: prefix(lease.gateway, 32), device: veth.inside });
    this.#machine.root.stack.addRoute({ destination: lease.subnet, device: this.bridge });
  }
}
