// What host-local keeps of one network on a node's disk: a file per address with its container and interface, and for each
// set of ranges the address that was given last (backend/disk of containernetworking/plugins).

import { appended } from '../../../engine/appended.ts';
import { formatIp, type Ip, type IpAddress, type IpFamily } from '../../packet/ip-address.ts';
import type { Attachment } from '../plugin.ts';

/** An address and its holder. */
interface Lease extends IpAddress, Attachment {}

export class HostLocalStore {
  readonly #byIp: Readonly<Record<IpFamily, Map<Ip, Lease>>> = { 4: new Map(), 6: new Map() };
  /** By the holder's containerId, which is a text that there is already. */
  readonly #byContainer = new Map<string, readonly Lease[]>();
  readonly #last: (IpAddress | undefined)[] = [];

  /** False: somebody has it. */
  reserve(address: IpAddress, holder: Attachment): boolean {
    const taken = this.#byIp[address.family];
    if (taken.has(address.ip)) return false;
    const { containerId, ifName } = holder;
    const lease: Lease = { family: address.family, ip: address.ip, containerId, ifName };
    taken.set(address.ip, lease);
    this.#byContainer.set(containerId, appended(this.#byContainer.get(containerId) ?? [], lease));
    return true;
  }

  has({ family, ip }: IpAddress): boolean {
    return this.#byIp[family].has(ip);
  }

  heldBy(holder: Attachment): readonly IpAddress[] {
    const leases = this.#byContainer.get(holder.containerId) ?? [];
    return leases.filter(({ ifName }) => ifName === holder.ifName);
  }

  release(holder: Attachment): void {
    for (const { family, ip } of this.heldBy(holder)) this.#byIp[family].delete(ip);
    const leases = this.#byContainer.get(holder.containerId) ?? [];
    const others = leases.filter(({ ifName }) => ifName !== holder.ifName);
    if (others.length > 0) this.#byContainer.set(holder.containerId, others);
    else this.#byContainer.delete(holder.containerId);
  }

  /** Releases what others than these hold. */
  keepOnly(holders: readonly Attachment[]): void {
    const kept = new Set(holders.map(keyOf));
    for (const lease of [...this.#byContainer.values()].flat()) if (!kept.has(keyOf(lease))) this.release(lease);
  }

  lastReserved(set: number): IpAddress | undefined {
    return this.#last[set];
  }

  setLastReserved(set: number, address: IpAddress): void {
    this.#last[set] = address;
  }

  /** The directory, by file name. */
  get files(): ReadonlyMap<string, string> {
    const files = new Map<string, string>();
    for (const family of [4, 6] as const) {
      for (const [ip, { containerId, ifName }] of this.#byIp[family])
        files.set(formatIp(ip, family), `${containerId}\r\n${ifName}`);
    }
    for (const [set, last] of this.#last.entries())
      if (last !== undefined) files.set(`last_reserved_ip.${set}`, formatIp(last.ip, last.family));
    return files;
  }
}

const keyOf = ({ containerId, ifName }: Attachment): string => `${containerId}\r\n${ifName}`;
