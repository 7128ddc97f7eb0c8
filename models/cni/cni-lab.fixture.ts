// A node with a network, without a cluster: for tests of plugins and for recorded facts about them.

import { Simulator } from '../../engine/simulator.ts';
import { FREE } from '../cpu/cost-model.ts';
import { addAddress } from '../host/ip-setup.ts';
import { Machine } from '../host/machine.ts';
import { FrameStore } from '../packet/frame-store.ts';
import { formatIp, parseAddress } from '../packet/ip-address.ts';
import { CniHost, type IsReserved } from './cni-host.ts';
import { type AttachmentCall, CniRuntime } from './cni-runtime.ts';
import { readNetworkConfigList } from './network-config.ts';
import type { CniPlugin } from './plugin.ts';
import type { CniResult } from './result.ts';

export interface LabOptions {
  readonly plugins?: readonly CniPlugin[];
  readonly isReserved?: IsReserved;
}

export class CniLab {
  readonly sim = new Simulator({ seed: 'cni' });
  readonly frames = new FrameStore();
  readonly machine: Machine;
  readonly host: CniHost;

  constructor({ isReserved }: Pick<LabOptions, 'isReserved'> = {}) {
    this.machine = new Machine({ name: 'node-1', sim: this.sim, frames: this.frames, costs: FREE, forwarding: true });
    this.host = new CniHost(this.machine, isReserved === undefined ? {} : { isReserved });
  }

  /** A network card with addresses, `192.168.0.2/24`, that leads nowhere. */
  addNic(name: string, addresses: readonly string[] = []): void {
    const nic = this.machine.addNic(name);
    for (const text of addresses) {
      const [address = '', length] = text.split('/');
      addAddress(this.machine.root, nic, { ...parseAddress(address), length: Number(length) });
    }
  }

  /** `value`: a list as JSON has it; name and version may be left out, and a list of plugins stands for itself. */
  network(value: object, plugins: readonly CniPlugin[] = []): CniRuntime {
    const list = Array.isArray(value) ? { plugins: value } : value;
    return new CniRuntime(
      this.host,
      readNetworkConfigList({ cniVersion: '1.1.0', name: 'net', ...list }, 'test'),
      plugins,
    );
  }

  /** What ADD, DEL and CHECK of a container take; its namespace is made if it is not there. */
  container(containerId: string, more: Partial<AttachmentCall> = {}): AttachmentCall {
    const namespace =
      this.machine.namespaces.find(({ name }) => name === containerId) ?? this.machine.addNamespace(containerId);
    return { containerId, ifName: 'eth0', namespace, ...more };
  }
}

/** `10.1.2.2/24` */
export const addressesOf = ({ ips }: Pick<CniResult, 'ips'>): string[] =>
  ips.map(({ ip, family, length }) => `${formatIp(ip, family)}/${length}`);
