// What of a node's machine kube-proxy writes to, whichever mode it runs in. What a mode does not ask for is not made.

import { EbpfDatapath } from '../host/ebpf/datapath.ts';
import type { Machine } from '../host/machine.ts';
import type { Ip, IpFamily } from '../packet/ip-address.ts';
import type { NodeRules } from './kube-proxy/proxy-mode.ts';

/** kube-proxy's device of mode ipvs, which has the addresses of Services. */
const IPVS_DEVICE = 'kube-ipvs0';

export class MachineRules implements NodeRules {
  readonly #machine: Machine;
  readonly #nic: { readonly name: string; readonly ip: Ip };
  #ebpf: EbpfDatapath | undefined;

  /** `nic` is the device by which the outside comes in. */
  constructor(machine: Machine, nic: { readonly name: string; readonly ip: Ip }) {
    this.#machine = machine;
    this.#nic = nic;
  }

  get #netfilter() {
    return this.#machine.root.enableNetfilter();
  }

  get tables() {
    return this.#netfilter.tables;
  }

  get tables6() {
    return this.#netfilter.tables6;
  }

  get nftables() {
    return this.#netfilter.nftables;
  }

  get sets() {
    return this.#netfilter.sets;
  }

  get conntrack() {
    return this.#netfilter.conntrack;
  }

  get accounts() {
    return this.#netfilter.accounts;
  }

  get ipvs() {
    return this.#netfilter.ipvs;
  }

  get ebpf(): EbpfDatapath {
    const { name, ip: nodeIp } = this.#nic;
    this.#ebpf ??= new EbpfDatapath(this.#machine, { device: this.#machine.root.deviceNamed(name), nodeIp });
    return this.#ebpf;
  }

  readonly sysctl = (name: string, value: number): void => this.#machine.root.sysctl(name, value);

  readonly bindServiceAddresses = (ips: ReadonlySet<Ip>, family: IpFamily): void =>
    this.#machine.bindServiceAddresses(IPVS_DEVICE, ips, family);
}
